/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/model/vm_exit.h"
#include "core/model/vm_state.h"
#include "engine/engine-impl.h"
#include "engine/evidence.h"
#include "engine/owner.h"
#include "engine/promise.h"
#include "engine/records.h"
#include "engine/supervise-impl.h"
#include "engine/vm_ops.h"

/* Member of an end that waits: evidence of it was kept. */
#define SEEN "seen"
/* Members of an end that are not told either: QEMU has ended, and not only the guest in it; which end it is.
 */
#define QEMU_ENDED "qemu_ended"
#define NUMBER "number"
/* Between two looks at an end that could not be recorded. */
#define LOOK_AGAIN UINT64_C(2000000)

static void drop_json(gpointer p)
{
	json_unref(p);
}

static void delay_free(gpointer p);

Supervisor *supervisor_new(Engine *e)
{
	Supervisor *s = g_new0(Supervisor, 1);

	s->engine = e;
	g_mutex_init(&s->lock);
	s->exit = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, drop_json);
	s->asked = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->looks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->stopped = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	s->error_at = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	s->reset_at = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	s->relevel = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	s->delay = g_ptr_array_new_with_free_func(delay_free);
	return s;
}

Supervisor *supervisor_free(Supervisor *s)
{
	if (s != NULL) {
		g_hash_table_unref(s->exit);
		g_hash_table_unref(s->asked);
		g_hash_table_unref(s->relevel);
		g_ptr_array_unref(s->delay);
		g_hash_table_unref(s->reset_at);
		g_hash_table_unref(s->error_at);
		g_hash_table_unref(s->stopped);
		g_hash_table_unref(s->looks);
		g_mutex_clear(&s->lock);
		g_free(s);
	}
	return NULL;
}

static bool is_ended(Supervisor *s)
{
	bool ended;

	g_mutex_lock(&s->lock);
	ended = s->ended;
	g_mutex_unlock(&s->lock);
	return ended;
}

void supervisor_push_event(Supervisor *s, WorkerFunc func, const char *vm_id, const char *event, Json *args,
			   bool flag)
{
	VmJob *j;

	if (is_ended(s)) {
		json_unref(args);
		return;
	}
	j = g_new(VmJob, 1);
	*j = (VmJob){ s, g_strdup(vm_id), g_strdup(event), args, flag };
	worker_pool_push(s->engine->pool, func, j);
}

void supervisor_push(Supervisor *s, WorkerFunc func, const char *vm_id, const char *event, bool flag)
{
	supervisor_push_event(s, func, vm_id, event, NULL, flag);
}

void supervisor_job_free(VmJob *j)
{
	g_free(j->vm_id);
	g_free(j->event);
	json_unref(j->args);
	g_free(j);
}

static void remember_exit(Supervisor *s, const char *vm_id, Json *exit)
{
	g_mutex_lock(&s->lock);
	json_put_int(exit, NUMBER, ++s->exits);
	g_hash_table_insert(s->exit, g_strdup(vm_id), exit);
	g_mutex_unlock(&s->lock);
}

/* A copy of the end that waits for its judgement, or NULL. */
static Json *waiting_exit(Supervisor *s, const char *vm_id)
{
	Json *exit;

	g_mutex_lock(&s->lock);
	exit = g_hash_table_lookup(s->exit, vm_id);
	exit = exit != NULL ? json_deep_copy(exit) : NULL;
	if (exit != NULL)
		json_object_del(exit, SEEN);
	g_mutex_unlock(&s->lock);
	return exit;
}

/* That one only: another QEMU of the vm may have ended meanwhile. */
static void forget_exit(Supervisor *s, const char *vm_id, const Json *exit)
{
	const Json *is;

	g_mutex_lock(&s->lock);
	is = g_hash_table_lookup(s->exit, vm_id);
	if (is != NULL && json_int(is, NUMBER, 0) == json_int(exit, NUMBER, 0))
		g_hash_table_remove(s->exit, vm_id);
	g_mutex_unlock(&s->lock);
}

static uint64_t ran_for(const Json *runtime)
{
	const char *since = json_str(runtime, "started_at");
	uint64_t start, now = time_real();

	return since != NULL && time_parse(since, &start) && now > start ? now - start : 0;
}

static void tell_end(Supervisor *s, const Vm *vm, const VmVerdict *v, const Json *exit)
{
	g_autofree char *pause = print_duration(v->delay);

	if (v->restart)
		events_emit(s->engine->events, v->event, "vm", vm->id, vm->name, json_deep_copy(exit),
			    "%s: %s; it is started again in %s", vm->name, v->reason, pause);
	else
		events_emit(s->engine->events, v->event, "vm", vm->id, vm->name, json_deep_copy(exit),
			    "%s: %s", vm->name, v->reason);
}

/* Once for each end: the judgement may have to be made again. */
static bool first_look(Supervisor *s, const char *vm_id)
{
	Json *exit;
	bool first;

	g_mutex_lock(&s->lock);
	exit = g_hash_table_lookup(s->exit, vm_id);
	first = exit != NULL && !json_bool(exit, SEEN, false);
	if (first)
		json_put_bool(exit, SEEN, true);
	g_mutex_unlock(&s->lock);
	return first;
}

/* QEMU is gone; what it left behind goes with the cleanup. One that panicked has left evidence already. */
static void keep_of_dead(Supervisor *s, const Vm *vm, const VmVerdict *v, const Json *exit)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *kept = NULL;

	if (v->event != EVENT_VM_CRASHED || json_bool(exit, "host_restarted", false) ||
	    !first_look(s, vm->id))
		return;
	kept = evidence_take(s->engine, vm, "qemu-death", v->reason, SUPERVISOR_USER, exit, &err);
	if (kept == NULL)
		log_warning("no evidence of the end of vm %s was kept: %s", vm->name, err->message);
}

/*
 * Of a vm that the records said is another host's: what ended here is only what it left behind. One that is
 * promised to this host may have run already, though: how it ended is told when it is this host's on record,
 * which it may have become since they were read.
 */
static bool is_left_behind(Supervisor *s, const char *vm_id, GError **err)
{
	bool comes, here;

	if (!store_catch_up(s->engine->store, err) ||
	    !promise_is_to(s->engine->store, vm_id, s->engine->host_id, &comes, err) || comes ||
	    !owner_is(s->engine->store, vm_id, s->engine->host_id, &here, err))
		return false;
	return !here || fail(err, ERR_CONFLICT, "it is this host's since");
}

/* True when it is dealt with; false when an operation has the vm, whose end comes back to it. */
static bool judge(Supervisor *s, const VmRecords *r, const Json *exit, GError **err)
{
	g_autoptr(EngineRequest) req = engine_request_new(s->engine, SUPERVISOR_USER);
	VmState state = vm_runtime_state(r->runtime);
	VmVerdict v;
	Operation *op;
	bool ok;

	if (g_strcmp0(json_str(r->runtime, "host"), s->engine->host_id) != 0)
		return is_left_behind(s, r->vm->id, err);
	if (json_str(r->runtime, "operation") != NULL)
		return false;
	if (state != VM_RUNNING && state != VM_PAUSED)
		return true;
	vm_exit_judge(r->vm, r->runtime, exit, ran_for(r->runtime), &v);
	keep_of_dead(s, r->vm, &v, exit);
	op = plan_vm_cleanup(&req->plan, &r->seen, &v, exit, err);
	ok = op != NULL && exec_submit(s->engine->exec, op, err);
	if (ok)
		tell_end(s, r->vm, &v, exit);
	vm_verdict_done(&v);
	return ok;
}

/* A guest that panicked ends while its QEMU still lives. */
static bool has_qemu_ended(const Json *exit)
{
	return json_bool(exit, QEMU_ENDED, false) || !json_bool(exit, "panicked", false);
}

/* A QEMU that was replaced: what ended is not what runs, or the guest that panicked was reset meanwhile. */
static bool is_old_exit(Supervisor *s, const char *vm_id, const Json *exit, bool *ret, GError **err)
{
	g_autoptr(Vmm) v = fleet_vmm(s->engine->fleet, vm_id);
	g_autofree char *status = v != NULL && !has_qemu_ended(exit) ? vm_status(v, err) : NULL;

	*ret = v != NULL && g_strcmp0(status, "guest-panicked") != 0;
	return v == NULL || has_qemu_ended(exit) || status != NULL;
}

/*
 * True when it is dealt with. What ended, and whether another QEMU runs, is asked behind the records, which
 * must be as they were when the end is written: a guest that came since is not ended by what its host had of
 * it before.
 */
static bool try_judge(Supervisor *s, const char *vm_id, Json **ret_exit, GError **err)
{
	g_autoptr(VmRecords) r = vm_records_load(s->engine->store, vm_id, err);
	_cleanup_json_ Json *told = NULL;
	bool old;

	json_unref(*ret_exit);
	*ret_exit = waiting_exit(s, vm_id);
	if (r == NULL || *ret_exit == NULL || !is_old_exit(s, vm_id, *ret_exit, &old, err))
		return false;
	if (old)
		return true;
	told = json_deep_copy(*ret_exit);
	json_object_del(told, QEMU_ENDED);
	json_object_del(told, NUMBER);
	return judge(s, r, told, err);
}

/*
 * An end is looked at again whenever something may have been in the way: the
 * record moved (try now), an operation has the vm (its end calls us, too), the
 * store or QEMU does not answer (later).
 */
static void look_at_exit(void *data)
{
	VmJob *j = data;
	_cleanup_json_ Json *exit = waiting_exit(j->s, j->vm_id);
	bool again = exit != NULL;

	while (again) {
		g_autoptr(GError) err = NULL;
		bool done = try_judge(j->s, j->vm_id, &exit, &err);

		again = g_error_matches(err, ERR, ERR_CONFLICT);
		if (done || g_error_matches(err, ERR, ERR_NOT_FOUND)) {
			forget_exit(j->s, j->vm_id, exit);
			fleet_forget(j->s->engine->fleet, j->vm_id);
		} else if (err != NULL && !again) {
			log_error("the end of vm %s was not recorded: %s", j->vm_id, err->message);
			supervisor_push_later(j->s, look_at_exit, j->vm_id, false, LOOK_AGAIN);
		}
	}
	supervisor_job_free(j);
}

void supervisor_ended(Supervisor *s, const char *vm_id, Json *exit)
{
	remember_exit(s, vm_id, exit);
	supervisor_push(s, look_at_exit, vm_id, NULL, false);
}

static void on_exited(const char *vm_id, Json *exit, void *data)
{
	Json *end = json_deep_copy(exit);

	json_put_bool(end, QEMU_ENDED, true);
	supervisor_ended(data, vm_id, end);
}

/* ---- what the parts share ---- */

/* A guest that moved says a last word over here: its record is the other host's by then. */
bool supervisor_update_runtime(Supervisor *s, const char *vm_id, RuntimeChange change, void *data)
{
	g_autofree char *key = key_vm_runtime(vm_id);
	bool again = true, written = false;

	while (again) {
		g_autoptr(GError) err = NULL;
		int64_t rev;
		_cleanup_json_ Json *j = record_get(s->engine->store, key, &rev, &err);
		g_autofree char *text = NULL;
		StoreTx *tx;

		if (j == NULL || !owner_may_write(s->engine->store, j, s->engine->host_id) ||
		    !change(s, vm_id, j, data))
			return false;
		text = json_print(j);
		tx = store_tx_new();
		store_tx_set(tx, key, rev, text);
		written = store_commit(s->engine->store, tx, STORE_RELAXED, NULL, &err);
		again = g_error_matches(err, ERR, ERR_CONFLICT);
	}
	return written;
}

/* ---- later ---- */

typedef struct Delay {
	Supervisor *s;
	WorkerFunc func;
	char *vm_id, *event;
	bool flag;
	uint64_t us;
	LoopSource *timer;
} Delay;

static void delay_free(gpointer p)
{
	Delay *d = p;

	loop_source_free(d->timer);
	g_free(d->vm_id);
	g_free(d->event);
	g_free(d);
}

static void on_delay(void *data)
{
	Delay *d = data;

	supervisor_push(d->s, d->func, d->vm_id, d->event, d->flag);
	g_ptr_array_remove_fast(d->s->delay, d);
}

static void arm_delay(void *data)
{
	Delay *d = data;

	g_ptr_array_add(d->s->delay, d);
	d->timer = loop_add_timer(d->s->engine->loop, d->us, on_delay, d);
}

/* Like supervisor_push(), after a time. */
static void push_event_later(Supervisor *s, WorkerFunc func, const char *vm_id, const char *event, bool flag,
			     uint64_t us)
{
	Delay *d = g_new0(Delay, 1);

	*d = (Delay){ .s = s,
		      .func = func,
		      .vm_id = g_strdup(vm_id),
		      .event = g_strdup(event),
		      .flag = flag,
		      .us = us };
	loop_post(s->engine->loop, arm_delay, d);
}

void supervisor_push_later(Supervisor *s, WorkerFunc func, const char *vm_id, bool flag, uint64_t us)
{
	push_event_later(s, func, vm_id, NULL, flag, us);
}

/* ---- what the fleet tells ---- */

static void on_agent(const char *vm_id, bool connected, void *data)
{
	supervisor_push(data, supervisor_greet_agent, vm_id, NULL, connected);
}

static const FleetHandler fleet_handler = { .event = supervisor_on_event,
					    .agent = on_agent,
					    .exited = on_exited };
const FleetHandler *const supervisor_fleet_handler = &fleet_handler;

/* ---- starting again ---- */

/*
 * A vm is started by itself because its record says that a restart is due (VM_RESTART_AT; flag), or because
 * its host was booted. The job carries what that record said, of the restart or since when the vm is off:
 * when it says something else by then, somebody has started the vm meanwhile, or it is not to be started any
 * more. Who is faster than this look is found by the commit.
 */
static bool is_as_it_was(const VmJob *j, const VmRecords *r)
{
	return g_strcmp0(json_str(r->runtime, "host"), j->s->engine->host_id) == 0 &&
	       g_strcmp0(json_str(r->runtime, j->flag ? VM_RESTART_AT : "since"), j->event) == 0;
}

static bool try_to_start(Supervisor *s, const VmRecords *r, GError **err)
{
	g_autoptr(EngineRequest) req = NULL;
	Operation *op;

	engine_await_cpu(s->engine, r->vm);
	req = engine_request_new(s->engine, SUPERVISOR_USER);
	op = plan_vm_start(&req->plan, &r->seen, err);
	if (op == NULL || !exec_submit(s->engine->exec, op, err))
		return false;
	events_emit(s->engine->events, EVENT_VM_RESTARTED, "vm", r->vm->id, r->vm->name, NULL,
		    "%s is started by itself", r->vm->name);
	return true;
}

typedef struct Drop {
	Supervisor *s;
	const char *vm_id, *restart_at;
} Drop;

static bool drop_once(void *data, GError **err)
{
	const Drop *d = data;
	g_autofree char *key = key_vm_runtime(d->vm_id), *text = NULL;
	int64_t rev = 0;
	_cleanup_json_ Json *j = record_get(d->s->engine->store, key, &rev, err);
	StoreTx *tx;

	if (j == NULL)
		return err == NULL || *err == NULL;
	if (g_strcmp0(json_str(j, VM_RESTART_AT), d->restart_at) != 0)
		return true;
	json_put(j, VM_RESTART_AT, json_null());
	text = json_print(j);
	tx = store_tx_new();
	store_tx_set(tx, key, rev, text);
	return store_commit(d->s->engine->store, tx, STORE_RELAXED, NULL, err);
}

/* There will be no restart: a daemon that begins anew must not find one that is due. */
static bool drop_restart(Supervisor *s, const VmRecords *r, GError **err)
{
	Drop d = { .s = s, .vm_id = r->vm->id, .restart_at = json_str(r->runtime, VM_RESTART_AT) };

	return d.restart_at == NULL || store_retry(drop_once, &d, err);
}

/*
 * An operation has the vm, the record moved, the host is joining a pool or its daemon begins anew, the store
 * does not answer: all of these pass.
 */
static bool is_for_the_moment(const GError *err)
{
	static const ErrCode codes[] = { ERR_BUSY, ERR_CONFLICT, ERR_UNAVAILABLE, ERR_TIMEOUT };

	for (size_t i = 0; i < G_N_ELEMENTS(codes); i++)
		if (g_error_matches(err, ERR, codes[i]))
			return true;
	return false;
}

/* True when there is nothing more to do. */
static bool start_if_due(const VmJob *j, const VmRecords *r, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (!is_as_it_was(j, r))
		return true;
	if (j->flag && !vm_restart_is_wanted(r->vm, r->runtime))
		return drop_restart(j->s, r, err);
	if (!j->flag && !json_is_true(vm_setting(r->vm, "autostart")))
		return true;
	if (try_to_start(j->s, r, &e))
		return true;
	if (!is_for_the_moment(e) && !drop_restart(j->s, r, err))
		return false;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static void start_again(void *data)
{
	VmJob *j = data;
	g_autoptr(GError) err = NULL;
	g_autoptr(VmRecords) r = vm_records_load(j->s->engine->store, j->vm_id, &err);
	bool done = r != NULL && start_if_due(j, r, &err), again = !done && is_for_the_moment(err);

	/* An operation may have the vm for long, and nothing is wrong with that. */
	if (!done && !g_error_matches(err, ERR, ERR_NOT_FOUND) && !g_error_matches(err, ERR, ERR_BUSY))
		log_warning("vm %s was not started by itself%s: %s", j->vm_id,
			    again ? ", which is tried again" : "", err->message);
	if (again)
		push_event_later(j->s, start_again, j->vm_id, j->event, j->flag, LOOK_AGAIN);
	supervisor_job_free(j);
}

static void plan_restart(Supervisor *s, const char *vm_id, const Json *runtime)
{
	uint64_t left;

	if (vm_restart_left(runtime, time_real(), &left))
		push_event_later(s, start_again, vm_id, json_str(runtime, VM_RESTART_AT), true, left);
}

/* ---- ends of operations ---- */

/* What is told of an operation that is done; those not named tell nothing or for themselves. */
static const struct {
	const char *kind;
	EventType event;
	const char *what;
} told[] = {
	{ "vm.create", EVENT_VM_CREATED, "was created" },
	{ "vm.clone", EVENT_VM_CREATED, "was cloned" },
	{ "vm.delete", EVENT_VM_DELETED, "was deleted" },
	{ "vm.start", EVENT_VM_STARTED, "was started" },
	{ "vm.stop", EVENT_VM_STOPPED, "was shut down" },
	{ "vm.kill", EVENT_VM_STOPPED, "was killed" },
	{ "vm.pause", EVENT_VM_PAUSED, "was paused" },
	{ "vm.suspend", EVENT_VM_SUSPENDED, "was suspended to disk" },
	{ "vm.resume", EVENT_VM_RESUMED, "was resumed" },
	{ "vm.reset", EVENT_VM_RESET, "was reset" },
	{ "image.import", EVENT_IMAGE_IMPORTED, "was imported" },
	{ "image.delete", EVENT_IMAGE_DELETED, "was deleted" },
	{ "image.verify", EVENT_IMAGE_VERIFIED, "was verified" },
	{ "vm.disk-add", EVENT_VM_CHANGED, "got a disk" },
	{ "vm.disk-remove", EVENT_VM_CHANGED, "lost a disk" },
	{ "vm.disk-grow", EVENT_VM_CHANGED, "got a larger disk" },
	{ "backup.restore", EVENT_VM_RESTORED, "was restored from a backup" },
	{ "backup.verify", EVENT_BACKUP_VERIFIED, "was read and is what was written" },
	{ "backup.delete", EVENT_BACKUP_DELETED, "was deleted" },
	{ "backup.prune", EVENT_BACKUP_DELETED, "was pruned" },
	{ "volume.grow", EVENT_VOLUME_GROWN, "was grown" },
	{ "volume.create", EVENT_VOLUME_CREATED, "was created" },
	{ "volume.delete", EVENT_VOLUME_DELETED, "was deleted" },
};

static void tell_operation(Supervisor *s, const Operation *op)
{
	const char *name = op->target_name != NULL ? op->target_name : "";

	if (op->state == OPERATION_FAILED)
		events_emit(s->engine->events, EVENT_OPERATION_FAILED, op->target_type, op->target_id, name,
			    json_deep_copy(op->error), "%s of %s failed: %s", op->kind, name,
			    json_str(op->error, "message"));
	for (size_t i = 0; op->state == OPERATION_DONE && i < G_N_ELEMENTS(told); i++)
		if (g_str_equal(told[i].kind, op->kind))
			events_emit(s->engine->events, told[i].event, op->target_type, op->target_id, name,
				    NULL, "%s %s%s%s", name, told[i].what, op->user != NULL ? " by " : "",
				    op->user != NULL ? op->user : "");
}

/* ---- begin and end of the daemon ---- */

/* The end of a QEMU that nobody saw. */
static Json *unseen_exit(const Supervisor *s, const char *last_words)
{
	return json_pack("{s:n,s:n,s:n,s:b,s:b,s:s}", "code", "signal", "shutdown", "panicked", 0,
			 "host_restarted", s->engine->booted, "last_words", last_words);
}

#define KILL_TIMEOUT UINT64_C(20000000)

/* Records that can't be read end nobody. */
static bool belongs_here(Supervisor *s, const char *vm_id)
{
	bool ours = true;

	return s->engine->member == NULL ||
	       !owner_may_be_on(s->engine->store, vm_id, s->engine->host_id, &ours, NULL) || ours;
}

/* The records gave it to another host, or to nobody, while this daemon was away. */
static void end_stranger(Supervisor *s, const char *vm_id, const char *name)
{
	g_autoptr(Vmm) v = fleet_vmm(s->engine->fleet, vm_id);
	g_autoptr(GError) err = NULL;

	if (v == NULL)
		return;
	if (!vmm_kill(v, KILL_TIMEOUT, &err))
		log_error("vm %s: %s", name, err->message);
	events_emit(s->engine->events, EVENT_VM_LOST, "vm", vm_id, name, NULL,
		    "a QEMU of %s was found on %s, which is not its host any more; it was ended", name,
		    s->engine->host_name);
}

static void fence_in(Supervisor *s, const char *vm_id, const char *name)
{
	g_autoptr(Vmm) v = fleet_vmm(s->engine->fleet, vm_id);
	g_autoptr(GError) err = NULL;

	if (v != NULL && !engine_fence_in(s->engine, vmm_pid(v), &err))
		events_emit(s->engine->events, EVENT_HOST_UNFENCED, "vm", vm_id, name, NULL,
			    "%s would run on if its host was cut off from the pool: %s. %s", name,
			    err->message, err_advice(err));
}

static void adopted(const char *vm_id, const char *name, const GError *gone, void *data)
{
	Supervisor *s = data;
	g_autoptr(VmRecords) r = vm_records_load(s->engine->store, vm_id, NULL);
	g_autofree char *uptime = r != NULL ? print_duration(ran_for(r->runtime)) : NULL;

	if (gone != NULL && !belongs_here(s, vm_id)) {
		fleet_forget(s->engine->fleet, vm_id);
	} else if (gone != NULL) {
		events_emit(s->engine->events, EVENT_VM_LOST, "vm", vm_id, name, NULL,
			    "%s ended while no daemon looked: %s", name, gone->message);
		remember_exit(s, vm_id, unseen_exit(s, gone->message));
	} else if (!belongs_here(s, vm_id)) {
		end_stranger(s, vm_id, name);
	} else {
		fence_in(s, vm_id, name);
		events_emit(s->engine->events, EVENT_VM_ADOPTED, "vm", vm_id, name, NULL,
			    "%s was found running, up for %s", name,
			    uptime != NULL ? uptime : "an unknown time");
		supervisor_push(s, supervisor_look_at_stop, vm_id, NULL, false);
	}
}

typedef void (*VmFunc)(Supervisor *s, const char *vm_id, const Vm *vm, const Json *runtime);

/*
 * Those of one that this host runs, or ran last: others have their own supervisors. NULL and no error: it is
 * another's, is deleted meanwhile, or can't be understood. One vm must not keep a daemon from all the others.
 */
static VmRecords *records_of_own(Supervisor *s, const char *vm_id, GError **err)
{
	g_autofree char *key = key_vm_runtime(vm_id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = record_get(s->engine->store, key, NULL, &e);
	VmRecords *r = NULL;

	if (runtime != NULL && g_strcmp0(json_str(runtime, "host"), s->engine->host_id) == 0)
		r = vm_records_load(s->engine->store, vm_id, &e);
	if (g_error_matches(e, ERR, ERR_INVALID))
		log_error("vm %s is not looked after, its records can't be read: %s", vm_id, e->message);
	else if (e != NULL && !g_error_matches(e, ERR, ERR_NOT_FOUND))
		g_propagate_error(err, g_steal_pointer(&e));
	return r;
}

static bool each_vm(Supervisor *s, VmFunc func, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s->engine->store, KEYS_VMS, NULL, err);

	if (items == NULL)
		return false;
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		g_autofree char *c = NULL, *id = NULL, *rest = NULL;
		g_autoptr(VmRecords) r = NULL;
		g_autoptr(GError) e = NULL;

		if (!key_split(item->key, &c, &id, &rest) || !g_str_equal(rest, "config"))
			continue;
		r = records_of_own(s, id, &e);
		if (r != NULL)
			func(s, id, r->vm, r->runtime);
		if (e != NULL) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
	return true;
}

/* Recorded as running, but nothing of it is known to the fleet: a power cut. */
static void check_missing(Supervisor *s, const char *vm_id, const Vm *vm, const Json *runtime)
{
	VmState state = vm_runtime_state(runtime);
	g_autoptr(Vmm) v = fleet_vmm(s->engine->fleet, vm_id);
	_cleanup_json_ Json *exit = waiting_exit(s, vm_id);

	if ((state != VM_RUNNING && state != VM_PAUSED) || v != NULL || exit != NULL)
		return;
	events_emit(s->engine->events, EVENT_VM_LOST, "vm", vm_id, vm->name, NULL, "%s ended with its host",
		    vm->name);
	remember_exit(s, vm_id, unseen_exit(s, "the host ended"));
}

/*
 * A guest that could not go on over there and is ours again may have lost its QEMU here meanwhile, or may
 * have panicked, when that was no concern of this host. So may one that ran here before the records said so.
 */
static void look_at_returned(Supervisor *s, const Operation *op)
{
	bool failed = g_str_equal(op->kind, "vm.migrate") && op->state != OPERATION_DONE;
	g_autoptr(VmRecords) r = NULL;
	_cleanup_json_ Json *exit = NULL;

	if (s->engine->sim != NULL || !(failed || g_str_equal(op->kind, "vm.receive")))
		return;
	r = records_of_own(s, op->target_id, NULL);
	if (r == NULL || json_str(r->runtime, "operation") != NULL)
		return;
	check_missing(s, op->target_id, r->vm, r->runtime);
	exit = waiting_exit(s, op->target_id);
	if (exit == NULL || has_qemu_ended(exit))
		supervisor_push(s, supervisor_look_at_adopted, op->target_id, NULL, false);
}

/* What ended is cleaned up, and the record says whether it is started again. */
static void look_at_restart(void *data)
{
	VmJob *j = data;
	g_autoptr(GError) err = NULL;
	g_autoptr(VmRecords) r = NULL;

	if (store_catch_up(j->s->engine->store, &err))
		r = records_of_own(j->s, j->vm_id, &err);
	if (r != NULL)
		plan_restart(j->s, j->vm_id, r->runtime);
	else if (err != NULL)
		supervisor_push_later(j->s, look_at_restart, j->vm_id, false, LOOK_AGAIN);
	supervisor_job_free(j);
}

/*
 * A start that failed is not tried again, nor is one that somebody cancelled. One that the end of a daemon
 * undid has not failed: when this one began it found what is due in the record, and waits for the undoing.
 * Nor has one of which the store could not say whether it had begun: who asked tries it again.
 */
static void look_at_failed_start(Supervisor *s, const Operation *op)
{
	g_autoptr(GError) why = op->error != NULL ? err_of_json(op->error) : NULL, err = NULL;
	g_autoptr(VmRecords) r = NULL;

	if (!g_str_equal(op->kind, "vm.start") || op->state == OPERATION_DONE || op->started_at == NULL ||
	    (why != NULL && json_bool(err_details(why), OPERATION_INTERRUPTED, false)))
		return;
	r = records_of_own(s, op->target_id, &err);
	if (r != NULL)
		drop_restart(s, r, &err);
	if (err != NULL)
		log_warning("vm %s: it is not recorded that it is not started again: %s", op->target_id,
			    err->message);
}

void supervisor_operation_ended(Supervisor *s, const Operation *op)
{
	tell_operation(s, op);
	if (g_strcmp0(op->target_type, "vm") != 0)
		return;
	look_at_returned(s, op);
	supervisor_push(s, look_at_exit, op->target_id, NULL, false);
	supervisor_push(s, supervisor_look_at_relevel, op->target_id, NULL, false);
	supervisor_look_at_stop_again(s, op->target_id);
	look_at_failed_start(s, op);
	if (g_str_equal(op->kind, "vm.cleanup") && op->state == OPERATION_DONE)
		supervisor_push(s, look_at_restart, op->target_id, NULL, false);
}

bool supervisor_adopt(Supervisor *s, GError **err)
{
	return fleet_adopt_all(s->engine->fleet, &s->engine->folders, adopted, s, err) &&
	       each_vm(s, check_missing, err);
}

static void look_after(Supervisor *s, const char *vm_id, const Vm *vm, const Json *runtime)
{
	VmState state = vm_runtime_state(runtime);
	_cleanup_json_ Json *exit = waiting_exit(s, vm_id);

	/* Also beside an end: undoing a start that was interrupted ends the QEMU which that had made. */
	plan_restart(s, vm_id, runtime);
	if (exit != NULL)
		supervisor_push(s, look_at_exit, vm_id, NULL, false);
	else if (state == VM_RUNNING)
		supervisor_push(s, supervisor_look_at_adopted, vm_id, NULL, false);
	else if (s->engine->booted && json_is_true(vm_setting(vm, "autostart")) &&
		 (state == VM_STOPPED || state == VM_CRASHED) && json_str(runtime, "operation") == NULL)
		supervisor_push(s, start_again, vm_id, json_str(runtime, "since"), false);
}

void supervisor_begin(Supervisor *s)
{
	g_autoptr(GError) err = NULL;

	if (s->engine->sim == NULL && !each_vm(s, look_after, &err))
		log_error("vms are not looked after: %s", err->message);
}

void supervisor_end(Supervisor *s)
{
	g_mutex_lock(&s->lock);
	s->ended = true;
	g_mutex_unlock(&s->lock);
}
