/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of the host that a guest leaves. Their arguments:
 *   MIGRATE_PREPARE  those of MIGRATE_SEND, and source, run_as, dir, run_dir, machine, disks
 *   MIGRATE_SEND     vm, name, host and host_name (where to), address, run, settings
 *   MIGRATE_LEAVE    vm, name, dir
 * A disk of `copied` without a volume is a file of the user's own, at the same path on both hosts.
 * Facts between them: reception, copied ([{name, volume, path, old_path, image}]), shared_dir,
 * own_applied (what the vm was started with here), own_runtime (its record), left_alone; and `migration`,
 * what is told of it in the vm's record.
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/plan/plan_migrate.h"
#include "engine/as_user.h"
#include "engine/engine-impl.h"
#include "engine/migrate_link.h"
#include "engine/migrate_out.h"
#include "engine/move.h"
#include "engine/owner.h"
#include "engine/promise.h"
#include "engine/receive.h"
#include "engine/records.h"
#include "engine/sending.h"
#include "engine/steps-impl.h"
#include "engine/volume/volume.h"

#define SECOND UINT64_C(1000000)
#define PREPARE_TIMEOUT (120 * SECOND)
#define ASK_TIMEOUT (30 * SECOND)
/* For a DIMM that is plugged right now. A QEMU that takes longer to answer is no guest that moves soon. */
#define DIMM_TIMEOUT (10 * SECOND)
#define ABORT_TIMEOUT (60 * SECOND)
/* Between two looks at the other daemon while memory is copied, and how long one may take. */
#define LOOK (SECOND)
#define LOOK_TIMEOUT (20 * SECOND)
/* For the other host's operation to end as well, so that who waited for ours can go on with the guest. */
#define SETTLE_TIMEOUT (60 * SECOND)
#define SETTLE_LOOK 10000

static Engine *engine_of(StepContext *ctx)
{
	return step_engine(ctx);
}

static const char *own_id(StepContext *ctx)
{
	return step_operation(ctx)->id;
}

static char *key_dir_of(const Json *args)
{
	return g_build_filename(json_str(args, "run_dir"), "key", NULL);
}

static char *reception_path(const Move *m, const char *rest)
{
	return g_strconcat(RECEPTIONS "/", m->reception, rest, NULL);
}

/* ---- the other host gets ready ---- */

/* What both hosts, and nobody else, know of this migration. */
static bool make_key(const Json *args, char **ret, GError **err)
{
	g_autofree char *key = migrate_key_new(), *dir = key_dir_of(args);
	const char *name = json_str(args, "run_as");
	SpawnUser user;

	if (name != NULL && !spawn_user_find(name, qemu_user_groups, &user))
		return fail(err, ERR_NOT_FOUND, "there is no user '%s' for QEMU to run as", name);
	if (!migrate_key_write(dir, key, name != NULL ? &user : NULL, err))
		return false;
	*ret = g_steal_pointer(&key);
	return true;
}

/* What it says of the disks: which are copied, and to where. */
static bool take_disks(StepContext *ctx, const Json *args, Move *m, const Json *answer, GError **err)
{
	const Json *disks = json_arr(answer, "copied"), *d;
	GPtrArray *node = g_ptr_array_new();
	size_t i;

	m->copied = json_array();
	json_array_foreach(disks, i, d)
	{
		const char *name = json_str(d, "name"), *path = json_str(d, "path");
		const Json *own = sending_disk_named(json_arr(args, "disks"), name);

		if (own == NULL || path == NULL)
			break;
		g_ptr_array_add(node, migrate_node(name));
		json_array_append_new(m->copied,
				      json_pack("{s:s,s:s?,s:s,s:s,s:s?}", "name", name, "volume",
						json_str(own, "volume"), "path", path, "old_path",
						json_str(own, "path"), "image", json_str(own, "image")));
	}
	g_ptr_array_add(node, NULL);
	m->node = (GStrv)g_ptr_array_free(node, FALSE);
	step_fact(ctx, "copied", json_ref(m->copied));
	step_fact(ctx, "shared_dir", json_boolean(json_bool(answer, "shared_dir", false)));
	return i == json_array_size(disks) ||
	       fail(err, ERR_UNAVAILABLE, "%s answers about disks that '%s' does not have",
		    json_str(args, "host_name"), json_str(args, "name"));
}

static bool ask_for_reception(StepContext *ctx, const Json *args, Move *m, GError **err)
{
	g_autofree char *key = NULL, *runtime = key_vm_runtime(json_str(args, "vm"));
	_cleanup_json_ Json *own = NULL, *answer = NULL, *body = NULL;

	/* What it has on record is what it is given over there, and has when it comes back. */
	memory_keeper_settle(engine_of(ctx)->memory, json_str(args, "vm"), DIMM_TIMEOUT);
	own = record_get(engine_of(ctx)->store, runtime, NULL, err);
	if (own != NULL)
		body = move_request(engine_of(ctx), args, err);
	if (own == NULL && (err == NULL || *err == NULL))
		return fail(err, ERR_NOT_FOUND, "there is no vm '%s'", json_str(args, "name"));
	if (body == NULL)
		return false;
	step_fact(ctx, "own_runtime", json_ref(own));
	step_fact(ctx, "own_applied", json_deep_copy(json_obj(body, "applied")));
	if (make_key(args, &key, err)) {
		json_put_str(body, "operation", own_id(ctx));
		json_put_str(body, "key", key);
		answer = peer_link_call(m->link, "POST", RECEPTIONS, body, PREPARE_TIMEOUT, err);
	}
	move_request_done(body);
	if (answer == NULL)
		return false;
	m->reception = g_strdup(json_str(answer, "reception"));
	m->takes_promise = json_bool(answer, "takes_promise", false);
	m->applied = json_ref(json_obj(answer, "applied"));
	if (m->reception == NULL || m->applied == NULL)
		return fail(err, ERR_UNAVAILABLE, "%s answers what makes no sense",
			    json_str(args, "host_name"));
	step_fact(ctx, "reception", json_string(m->reception));
	return take_disks(ctx, args, m, answer, err);
}

/*
 * A host of an older version knows nothing of promises. A guest that takes disks along stops before the
 * switch, and one whose memory may follow it has its own rules (migrate_out.h): they wait for the change of
 * their owner.
 */
static bool promise_guest(StepContext *ctx, const Json *args, Move *m, GError **err)
{
	const struct promise_terms terms = {
		.vm = json_str(args, "vm"),
		.from_host = engine_of(ctx)->host_id,
		.operation = own_id(ctx),
		.host = json_str(args, "host"),
		.reception = m->reception,
		.applied = m->applied,
	};

	if (!m->takes_promise || json_array_size(m->copied) > 0 ||
	    json_bool(json_obj(args, "settings"), "post_copy", false))
		return true;
	m->promised = promise_make(engine_of(ctx)->store, &terms, err);
	return m->promised;
}

static bool wait_open(StepContext *ctx, const Json *args, Move *m, GError **err)
{
	g_autofree char *path = reception_path(m, "?wait=1");
	uint64_t until = time_monotonic() + PREPARE_TIMEOUT;

	while (time_monotonic() < until) {
		_cleanup_json_ Json *view = peer_link_call(m->link, "GET", path, NULL, ASK_TIMEOUT, err);

		if (view == NULL)
			return false;
		if (g_strcmp0(json_str(view, "state"), "ended") == 0)
			return sending_fail_as_told(args, view, err);
		if (g_strcmp0(json_str(view, "state"), "open") == 0) {
			m->memory_port = (unsigned)json_uint(view, "memory_port", 0);
			m->disk_port = (unsigned)json_uint(view, "disk_port", 0);
			return true;
		}
		if (step_cancelled(ctx))
			return fail(err, ERR_CANCELLED, "the move was cancelled");
	}
	return fail(err, ERR_TIMEOUT, "%s does not get ready for '%s'", json_str(args, "host_name"),
		    json_str(args, "name"));
}

bool step_MIGRATE_PREPARE_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	Move *m = move_begin(e->moves, own_id(ctx));

	m->link = peer_link_open(e, json_str(args, "host"), err);
	return m->link != NULL && ask_for_reception(ctx, args, m, err) && promise_guest(ctx, args, m, err) &&
	       wait_open(ctx, args, m, err);
}

/* One that is promised still may run over there if all of it was sent. */
static bool may_come_back(StepContext *ctx, const Json *args, GError **err)
{
	const Json *facts = step_operation(ctx)->facts;
	Engine *e = engine_of(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	bool promised = false, all_sent = false;

	if (json_bool(facts, SENDING_OURS_AGAIN, false) || !json_bool(facts, SENDING_BEGUN, false))
		return true;
	if (!promise_is(e->store, json_str(args, "vm"), own_id(ctx), &promised, err) ||
	    (promised && v != NULL && !migrate_out_break(v, &all_sent, err)))
		return false;
	return !all_sent || fail(err, ERR_BAD_STATE, "'%s' is promised to %s, and all of it went there",
				 json_str(args, "name"), json_str(args, "host_name"));
}

/*
 * A host that does not answer finds out by itself, in the store, that nothing
 * will come: this operation has failed then.
 */
bool step_MIGRATE_PREPARE_undo(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	const char *reception = json_str(step_operation(ctx)->facts, "reception");
	g_autofree char *key_dir = key_dir_of(args),
			*path =
			    reception != NULL ? g_strconcat(RECEPTIONS "/", reception, "/abort", NULL) : NULL;
	g_autoptr(GError) e2 = NULL;
	_cleanup_json_ Json *view = NULL;

	if (!may_come_back(ctx, args, err))
		return false;
	move_end(e->moves, own_id(ctx));
	if (path != NULL)
		view = peer_call(e, json_str(args, "host"), "POST", path, NULL, ABORT_TIMEOUT, &e2);
	if (e2 != NULL && !g_error_matches(e2, ERR, ERR_NOT_FOUND))
		log_warning("vm %s: %s was not told that nothing comes: %s", json_str(args, "name"),
			    json_str(args, "host_name"), e2->message);
	sending_withdraw(ctx, args);
	return dir_remove(key_dir, err);
}

/* ---- the guest goes ---- */

/* The other daemon is looked at: it must be there to let the guest go on. */
static bool other_lives(Sending *s, GError **err)
{
	g_autofree char *path = reception_path(s->move, "");
	_cleanup_json_ Json *view = NULL;
	uint64_t now = time_monotonic();

	if (now - s->looked_at < LOOK)
		return true;
	s->looked_at = now;
	owner_look(engine_of(s->ctx)->store, json_str(s->args, "vm"), &s->seen);
	view = peer_link_call(s->link, "GET", path, NULL, LOOK_TIMEOUT, err);
	if (view == NULL)
		return false;
	/* One that was promised may have all of the guest already, and be done. */
	return g_strcmp0(json_str(view, "state"), "open") == 0 ||
	       (s->promised && json_obj(view, "error") == NULL) || sending_fail_as_told(s->args, view, err);
}

static bool on_ended(void *data, GError **err)
{
	Sending *s = data;

	if (s->owned)
		return false;
	if (step_cancelled(s->ctx))
		return fail(err, ERR_CANCELLED, "the move was cancelled"), true;
	return !s->stands && !other_lives(s, err);
}

static void on_progress(unsigned percent, uint64_t left, const struct migrate_sample *x, void *data)
{
	Sending *s = data;
	Json *j = json_object();

	json_put_uint(j, "left", left);
	json_put_uint(j, "transferred", x->transferred);
	json_put_uint(j, "remaining", x->remaining);
	json_put_uint(j, "rounds", x->rounds);
	json_put_uint(j, "rate", x->rate);
	json_put_uint(j, "dirty_rate", x->dirty_rate);
	step_result(s->ctx, "progress", j);
	step_progress(s->ctx, percent);
}

/* The guest goes first, and its memory follows: what fails here the other host notices, and says. */
static bool switch_early(Sending *s, MigrateOut *out, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (!sending_hand_over(s, err))
		return false;
	if (!migrate_out_release(out, &e) || !migrate_out_wait(out, &e))
		log_warning("vm %s: %s", json_str(s->args, "name"), e->message);
	return sending_conclude(s, err) && migrate_out_follow(out, err);
}

/* It goes on over there by itself. Nothing is done here meanwhile: both QEMUs have work to do. */
static bool switch_promised(Sending *s, MigrateOut *out, GError **err)
{
	if (!step_forbid_cancel(s->ctx))
		return fail(err, ERR_CANCELLED, "the move was cancelled");
	if (!migrate_out_wait(out, err))
		return false;
	s->owned = true;
	return sending_conclude(s, err);
}

/*
 * The owner changes while the rest is under way: of the two the guest waits for
 * the one that takes longer. It goes on over there when both are done.
 */
static bool switch_over(Sending *s, MigrateOut *out, GError **err)
{
	s->stands = true;
	if (s->promised)
		return switch_promised(s, out, err);
	if (migrate_out_is_post_copy(out))
		return switch_early(s, out, err);
	if (!migrate_out_release(out, err) ||
	    (migrate_out_is_confirmed(out) && !migrate_out_wait(out, err)) || !sending_hand_over(s, err))
		return false;
	return sending_conclude(s, err);
}

/* It is the other host's, and something went wrong there: nothing of it may stay here all the same. */
static bool leave_damaged(Sending *s, GError **err)
{
	step_result(s->ctx, "warning", err != NULL && *err != NULL ? err_to_json(*err) : json_null());
	log_error("vm %s moved to %s, but not well: %s", json_str(s->args, "name"),
		  json_str(s->args, "host_name"), err != NULL && *err != NULL ? (*err)->message : "");
	g_clear_error(err);
	return true;
}

/* Another daemon here began this, and died when the guest was the other host's. */
static bool conclude_late(StepContext *ctx, const Json *args, Vmm *v, GError **err)
{
	Sending s = { .ctx = ctx, .args = args, .vmm = v, .owned = true };
	bool ok;

	if (json_str(step_operation(ctx)->facts, "reception") == NULL)
		return true;
	step_outlive_cancel(ctx);
	/* Without a QEMU nothing goes on here, but the disks may be all that is left of it. */
	ok = sending_conclude(&s, err);
	peer_link_free(s.late);
	return ok || (s.owned && !s.interrupted && leave_damaged(&s, err));
}

/* What is told of it in the operation's result, the vm's record and an event. */
static Json *numbers_of(const Sending *s, MigrateOut *out)
{
	struct migrate_stats st;
	g_autofree char *now = time_stamp();
	uint64_t down, since;
	Json *j = json_object();

	migrate_out_stats(out, &st);
	/* It is over when the guest runs there; with post-copy its memory is there, too, only now. */
	since = s->ran_at > st.stopped_at && !st.post_copy ? time_monotonic() - s->ran_at : 0;
	down = st.stopped_at != 0 && s->ran_at > st.stopped_at ? s->ran_at - st.stopped_at : 0;
	json_put_str(j, "at", now);
	json_put_str(j, "from", engine_of(s->ctx)->host_id);
	json_put_str(j, "to", json_str(s->args, "host"));
	json_put_uint(j, "total", st.total - MIN(since, st.total));
	json_put_uint(j, "downtime", json_bool(s->args, "run", true) ? down : 0);
	json_put_uint(j, "rounds", st.rounds);
	json_put_uint(j, "bytes", st.bytes);
	json_put_uint(j, "memory", st.memory);
	json_put_uint(j, "disk_time", st.disks);
	json_put_uint(j, "disk_bytes", st.disk_bytes);
	json_put_uint(j, "throttled", st.throttled);
	json_put_bool(j, "post_copy", st.post_copy);
	return j;
}

static void tell(const Sending *s, const Json *numbers)
{
	Engine *e = engine_of(s->ctx);
	const char *key, *name = json_str(s->args, "name");
	g_autofree char *total = print_duration(json_uint(numbers, "total", 0)),
			*down = print_duration(json_uint(numbers, "downtime", 0));
	Json *v;

	json_object_foreach((Json *)numbers, key, v) step_result(s->ctx, key, json_ref(v));
	step_result(s->ctx, "progress", json_null());
	step_fact(s->ctx, "migration", json_deep_copy(numbers));
	events_emit(e->events, EVENT_VM_MIGRATED, "vm", json_str(s->args, "vm"), name,
		    json_deep_copy(numbers), "%s moved to %s in %s; it stood still for %s", name,
		    json_str(s->args, "host_name"), total, down);
}

/* A guest without an agent, or one that does not answer, keeps its own time. */
static void ask_clock(Sending *s)
{
	struct agent_clock now;

	if (!json_bool(s->args, "run", true) || !step_clock_ask(s->ctx, s->args, &now))
		return;
	s->finish = json_object();
	json_put_int(s->finish, "clock_offset", now.offset);
	json_put_int(s->finish, "clock_doubt", now.doubt);
}

/* A daemon that finds this operation knows by it whether something of a promised guest may have gone. */
static bool begin_sending(Sending *s, GError **err)
{
	if (!s->promised)
		return true;
	step_fact(s->ctx, SENDING_BEGUN, json_true());
	return step_commit(s->ctx, err);
}

/* Something went wrong with it, perhaps only here. */
static bool went_all_the_same(Sending *s, GError **err)
{
	return s->promised && !s->owned && sending_settle(s, err);
}

static bool send_guest(Sending *s, const char *key_dir, GError **err)
{
	struct migrate_out_spec spec = {
		.host = json_str(s->args, "address"),
		.memory = s->move->memory_port,
		.disks = s->move->disk_port,
		.key_dir = key_dir,
		.node = (const char *const *)s->move->node,
		.ended = on_ended,
		.progress = on_progress,
		.data = s,
	};
	g_autoptr(MigrateOut) out = NULL;
	_cleanup_json_ Json *numbers = NULL;

	if (!migrate_settings_of_json(json_obj(s->args, "settings"), &spec.settings, err) ||
	    !begin_sending(s, err))
		return false;
	ask_clock(s);
	out = migrate_out_new(s->vmm, &spec);
	if ((!migrate_out_send(out, err) || !switch_over(s, out, err)) && !went_all_the_same(s, err))
		return false;
	numbers = numbers_of(s, out);
	tell(s, numbers);
	return true;
}

/* Idempotent; only while the guest is ours. */
static bool come_back(Engine *e, const Json *args, const char *const *node, GError **err)
{
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));

	return v == NULL || !vmm_alive(v) || migrate_out_revert(v, node, json_bool(args, "run", true), err);
}

/* What became of a sending that failed; the guest goes on here if it is ours. */
static bool end_badly(Sending *s, const char *const *node, GError **err)
{
	if (s->owned)
		return !s->interrupted && leave_damaged(s, err);
	/* A daemon that is being stopped undoes nothing now, but the guest must not wait for its return. */
	come_back(engine_of(s->ctx), s->args, node, NULL);
	return false;
}

/* Another daemon here began this, and died before the promise was kept. */
static bool settle_late(StepContext *ctx, const Json *args, Vmm *v, GError **err)
{
	static const char *const none[] = { NULL };
	Sending s = { .ctx = ctx, .args = args, .vmm = v, .promised = true };
	GError *e = NULL;
	bool ok;

	fail_advice(&e, ERR_UNAVAILABLE, "Nothing moved; ask for it again.",
		    "the daemon ended in the middle of this move");
	ok = went_all_the_same(&s, &e) || end_badly(&s, none, &e);
	peer_link_free(s.late);
	if (!ok)
		g_propagate_error(err, e);
	return ok;
}

bool step_MIGRATE_SEND_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autofree char *run_dir = path_vm_run_dir(&e->folders, json_str(args, "vm"));
	g_autofree char *key_dir = g_build_filename(run_dir, "key", NULL);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	Sending s = { .ctx = ctx, .args = args, .move = move_find(e->moves, own_id(ctx)), .vmm = v };
	bool ours = true, promised = false, ok;

	/* In this order: one that is kept meanwhile has another owner then. */
	if (!promise_is(e->store, json_str(args, "vm"), own_id(ctx), &promised, err) ||
	    !owner_is(e->store, json_str(args, "vm"), e->host_id, &ours, err))
		return false;
	if (!ours)
		return conclude_late(ctx, args, v, err);
	if (s.move == NULL && promised && json_bool(step_operation(ctx)->facts, SENDING_BEGUN, false))
		return settle_late(ctx, args, v, err);
	if (s.move == NULL)
		return fail_advice(err, ERR_UNAVAILABLE, "Nothing moved; ask for it again.",
				   "the daemon ended in the middle of this move");
	if (v == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	s.link = s.move->link;
	s.promised = s.move->promised;
	ok = send_guest(&s, key_dir, err) || end_badly(&s, (const char *const *)s.move->node, err);
	owner_seen_clear(&s.seen);
	json_unref(s.finish);
	return ok;
}

bool step_MIGRATE_SEND_undo(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	const Json *copied = json_arr(step_operation(ctx)->facts, "copied"), *d;
	GPtrArray *node = g_ptr_array_new_with_free_func(g_free);
	bool ours = true, ok;
	size_t i;

	json_array_foreach(copied, i, d) g_ptr_array_add(node, migrate_node(json_str(d, "name")));
	g_ptr_array_add(node, NULL);
	/* In this order: one that is kept meanwhile has another owner then. */
	ok = may_come_back(ctx, args, err) &&
	     owner_is(e->store, json_str(args, "vm"), e->host_id, &ours, err) &&
	     (!ours || come_back(e, args, (const char *const *)node->pdata, err));
	g_ptr_array_unref(node);
	return ok;
}

/* ---- what moved is removed here ---- */

/*
 * The other host's operation has the vm's lock a little longer. This host's copy of the records may say for a
 * moment that its own has it still.
 */
static void await_end_there(StepContext *ctx, const Json *args)
{
	g_autofree char *key = key_vm_runtime(json_str(args, "vm"));
	const char *reception = json_str(step_operation(ctx)->facts, "reception");
	uint64_t until = time_monotonic() + SETTLE_TIMEOUT;
	bool rests = reception != NULL && step_rest(ctx), has_it = reception != NULL;

	while (has_it && time_monotonic() < until && !step_stopping(ctx)) {
		_cleanup_json_ Json *runtime = record_get(engine_of(ctx)->store, key, NULL, NULL);
		const char *operation = json_str(runtime, "operation");

		has_it = g_strcmp0(operation, reception) == 0 ||
			 g_strcmp0(operation, step_operation(ctx)->id) == 0;
		if (has_it)
			g_usleep(SETTLE_LOOK);
	}
	if (rests)
		step_wake(ctx);
}

/* What the other host did for it is told here, where it was asked for. */
static void take_clock(StepContext *ctx)
{
	const char *reception = json_str(step_operation(ctx)->facts, "reception");
	g_autofree char *key = reception != NULL ? key_operation(reception) : NULL;
	_cleanup_json_ Json *op = key != NULL ? record_get(engine_of(ctx)->store, key, NULL, NULL) : NULL;
	Json *set = json_object_get(json_obj(op, "result"), CLOCK_SET);

	if (json_is_integer(set))
		step_result(ctx, CLOCK_SET, json_incref(set));
}

bool step_MIGRATE_LEAVE_run(StepContext *ctx, const Json *args, GError **err)
{
	const Json *facts = step_operation(ctx)->facts, *copied = json_arr(facts, "copied"), *d;
	Engine *e = engine_of(ctx);
	size_t i;

	move_end(e->moves, own_id(ctx));
	if (json_bool(facts, SENDING_LEFT_ALONE, false))
		return owner_take_volumes(e->store, json_str(args, "vm"), copied, e->host_id, err);
	json_array_foreach(copied, i, d)
	{
		if (!volume_delete(json_str(d, "old_path"), err))
			return false;
	}
	if (!json_bool(facts, "shared_dir", false) && !dir_remove(json_str(args, "dir"), err))
		return false;
	await_end_there(ctx, args);
	take_clock(ctx);
	return true;
}
