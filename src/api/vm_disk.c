/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that a vm gets or loses. */
#include "api/creation.h"
#include "api/handlers.h"

/* "root", else the first of "data1", "data2", ... that no disk has. Caller frees. */
static char *free_name(const Vm *vm)
{
	char *name = vm->disk->len > 0 ? g_strdup("data1") : g_strdup("root");

	for (unsigned i = 2; vm_disk_find(vm, name) != NULL; i++) {
		g_free(name);
		name = g_strdup_printf("data%u", i);
	}
	return name;
}

bool api_vm_disk_add(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Creation) n = creation_new(c);
	g_autofree char *name = NULL;

	if (body == NULL || r == NULL || !call_check_match(c, r->seen.config_rev, err))
		return false;
	n->vm = vm_copy(r->vm);
	name = free_name(n->vm);
	if (!creation_add_wished_disk(n, body, name, err) ||
	    !vm_check_startable(n->call, n->vm, json_str(r->runtime, "machine"), err))
		return false;
	return call_submit(c,
			   plan_vm_disk_add(&n->req->plan, &r->seen, n->vm,
					    n->wish->len > 0 ? n->wish->pdata[0] : NULL, err),
			   err);
}

/* The place of the disk that the route names; ERR_NOT_FOUND. */
static bool find_disk(const ApiCall *c, const Vm *vm, guint *ret_at, GError **err)
{
	const char *name = call_path(c, "disk");
	VmDisk *d = vm_disk_find(vm, name);

	if (d != NULL)
		return g_ptr_array_find(vm->disk, d, ret_at);
	fail(err, ERR_NOT_FOUND, "vm '%s' has no disk '%s'", vm->name, name);
	return err_advise(err, "`plim vm disk list %s` shows its disks.", vm->name);
}

bool api_vm_disk_remove(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(EngineRequest) req = NULL;
	bool delete;
	guint at;

	if (r == NULL || !call_flag(c, "delete_volume", false, &delete, err) ||
	    !find_disk(c, r->vm, &at, err) || !call_check_match(c, r->seen.config_rev, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c,
			   plan_vm_disk_remove(&req->plan, &r->seen, r->vm->disk->pdata[at],
					       r->seen.volume->pdata[at], delete, err),
			   err);
}
