/* SPDX-License-Identifier: Apache-2.0 */
/* What guests do while they run, as their QEMUs tell it: they panic, reboot, and have errors of disks. */
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/disk_stop.h"
#include "engine/engine-impl.h"
#include "engine/evidence.h"
#include "engine/records.h"
#include "engine/supervise-impl.h"
#include "engine/vm_ops.h"

/* ---- panics ---- */

#define PANICKED "the guest's kernel panicked"
/* Between two looks at a guest that should be held. */
#define HOLD_PAUSE UINT64_C(2000000)

static bool panic_is_kept(const Vm *vm)
{
	return g_strcmp0(json_string_value(vm_setting(vm, "on_panic")), "pause") == 0;
}

static bool is_panicked(Supervisor *s, const char *vm_id)
{
	g_autoptr(Vmm) v = fleet_vmm(s->engine->fleet, vm_id);
	g_autofree char *status = v != NULL ? vm_status(v, NULL) : NULL;

	return g_strcmp0(status, "guest-panicked") == 0;
}

/* It may have been killed or reset since; one that is not on record as running yet is looked at again. */
static bool put_held(Supervisor *s, const char *vm_id, Json *runtime, void *data)
{
	VmState state = vm_runtime_state(runtime);
	bool held = state == VM_PAUSED && g_strcmp0(json_str(runtime, "reason"), PANICKED) == 0;
	g_autofree char *now = time_stamp();

	(void)data;
	if ((state != VM_RUNNING && state != VM_PAUSED) || held || !is_panicked(s, vm_id))
		return false;
	json_put_str(runtime, "state", vm_state_name(VM_PAUSED));
	json_put_str(runtime, "reason", PANICKED);
	json_put_str(runtime, "since", now);
	return true;
}

static void hold_again(void *data);

/*
 * The end of a start or a resume writes that the guest runs: it is waited for,
 * and one that takes longer than that is looked behind. So is a QEMU that does
 * not say so yet: it tells of a panic first, and stops then.
 */
static void hold_panicked(Supervisor *s, const Vm *vm, bool first)
{
	bool alone = evidence_wait(s->engine, vm->id),
	     held = supervisor_update_runtime(s, vm->id, put_held, NULL);

	if (held)
		events_emit(s->engine->events, EVENT_VM_PANICKED, "vm", vm->id, vm->name, NULL,
			    "%s: the guest's kernel panicked; it is held for you to look at", vm->name);
	if (!alone || (first && !held))
		supervisor_push_later(s, hold_again, vm->id, false, HOLD_PAUSE);
}

static void hold_again(void *data)
{
	VmJob *j = data;
	g_autoptr(VmRecords) r = vm_records_load(j->s->engine->store, j->vm_id, NULL);

	if (r != NULL)
		hold_panicked(j->s, r->vm, false);
	supervisor_job_free(j);
}

/*
 * QEMU holds a guest that panicked: either it stays so, or this counts as its
 * end. Evidence comes first; the end waits for that operation.
 */
static void look_at_panic(Supervisor *s, const Vm *vm, const Json *details)
{
	bool kept = panic_is_kept(vm);

	if (kept)
		hold_panicked(s, vm, true);
	evidence_begin(s->engine, vm->id, "panic", PANICKED, details);
	if (kept)
		return;
	supervisor_ended(s, vm->id,
			 json_pack("{s:n,s:n,s:s,s:b,s:s}", "code", "signal", "shutdown", "guest-panic",
				   "panicked", 1, "last_words", ""));
}

/* Its crash kernel takes over, to write a dump of its own: it is let alone, only looked at. */
static void look_at_crash_kernel(Supervisor *s, const Vm *vm, const Json *details)
{
	static const char reason[] = "the guest's kernel panicked, and its crash kernel takes over";
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *kept;

	hang_leave(s->engine->hang, vm->id);
	kept = evidence_take(s->engine, vm, "crash-kernel", reason, SUPERVISOR_USER, details, &err);
	events_emit(s->engine->events, EVENT_VM_CRASH_KERNEL, "vm", vm->id, vm->name, NULL,
		    "%s: %s; it runs on to write its own dump", vm->name, reason);
	if (kept == NULL)
		log_warning("no evidence of vm %s was kept: %s", vm->name, err->message);
}

void supervisor_look_at_adopted(void *data)
{
	VmJob *j = data;
	g_autoptr(VmRecords) r = vm_records_load(j->s->engine->store, j->vm_id, NULL);

	if (r != NULL && vm_runtime_state(r->runtime) == VM_RUNNING && is_panicked(j->s, j->vm_id))
		look_at_panic(j->s, r->vm, NULL);
	supervisor_job_free(j);
}

/* ---- another CPU at a reboot ---- */

/* From its reset on a guest is in its firmware for a while, and loses nothing. */
#define RELEVEL_TIME UINT64_C(3000000)
#define NAMES_SHOWN 16

static void expect_relevel(Supervisor *s, const char *vm_id)
{
	uint64_t until = time_monotonic() + RELEVEL_TIME;

	g_mutex_lock(&s->lock);
	g_hash_table_replace(s->relevel, g_strdup(vm_id), g_memdup2(&until, sizeof until));
	g_mutex_unlock(&s->lock);
}

static void forget_relevel(Supervisor *s, const char *vm_id)
{
	g_mutex_lock(&s->lock);
	g_hash_table_remove(s->relevel, vm_id);
	g_mutex_unlock(&s->lock);
}

/* True while the reboot is young; then it is forgotten. */
static bool is_relevel_due(Supervisor *s, const char *vm_id)
{
	const uint64_t *until;
	bool due;

	g_mutex_lock(&s->lock);
	until = g_hash_table_lookup(s->relevel, vm_id);
	due = until != NULL && time_monotonic() < *until;
	if (!due)
		g_hash_table_remove(s->relevel, vm_id);
	g_mutex_unlock(&s->lock);
	return due;
}

static void tell_relevel(Supervisor *s, const Vm *vm, const struct pin_change *c)
{
	g_autofree char *gains = cpu_bits_names_print(&c->gains, NAMES_SHOWN),
			*losses = cpu_bits_names_print(&c->loses, NAMES_SHOWN);
	Json *details = json_object();

	json_put(details, "gains", cpu_bits_names_json(&c->gains));
	json_put(details, "loses", cpu_bits_names_json(&c->loses));
	events_emit(s->engine->events, EVENT_VM_RELEVELED, "vm", vm->id, vm->name, details,
		    "%s reboots with the pool's CPU level: it gains %s and loses %s", vm->name,
		    gains[0] != '\0' ? gains : "nothing", losses[0] != '\0' ? losses : "nothing");
}

/* Its pin, when a start would give it another one. */
static bool pin_would_change(const VmRecords *r, const EngineRequest *req, struct pin_change *ret)
{
	g_autoptr(GError) err = NULL;
	struct featureset pin;
	GuestType type;

	if (!pin_of_json(json_obj(r->applied, "pin"), &pin, &type, &err))
		return false;
	if (!pin_change_of(&pin, type, r->vm, req->plan.host, req->plan.cpu, ret, &err)) {
		log_warning("vm %s keeps its CPU at its reboot: %s", r->vm->name, err->message);
		return false;
	}
	return !pin_change_is_none(ret);
}

/* Fails when it could be tried again: ERR_BUSY, ERR_CONFLICT. */
static bool relevel(Supervisor *s, const VmRecords *r, GError **err)
{
	g_autoptr(EngineRequest) req = engine_request_new(s->engine, SUPERVISOR_USER);
	struct pin_change c = { 0 };
	g_autoptr(GError) e = NULL;
	Operation *op;

	if (g_strcmp0(json_string_value(vm_setting(r->vm, "cpu.relevel")), "reboot") != 0 ||
	    !pin_would_change(r, req, &c))
		return true;
	op = plan_vm_relevel(&req->plan, &r->seen, &e);
	if (op != NULL && exec_submit(s->engine->exec, op, &e)) {
		tell_relevel(s, r->vm, &c);
		return true;
	}
	if (g_error_matches(e, ERR, ERR_BUSY) || store_is_conflict(e)) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	log_warning("vm %s keeps its CPU at its reboot: %s", r->vm->name, e->message);
	return true;
}

/*
 * It is forgotten only when it is dealt with: an operation that has the vm when
 * it is looked at, and ends right behind that, finds it and comes back to it. A
 * record that moved (the agent of that very reboot goes) is read again at once.
 */
void supervisor_look_at_relevel(void *data)
{
	VmJob *j = data;
	bool again = true;

	while (again && is_relevel_due(j->s, j->vm_id)) {
		g_autoptr(VmRecords) r = vm_records_load(j->s->engine->store, j->vm_id, NULL);
		g_autoptr(GError) err = NULL;

		if (r == NULL || relevel(j->s, r, &err))
			forget_relevel(j->s, j->vm_id);
		again = store_is_conflict(err);
	}
	supervisor_job_free(j);
}

static void tell_reboot(Supervisor *s, const Vm *vm)
{
	events_emit(s->engine->events, EVENT_VM_REBOOTED, "vm", vm->id, vm->name, NULL,
		    "%s: the guest started again", vm->name);
	expect_relevel(s, vm->id);
	supervisor_push(s, supervisor_look_at_relevel, vm->id, NULL, false);
}

/* ---- errors of disks ---- */

void supervisor_look_at_stop(void *data)
{
	VmJob *j = data;

	/* Before the look: an operation that ends right behind it asks for another one. */
	g_mutex_lock(&j->s->lock);
	g_hash_table_add(j->s->stopped, g_strdup(j->vm_id));
	g_mutex_unlock(&j->s->lock);
	if (disk_stop_record(j->s->engine, j->vm_id)) {
		g_mutex_lock(&j->s->lock);
		g_hash_table_remove(j->s->stopped, j->vm_id);
		g_mutex_unlock(&j->s->lock);
	}
	supervisor_job_free(j);
}

void supervisor_look_at_stop_again(Supervisor *s, const char *vm_id)
{
	bool due;

	g_mutex_lock(&s->lock);
	due = g_hash_table_remove(s->stopped, vm_id);
	g_mutex_unlock(&s->lock);
	if (due)
		supervisor_push(s, supervisor_look_at_stop, vm_id, NULL, false);
}

static void look_at_event(void *data)
{
	VmJob *j = data;
	g_autoptr(VmRecords) r = vm_records_load(j->s->engine->store, j->vm_id, NULL);

	if (r != NULL && g_str_equal(j->event, "GUEST_PANICKED"))
		look_at_panic(j->s, r->vm, json_obj(j->args, "info"));
	else if (r != NULL && g_str_equal(j->event, "GUEST_CRASHLOADED"))
		look_at_crash_kernel(j->s, r->vm, json_obj(j->args, "info"));
	else if (r != NULL && g_str_equal(j->event, "RESET"))
		tell_reboot(j->s, r->vm);
	else if (r != NULL && g_str_equal(j->event, "BLOCK_IO_ERROR"))
		disk_error_tell(j->s->engine, j->vm_id, j->args);
	supervisor_job_free(j);
}

/* SeaBIOS resets once more by itself: what follows within a second is the same reboot. */
#define RESET_PAUSE UINT64_C(1000000)

/* A guest may try again for ever: one error of its disks in this time is told. */
#define ERROR_PAUSE UINT64_C(60000000)

/* Vms come and go: with so many of them the times are forgotten. */
#define SEEN_MAX 4096

/* None was taken for new within `pause`. Loop thread. */
static bool is_new(GHashTable *seen, const char *vm_id, uint64_t pause)
{
	uint64_t now = time_monotonic(), *last = g_hash_table_lookup(seen, vm_id);

	if (last != NULL && now - *last <= pause)
		return false;
	if (g_hash_table_size(seen) >= SEEN_MAX)
		g_hash_table_remove_all(seen);
	g_hash_table_replace(seen, g_strdup(vm_id), g_memdup2(&now, sizeof now));
	return true;
}

static void on_disk_error(Supervisor *s, const char *vm_id, const Json *args)
{
	/* One that stops the guest is told when it has stopped. */
	if (g_strcmp0(json_str(args, "action"), "stop") != 0 && is_new(s->error_at, vm_id, ERROR_PAUSE))
		supervisor_push_event(s, look_at_event, vm_id, "BLOCK_IO_ERROR", json_deep_copy(args), false);
}

void supervisor_on_event(const char *vm_id, const char *name, Json *args, void *data)
{
	Supervisor *s = data;
	bool by_guest = json_bool(args, "guest", false);
	/* A panic that the guest deals with itself (kdump) is none of ours. */
	bool handled = g_str_equal(name, "GUEST_PANICKED") && g_strcmp0(json_str(args, "action"), "run") == 0;

	if (g_str_equal(name, "RESET")) {
		memory_keeper_reset(s->engine->memory, vm_id);
		hang_reset(s->engine->hang, vm_id);
	}
	if (g_str_equal(name, "RESET") && !is_new(s->reset_at, vm_id, RESET_PAUSE))
		return;
	if (g_str_equal(name, "BLOCK_IO_ERROR"))
		on_disk_error(s, vm_id, args);
	else if (g_str_equal(name, "STOP"))
		supervisor_push(s, supervisor_look_at_stop, vm_id, NULL, false);
	else if (g_str_equal(name, "GUEST_CRASHLOADED") || (g_str_equal(name, "GUEST_PANICKED") && !handled))
		supervisor_push_event(s, look_at_event, vm_id, name, json_deep_copy(args), false);
	else if (g_str_equal(name, "RESET") && by_guest)
		supervisor_push(s, look_at_event, vm_id, name, false);
}
