/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/arrival.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/migrate_in.h"
#include "engine/owner.h"
#include "engine/promise.h"
#include "engine/receive.h"
#include "engine/records.h"

#define SECOND UINT64_C(1000000)
/* Between two looks at the store while nobody says anything. */
#define LOOK (SECOND / 4)
#define LOOK_SOON 5000
#define FOR_EVER (UINT64_MAX / 4)
/* For the rest of a guest that is ours already. The source waits a little longer for what becomes of it. */
#define REST_TIMEOUT (20 * SECOND)
/* More than this between two looks at it, and something was held up. */
#define AWAKE (3 * SECOND)
/* Between two tries to become the owner of a guest that runs here. */
#define KEEP_AGAIN (SECOND / 4)
/* For the source's word, and for the records, before people are told that this waits. */
#define PATIENCE (30 * SECOND)

static bool is_promised(const Arrival *a)
{
	g_autoptr(Promise) p = promise_read(a->engine->store, json_str(a->args, "vm"), NULL);

	return g_strcmp0(p != NULL ? p->reception : NULL, a->own) == 0;
}

static bool lives(Vmm *v)
{
	return v != NULL && vmm_alive(v);
}

/* Nothing will come. */
static bool has_ended(Arrival *a, GuestVerdict verdict, ReceptionWish wish, GError **err)
{
	if (verdict == GUEST_THEIRS || wish == RECEPTION_ABORT)
		arrival_fail_given_up(a, err);
	else if (a->unsure ? step_stopping(a->ctx) : step_cancelled(a->ctx))
		fail(err, ERR_CANCELLED, "the reception was cancelled");
	else if (a->unsure)
		return false;
	else if (!lives(a->vmm))
		fail(err, ERR_GONE, "QEMU of '%s' ended while its guest came: see its log",
		     json_str(a->args, "name"));
	else if (arrival_is_lost(a))
		arrival_fail_lost(a, err);
	else
		return false;
	return true;
}

/* The source has said that all of it is on its way, to this host or, if it can't reach it, in the records. */
static bool is_sent(const Arrival *a, ReceptionWish wish)
{
	g_autofree char *key = key_operation(json_str(a->args, "operation"));
	_cleanup_json_ Json *op =
	    wish == RECEPTION_WAIT ? record_get(a->engine->store, key, NULL, NULL) : NULL;

	return wish == RECEPTION_PROMISE_SENT || json_bool(json_obj(op, "facts"), PROMISE_SENT, false);
}

/* Only the source knows whether all of it was sent. */
static void tell_unsure(const Arrival *a)
{
	Engine *e = a->engine;
	const char *name = json_str(a->args, "name");
	g_autofree char *from = arrival_source_name(a);

	step_say(a->ctx, "waiting for %s to say whether all of the guest was sent", from);
	events_emit(
	    e->events, EVENT_VM_MOVE_WAITS, "vm", json_str(a->args, "vm"), name, NULL,
	    "QEMU of %s ended on this host, and only %s knows whether all of it was sent here. Bring %s "
	    "back: then it goes on there, or is told as crashed here; if it is lost for good, `plim pool "
	    "evict %s`",
	    name, from, from, from);
}

/*
 * Says on record that the guest may run here, before it may. Who evicts its source frees a guest of which
 * that is not said, so whose it is must be looked at behind it. What can't be written now is tried again.
 * False: another host has ended this reception.
 */
static bool take_promise(Arrival *a, GError **err)
{
	g_autoptr(GError) e = NULL;

	step_fact(a->ctx, PROMISE_TAKEN, json_true());
	a->taken = step_commit(a->ctx, &e) && store_catch_up(a->engine->store, &e);
	return !g_error_matches(e, ERR, ERR_BAD_STATE) || arrival_fail_given_up(a, err);
}

/* Until the guest is ours, or promised to us and taken. */
static bool wait_for_guest(Arrival *a, bool *ret_promised, GError **err)
{
	uint64_t wait = 0, until = time_monotonic() + PATIENCE;

	for (;;) {
		/* What the source says after its commit is as good as the store, and sooner here. */
		ReceptionWish wish = reception_wish(a->engine->receptions, a->own, wait);
		GuestVerdict verdict = wish == RECEPTION_FINISH ? GUEST_OURS : arrival_look(a);
		bool taken = a->taken;

		*ret_promised = verdict == GUEST_UNDECIDED && wish != RECEPTION_ABORT && is_promised(a);
		if (verdict == GUEST_OURS || (*ret_promised && taken && (!a->unsure || is_sent(a, wish))))
			return true;
		if (has_ended(a, verdict, wish, err) || (*ret_promised && !taken && !take_promise(a, err)))
			return false;
		if (a->unsure && time_monotonic() > until) {
			tell_unsure(a);
			until = FOR_EVER;
		}
		wait = a->taken != taken ? 0 : MIN(LOOK, 2 * wait + LOOK_SOON);
		if (wish != RECEPTION_WAIT)
			g_usleep(wait);
	}
}

/* Time in which this host was held up, and its QEMUs with it, does not count. */
static bool is_rest_late(Arrival *a)
{
	uint64_t now = time_monotonic();

	if (a->rest_at != 0)
		a->rest += MIN(now - a->rest_at, AWAKE);
	a->rest_at = now;
	return a->rest > REST_TIMEOUT;
}

/* The same of one that is promised to us, and on its way. */
static bool promise_ended(void *data, GError **err)
{
	Arrival *a = data;
	ReceptionWish wish = reception_wish(a->engine->receptions, a->own, 0);
	GuestVerdict verdict = arrival_look(a);

	/* An eviction of the source makes it ours as well: nothing more is sent then. */
	if ((a->rest_at != 0 || verdict == GUEST_OURS || is_sent(a, wish)) && is_rest_late(a))
		return fail(err, ERR_TIMEOUT, "the rest of '%s' did not come", json_str(a->args, "name")),
		       true;
	return has_ended(a, verdict, wish, err);
}

/* *ret_asked: as for migrate_in_finish(). */
static bool go_on(Arrival *a, bool promised, bool *ret_asked, GError **err)
{
	const struct migrate_in_end how = {
		.disks = json_bool(a->args, "disks", true),
		.alone = json_bool(a->args, "alone", false),
		.run = json_bool(a->args, "run", true),
		.timeout = promised ? FOR_EVER : REST_TIMEOUT,
		.ended = promised ? promise_ended : NULL,
		.data = a,
	};
	struct migrate_in_result got;
	bool ok = migrate_in_finish(a->vmm, &how, &got, err);

	*ret_asked = got.asked;
	if (!ok)
		return false;
	reception_ran(a->engine->receptions, a->own, got.ran_at);
	if (got.ran_at != 0) {
		g_autofree char *stamp = time_print(time_real() - (time_monotonic() - got.ran_at));

		step_result(a->ctx, RECEPTION_RAN_AT, json_string(stamp));
	}
	return true;
}

static bool is_stopping(void *data)
{
	return step_stopping(data);
}

static bool try_keep(const Arrival *a, GError **err)
{
	struct owner_change c = {
		.vm = json_str(a->args, "vm"),
		.from_host = json_str(a->args, "source"),
		.from_operation = json_str(a->args, "operation"),
		.to_host = json_str(a->args, "host"),
		.to_operation = a->own,
		.kept = true,
		.stops = is_stopping,
		.data = a->ctx,
	};

	return owner_change(a->engine->store, &c, err);
}

/* It runs, and whoever asks the pool is told that it runs elsewhere. */
static void tell_unrecorded(const Arrival *a, const GError *why)
{
	Engine *e = a->engine;
	const char *name = json_str(a->args, "name"), *advice = err_advice(why);

	step_say(a->ctx, "waiting for the pool's records");
	events_emit(e->events, EVENT_VM_MOVE_WAITS, "vm", json_str(a->args, "vm"), name, NULL,
		    "%s came to this host, and the pool's records don't take that yet: %s. %s", name,
		    why->message, advice != NULL ? advice : "`plim pool status` shows who is there.");
}

/* One try. *ret_over: it failed for ever, and *err says why. */
static bool try_become_owner(const Arrival *a, bool *ret_over, GError **err)
{
	Engine *e = a->engine;
	GuestVerdict verdict = arrival_look(a);
	g_autoptr(GError) e2 = NULL;

	*ret_over = false;
	if (verdict == GUEST_OURS || try_keep(a, err))
		return true;
	if (!store_catch_up(e->store, &e2))
		return false;
	verdict = arrival_look(a);
	/* ERR_NOT_FOUND: another host has ended this reception. */
	*ret_over = verdict == GUEST_THEIRS || g_error_matches(*err, ERR, ERR_NOT_FOUND);
	if (verdict == GUEST_OURS)
		g_clear_error(err);
	return verdict == GUEST_OURS;
}

/*
 * It runs here; now the records say so as well, however long they take. False: they say that it is somebody
 * else's, which an eviction of both hosts may have brought about; or the daemon ends.
 */
static bool become_owner(const Arrival *a, GError **err)
{
	uint64_t until = time_monotonic() + PATIENCE;

	for (;;) {
		g_autoptr(GError) why = NULL;
		bool over;

		if (try_become_owner(a, &over, &why))
			return true;
		if (over)
			return arrival_fail_given_up(a, err);
		if (step_stopping(a->ctx))
			return fail(err, ERR_CANCELLED, "the daemon ends");
		if (time_monotonic() > until) {
			tell_unrecorded(a, why);
			until = FOR_EVER;
		}
		g_usleep(KEEP_AGAIN);
	}
}

/*
 * Of one that an earlier daemon here took: does it matter whether it ran? Without disks that its source sees
 * it goes on there as it left, unless it is this host's already.
 */
static bool may_matter(const Arrival *a)
{
	const Json *facts = step_operation(a->ctx)->facts;

	return json_bool(a->args, "run", true) && json_obj(facts, RECEPTION_GAVE_UP) == NULL &&
	       (!json_bool(a->args, "alone", false) || arrival_look(a) == GUEST_OURS);
}

void arrival_init(Arrival *a, StepContext *ctx, const Json *args, Vmm *v)
{
	Engine *e = step_engine(ctx);
	const Operation *op = step_operation(ctx);

	*a = (Arrival){ .ctx = ctx, .engine = e, .own = op->id, .args = args, .vmm = v };
	a->taken = json_bool(op->facts, PROMISE_TAKEN, false);
	a->doubt =
	    reception_resume(e->receptions, a->own, json_str(args, "source")) && a->taken && may_matter(a);
	a->unsure = a->ran = a->doubt && !lives(v);
}

bool arrival_receive(Arrival *a, GError **err)
{
	bool promised, asked = true;

	if (!wait_for_guest(a, &promised, err))
		return false;
	/* Whoever cancelled this was too late: the guest is nowhere else. */
	if (!promised)
		step_forbid_cancel(a->ctx);
	if (!a->unsure && a->vmm == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(a->args, "name"));
	if (!a->unsure && !go_on(a, promised, &asked, err)) {
		/* What it did before this daemon came nobody can say any more. */
		if (asked || !a->doubt)
			return false;
		g_clear_error(err);
		a->unsure = a->ran = true;
		return arrival_receive(a, err);
	}
	/* One that is unsure the source has sent, and must not let go on: it is this host's, and has crashed.
	 */
	a->ran = true;
	step_outlive_cancel(a->ctx);
	return become_owner(a, err);
}
