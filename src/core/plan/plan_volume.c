/* SPDX-License-Identifier: Apache-2.0 */
/* Plans about volumes: made, given to vms, taken away, grown, deleted. */
#include "core/model/keys.h"
#include "core/plan/plan_vm-impl.h"

#define SECTOR UINT64_C(512)

static Json *volume_args(const VolumeWish *wish)
{
	const Volume *v = wish->volume;
	Json *args = json_object();

	json_put_str(args, "volume", v->id);
	json_put_str(args, "path", v->path);
	json_put_str(args, "format", v->format);
	json_put_uint(args, "size", v->size);
	if (wish->image_path != NULL)
		json_put_str(args, "backing", wish->image_path);
	if (wish->clone_of != NULL) {
		json_put_str(args, "source", wish->clone_of);
		json_put_str(args, "source_format", v->format);
		json_put_str(args, "source_backing", wish->clone_backing);
	}
	if (wish->backup != NULL)
		json_put(args, "sources", json_deep_copy(wish->backup));
	return args;
}

static StepKind step_of(const VolumeWish *wish)
{
	if (wish->backup != NULL)
		return STEP_VOLUME_RESTORE;
	return wish->clone_of != NULL ? STEP_VOLUME_CLONE : STEP_VOLUME_CREATE;
}

void operation_make_volume(Operation *op, const VolumeWish *wish)
{
	g_autofree char *key = key_volume(wish->volume->id), *name = key_name("volumes", wish->volume->name);
	Json *creating = volume_to_json(wish->volume), *ready = json_object();

	json_put_str(creating, "status", "creating");
	operation_on_begin(op, key, 0, creating);
	operation_on_begin(op, name, 0, json_string(wish->volume->id));
	if (wish->image_key != NULL)
		operation_expect(op, wish->image_key, wish->image_rev);
	plan_add(op->plan, step_of(wish), wish->volume->name, volume_args(wish));
	json_put_str(ready, "status", "ready");
	operation_merge_on_done(op, key, ready);
	operation_on_failed(op, key, NULL);
	operation_on_failed(op, name, NULL);
}

void operation_attach_volume(Operation *op, const Vm *vm, const VolumeWish *wish)
{
	g_autofree char *key = key_volume(wish->volume->id);
	Json *attached = volume_to_json(wish->volume), *freed = json_object();

	json_put_str(attached, "vm", vm->id);
	operation_on_begin(op, key, wish->attach_rev, attached);
	json_put(freed, "vm", json_null());
	operation_merge_on_failed(op, key, freed);
}

void operation_delete_volume(Operation *op, const Volume *v)
{
	g_autofree char *key = key_volume(v->id), *name = key_name("volumes", v->name);
	Json *args = json_object();

	json_put_str(args, "volume", v->id);
	json_put_str(args, "path", v->path);
	plan_add(op->plan, STEP_VOLUME_DELETE, v->name, args);
	operation_on_done(op, key, NULL);
	operation_on_done(op, name, NULL);
}

void operation_free_volume(Operation *op, const Volume *v)
{
	g_autofree char *key = key_volume(v->id);
	Json *freed = json_object();

	json_put(freed, "vm", json_null());
	operation_merge_on_done(op, key, freed);
}

static Operation *volume_operation(const PlanRequest *req, const char *kind, const Volume *v)
{
	Operation *op = operation_new(req->op_id, kind, req->now);

	operation_set_target(op, "volume", v->id, v->name);
	op->user = g_strdup(req->user);
	json_put_str(op->result, "id", v->id);
	return op;
}

Operation *plan_volume_create(const PlanRequest *req, const VolumeWish *wish)
{
	Operation *op = volume_operation(req, "volume.create", wish->volume);

	op->may_cancel = true;
	operation_make_volume(op, wish);
	return op;
}

Operation *plan_volume_delete(const PlanRequest *req, const Volume *v, int64_t rev, GError **err)
{
	g_autofree char *key = key_volume(v->id);
	Operation *op;
	Json *deleting;

	if (v->vm_id != NULL) {
		fail_advice(err, ERR_CONFLICT, "Delete the vm, or take the disk out of it first.",
			    "volume '%s' is a disk of a vm", v->name);
		err_detail(err, "vm", json_string(v->vm_id));
		return NULL;
	}
	op = volume_operation(req, "volume.delete", v);
	deleting = volume_to_json(v);
	json_put_str(deleting, "status", "deleting");
	operation_on_begin(op, key, rev, deleting);
	operation_delete_volume(op, v);
	operation_on_failed(op, key, volume_to_json(v));
	return op;
}

static bool check_growth(const Volume *v, uint64_t size, GError **err)
{
	if (!volume_check_size("a volume", size, err))
		return false;
	if (!g_str_equal(v->status, "ready"))
		return fail_advice(err, ERR_BUSY, "Wait until that has ended.", "volume '%s' is %s", v->name,
				   v->status);
	if (size < v->size) {
		fail_advice(err, ERR_INVALID,
			    "Volumes only grow: what lies behind the new end would be lost.",
			    "volume '%s' is larger than that", v->name);
		return err_detail(err, "size", json_integer((json_int_t)v->size));
	}
	return true;
}

static uint64_t whole_sectors(uint64_t size)
{
	return (size + SECTOR - 1) / SECTOR * SECTOR;
}

static Json *growth_args(const VolumeGrowth *g)
{
	Json *args = json_object();

	json_put_str(args, "volume", g->volume->id);
	json_put_str(args, "path", g->volume->path);
	json_put_str(args, "format", g->volume->format);
	json_put_uint(args, "size", whole_sectors(g->size));
	json_put_str(args, "backing", g->backing);
	return args;
}

/* The volume is growing until the end, and has its new size when that is good. */
static void put_growth(Operation *op, const VolumeGrowth *g)
{
	g_autofree char *key = key_volume(g->volume->id);
	Json *growing = volume_to_json(g->volume), *grown = json_object(), *same = json_object();

	json_put_str(growing, "status", "growing");
	operation_on_begin(op, key, g->rev, growing);
	json_put_uint(grown, "size", whole_sectors(g->size));
	json_put_str(grown, "status", "ready");
	operation_merge_on_done(op, key, grown);
	json_put_str(same, "status", "ready");
	operation_merge_on_failed(op, key, same);
}

Operation *plan_volume_grow(const PlanRequest *req, const VolumeGrowth *g, GError **err)
{
	Operation *op;

	if (!check_growth(g->volume, g->size, err) ||
	    (g->seen != NULL && !vm_allows(g->seen->vm->name, g->seen->runtime, VM_ACTION_grow, err)))
		return NULL;
	op = volume_operation(req, "volume.grow", g->volume);
	put_growth(op, g);
	plan_add(op->plan, STEP_VOLUME_GROW, g->volume->name, growth_args(g));
	if (g->seen != NULL) {
		operation_lock_vm(op, g->seen);
		vm_operation_end(op, g->seen->vm, NULL);
	}
	return op;
}

/* {vm, name, disk, size}: for the guest. */
static Json *guest_growth_args(const VolumeGrowth *g, const VmDisk *d)
{
	Json *args = vm_args(g->seen->vm);

	json_put_str(args, "disk", d->name);
	json_put_uint(args, "size", whole_sectors(g->size));
	return args;
}

static void add_disk_growth(Operation *op, const VolumeGrowth *g, const VmDisk *d, bool guest)
{
	Json *args = growth_args(g);

	if (!vm_disk_in_use(g->seen, d)) {
		plan_add(op->plan, STEP_VOLUME_GROW, d->name, args);
		return;
	}
	json_put_str(args, "vm", g->seen->vm->id);
	json_put_str(args, "disk", d->name);
	plan_add(op->plan, STEP_DISK_GROW, d->name, args);
	if (guest)
		plan_add(op->plan, STEP_GUEST_GROW, d->name, guest_growth_args(g, d));
}

Operation *plan_vm_disk_grow(const PlanRequest *req, const VolumeGrowth *g, const VmDisk *d, bool guest,
			     GError **err)
{
	Operation *op;

	if (!check_growth(g->volume, g->size, err))
		return NULL;
	op = vm_operation_begin(req, "vm.disk-grow", g->seen, VM_ACTION_change, err);
	if (op == NULL)
		return NULL;
	put_growth(op, g);
	add_disk_growth(op, g, d, guest);
	vm_operation_end(op, g->seen->vm, NULL);
	json_put_str(op->result, "disk", d->name);
	json_put_uint(op->result, "before", g->volume->size);
	json_put_uint(op->result, "after", whole_sectors(g->size));
	return op;
}

/* The new list of disks, when it is done; whoever changes that list needs the vm's lock. */
static void put_disks(Operation *op, const Vm *is)
{
	g_autofree char *key = key_vm_config(is->id);
	_cleanup_json_ Json *j = vm_to_json(is);
	Json *members = json_object();

	json_put(members, "disks", json_incref(json_object_get(j, "disks")));
	operation_merge_on_done(op, key, members);
}

static Operation *disk_operation(const PlanRequest *req, const char *kind, const VmSeen *seen,
				 const char *disk, GError **err)
{
	g_autofree char *key = key_vm_config(seen->vm->id);
	Operation *op = vm_operation_begin(req, kind, seen, VM_ACTION_change, err);

	if (op == NULL)
		return NULL;
	operation_expect(op, key, seen->config_rev);
	vm_operation_end(op, seen->vm, NULL);
	json_put_str(op->result, "disk", disk);
	return op;
}

Operation *plan_vm_disk_add(const PlanRequest *req, const VmSeen *seen, const Vm *is, const VolumeWish *wish,
			    GError **err)
{
	const VmDisk *added = is->disk->pdata[is->disk->len - 1];
	Operation *op = disk_operation(req, "vm.disk-add", seen, added->name, err);

	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	if (wish != NULL && wish->attach_rev > 0)
		operation_attach_volume(op, is, wish);
	else if (wish != NULL)
		operation_make_volume(op, wish);
	put_disks(op, is);
	return op;
}

bool vm_disk_in_use(const VmSeen *seen, const VmDisk *d)
{
	VmState s = vm_runtime_state(seen->runtime);
	const Json *disks = json_arr(json_obj(seen->applied, "config"), "disks"), *j;
	size_t i;

	if (d->volume == NULL || (s != VM_RUNNING && s != VM_PAUSED))
		return false;
	json_array_foreach(disks, i, j) if (g_strcmp0(json_str(j, "volume"), d->volume) == 0) return true;
	return false;
}

Operation *plan_vm_disk_remove(const PlanRequest *req, const VmSeen *seen, const VmDisk *d, const Volume *v,
			       bool delete_volume, GError **err)
{
	g_autoptr(Vm) is = NULL;
	Operation *op;

	if (vm_disk_in_use(seen, d)) {
		fail(err, ERR_BAD_STATE, "disk '%s' of vm '%s' is in use by the running guest", d->name,
		     seen->vm->name);
		err_advise(err, "Run `plim vm stop %s` first.", seen->vm->name);
		return NULL;
	}
	op = disk_operation(req, "vm.disk-remove", seen, d->name, err);
	if (op == NULL)
		return NULL;
	if (v != NULL && delete_volume)
		operation_delete_volume(op, v);
	else if (v != NULL)
		operation_free_volume(op, v);
	is = vm_copy(seen->vm);
	g_ptr_array_remove(is->disk, vm_disk_find(is, d->name));
	put_disks(op, is);
	return op;
}
