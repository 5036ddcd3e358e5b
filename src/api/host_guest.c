/* SPDX-License-Identifier: Apache-2.0 */
/* What one host has of a guest, whatever the records say: for those who look what went wrong. */
#include "api/handlers.h"
#include "core/model/paths.h"
#include "engine/evidence.h"

#include <string.h>

/* The id of the vm, when the host that is named is this one. Caller frees. */
static char *vm_here(ApiCall *c, GError **err)
{
	_cleanup_json_ Json *host = call_host(c, NULL, err);

	if (host == NULL || !call_is_this_host(c, host, err))
		return NULL;
	return record_resolve(engine_store(c->engine), "vms", call_path(c, "vm"), err);
}

bool api_host_guest_show(ApiCall *c, GError **err)
{
	g_autofree char *id = vm_here(c, err);
	Json *processes = id != NULL ? evidence_processes(c->engine, id, err) : NULL, *host, *j;

	if (processes == NULL)
		return false;
	host = json_object();
	json_put_str(host, "id", engine_facts(c->engine)->id);
	json_put_str(host, "name", engine_facts(c->engine)->name);
	j = json_object();
	json_put(j, "host", host);
	json_put_str(j, "vm", id);
	json_put(j, "processes", processes);
	return call_answer(c, 200, j);
}

bool api_host_guest_log(ApiCall *c, GError **err)
{
	g_autofree char *id = vm_here(c, err);

	return id != NULL && call_answer_log(c, id, err);
}

bool api_host_guest_registers(ApiCall *c, GError **err)
{
	g_autofree char *id = vm_here(c, err);
	char *text = id != NULL ? evidence_registers(c->engine, id, err) : NULL;

	if (text == NULL)
		return false;
	return call_answer_bytes(c, "text/plain; charset=utf-8", g_bytes_new_take(text, strlen(text)));
}

bool api_host_guest_dump(ApiCall *c, GError **err)
{
	g_autofree char *id = vm_here(c, err);
	bool rested = call_rest(c);
	Json *j = id != NULL ? evidence_dump(c->engine, id, err) : NULL;

	call_wake(c, rested);
	if (j == NULL)
		return false;
	json_put_str(j, "host", engine_facts(c->engine)->name);
	return call_answer(c, 200, j);
}
