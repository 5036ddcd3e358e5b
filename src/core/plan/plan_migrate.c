/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan_migrate.h"
#include "core/model/keys.h"
#include "core/model/paths.h"
#include "core/plan/plan_vm-impl.h"

char *migrate_node(const char *disk)
{
	return g_strconcat("disk-", disk, NULL);
}

static const Vm *running_vm(const VmSeen *seen, Vm **ret_own, GError **err)
{
	const Json *config = json_obj(seen->applied, "config");

	*ret_own = config != NULL ? vm_of_json(config, err) : NULL;
	if (config == NULL)
		fail(err, ERR_BAD_STATE, "it is not recorded what '%s' was started with", seen->vm->name);
	return *ret_own;
}

/* What MIGRATE_PREPARE must know of each disk to look whether the other host sees it, or to have it made. */
static Json *disks_of(const PlanRequest *req, const VmSeen *seen, const Vm *vm)
{
	Json *list = json_array();

	for (guint i = 0; i < vm->disk->len; i++) {
		const VmDisk *d = vm->disk->pdata[i];
		const Volume *v = i < seen->volume->len ? seen->volume->pdata[i] : NULL;
		g_autofree char *backing =
		    v != NULL && v->image_id != NULL ? path_image(&req->host->folders, v->image_id) : NULL;
		Json *j = json_object();

		json_put_str(j, "name", d->name);
		json_put_str(j, "backing", backing);
		json_put_str(j, "path", d->path != NULL || v == NULL ? d->path : v->path);
		json_put_str(j, "volume", v != NULL ? v->id : NULL);
		json_put_str(j, "image", v != NULL ? v->image_id : NULL);
		json_put_str(j, "format", v != NULL ? v->format : d->format);
		json_put_uint(j, "size", v != NULL ? v->size : 0);
		json_put_bool(j, "readonly", d->readonly);
		json_array_append_new(list, j);
	}
	return list;
}

static Json *send_args(const VmSeen *seen, const struct plan_migrate *to)
{
	Json *args = vm_args(seen->vm);

	json_put_str(args, "host", to->host_id);
	json_put_str(args, "host_name", to->host_name);
	json_put_str(args, "address", to->address);
	json_put_bool(args, "run", vm_runtime_state(seen->runtime) == VM_RUNNING);
	json_put(args, "settings", migrate_settings_to_json(to->settings));
	return args;
}

static Json *prepare_args(const PlanRequest *req, const VmSeen *seen, const Vm *vm,
			  const struct plan_migrate *to)
{
	g_autofree char *dir = path_vm_dir(&req->host->folders, vm->id),
			*run = path_vm_run_dir(&req->host->folders, vm->id);
	Json *args = send_args(seen, to);

	json_put_str(args, "source", req->host->id);
	json_put_str(args, "run_as", req->host->run_as);
	json_put_str(args, "dir", dir);
	json_put_str(args, "run_dir", run);
	json_put_str(args, "machine", json_str(seen->runtime, "machine"));
	json_put(args, "disks", disks_of(req, seen, vm));
	return args;
}

static Json *leave_args(const PlanRequest *req, const Vm *vm)
{
	g_autofree char *dir = path_vm_dir(&req->host->folders, vm->id);
	Json *args = vm_args(vm);

	json_put_str(args, "dir", dir);
	return args;
}

Operation *plan_vm_migrate(const PlanRequest *req, const VmSeen *seen, const struct plan_migrate *to,
			   GError **err)
{
	g_autofree char *runtime = key_vm_runtime(seen->vm->id);
	g_autoptr(Vm) vm = NULL;
	Operation *op;
	Json *moved;

	if (!vm_allows(seen->vm->name, seen->runtime, VM_ACTION_migrate, err))
		return NULL;
	if (g_strcmp0(json_str(seen->runtime, "host"), to->host_id) == 0) {
		fail_advice(err, ERR_INVALID, "`plim vm explain-move` shows where it could go.",
			    "'%s' runs on %s already", seen->vm->name, to->host_name);
		return NULL;
	}
	if (running_vm(seen, &vm, err) == NULL)
		return NULL;
	op = vm_operation_begin(req, "vm.migrate", seen, VM_ACTION_migrate, err);
	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	plan_add(op->plan, STEP_MIGRATE_PREPARE, to->host_name, prepare_args(req, seen, vm, to));
	plan_add(op->plan, STEP_MIGRATE_SEND, vm->name, send_args(seen, to));
	plan_add(op->plan, STEP_QEMU_QUIT, vm->name, vm_args(vm));
	if (!vm_add_cleanup(op, seen, err))
		return operation_free(op);
	plan_add(op->plan, STEP_MIGRATE_LEAVE, vm->name, leave_args(req, vm));
	/* From the change of owner on the lock is the other operation's. */
	moved = json_object();
	json_put(moved, "migration", operation_fact("migration"));
	operation_merge_on_done(op, runtime, moved);
	vm_unlock_on_failure(op, vm);
	return op;
}
