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
#include "engine/receive.h"
#include "engine/records.h"
#include "engine/steps-impl.h"
#include "engine/volume/volume.h"

#define SECOND UINT64_C(1000000)
#define PREPARE_TIMEOUT (120 * SECOND)
#define ASK_TIMEOUT (30 * SECOND)
#define TELL_TIMEOUT (10 * SECOND)
#define ABORT_TIMEOUT (60 * SECOND)
/* Between two looks at the other daemon while memory is copied, and how long one may take. */
#define LOOK (SECOND)
#define LOOK_TIMEOUT (20 * SECOND)
/* How long a daemon that owns a guest now, and does not answer, is asked before people are told. */
#define PATIENCE (30 * SECOND)
/* For the other host's operation to end as well, so that who waited for ours can go on with the guest. */
#define SETTLE_TIMEOUT (10 * SECOND)
#define SETTLE_LOOK 10000
#define ASK_AGAIN (SECOND / 4)
/* Fact: the other host was taken out of the pool, and what stayed here is all that is left of the guest. */
#define LEFT_ALONE "left_alone"

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

/* Those of MIGRATE_PREPARE, which know the guest's disks. */
static const Json *prepare_args(StepContext *ctx)
{
	return plan_step(step_operation(ctx)->plan, 0)->args;
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

static Json *named_in(const Json *disks, const char *name)
{
	Json *d;
	size_t i;

	json_array_foreach((Json *)disks, i, d)
	{
		if (g_strcmp0(json_str(d, "name"), name) == 0)
			return d;
	}
	return NULL;
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
		const Json *own = named_in(json_arr(args, "disks"), name);

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
	_cleanup_json_ Json *own = record_get(engine_of(ctx)->store, runtime, NULL, err), *answer = NULL;
	_cleanup_json_ Json *body = own != NULL ? move_request(engine_of(ctx), args, err) : NULL;

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
	m->applied = json_ref(json_obj(answer, "applied"));
	if (m->reception == NULL || m->applied == NULL)
		return fail(err, ERR_UNAVAILABLE, "%s answers what makes no sense",
			    json_str(args, "host_name"));
	step_fact(ctx, "reception", json_string(m->reception));
	return take_disks(ctx, args, m, answer, err);
}

/* An error of the other host's operation, told as ours. */
static bool fail_as_told(const Json *args, const Json *view, GError **err)
{
	const Json *error = json_obj(view, "error");
	g_autoptr(GError) theirs = error != NULL ? err_of_json(error) : NULL;

	if (theirs == NULL)
		return fail(err, ERR_UNAVAILABLE, "%s gave the move of '%s' up", json_str(args, "host_name"),
			    json_str(args, "name"));
	g_prefix_error(&theirs, "%s: ", json_str(args, "host_name"));
	g_propagate_error(err, g_steal_pointer(&theirs));
	return false;
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
			return fail_as_told(args, view, err);
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
	return m->link != NULL && ask_for_reception(ctx, args, m, err) && wait_open(ctx, args, m, err);
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

	move_end(e->moves, own_id(ctx));
	if (path != NULL)
		view = peer_call(e, json_str(args, "host"), "POST", path, NULL, ABORT_TIMEOUT, &e2);
	if (e2 != NULL && !g_error_matches(e2, ERR, ERR_NOT_FOUND))
		log_warning("vm %s: %s was not told that nothing comes: %s", json_str(args, "name"),
			    json_str(args, "host_name"), e2->message);
	return dir_remove(key_dir, err);
}

/* ---- the guest goes ---- */

typedef struct Sending {
	StepContext *ctx;
	const Json *args;
	Move *move;
	PeerLink *link; /* to the other host's daemon */
	PeerLink *late; /* the same, when it is this step's own */
	Vmm *vmm;       /* NULL: its QEMU has ended */
	uint64_t looked_at;
	OwnerSeen seen;
	bool stands;      /* the guest does: nothing may take long */
	bool owned;       /* by the other host */
	bool interrupted; /* this daemon ends before it is known what became of it */
	bool rests;       /* its thread counts as free */
	uint64_t ran_at;
	Json *finish; /* what goes with the word to go on; NULL: nothing */
} Sending;

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
	return g_strcmp0(json_str(view, "state"), "open") == 0 || fail_as_told(s->args, view, err);
}

/* The last look, without a word: its connection would be closed if it had died. */
static bool other_is_there(const Sending *s, GError **err)
{
	return peer_link_lives(s->link) ||
	       fail(err, ERR_UNAVAILABLE, "the daemon of %s went away", json_str(s->args, "host_name"));
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

static bool is_stopping(void *data)
{
	return step_stopping(((const Sending *)data)->ctx);
}

static void rest(Sending *s)
{
	if (!s->rests)
		s->rests = step_rest(s->ctx);
}

static void wake(Sending *s)
{
	if (s->rests)
		step_wake(s->ctx);
	s->rests = false;
}

/* The guest stands, and no daemon may let it go on: people must know. */
static void tell_waits(const GError *why, void *data)
{
	Sending *s = data;
	const char *name = json_str(s->args, "name"), *advice = err_advice(why);

	step_say(s->ctx, "waiting for the pool's records");
	rest(s);
	events_emit(
	    engine_of(s->ctx)->events, EVENT_VM_MOVE_WAITS, "vm", json_str(s->args, "vm"), name, NULL,
	    "%s stands still in its move to %s: the pool's records don't say yet on which host it goes on: "
	    "%s. %s",
	    name, json_str(s->args, "host_name"), why->message, advice != NULL ? advice : "");
}

/* The guest is the other host's from here on, or, on failure, still ours. */
static bool hand_over(Sending *s, GError **err)
{
	struct owner_change c = {
		.vm = json_str(s->args, "vm"),
		.from_host = engine_of(s->ctx)->host_id,
		.from_operation = own_id(s->ctx),
		.to_host = json_str(s->args, "host"),
		.to_operation = s->move->reception,
		.applied = s->move->applied,
		.copied = s->move->copied,
		.seen = &s->seen,
		.waits = tell_waits,
		.stops = is_stopping,
		.data = s,
	};
	g_autoptr(GError) e = NULL;

	if (!step_forbid_cancel(s->ctx))
		return fail(err, ERR_CANCELLED, "the move was cancelled");
	if (!other_is_there(s, err))
		return false;
	s->owned = owner_change(engine_of(s->ctx)->store, &c, &e);
	wake(s);
	if (s->owned)
		return true;
	/* It may be the other host's: the next daemon looks. */
	s->owned = s->interrupted = g_error_matches(e, ERR, ERR_CANCELLED);
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* ---- it is the other host's ---- */

typedef enum Fate { FATE_RUNS, FATE_ENDED, FATE_UNKNOWN } Fate;

/* By two clocks, which is better than the time that went by until it was known. */
static void take_ran_at(Sending *s, const Json *op)
{
	const char *stamp = json_str(json_obj(op, "result"), RECEPTION_RAN_AT);
	uint64_t at, now = time_real();

	if (stamp != NULL && time_parse(stamp, &at) && at < now && now - at < time_monotonic())
		s->ran_at = time_monotonic() - (now - at);
}

/*
 * What the other host wrote into the records, for when its daemon can't be
 * asked, or began anew and has not come to this yet. All of it is for ever. *err
 * is set for FATE_ENDED.
 */
static Fate fate_on_record(Sending *s, const char *reception, GError **err)
{
	g_autofree char *key = key_operation(reception);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *op = record_get(engine_of(s->ctx)->store, key, NULL, &e);
	Json *gave_up = json_obj(json_obj(op, "facts"), RECEPTION_GAVE_UP);
	_cleanup_json_ Json *view = NULL;

	if (json_str(op, "finished_at") != NULL && json_obj(op, "error") != NULL)
		gave_up = json_obj(op, "error");
	if (gave_up != NULL) {
		view = json_object();
		json_put(view, "error", json_incref(gave_up));
		fail_as_told(s->args, view, err);
		return FATE_ENDED;
	}
	if (e != NULL || (op != NULL && json_str(op, "finished_at") == NULL))
		return FATE_UNKNOWN;
	take_ran_at(s, op);
	return FATE_RUNS;
}

/* Tells the other host to let the guest go on. FATE_ENDED: it does not run there, and never will. */
static Fate tell_to_go_on(Sending *s, GError **err)
{
	const char *reception = json_str(step_operation(s->ctx)->facts, "reception");
	g_autofree char *path = g_strconcat(RECEPTIONS "/", reception, "/finish", NULL);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *view = NULL;

	if (s->link == NULL)
		s->link = s->late = peer_link_open(engine_of(s->ctx), json_str(s->args, "host"), &e);
	if (s->link != NULL)
		view = peer_link_call(s->link, "POST", path, s->finish, TELL_TIMEOUT, &e);
	s->ran_at = time_monotonic() - json_uint(view, "ran_for", 0);
	if (view == NULL) {
		Fate fate = fate_on_record(s, reception, err);

		if (fate == FATE_UNKNOWN)
			g_propagate_error(err, g_steal_pointer(&e));
		return fate;
	}
	if (json_obj(view, "error") == NULL)
		return FATE_RUNS;
	fail_as_told(s->args, view, err);
	return FATE_ENDED;
}

/* All that the guest writes to is here, as the guest left it: nothing that it may have done since is. */
static bool is_all_here(const Sending *s)
{
	const Json *disks = json_arr(prepare_args(s->ctx), "disks"), *d,
		   *copied = json_arr(step_operation(s->ctx)->facts, "copied");
	size_t i;

	json_array_foreach((Json *)disks, i, d)
	{
		if (!json_bool(d, "readonly", false) && named_in(copied, json_str(d, "name")) == NULL)
			return false;
	}
	return true;
}

/*
 * Whose it is: `ret_free` when an eviction took it from a host that is lost for good, and gave it to nobody.
 * *ret_host may be NULL; caller frees. False: the records don't tell.
 */
static bool look_free(const Sending *s, bool *ret_free, char **ret_host)
{
	Store *store = engine_of(s->ctx)->store;
	g_autofree char *key = key_vm_runtime(json_str(s->args, "vm"));
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = store_catch_up(store, &e) ? record_get(store, key, NULL, &e) : NULL;

	*ret_host = g_strdup(json_str(runtime, "host"));
	*ret_free = runtime != NULL && *ret_host == NULL && json_str(runtime, "operation") == NULL;
	return e == NULL;
}

/* One try. ERR_CONFLICT and ERR_NOT_FOUND are for ever. */
static bool try_take_back(Sending *s, bool from_nobody, GError **err)
{
	const Json *facts = step_operation(s->ctx)->facts;
	struct owner_change c = {
		.vm = json_str(s->args, "vm"),
		.from_host = from_nobody ? NULL : json_str(s->args, "host"),
		.from_operation = from_nobody ? NULL : json_str(facts, "reception"),
		.to_host = engine_of(s->ctx)->host_id,
		.to_operation = own_id(s->ctx),
		/* What was freed is on record as stopped. */
		.members = from_nobody ? json_obj(facts, "own_runtime") : NULL,
		.applied = json_obj(facts, "own_applied"),
		.copied = json_arr(facts, "copied"),
		.back = true,
		.waits = tell_waits,
		.stops = is_stopping,
		.data = s,
	};

	return owner_change(engine_of(s->ctx)->store, &c, err);
}

/* RETURN_STARTED_HERE: an eviction freed it, and it was started on this host since. */
typedef enum Return { RETURN_DONE, RETURN_STARTED_HERE, RETURN_NEVER, RETURN_LATER } Return;

/* One that nobody has goes on here if all of it is here; else it does not, but what is here is kept. */
static Return take_from_nobody(Sending *s, GError **err)
{
	bool here = s->vmm != NULL && is_all_here(s);

	if (here && try_take_back(s, true, err))
		return RETURN_DONE;
	if (here && !g_error_matches(*err, ERR, ERR_CONFLICT) && !g_error_matches(*err, ERR, ERR_NOT_FOUND))
		return RETURN_LATER;
	step_fact(s->ctx, LEFT_ALONE, json_true());
	return RETURN_NEVER;
}

/* Neither the other host's nor free: what is here may be in use by whoever has it, and is left alone. */
static Return leave_to(Sending *s, const char *host)
{
	if (g_strcmp0(host, json_str(s->args, "host")) == 0)
		return RETURN_NEVER;
	step_fact(s->ctx, LEFT_ALONE, json_true());
	return g_strcmp0(host, engine_of(s->ctx)->host_id) == 0 ? RETURN_STARTED_HERE : RETURN_NEVER;
}

static Return try_return(Sending *s, GError **err)
{
	g_autofree char *host = NULL;
	bool is_free;

	if (try_take_back(s, false, err))
		return RETURN_DONE;
	if (!g_error_matches(*err, ERR, ERR_CONFLICT) && !g_error_matches(*err, ERR, ERR_NOT_FOUND))
		return RETURN_LATER;
	if (!look_free(s, &is_free, &host))
		return RETURN_LATER;
	if (!is_free)
		return leave_to(s, host);
	g_clear_error(err);
	return take_from_nobody(s, err);
}

/*
 * It does not run over there, and never will: it is ours again, unless somebody took it meanwhile. A store
 * that does not take that, or a lease that this host lost, is waited for: all of the guest is here, and only
 * here.
 */
static void take_back(Sending *s)
{
	uint64_t until = time_monotonic() + PATIENCE;

	for (bool told = false; !s->interrupted;) {
		g_autoptr(GError) e = NULL;
		Return r = try_return(s, &e);

		s->owned = r == RETURN_NEVER || r == RETURN_LATER;
		if (r == RETURN_NEVER)
			log_error("vm %s: %s could not let it go on, and it can't be taken back: %s",
				  json_str(s->args, "name"), json_str(s->args, "host_name"),
				  e != NULL ? e->message : "not all of it is here");
		if (r != RETURN_LATER)
			break;
		if (!told && time_monotonic() > until) {
			tell_waits(e, s);
			told = true;
		}
		s->interrupted = step_stopping(s->ctx);
		g_usleep(ASK_AGAIN);
	}
	wake(s);
}

/* QEMU here knows by itself: only without a return path, which post-copy needs (migrate_out.h). */
static bool is_back(const Sending *s)
{
	return s->vmm != NULL && !json_bool(json_obj(s->args, "settings"), "post_copy", false) &&
	       migrate_out_gave_up(s->vmm);
}

/* The other host has it, or not all of it, and neither it nor the records say which. */
static void tell_unknown(const Sending *s, const GError *why)
{
	const char *name = json_str(s->args, "name"), *host = json_str(s->args, "host_name");

	step_say(s->ctx, "waiting for %s to say whether it has the guest", host);
	events_emit(
	    engine_of(s->ctx)->events, EVENT_VM_MOVE_WAITS, "vm", json_str(s->args, "vm"), name, NULL,
	    "%s moved to %s, which does not say whether it runs there: %s. Its QEMU here stands still and is kept "
	    "until that is known. Bring %s back, or the network between the two hosts; if it is lost for good, "
	    "`plim pool evict %s` ends this",
	    name, host, why->message, host, host);
}

/*
 * What became of a guest that is the other host's, however long that takes to
 * know: here is all of it still, and the other host may lack a part. Unknown
 * only when this daemon is to end.
 */
static Fate await_fate(Sending *s, GError **err)
{
	uint64_t until = time_monotonic() + PATIENCE;
	bool told = false;

	for (;;) {
		g_autoptr(GError) e = NULL;
		Fate fate = tell_to_go_on(s, &e);

		if (fate == FATE_UNKNOWN && is_back(s))
			fate = FATE_ENDED;
		s->interrupted = fate == FATE_UNKNOWN && step_stopping(s->ctx);
		if (fate != FATE_UNKNOWN || s->interrupted) {
			wake(s);
			if (!s->interrupted && e != NULL)
				g_propagate_error(err, g_steal_pointer(&e));
			return fate;
		}
		if (!told && time_monotonic() > until) {
			tell_unknown(s, e);
			told = true;
			rest(s);
		}
		g_usleep(ASK_AGAIN);
	}
}

/* On failure it is ours again, or, with s->owned, it may not go on here. */
static bool conclude(Sending *s, GError **err)
{
	Fate fate = await_fate(s, err);

	if (fate == FATE_ENDED)
		take_back(s);
	if (s->interrupted) {
		g_clear_error(err);
		fail(err, ERR_CANCELLED, "the daemon ends");
	}
	return fate == FATE_RUNS;
}

/* The guest goes first, and its memory follows: what fails here the other host notices, and says. */
static bool switch_early(Sending *s, MigrateOut *out, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (!hand_over(s, err))
		return false;
	if (!migrate_out_release(out, &e) || !migrate_out_wait(out, &e))
		log_warning("vm %s: %s", json_str(s->args, "name"), e->message);
	return conclude(s, err) && migrate_out_follow(out, err);
}

/*
 * The owner changes while the rest is under way: of the two the guest waits for
 * the one that takes longer. It goes on over there when both are done.
 */
static bool switch_over(Sending *s, MigrateOut *out, GError **err)
{
	s->stands = true;
	if (migrate_out_is_post_copy(out))
		return switch_early(s, out, err);
	if (!migrate_out_release(out, err) ||
	    (migrate_out_is_confirmed(out) && !migrate_out_wait(out, err)) || !hand_over(s, err))
		return false;
	return conclude(s, err);
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
	/* Without a QEMU nothing goes on here, but the disks may be all that is left of it. */
	ok = conclude(&s, err);
	peer_link_free(s.late);
	return ok || (s.owned && !s.interrupted && leave_damaged(&s, err));
}

/* What is told of it in the operation's result, the vm's record and an event. */
static Json *numbers_of(const Sending *s, MigrateOut *out)
{
	struct migrate_stats st;
	g_autofree char *now = time_stamp();
	uint64_t down;
	Json *j = json_object();

	migrate_out_stats(out, &st);
	down = st.stopped_at != 0 && s->ran_at > st.stopped_at ? s->ran_at - st.stopped_at : 0;
	json_put_str(j, "at", now);
	json_put_str(j, "from", engine_of(s->ctx)->host_id);
	json_put_str(j, "to", json_str(s->args, "host"));
	json_put_uint(j, "total", st.total);
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
	int64_t offset;

	if (!json_bool(s->args, "run", true) || !step_clock_offset(s->ctx, s->args, &offset))
		return;
	s->finish = json_object();
	json_put_int(s->finish, "clock_offset", offset);
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

	if (!migrate_settings_of_json(json_obj(s->args, "settings"), &spec.settings, err))
		return false;
	ask_clock(s);
	out = migrate_out_new(s->vmm, &spec);
	if (!migrate_out_send(out, err) || !switch_over(s, out, err))
		return false;
	numbers = numbers_of(s, out);
	tell(s, numbers);
	return true;
}

/* Idempotent; only while the guest is ours. */
static bool come_back(Engine *e, const Json *args, const char *const *node, GError **err)
{
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));

	return v == NULL || migrate_out_revert(v, node, json_bool(args, "run", true), err);
}

bool step_MIGRATE_SEND_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autofree char *run_dir = path_vm_run_dir(&e->folders, json_str(args, "vm"));
	g_autofree char *key_dir = g_build_filename(run_dir, "key", NULL);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	Sending s = { .ctx = ctx, .args = args, .move = move_find(e->moves, own_id(ctx)), .vmm = v };
	bool ours = true, ok;

	if (!owner_is(e->store, json_str(args, "vm"), e->host_id, &ours, err))
		return false;
	if (!ours)
		return conclude_late(ctx, args, v, err);
	if (s.move == NULL)
		return fail_advice(err, ERR_UNAVAILABLE, "Nothing moved; ask for it again.",
				   "the daemon ended in the middle of this move");
	if (v == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	s.link = s.move->link;
	ok = send_guest(&s, key_dir, err);
	owner_seen_clear(&s.seen);
	json_unref(s.finish);
	if (ok)
		return true;
	if (s.owned)
		return !s.interrupted && leave_damaged(&s, err);
	/* A daemon that is being stopped undoes nothing now, but the guest must not wait for its return. */
	come_back(e, args, (const char *const *)s.move->node, NULL);
	return false;
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
	ok = owner_is(e->store, json_str(args, "vm"), e->host_id, &ours, err) &&
	     (!ours || come_back(e, args, (const char *const *)node->pdata, err));
	g_ptr_array_unref(node);
	return ok;
}

/* ---- what moved is removed here ---- */

/* The other host's operation has the vm's lock a little longer. */
static void await_end_there(StepContext *ctx, const Json *args)
{
	g_autofree char *key = key_vm_runtime(json_str(args, "vm"));
	const char *reception = json_str(step_operation(ctx)->facts, "reception");
	uint64_t until = time_monotonic() + SETTLE_TIMEOUT;

	while (time_monotonic() < until && !step_stopping(ctx)) {
		_cleanup_json_ Json *runtime = record_get(engine_of(ctx)->store, key, NULL, NULL);

		if (reception == NULL || g_strcmp0(json_str(runtime, "operation"), reception) != 0)
			return;
		g_usleep(SETTLE_LOOK);
	}
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
	if (json_bool(facts, LEFT_ALONE, false))
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
