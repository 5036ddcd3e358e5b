/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest and its QEMU take of their host's memory, and how much the guest shall have. */
#include "api/handlers.h"
#include "core/model/vm_state.h"
#include "engine/guest_memory.h"

#define SECOND UINT64_C(1000000)
#define WAIT_MAX 60

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
		j = guest_memory(c->engine, id, json_str(config, "name"), runtime, NULL);
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
	j = guest_memory(c->engine, r->vm->id, r->vm->name, r->runtime, err);
	return j != NULL && call_answer(c, 200, j);
}

/* Of a guest whose memory is fixed, or about which nothing is known yet. */
static Json *no_report(const Json *runtime)
{
	Json *j = json_object();

	json_put(j, "period", json_null());
	json_put(j, "decision", json_null());
	json_put(j, "host", json_null());
	json_put(j, "trail", json_array());
	json_put_uint(j, "memory", json_uint(runtime, "memory", 0));
	return j;
}

bool api_vm_balance(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	MemoryKeeper *k = engine_memory_keeper(c->engine);
	uint64_t wait;
	bool rested;
	Json *j;

	if (r == NULL || !call_number(c, "wait", 0, WAIT_MAX, 0, &wait, err))
		return false;
	if (!runs(r->runtime))
		return fail_advice(err, ERR_BAD_STATE, "Start it first.", "vm '%s' does not run",
				   r->vm->name);
	rested = wait > 0 && call_rest(c);
	if (wait > 0)
		memory_keeper_wait(k, wait * SECOND);
	call_wake(c, rested);
	j = memory_keeper_report(k, r->vm->id);
	if (j == NULL)
		j = no_report(r->runtime);
	json_put(j, "vm", json_pack("{s:s, s:s}", "id", r->vm->id, "name", r->vm->name));
	json_put_bool(j, "dynamic", json_obj(r->runtime, "dynamic") != NULL);
	return call_answer(c, 200, j);
}
