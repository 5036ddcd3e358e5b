/* SPDX-License-Identifier: Apache-2.0 */
/* Disks that a vm gets or loses. */
#include "api/creation.h"
#include "api/handlers.h"
#include "core/model/paths.h"
#include "engine/volume/volume.h"

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

/* What the body asks for. */
struct wish {
	uint64_t size;
	bool filesystem, overcommit;
};

static bool wish_of_body(const Json *body, struct wish *ret, GError **err)
{
	static const char *const known[] = { "size", "filesystem", "overcommit", NULL };

	if (body == NULL || !call_known(body, known, err))
		return false;
	for (size_t i = 1; known[i] != NULL; i++) {
		const Json *v = json_object_get(body, known[i]);

		if (v != NULL && !json_is_boolean(v))
			return fail(err, ERR_INVALID, "'%s' is true or false", known[i]);
	}
	*ret = (struct wish){ .size = json_uint(body, "size", 0),
			      .filesystem = json_bool(body, "filesystem", true),
			      .overcommit = json_bool(body, "overcommit", false) };
	return volume_check_size("a disk", ret->size, err);
}

static bool check_room(const ApiCall *c, const Volume *v, const struct wish *w, GError **err)
{
	if (engine_is_sim(c->engine) || w->overcommit || w->size <= v->size)
		return true;
	return volume_check_room(v->path, w->size, err) ||
	       (g_error_matches(*err, ERR, ERR_NO_SPACE) &&
		err_advise(
		    err,
		    "Make room there, or add --overcommit: the guest is paused when the room is used up."));
}

/* The volume that is that disk. */
static Volume *volume_of_disk(ApiCall *c, const Vm *vm, const VmDisk *d, int64_t *ret_rev, GError **err)
{
	if (d->volume != NULL)
		return volume_load(engine_store(c->engine), d->volume, ret_rev, err);
	fail_advice(err, ERR_UNSUPPORTED,
		    "Stop the vm, grow the file or device yourself, and start it again.",
		    "disk '%s' of vm '%s' is a file of your own, and no volume", d->name, vm->name);
	return NULL;
}

bool api_vm_disk_grow(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(EngineRequest) req = NULL;
	g_autoptr(Volume) v = NULL;
	g_autofree char *backing = NULL;
	VolumeGrowth g = { 0 };
	struct wish w = { 0 };
	guint at;

	if (r == NULL || !wish_of_body(call_body(c, err), &w, err) || !find_disk(c, r->vm, &at, err))
		return false;
	v = volume_of_disk(c, r->vm, r->vm->disk->pdata[at], &g.rev, err);
	if (v == NULL || !check_room(c, v, &w, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	if (v->image_id != NULL)
		backing = path_image(&req->plan.host->folders, v->image_id);
	g.volume = v;
	g.backing = backing;
	g.seen = &r->seen;
	g.size = w.size;
	return call_submit(c, plan_vm_disk_grow(&req->plan, &g, r->vm->disk->pdata[at], w.filesystem, err),
			   err);
}
