/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan_vm.h"
#include "core/model/keys.h"
#include "core/model/paths.h"
#include "core/model/vm_state.h"
#include "core/plan/plan_vm-impl.h"

Operation *vm_operation_new(const PlanRequest *req, const char *kind, const Vm *vm)
{
	Operation *op = operation_new(req->op_id, kind, req->now);

	operation_set_target(op, "vm", vm->id, vm->name);
	op->user = g_strdup(req->user);
	return op;
}

void operation_lock_vm(Operation *op, const VmSeen *seen)
{
	g_autofree char *key = key_vm_runtime(seen->vm->id);
	Json *locked = json_deep_copy(seen->runtime);

	json_put_str(locked, "operation", op->id);
	operation_on_begin(op, key, seen->runtime_rev, locked);
}

void vm_unlock_on_failure(Operation *op, const Vm *vm)
{
	g_autofree char *key = key_vm_runtime(vm->id);
	Json *unlocked = json_object();

	json_put(unlocked, "operation", json_null());
	operation_merge_on_failed(op, key, unlocked);
}

/* Takes `members` (NULL: none). */
void vm_operation_end(Operation *op, const Vm *vm, Json *members)
{
	g_autofree char *key = key_vm_runtime(vm->id);

	if (members == NULL)
		members = json_object();
	json_put(members, "operation", json_null());
	operation_merge_on_done(op, key, members);
	vm_unlock_on_failure(op, vm);
}

/* It may have moved away since the request came here. */
static bool is_here(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	VmState state = vm_runtime_state(seen->runtime);
	const char *host = json_str(seen->runtime, "host");

	if ((state != VM_RUNNING && state != VM_PAUSED) || req->host == NULL || host == NULL ||
	    g_strcmp0(host, req->host->id) == 0)
		return true;
	fail_advice(err, ERR_BAD_STATE, "Give the command again.", "vm '%s' runs on another host by now",
		    seen->vm->name);
	err_detail(err, "state", json_string(vm_state_name(state)));
	return false;
}

Operation *vm_operation_begin(const PlanRequest *req, const char *kind, const VmSeen *seen, VmAction action,
			      GError **err)
{
	Operation *op;

	if (!vm_allows(seen->vm->name, seen->runtime, action, err) || !is_here(req, seen, err))
		return NULL;
	op = vm_operation_new(req, kind, seen->vm);
	operation_lock_vm(op, seen);
	return op;
}

Json *vm_args(const Vm *vm)
{
	Json *args = json_object();

	json_put_str(args, "vm", vm->id);
	json_put_str(args, "name", vm->name);
	return args;
}

static Json *vm_dir_args(const PlanRequest *req, const Vm *vm)
{
	g_autofree char *dir = path_vm_dir(&req->host->folders, vm->id);
	Json *args = vm_args(vm);

	json_put_str(args, "path", dir);
	return args;
}

/* Images are expected once: two disks may be overlays of the same one. */
static void add_volumes(Operation *op, const Vm *vm, GPtrArray *wish)
{
	const char *expected = NULL;

	for (guint i = 0; i < wish->len; i++) {
		VolumeWish w = *(VolumeWish *)wish->pdata[i];

		if (w.image_key != NULL && expected != NULL && g_str_equal(w.image_key, expected))
			w.image_key = NULL;
		else if (w.image_key != NULL)
			expected = w.image_key;
		if (w.attach_rev > 0)
			operation_attach_volume(op, vm, &w);
		else
			operation_make_volume(op, &w);
	}
}

static void add_records(Operation *op, const PlanRequest *req, const Vm *vm)
{
	g_autofree char *config = key_vm_config(vm->id), *runtime = key_vm_runtime(vm->id);
	g_autofree char *name = key_name("vms", vm->name);
	Json *r = vm_runtime_new(req->host->id, req->now), *unlocked = json_object();

	json_put_str(r, "operation", op->id);
	operation_on_begin(op, config, 0, vm_to_json(vm));
	operation_on_begin(op, runtime, 0, r);
	operation_on_begin(op, name, 0, json_string(vm->id));
	json_put(unlocked, "operation", json_null());
	operation_merge_on_done(op, runtime, unlocked);
	operation_on_failed(op, config, NULL);
	operation_on_failed(op, runtime, NULL);
	operation_on_failed(op, name, NULL);
}

Operation *plan_vm_make(const PlanRequest *req, const char *kind, const Vm *vm, GPtrArray *wish)
{
	Operation *op = vm_operation_new(req, kind, vm);

	op->may_cancel = true;
	add_records(op, req, vm);
	plan_add(op->plan, STEP_VM_DIR_MAKE, vm->name, vm_dir_args(req, vm));
	add_volumes(op, vm, wish);
	json_put_str(op->result, "id", vm->id);
	return op;
}

Operation *plan_vm_create(const PlanRequest *req, const Vm *vm, GPtrArray *wish)
{
	return plan_vm_make(req, "vm.create", vm, wish);
}

Operation *plan_vm_clone(const PlanRequest *req, const VmSeen *src, const Vm *vm, GPtrArray *wish,
			 GError **err)
{
	Operation *op;

	if (!vm_allows(src->vm->name, src->runtime, VM_ACTION_clone, err))
		return NULL;
	op = plan_vm_make(req, "vm.clone", vm, wish);
	/* The source is locked too: its disks must rest while they are read. */
	operation_lock_vm(op, src);
	vm_operation_end(op, src->vm, NULL);
	return op;
}

Operation *plan_vm_delete(const PlanRequest *req, const VmSeen *seen, bool keep_disks, GError **err)
{
	const Vm *vm = seen->vm;
	g_autofree char *config = key_vm_config(vm->id), *runtime = key_vm_runtime(vm->id);
	g_autofree char *applied = key_vm_applied(vm->id), *name = key_name("vms", vm->name);
	g_autofree char *tools = key_tools(vm->id), *promise = key_vm_promise(vm->id);
	Operation *op = vm_operation_begin(req, "vm.delete", seen, VM_ACTION_delete, err);
	Json *unlocked;

	if (op == NULL)
		return NULL;
	operation_expect(op, config, seen->config_rev);
	for (guint i = 0; i < seen->volume->len; i++) {
		const Volume *v = seen->volume->pdata[i];

		if (v != NULL && keep_disks)
			operation_free_volume(op, v);
		else if (v != NULL)
			operation_delete_volume(op, v);
	}
	plan_add(op->plan, STEP_VM_DIR_REMOVE, vm->name, vm_dir_args(req, vm));
	operation_on_done(op, config, NULL);
	operation_on_done(op, runtime, NULL);
	operation_on_done(op, applied, NULL);
	operation_on_done(op, tools, NULL);
	operation_on_done(op, promise, NULL);
	operation_on_done(op, name, NULL);
	unlocked = json_object();
	json_put(unlocked, "operation", json_null());
	operation_merge_on_failed(op, runtime, unlocked);
	return op;
}

Json *vm_stopped_members(const PlanRequest *req, const char *state, const char *reason, const Json *exit)
{
	Json *m = json_object();

	json_put_str(m, "state", state);
	json_put_str(m, "reason", reason);
	json_put_str(m, "since", req->now);
	json_put(m, "exit", exit != NULL ? json_deep_copy(exit) : json_null());
	json_put(m, "pid", json_null());
	json_put(m, "vcpus", json_null());
	json_put(m, "memory", json_null());
	json_put(m, "memory_claim", json_null());
	json_put(m, "dynamic", json_null());
	json_put(m, "started_at", json_null());
	json_put(m, "agent", json_null());
	json_put(m, "addresses", json_array());
	json_put(m, VM_RESTART_AT, json_null());
	return m;
}

bool vm_add_cleanup(Operation *op, const VmSeen *seen, GError **err)
{
	g_autoptr(Plan) cleanup = plan_of_json(json_arr(seen->applied, "cleanup"), err);

	if (cleanup == NULL)
		return false;
	for (guint i = 0; i < cleanup->step->len; i++) {
		const Step *s = plan_step(cleanup, i);

		plan_add(op->plan, s->kind, s->target, json_deep_copy(s->args));
	}
	return true;
}

/* Quit, clean up, and record that it ended; takes op, which is freed on failure. */
static Operation *plan_end(const PlanRequest *req, Operation *op, const VmSeen *seen, const char *reason,
			   GError **err)
{
	plan_add(op->plan, STEP_QEMU_QUIT, seen->vm->name, vm_args(seen->vm));
	if (!vm_add_cleanup(op, seen, err))
		return operation_free(op);
	vm_operation_end(op, seen->vm, vm_stopped_members(req, "stopped", reason, NULL));
	return op;
}

Operation *plan_vm_stop(const PlanRequest *req, const VmSeen *seen, uint64_t timeout, bool force,
			GError **err)
{
	Operation *op = vm_operation_begin(req, "vm.stop", seen, VM_ACTION_stop, err);
	Json *args;

	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	args = vm_args(seen->vm);
	json_put_uint(args, "timeout", timeout);
	json_put_bool(args, "force", force);
	/* A paused guest can't hear the request. */
	json_put_bool(args, "resume", vm_runtime_state(seen->runtime) == VM_PAUSED);
	plan_add(op->plan, STEP_GUEST_SHUTDOWN, seen->vm->name, args);
	return plan_end(req, op, seen, force ? "ended on request" : VM_REASON_SHUT_DOWN, err);
}

Json *vm_state_args(const PlanRequest *req, const Vm *vm)
{
	g_autofree char *path = path_vm_state(&req->host->folders, vm->id);
	Json *args = vm_args(vm);

	json_put_str(args, "path", path);
	return args;
}

/* There is only the file. */
static Operation *plan_throw_away(const PlanRequest *req, Operation *op, const VmSeen *seen)
{
	Json *members = vm_stopped_members(req, "stopped", "its saved state was thrown away", NULL);

	json_put(members, "saved", json_null());
	plan_add(op->plan, STEP_STATE_REMOVE, seen->vm->name, vm_state_args(req, seen->vm));
	vm_operation_end(op, seen->vm, members);
	return op;
}

Operation *plan_vm_kill(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	Operation *op = vm_operation_begin(req, "vm.kill", seen, VM_ACTION_kill, err);

	if (op != NULL && vm_runtime_state(seen->runtime) == VM_SUSPENDED)
		return plan_throw_away(req, op, seen);
	return op != NULL ? plan_end(req, op, seen, "killed on request", err) : NULL;
}

static Json *saved_members(const PlanRequest *req, bool runs)
{
	Json *m = vm_stopped_members(req, "suspended", "suspended to disk on request", NULL),
	     *saved = json_object();

	json_put_str(saved, "at", req->now);
	json_put_bool(saved, "runs", runs);
	json_put(saved, "bytes", operation_fact("saved_bytes"));
	json_put(saved, "sha256", operation_fact("saved_sha256"));
	json_put(saved, "clock_offset", operation_fact("saved_clock"));
	json_put(saved, "clock_doubt", operation_fact("saved_clock_doubt"));
	json_put(m, "saved", saved);
	return m;
}

Operation *plan_vm_suspend(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	Operation *op = vm_operation_begin(req, "vm.suspend", seen, VM_ACTION_suspend, err);
	bool runs = vm_runtime_state(seen->runtime) == VM_RUNNING;
	Json *args;

	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	args = vm_state_args(req, seen->vm);
	json_put_uint(
	    args, "memory",
	    json_uint(json_obj(seen->runtime, "dynamic"), "max", json_uint(seen->runtime, "memory", 0)));
	json_put_bool(args, "run", runs);
	plan_add(op->plan, STEP_STATE_SAVE, seen->vm->name, args);
	plan_add(op->plan, STEP_QEMU_QUIT, seen->vm->name, vm_args(seen->vm));
	if (!vm_add_cleanup(op, seen, err))
		return operation_free(op);
	vm_operation_end(op, seen->vm, saved_members(req, runs));
	return op;
}

Operation *plan_vm_cleanup(const PlanRequest *req, const VmSeen *seen, const VmVerdict *verdict,
			   const Json *exit, GError **err)
{
	Operation *op = vm_operation_begin(req, "vm.cleanup", seen, VM_ACTION_kill, err);
	g_autofree char *restart_at = vm_restart_at(verdict, req->now);
	Json *members;

	if (op == NULL)
		return NULL;
	plan_add(op->plan, STEP_QEMU_QUIT, seen->vm->name, vm_args(seen->vm));
	if (!vm_add_cleanup(op, seen, err))
		return operation_free(op);
	members = vm_stopped_members(req, vm_state_name(verdict->state), verdict->reason, exit);
	json_put_int(members, "restarts", verdict->restarts);
	json_put_str(members, VM_RESTART_AT, restart_at);
	vm_operation_end(op, seen->vm, members);
	return op;
}

/* An operation of one step that moves the vm to another state, or to none (NULL). */
static Operation *plan_one_step(const PlanRequest *req, const char *kind, const VmSeen *seen, VmAction action,
				StepKind step, const char *state, GError **err)
{
	Operation *op = vm_operation_begin(req, kind, seen, action, err);
	Json *members;

	if (op == NULL)
		return NULL;
	plan_add(op->plan, step, seen->vm->name, vm_args(seen->vm));
	members = json_object();
	if (state != NULL) {
		json_put_str(members, "state", state);
		json_put_str(members, "since", req->now);
		json_put_str(members, "reason", "on request");
	}
	vm_operation_end(op, seen->vm, members);
	return op;
}

Operation *plan_vm_pause(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_one_step(req, "vm.pause", seen, VM_ACTION_pause, STEP_QEMU_PAUSE, "paused", err);
}

Operation *plan_vm_resume(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_one_step(req, "vm.resume", seen, VM_ACTION_resume, STEP_QEMU_RESUME, "running", err);
}

Operation *plan_vm_reset(const PlanRequest *req, const VmSeen *seen, GError **err)
{
	return plan_one_step(req, "vm.reset", seen, VM_ACTION_reset, STEP_QEMU_RESET, NULL, err);
}

Operation *plan_vm_reboot(const PlanRequest *req, const VmSeen *seen, uint64_t timeout, bool force,
			  GError **err)
{
	Operation *op = vm_operation_begin(req, "vm.reboot", seen, VM_ACTION_reboot, err);
	Json *args;

	if (op == NULL)
		return NULL;
	op->may_cancel = true;
	args = vm_args(seen->vm);
	json_put_uint(args, "timeout", timeout);
	json_put_bool(args, "force", force);
	plan_add(op->plan, STEP_GUEST_REBOOT, seen->vm->name, args);
	vm_operation_end(op, seen->vm, NULL);
	return op;
}
