/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest and its QEMU take of their host's memory. */
#include "api/handlers.h"
#include "core/model/vm_state.h"
#include "engine/guest_memory.h"

static bool runs(const Json *runtime)
{
	VmState s = vm_runtime_state(runtime);

	return s == VM_RUNNING || s == VM_PAUSED;
}

/* A list is not held up by one whose QEMU ends meanwhile. */
Json *vm_memory_if_here(ApiCall *c, const Json *config, const Json *runtime)
{
	const char *host = json_str(runtime, "host"), *id = json_str(config, "id");
	Json *j = NULL;

	if (runs(runtime) && g_strcmp0(host, engine_facts(c->engine)->id) == 0)
		j = guest_memory(c->engine, id, json_str(config, "name"), json_uint(runtime, "memory", 0),
				 NULL);
	return j != NULL ? j : json_null();
}

bool api_vm_memory(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	Json *j;

	if (r == NULL)
		return false;
	if (!runs(r->runtime))
		return fail_advice(err, ERR_BAD_STATE, "Start it first.", "vm '%s' does not run",
				   r->vm->name);
	j = guest_memory(c->engine, r->vm->id, r->vm->name, json_uint(r->runtime, "memory", 0), err);
	return j != NULL && call_answer(c, 200, j);
}
