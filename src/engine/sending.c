/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sending.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/engine-impl.h"
#include "engine/migrate_out.h"
#include "engine/owner.h"
#include "engine/promise.h"
#include "engine/receive.h"
#include "engine/records.h"

#define SECOND UINT64_C(1000000)
#define TELL_TIMEOUT (10 * SECOND)
/* How long a daemon that owns a guest now, and does not answer, is asked before people are told. */
#define PATIENCE (30 * SECOND)
#define ASK_AGAIN (SECOND / 4)
/* Of a question and its answer, between daemons that have nothing else to do. */
#define WAYS_MAX 10000
#define KILL_TIMEOUT (20 * SECOND)

static Engine *engine_of(StepContext *ctx)
{
	return step_engine(ctx);
}

static const char *own_id(StepContext *ctx)
{
	return step_operation(ctx)->id;
}

const Json *sending_prepare_args(StepContext *ctx)
{
	return plan_step(step_operation(ctx)->plan, 0)->args;
}

Json *sending_disk_named(const Json *disks, const char *name)
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

bool sending_fail_as_told(const Json *args, const Json *view, GError **err)
{
	const Json *error = json_obj(view, "error");
	g_autoptr(GError) theirs = error != NULL ? err_of_json(error) : NULL;

	if (theirs == NULL)
		return fail(err, ERR_UNAVAILABLE, "%s gave the move of '%s' up", json_str(args, "host_name"),
			    json_str(args, "name"));
	/* Their part of it was, by whomever: nobody has cancelled ours. */
	if (theirs->code == ERR_CANCELLED)
		theirs->code = ERR_UNAVAILABLE;
	g_prefix_error(&theirs, "%s: ", json_str(args, "host_name"));
	g_propagate_error(err, g_steal_pointer(&theirs));
	return false;
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

/* People must know: of this nobody gets out without them. `advice` when the error has none. */
static void tell_people(Sending *s, const char *waits_for, const char *what, const GError *why,
			const char *advice)
{
	const char *own = err_advice(why);

	step_say(s->ctx, "waiting for %s", waits_for);
	rest(s);
	events_emit(engine_of(s->ctx)->events, EVENT_VM_MOVE_WAITS, "vm", json_str(s->args, "vm"),
		    json_str(s->args, "name"), NULL, "%s: %s. %s", what, why->message,
		    own != NULL ? own : advice);
}

#define RECORDS "the pool's records"
#define LOOK_AT_RECORDS "`plim pool status` shows who is there."

/* The guest stands, and no daemon may let it go on. */
static void tell_waits(const GError *why, void *data)
{
	Sending *s = data;
	g_autofree char *what = g_strdup_printf(
	    "%s stands still in its move to %s: the pool's records don't say yet on which host it goes on",
	    json_str(s->args, "name"), json_str(s->args, "host_name"));

	tell_people(s, RECORDS, what, why, LOOK_AT_RECORDS);
}

/* The last look, without a word: its connection would be closed if it had died. */
static bool other_is_there(const Sending *s, GError **err)
{
	return peer_link_lives(s->link) ||
	       fail(err, ERR_UNAVAILABLE, "the daemon of %s went away", json_str(s->args, "host_name"));
}

bool sending_hand_over(Sending *s, GError **err)
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

	/* Who evicts that host ends its operation: what its guest did until then it does not know. */
	s->may_have_run = gave_up == NULL && json_bool(json_obj(op, "facts"), PROMISE_TAKEN, false) &&
			  json_bool(s->args, "run", true);
	if (json_str(op, "finished_at") != NULL && json_obj(op, "error") != NULL)
		gave_up = json_obj(op, "error");
	if (gave_up != NULL) {
		view = json_object();
		json_put(view, "error", json_incref(gave_up));
		sending_fail_as_told(s->args, view, err);
		return FATE_ENDED;
	}
	if (e != NULL || (op != NULL && json_str(op, "finished_at") == NULL))
		return FATE_UNKNOWN;
	take_ran_at(s, op);
	return FATE_RUNS;
}

/* What goes with the word to go on; NULL: nothing. New reference. */
static Json *words_of(const Sending *s)
{
	Json *j = json_deep_copy(s->finish);

	if (!s->promised)
		return j;
	if (j == NULL)
		j = json_object();
	json_put_bool(j, "promised", true);
	return j;
}

/*
 * Since when it runs there, by our clock. What the answer says is older by its way here, half of both ways;
 * where these took long nobody knows which did, and the guest is not said to have run too early.
 */
static uint64_t began_at(const Json *view, uint64_t asked_at)
{
	uint64_t now = time_monotonic(), took = now - asked_at, held = json_uint(view, "held_for", took);
	uint64_t ways = took - MIN(held, took);

	return now - json_uint(view, "ran_for", 0) - (ways <= WAYS_MAX ? ways / 2 : 0);
}

/* Tells the other host to let the guest go on. FATE_ENDED: it does not run there, and never will. */
static Fate tell_to_go_on(Sending *s, GError **err)
{
	const char *reception = json_str(step_operation(s->ctx)->facts, "reception");
	g_autofree char *path = g_strconcat(RECEPTIONS "/", reception, "/finish", NULL);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *view = NULL, *words = words_of(s);
	uint64_t asked_at;

	if (s->link == NULL)
		s->link = s->late = peer_link_open(engine_of(s->ctx), json_str(s->args, "host"), &e);
	asked_at = time_monotonic();
	if (s->link != NULL)
		view = peer_link_call(s->link, "POST", path, words, TELL_TIMEOUT, &e);
	s->ran_at = began_at(view, asked_at);
	if (view == NULL) {
		Fate fate = fate_on_record(s, reception, err);

		if (fate == FATE_UNKNOWN)
			g_propagate_error(err, g_steal_pointer(&e));
		return fate;
	}
	if (json_obj(view, "error") == NULL)
		return FATE_RUNS;
	s->may_have_run = false;
	sending_fail_as_told(s->args, view, err);
	return FATE_ENDED;
}

/* All that the guest writes to is here, as the guest left it: nothing that it may have done since is. */
static bool is_all_here(const Sending *s)
{
	const Json *disks = json_arr(sending_prepare_args(s->ctx), "disks"), *d,
		   *copied = json_arr(step_operation(s->ctx)->facts, "copied");
	size_t i;

	json_array_foreach((Json *)disks, i, d)
	{
		if (!json_bool(d, "readonly", false) &&
		    sending_disk_named(copied, json_str(d, "name")) == NULL)
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
	step_fact(s->ctx, SENDING_LEFT_ALONE, json_true());
	return RETURN_NEVER;
}

/* Neither the other host's nor free: what is here may be in use by whoever has it, and is left alone. */
static Return leave_to(Sending *s, const char *host)
{
	if (g_strcmp0(host, json_str(s->args, "host")) == 0)
		return RETURN_NEVER;
	step_fact(s->ctx, SENDING_LEFT_ALONE, json_true());
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

/* ---- a promise that came to nothing ---- */

void sending_withdraw(StepContext *ctx, const Json *args)
{
	g_autoptr(GError) e = NULL;

	step_fact(ctx, SENDING_OURS_AGAIN, json_true());
	if (!promise_withdraw(engine_of(ctx)->store, json_str(args, "vm"), own_id(ctx), &e))
		log_warning("vm %s: its promise to %s stays on record: %s", json_str(args, "name"),
			    json_str(args, "host_name"), e->message);
}

typedef enum Whose { WHOSE_OURS, WHOSE_OTHERS, WHOSE_UNKNOWN } Whose;

/* What the records say, whatever was promised. */
static Whose whose(const Sending *s, GError **err)
{
	Store *store = engine_of(s->ctx)->store;
	g_autofree char *key = key_vm_runtime(json_str(s->args, "vm"));
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = store_catch_up(store, &e) ? record_get(store, key, NULL, &e) : NULL;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return WHOSE_UNKNOWN;
	}
	return g_strcmp0(json_str(runtime, "host"), engine_of(s->ctx)->host_id) == 0 &&
		       g_strcmp0(json_str(runtime, "operation"), own_id(s->ctx)) == 0
		   ? WHOSE_OURS
		   : WHOSE_OTHERS;
}

/* What is tried until it succeeds, and of which people are told when that takes long. */
typedef struct Tries {
	uint64_t until;
	void (*tell)(const GError *why, void *data);
} Tries;

static Tries tries_new(void (*tell)(const GError *why, void *data))
{
	return (Tries){ .until = time_monotonic() + PATIENCE, .tell = tell };
}

/* False: this daemon ends. */
static bool try_later(Sending *s, Tries *t, const GError *why)
{
	if (t->tell != NULL && time_monotonic() > t->until) {
		t->tell(why, s);
		t->tell = NULL;
	}
	s->interrupted = step_stopping(s->ctx);
	g_usleep(ASK_AGAIN);
	return !s->interrupted;
}

/* False: this daemon ends before it is known. */
static bool await_whose(Sending *s, Whose *ret)
{
	Tries t = tries_new(tell_waits);

	for (;;) {
		g_autoptr(GError) e = NULL;

		*ret = whose(s, &e);
		if (*ret != WHOSE_UNKNOWN)
			return true;
		if (!try_later(s, &t, e))
			return false;
	}
}

/* A move that came to nothing, which this host can't end yet. */
static char *unended(const Sending *s, const char *how)
{
	return g_strdup_printf("the move of %s to %s came to nothing, and %s", json_str(s->args, "name"),
			       json_str(s->args, "host_name"), how);
}

/* Its own QEMU is in the way. */
static void tell_stuck(const GError *why, void *data)
{
	g_autofree char *what = unended(data, "can't be ended here");

	tell_people(data, "QEMU on this host", what, why, "Look at the storage of this host.");
}

/* False: this daemon ends before its QEMU does. */
static bool await_killed(Sending *s)
{
	Tries t = tries_new(tell_stuck);

	for (;;) {
		g_autoptr(GError) e = NULL;

		if (s->vmm == NULL || vmm_kill(s->vmm, KILL_TIMEOUT, &e))
			return true;
		if (!try_later(s, &t, e))
			return false;
	}
}

static void tell_unended(const GError *why, void *data)
{
	g_autofree char *what = unended(data, "the pool's records don't take that yet");

	tell_people(data, RECORDS, what, why, LOOK_AT_RECORDS);
}

/*
 * It becomes the other host's in this moment, or, with who evicts this host, it became that: or it never
 * does. False: it did; or this daemon ends.
 */
static bool await_ended(Sending *s)
{
	const struct promise_terms terms = {
		.vm = json_str(s->args, "vm"),
		.from_host = engine_of(s->ctx)->host_id,
		.operation = own_id(s->ctx),
	};
	Tries t = tries_new(tell_unended);

	for (;;) {
		g_autoptr(GError) e = NULL;

		if (promise_end(engine_of(s->ctx)->store, &terms, &e)) {
			step_fact(s->ctx, SENDING_OURS_AGAIN, json_true());
			return true;
		}
		if (g_error_matches(e, ERR, ERR_CONFLICT) || g_error_matches(e, ERR, ERR_NOT_FOUND) ||
		    !try_later(s, &t, e))
			return false;
	}
}

/*
 * The whole guest is here. What has run over there may have written to disks that both hosts see, though:
 * then it was lost with that host. False: it is not ours after all, or this daemon ends.
 */
static bool keep(Sending *s)
{
	return (!s->may_have_run || is_all_here(s) || await_killed(s)) && await_ended(s);
}

/* The records say still that it is this host's, and it is kept. */
static bool keep_promised(Sending *s)
{
	Whose is;

	if (!s->promised)
		return false;
	if (await_whose(s, &is) && is == WHOSE_OURS && keep(s))
		s->owned = s->promised = false;
	else if (!s->interrupted)
		s->promised = false; /* the other host's, as any guest that was handed over */
	return !s->owned;
}

/*
 * It does not run over there, and never will: it is ours again, unless somebody took it meanwhile. A store
 * that does not take that, or a lease that this host lost, is waited for: all of the guest is here, and only
 * here.
 */
static void take_back(Sending *s)
{
	Tries t = tries_new(tell_waits);
	bool kept = keep_promised(s);

	while (!kept && !s->interrupted) {
		g_autoptr(GError) e = NULL;
		Return r = try_return(s, &e);

		s->owned = r == RETURN_NEVER || r == RETURN_LATER;
		if (r == RETURN_NEVER)
			log_error("vm %s: %s could not let it go on, and it can't be taken back: %s",
				  json_str(s->args, "name"), json_str(s->args, "host_name"),
				  e != NULL ? e->message : "not all of it is here");
		if (r != RETURN_LATER)
			break;
		try_later(s, &t, e);
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

/* The records have it, too, for a host that can't be reached. */
static bool note_sent(Sending *s)
{
	step_fact(s->ctx, PROMISE_SENT, json_true());
	return step_commit(s->ctx, NULL);
}

/*
 * What became of a guest that is the other host's, however long that takes to
 * know: here is all of it still, and the other host may lack a part. Unknown
 * only when this daemon is to end.
 */
static Fate await_fate(Sending *s, GError **err)
{
	uint64_t until = time_monotonic() + PATIENCE;
	bool told = false, noted = false;

	for (;;) {
		g_autoptr(GError) e = NULL;
		Fate fate = tell_to_go_on(s, &e);

		if (fate == FATE_UNKNOWN && s->promised && !noted)
			noted = note_sent(s);
		if (fate == FATE_UNKNOWN && is_back(s)) {
			s->may_have_run = false;
			fate = FATE_ENDED;
		}
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

bool sending_conclude(Sending *s, GError **err)
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

/* Whether all of it was sent; false: this daemon ends before QEMU says so. */
static bool break_off(Sending *s, bool *ret_all_sent)
{
	Tries t = tries_new(tell_stuck);

	*ret_all_sent = true;
	while (s->vmm != NULL) {
		g_autoptr(GError) e = NULL;

		if (migrate_out_break(s->vmm, ret_all_sent, &e) || !try_later(s, &t, e))
			break;
	}
	wake(s);
	return !s->interrupted;
}

/*
 * It can't run over there, and goes on here, as QEMU lets it at once. That the promise came to nothing goes
 * on record; when who evicted this host gave the guest away, it is taken back, or else belongs to somebody
 * else.
 */
static void settle_unsent(Sending *s)
{
	static const char *const none[] = { NULL };
	g_autoptr(GError) e = NULL;

	if (s->vmm != NULL && !migrate_out_revert(s->vmm, none, json_bool(s->args, "run", true), &e))
		log_warning("vm %s: %s", json_str(s->args, "name"), e->message);
	if (!await_ended(s) && !s->interrupted) {
		s->promised = s->may_have_run = false;
		take_back(s);
	} else {
		s->owned = false;
	}
	wake(s);
}

bool sending_settle(Sending *s, GError **err)
{
	bool all_sent;

	s->owned = true;
	if (break_off(s, &all_sent) && !all_sent)
		settle_unsent(s);
	/* Nothing is undone before it is known, whoever wished it; nor what is another host's. */
	if (s->interrupted || s->owned)
		step_outlive_cancel(s->ctx);
	if (s->interrupted || all_sent)
		g_clear_error(err);
	if (s->interrupted)
		return fail(err, ERR_CANCELLED, "the daemon ends");
	return all_sent && sending_conclude(s, err);
}
