/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of the host that a guest comes to. Their arguments:
 *   RECEIVE_OPEN   vm, name, address, key_dir, nodes, post_copy
 *   RECEIVE_GUEST  vm, name, host (this one), source (the other), operation (its), key_dir, run,
 *                  disks (some are filled), alone (no disk is one that the source has open for writing)
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/engine-impl.h"
#include "engine/migrate_in.h"
#include "engine/migrate_link.h"
#include "engine/owner.h"
#include "engine/pool-impl.h"
#include "engine/promise.h"
#include "engine/receive.h"
#include "engine/records.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* Between two looks at the store while nobody says anything. */
#define LOOK (SECOND / 4)
#define LOOK_SOON 5000
#define KILL_TIMEOUT (20 * SECOND)
#define FOR_EVER (UINT64_MAX / 4)
/* For the rest of a guest that is ours already. The source waits a little longer for what becomes of it. */
#define REST_TIMEOUT (20 * SECOND)
/* More than this between two looks at it, and something was held up. */
#define AWAKE (3 * SECOND)
/* Between two looks at whether the source took back a guest that can't go on here. */
#define TAKE_BACK_LOOK 20000
/* For the source's word of the guest's clock. */
#define WORD_TIMEOUT (5 * SECOND)
/* Between two tries to become the owner of a guest that runs here. */
#define KEEP_AGAIN (SECOND / 4)
/* Between two tries to write into the records that it can't. */
#define NOTE_AGAIN (SECOND)
/* For a source to take its guest back, before people are told that this waits. */
#define PATIENCE (30 * SECOND)
/* For the agent of a guest that has come, in a QEMU that is new to it. */
#define CLOCK_TIMEOUT (5 * SECOND)

static Engine *engine_of(StepContext *ctx)
{
	return step_engine(ctx);
}

static const char *own_id(StepContext *ctx)
{
	return step_operation(ctx)->id;
}

bool step_RECEIVE_OPEN_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	g_auto(GStrv) nodes = json_strv(json_arr(args, "nodes"));
	struct migrate_in_spec spec = {
		.address = json_str(args, "address"),
		.key_dir = json_str(args, "key_dir"),
		.node = (const char *const *)nodes,
		.post_copy = json_bool(args, "post_copy", false),
	};
	struct migrate_in_ports ports;

	if (v == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	if (!migrate_in_open(v, &spec, &ports, err))
		return false;
	reception_open(e->receptions, own_id(ctx), ports.memory, ports.disks);
	return true;
}

/* ---- whose guest is it? ---- */

typedef enum Verdict { UNDECIDED, OURS, THEIRS } Verdict;

/* It keeps the lock while it undoes what it did, which takes long when it can't reach this host. */
static bool source_gave_up(Engine *e, const Json *args)
{
	g_autofree char *key = key_operation(json_str(args, "operation"));
	_cleanup_json_ Json *op = record_get(e->store, key, NULL, NULL);

	return g_strcmp0(json_str(op, "status"), operation_state_name(OPERATION_UNDOING)) == 0;
}

/*
 * One reading tells: the lock of the vm names the source's operation until the
 * guest changes its owner and the lock with it, or until nothing will come any
 * more. A store that can't be read decides nothing.
 */
static Verdict look(Engine *e, const Json *args, const char *own)
{
	g_autofree char *key = key_vm_runtime(json_str(args, "vm"));
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *runtime = record_get(e->store, key, NULL, &err);
	const char *lock = json_str(runtime, "operation");

	if (err != NULL)
		return UNDECIDED;
	if (g_strcmp0(json_str(runtime, "host"), json_str(args, "host")) == 0 && g_strcmp0(lock, own) == 0)
		return OURS;
	return g_strcmp0(lock, json_str(args, "operation")) == 0 && !source_gave_up(e, args) ? UNDECIDED
											     : THEIRS;
}

/*
 * Nothing will come from a source whose lease has been gone for a while: without one it can't give the guest
 * away (owner.h). One that gets another lease finds that this reception has ended. What the records said when
 * the lease was missed may be older than the last thing that the source did: they are read anew. One that is
 * promised might come all the same, and is given up: the source has all of it.
 */
static bool is_lost(Engine *e, const Json *args, const char *own, uint64_t *missed_at)
{
	g_autoptr(GError) err = NULL;
	uint64_t now = time_monotonic();

	if (pool_host_lives(e->store, json_str(args, "source"), &err) || err != NULL) {
		*missed_at = 0;
		return false;
	}
	if (*missed_at == 0)
		*missed_at = now;
	return now - *missed_at >= e->lease_ttl && store_catch_up(e->store, NULL) &&
	       !pool_host_lives(e->store, json_str(args, "source"), &err) && err == NULL &&
	       look(e, args, own) == UNDECIDED;
}

/* Caller frees. */
static char *source_name(Engine *e, const Json *args)
{
	const char *source = json_str(args, "source");
	g_autofree char *key = key_host(source);
	_cleanup_json_ Json *host = record_get(e->store, key, NULL, NULL);

	return g_strdup(json_str(host, "name") != NULL ? json_str(host, "name") : source);
}

static bool fail_lost(Engine *e, const Json *args, GError **err)
{
	const char *name = json_str(args, "name");
	g_autofree char *from = source_name(e, args);

	fail(err, ERR_UNAVAILABLE, "%s was lost before all of '%s' was here", from, name);
	return err_advise(
	    err,
	    "The guest is still on %s: bring that host back; if it is lost for good, `plim pool "
	    "evict %s`.",
	    from, from);
}

static bool fail_given_up(const Json *args, GError **err)
{
	return fail(err, ERR_CANCELLED, "the other host gave the move of '%s' up", json_str(args, "name"));
}

static bool is_promised(Engine *e, const Json *args, const char *own)
{
	g_autoptr(Promise) p = promise_read(e->store, json_str(args, "vm"), NULL);

	return g_strcmp0(p != NULL ? p->reception : NULL, own) == 0;
}

/* What a reception waits for, and how it ends before that. */
typedef struct Wait {
	StepContext *ctx;
	const Json *args;
	Vmm *vmm;
	uint64_t *missed_at;
	/* Since the source has said that all of it is on its way, as far as this host was awake; 0: not yet.
	 */
	uint64_t rest, rest_at;
	bool taken;  /* PROMISE_TAKEN is on record */
	bool doubt;  /* by an earlier daemon here: the guest may have run, and written to disks */
	bool unsure; /* the same, and its QEMU has ended */
	bool ran;    /* it has, or may have: nobody may be told that it never did */
} Wait;

static bool lives(Vmm *v)
{
	return v != NULL && vmm_alive(v);
}

/* Nothing will come. */
static bool has_ended(const Wait *w, Verdict verdict, ReceptionWish wish, GError **err)
{
	Engine *e = engine_of(w->ctx);
	const Json *args = w->args;

	if (verdict == THEIRS || wish == RECEPTION_ABORT)
		fail_given_up(args, err);
	else if (w->unsure ? step_stopping(w->ctx) : step_cancelled(w->ctx))
		fail(err, ERR_CANCELLED, "the reception was cancelled");
	else if (w->unsure)
		return false;
	else if (!lives(w->vmm))
		fail(err, ERR_GONE, "QEMU of '%s' ended while its guest came: see its log",
		     json_str(args, "name"));
	else if (is_lost(e, args, own_id(w->ctx), w->missed_at))
		fail_lost(e, args, err);
	else
		return false;
	return true;
}

/* The source has said that all of it is on its way, to this host or, if it can't reach it, in the records. */
static bool is_sent(const Wait *w, ReceptionWish wish)
{
	g_autofree char *key = key_operation(json_str(w->args, "operation"));
	_cleanup_json_ Json *op =
	    wish == RECEPTION_WAIT ? record_get(engine_of(w->ctx)->store, key, NULL, NULL) : NULL;

	return wish == RECEPTION_PROMISE_SENT || json_bool(json_obj(op, "facts"), PROMISE_SENT, false);
}

/* Only the source knows whether all of it was sent. */
static void tell_unsure(const Wait *w)
{
	Engine *e = engine_of(w->ctx);
	const char *name = json_str(w->args, "name");
	g_autofree char *from = source_name(e, w->args);

	step_say(w->ctx, "waiting for %s to say whether all of the guest was sent", from);
	events_emit(
	    e->events, EVENT_VM_MOVE_WAITS, "vm", json_str(w->args, "vm"), name, NULL,
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
static bool take_promise(Wait *w, GError **err)
{
	g_autoptr(GError) e = NULL;

	step_fact(w->ctx, PROMISE_TAKEN, json_true());
	w->taken = step_commit(w->ctx, &e) && store_catch_up(engine_of(w->ctx)->store, &e);
	return !g_error_matches(e, ERR, ERR_BAD_STATE) || fail_given_up(w->args, err);
}

/* Until the guest is ours, or promised to us and taken. */
static bool wait_for_guest(Wait *w, bool *ret_promised, GError **err)
{
	Engine *e = engine_of(w->ctx);
	const char *own = own_id(w->ctx);
	uint64_t wait = 0, until = time_monotonic() + PATIENCE;

	for (;;) {
		/* What the source says after its commit is as good as the store, and sooner here. */
		ReceptionWish wish = reception_wish(e->receptions, own, wait);
		Verdict verdict = wish == RECEPTION_FINISH ? OURS : look(e, w->args, own);
		bool taken = w->taken;

		*ret_promised =
		    verdict == UNDECIDED && wish != RECEPTION_ABORT && is_promised(e, w->args, own);
		if (verdict == OURS || (*ret_promised && taken && (!w->unsure || is_sent(w, wish))))
			return true;
		if (has_ended(w, verdict, wish, err) || (*ret_promised && !taken && !take_promise(w, err)))
			return false;
		if (w->unsure && time_monotonic() > until) {
			tell_unsure(w);
			until = FOR_EVER;
		}
		wait = w->taken != taken ? 0 : MIN(LOOK, 2 * wait + LOOK_SOON);
		if (wish != RECEPTION_WAIT)
			g_usleep(wait);
	}
}

/* Time in which this host was held up, and its QEMUs with it, does not count. */
static bool is_rest_late(Wait *w)
{
	uint64_t now = time_monotonic();

	if (w->rest_at != 0)
		w->rest += MIN(now - w->rest_at, AWAKE);
	w->rest_at = now;
	return w->rest > REST_TIMEOUT;
}

/* The same of one that is promised to us, and on its way. */
static bool promise_ended(void *data, GError **err)
{
	Wait *w = data;
	Engine *e = engine_of(w->ctx);
	ReceptionWish wish = reception_wish(e->receptions, own_id(w->ctx), 0);
	Verdict verdict = look(e, w->args, own_id(w->ctx));

	/* An eviction of the source makes it ours as well: nothing more is sent then. */
	if ((w->rest_at != 0 || verdict == OURS || is_sent(w, wish)) && is_rest_late(w))
		return fail(err, ERR_TIMEOUT, "the rest of '%s' did not come", json_str(w->args, "name")),
		       true;
	return has_ended(w, verdict, wish, err);
}

/* ---- it is ours ---- */

/* *ret_asked: as for migrate_in_finish(). */
static bool go_on(Wait *w, bool promised, bool *ret_asked, GError **err)
{
	StepContext *ctx = w->ctx;
	const Json *args = w->args;
	const struct migrate_in_end how = {
		.disks = json_bool(args, "disks", true),
		.alone = json_bool(args, "alone", false),
		.run = json_bool(args, "run", true),
		.timeout = promised ? FOR_EVER : REST_TIMEOUT,
		.ended = promised ? promise_ended : NULL,
		.data = w,
	};
	struct migrate_in_result got;
	bool ok = migrate_in_finish(w->vmm, &how, &got, err);

	*ret_asked = got.asked;
	if (!ok)
		return false;
	reception_ran(engine_of(ctx)->receptions, own_id(ctx), got.ran_at);
	if (got.ran_at != 0) {
		g_autofree char *stamp = time_print(time_real() - (time_monotonic() - got.ran_at));

		step_result(ctx, RECEPTION_RAN_AT, json_string(stamp));
	}
	return true;
}

static void forget_key(const Json *args, Vmm *v)
{
	migrate_key_unload(v);
	dir_remove(json_str(args, "key_dir"), NULL);
}

/* What can't be read says nothing. */
static bool source_has_ended(Engine *e, const Json *args)
{
	g_autofree char *key = key_operation(json_str(args, "operation"));
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *op = record_get(e->store, key, NULL, &err);

	return err == NULL && (op == NULL || json_str(op, "finished_at") != NULL);
}

/* The vm is ours and nobody's business any more: the supervisor deals with it. */
static bool unlock(Engine *e, const Json *args, const char *own, GError **err)
{
	g_autofree char *key = key_vm_runtime(json_str(args, "vm")), *text = NULL;
	g_autoptr(GError) e2 = NULL;
	int64_t rev = 0;
	_cleanup_json_ Json *runtime = record_get(e->store, key, &rev, &e2);
	StoreTx *tx;

	if (runtime == NULL || g_strcmp0(json_str(runtime, "operation"), own) != 0)
		return e2 == NULL || (g_propagate_error(err, g_steal_pointer(&e2)), false);
	json_put(runtime, "operation", json_null());
	text = json_print(runtime);
	tx = store_tx_new();
	store_tx_set(tx, key, rev, text);
	return store_commit(e->store, tx, STORE_DURABLE, NULL, err);
}

/* Nothing that is done over there will give the guest back. */
static bool is_left_here(Engine *e, const Json *args, const char *own)
{
	return look(e, args, own) == THEIRS || source_has_ended(e, args);
}

/* The records have it, too, for a source that can't reach this host. True when they do. */
static bool note_gave_up(StepContext *ctx, const GError *why)
{
	g_autofree char *key = key_operation(own_id(ctx));
	_cleanup_json_ Json *op = NULL;

	step_fact(ctx, RECEPTION_GAVE_UP, err_to_json(why));
	step_say(ctx, "giving the guest back");
	op = record_get(engine_of(ctx)->store, key, NULL, NULL);
	return json_obj(json_obj(op, "facts"), RECEPTION_GAVE_UP) != NULL;
}

/* The only whole copy of the guest is on a host that can't be reached: nobody may start the vm meanwhile. */
static void tell_waits(StepContext *ctx, const Json *args, const GError *why)
{
	Engine *e = engine_of(ctx);
	const char *name = json_str(args, "name");
	g_autofree char *from = source_name(e, args);

	step_say(ctx, "waiting for %s to take the guest back", from);
	events_emit(
	    e->events, EVENT_VM_MOVE_WAITS, "vm", json_str(args, "vm"), name, NULL,
	    "%s did not come to this host from %s: %s. All of it stands still there. Bring %s back: then "
	    "it goes on there; if it is lost for good, `plim pool evict %s`",
	    name, from, why->message, from, from);
}

/*
 * The source has the whole guest still, and may even run it again, if not all
 * of it came. It is told that the guest does not run here, when that is sure for
 * ever; whose it is, is judged when it was taken back, or can't be any more
 * because the source's operation has ended, as it does when its host is evicted.
 * A guest that never was ours needs no such answer when the source is lost.
 * False: this daemon is to end before that is known.
 */
static bool offer_back(const Wait *w, const GError *why)
{
	StepContext *ctx = w->ctx;
	const Json *args = w->args;
	Engine *e = engine_of(ctx);
	bool sure = false, noted = false, told = false;
	uint64_t noted_at = 0, until = time_monotonic() + PATIENCE;

	for (;;) {
		sure = sure || w->vmm == NULL || vmm_kill(w->vmm, KILL_TIMEOUT, NULL);
		if (sure) {
			step_fact(ctx, RECEPTION_GAVE_UP, err_to_json(why));
			reception_end(e->receptions, own_id(ctx), why);
		}
		if (reception_wish(e->receptions, own_id(ctx), 0) == RECEPTION_ABORT ||
		    is_left_here(e, args, own_id(ctx)) ||
		    (sure && is_lost(e, args, own_id(ctx), w->missed_at)))
			return true;
		if (step_stopping(ctx))
			return false;
		if (sure && !noted && time_monotonic() - noted_at > NOTE_AGAIN) {
			noted = note_gave_up(ctx, why);
			noted_at = time_monotonic();
		}
		if (!told && time_monotonic() > until) {
			tell_waits(ctx, args, why);
			told = true;
		}
		g_usleep(TAKE_BACK_LOOK);
	}
}

/*
 * It ran, or may have, and is somebody else's: the source finds in the records that this came to nothing, not
 * that it never ran. False: this daemon is to end before its QEMU has ended.
 */
static bool end_quietly(const Wait *w)
{
	while (w->vmm != NULL && !vmm_kill(w->vmm, KILL_TIMEOUT, NULL)) {
		if (step_stopping(w->ctx))
			return false;
		g_usleep(TAKE_BACK_LOOK);
	}
	reception_forget(engine_of(w->ctx)->receptions, own_id(w->ctx));
	return true;
}

/* After the guest runs, and only if it says what time it has. */
static void restore_clock(StepContext *ctx, const Json *args)
{
	int64_t offset;

	if (reception_clock(engine_of(ctx)->receptions, own_id(ctx), &offset))
		step_clock_restore(ctx, args, offset, step_operation(ctx)->created_at, CLOCK_TIMEOUT);
}

static bool is_stopping(void *data)
{
	return step_stopping(data);
}

static bool try_keep(const Wait *w, GError **err)
{
	struct owner_change c = {
		.vm = json_str(w->args, "vm"),
		.from_host = json_str(w->args, "source"),
		.from_operation = json_str(w->args, "operation"),
		.to_host = json_str(w->args, "host"),
		.to_operation = own_id(w->ctx),
		.kept = true,
		.stops = is_stopping,
		.data = w->ctx,
	};

	return owner_change(engine_of(w->ctx)->store, &c, err);
}

/* It runs, and whoever asks the pool is told that it runs elsewhere. */
static void tell_unrecorded(const Wait *w, const GError *why)
{
	Engine *e = engine_of(w->ctx);
	const char *name = json_str(w->args, "name"), *advice = err_advice(why);

	step_say(w->ctx, "waiting for the pool's records");
	events_emit(e->events, EVENT_VM_MOVE_WAITS, "vm", json_str(w->args, "vm"), name, NULL,
		    "%s came to this host, and the pool's records don't take that yet: %s. %s", name,
		    why->message, advice != NULL ? advice : "`plim pool status` shows who is there.");
}

/* One try. *ret_over: it failed for ever, and *err says why. */
static bool try_become_owner(const Wait *w, bool *ret_over, GError **err)
{
	Engine *e = engine_of(w->ctx);
	Verdict verdict = look(e, w->args, own_id(w->ctx));
	g_autoptr(GError) e2 = NULL;

	*ret_over = false;
	if (verdict == OURS || try_keep(w, err))
		return true;
	if (!store_catch_up(e->store, &e2))
		return false;
	verdict = look(e, w->args, own_id(w->ctx));
	/* ERR_NOT_FOUND: another host has ended this reception. */
	*ret_over = verdict == THEIRS || g_error_matches(*err, ERR, ERR_NOT_FOUND);
	if (verdict == OURS)
		g_clear_error(err);
	return verdict == OURS;
}

/*
 * It runs here; now the records say so as well, however long they take. False: they say that it is somebody
 * else's, which an eviction of both hosts may have brought about; or the daemon ends.
 */
static bool become_owner(const Wait *w, GError **err)
{
	uint64_t until = time_monotonic() + PATIENCE;

	for (;;) {
		g_autoptr(GError) why = NULL;
		bool over;

		if (try_become_owner(w, &over, &why))
			return true;
		if (over)
			return fail_given_up(w->args, err);
		if (step_stopping(w->ctx))
			return fail(err, ERR_CANCELLED, "the daemon ends");
		if (time_monotonic() > until) {
			tell_unrecorded(w, why);
			until = FOR_EVER;
		}
		g_usleep(KEEP_AGAIN);
	}
}

static bool receive(Wait *w, GError **err)
{
	bool promised, asked = true;

	if (!wait_for_guest(w, &promised, err))
		return false;
	/* Whoever cancelled this was too late: the guest is nowhere else. */
	if (!promised)
		step_forbid_cancel(w->ctx);
	if (!w->unsure && w->vmm == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(w->args, "name"));
	if (!w->unsure && !go_on(w, promised, &asked, err)) {
		/* What it did before this daemon came nobody can say any more. */
		if (asked || !w->doubt)
			return false;
		g_clear_error(err);
		w->unsure = w->ran = true;
		return receive(w, err);
	}
	/* One that is unsure the source has sent, and must not let go on: it is this host's, and has crashed.
	 */
	w->ran = true;
	step_outlive_cancel(w->ctx);
	return become_owner(w, err);
}

/* The source has not said yet what the guest's clock shows, when the guest did not wait for its word. */
static void await_word(StepContext *ctx)
{
	uint64_t until = time_monotonic() + WORD_TIMEOUT;

	while (reception_wish(engine_of(ctx)->receptions, own_id(ctx), LOOK) == RECEPTION_WAIT &&
	       time_monotonic() < until && !step_stopping(ctx))
		;
}

/* It will not run here: who evicts the source must not give it to us any more. False: this daemon ends. */
static bool refuse(const Wait *w)
{
	uint64_t until = time_monotonic() + PATIENCE;

	for (;;) {
		g_autoptr(GError) e = NULL;

		if (promise_withdraw(engine_of(w->ctx)->store, json_str(w->args, "vm"),
				     json_str(w->args, "operation"), &e))
			return true;
		if (step_stopping(w->ctx))
			return false;
		if (time_monotonic() > until) {
			step_say(w->ctx, "waiting for the pool's records");
			log_warning("vm %s: it stays promised to this host: %s", json_str(w->args, "name"),
				    e->message);
			until = FOR_EVER;
		}
		g_usleep(KEEP_AGAIN);
	}
}

/* Of a guest that was not taken back the disks are here, complete, and nowhere else. */
static void note_owner(StepContext *ctx, const Json *args)
{
	Engine *e = engine_of(ctx);
	bool ours = reception_wish(e->receptions, own_id(ctx), 0) != RECEPTION_ABORT;

	/* It may have been taken back a moment ago. What can't be read is kept. */
	if (ours && store_catch_up(e->store, NULL))
		owner_is(e->store, json_str(args, "vm"), json_str(args, "host"), &ours, NULL);
	step_fact(ctx, RECEPTION_KEEPS, json_boolean(ours));
}

/*
 * Of one that an earlier daemon here took: does it matter whether it ran? Without disks that its source sees
 * it goes on there as it left, unless it is this host's already.
 */
static bool may_matter(const Wait *w)
{
	const Json *facts = step_operation(w->ctx)->facts;

	return json_bool(w->args, "run", true) && json_obj(facts, RECEPTION_GAVE_UP) == NULL &&
	       (!json_bool(w->args, "alone", false) ||
		look(engine_of(w->ctx), w->args, own_id(w->ctx)) == OURS);
}

bool step_RECEIVE_GUEST_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	uint64_t missed_at = 0;
	g_autoptr(GError) e2 = NULL;

	Wait w = { .ctx = ctx, .args = args, .vmm = v, .missed_at = &missed_at };

	w.taken = json_bool(step_operation(ctx)->facts, PROMISE_TAKEN, false);
	w.doubt = reception_resume(e->receptions, own_id(ctx), json_str(args, "source")) && w.taken &&
		  may_matter(&w);
	w.unsure = w.ran = w.doubt && !lives(v);
	if (!receive(&w, &e2)) {
		/* The next daemon goes on where this one stopped: the source may still be told. */
		bool ends = step_stopping(ctx) || !(w.ran ? end_quietly(&w) : offer_back(&w, e2));

		ends = ends || (!w.ran && !refuse(&w));
		note_owner(ctx, args);
		if (ends)
			return fail(err, ERR_CANCELLED, "the daemon ends");
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	reception_end(e->receptions, own_id(ctx), NULL);
	if (w.unsure)
		return true;
	step_fact(ctx, "pid", json_integer(vmm_pid(v)));
	forget_key(args, v);
	await_word(ctx);
	restore_clock(ctx, args);
	return true;
}

/*
 * A vm that was ours already, and whose QEMU could not go on, is unlocked: the supervisor deals with its end.
 * One that becomes ours only now, when its disks are about to be removed here, stays locked: the source,
 * which has all of it, finds how this ended and takes it back.
 */
bool step_RECEIVE_GUEST_undo(StepContext *ctx, const Json *args, GError **err)
{
	if (!json_bool(step_operation(ctx)->facts, RECEPTION_KEEPS, true))
		return true;
	for (;;) {
		g_autoptr(GError) e = NULL;

		if (unlock(engine_of(ctx), args, own_id(ctx), &e))
			return true;
		if (!g_error_matches(e, ERR, ERR_CONFLICT)) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}
