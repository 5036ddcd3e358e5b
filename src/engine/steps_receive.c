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
#include "engine/receive.h"
#include "engine/records.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* Between two looks at the store while nobody says anything. */
#define LOOK (SECOND / 4)
#define KILL_TIMEOUT (20 * SECOND)
/* For the rest of a guest that is ours already. The source waits a little longer for what becomes of it. */
#define REST_TIMEOUT (20 * SECOND)
/* Between two looks at whether the source took back a guest that can't go on here. */
#define TAKE_BACK_LOOK 20000
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
 * the lease was missed may be older than the last thing that the source did: they are read anew.
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

static bool fail_lost(Engine *e, const Json *args, GError **err)
{
	const char *source = json_str(args, "source"), *name = json_str(args, "name");
	g_autofree char *key = key_host(source);
	_cleanup_json_ Json *host = record_get(e->store, key, NULL, NULL);
	const char *from = json_str(host, "name") != NULL ? json_str(host, "name") : source;

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

/* Until the guest is ours. */
static bool wait_for_guest(StepContext *ctx, const Json *args, Vmm *v, uint64_t *missed_at, GError **err)
{
	Engine *e = engine_of(ctx);

	for (;;) {
		/* What the source says after its commit is as good as the store, and sooner here. */
		ReceptionWish wish = reception_wish(e->receptions, own_id(ctx), LOOK);
		Verdict verdict = wish == RECEPTION_FINISH ? OURS : look(e, args, own_id(ctx));

		if (verdict == OURS)
			return true;
		if (verdict == THEIRS || wish == RECEPTION_ABORT)
			return fail_given_up(args, err);
		if (step_cancelled(ctx))
			return fail(err, ERR_CANCELLED, "the reception was cancelled");
		if (v == NULL || !vmm_alive(v))
			return fail(err, ERR_GONE, "QEMU of '%s' ended while its guest came: see its log",
				    json_str(args, "name"));
		if (is_lost(e, args, own_id(ctx), missed_at))
			return fail_lost(e, args, err);
	}
}

/* ---- it is ours ---- */

static bool go_on(StepContext *ctx, const Json *args, Vmm *v, GError **err)
{
	const struct migrate_in_end how = {
		.disks = json_bool(args, "disks", true),
		.alone = json_bool(args, "alone", false),
		.run = json_bool(args, "run", true),
		.timeout = REST_TIMEOUT,
	};
	uint64_t ran_at;

	if (!migrate_in_finish(v, &how, &ran_at, err))
		return false;
	reception_ran(engine_of(ctx)->receptions, own_id(ctx), ran_at);
	if (ran_at != 0) {
		g_autofree char *stamp = time_print(time_real() - (time_monotonic() - ran_at));

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
	const char *source = json_str(args, "source"), *name = json_str(args, "name");
	g_autofree char *key = key_host(source);
	_cleanup_json_ Json *host = record_get(e->store, key, NULL, NULL);
	const char *from = json_str(host, "name") != NULL ? json_str(host, "name") : source;

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
static bool offer_back(StepContext *ctx, const Json *args, Vmm *v, uint64_t *missed_at, const GError *why)
{
	Engine *e = engine_of(ctx);
	bool sure = false, noted = false, told = false;
	uint64_t noted_at = 0, until = time_monotonic() + PATIENCE;

	for (;;) {
		sure = sure || v == NULL || vmm_kill(v, KILL_TIMEOUT, NULL);
		if (sure)
			reception_end(e->receptions, own_id(ctx), why);
		if (reception_wish(e->receptions, own_id(ctx), 0) == RECEPTION_ABORT ||
		    is_left_here(e, args, own_id(ctx)) || (sure && is_lost(e, args, own_id(ctx), missed_at)))
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

/* After the guest runs, and only if it says what time it has. */
static void restore_clock(StepContext *ctx, const Json *args)
{
	int64_t offset;

	if (reception_clock(engine_of(ctx)->receptions, own_id(ctx), &offset))
		step_clock_restore(ctx, args, offset, step_operation(ctx)->created_at, CLOCK_TIMEOUT);
}

static bool receive(StepContext *ctx, const Json *args, Vmm *v, uint64_t *missed_at, GError **err)
{
	if (!wait_for_guest(ctx, args, v, missed_at, err))
		return false;
	/* Whoever cancelled this was too late: the guest is nowhere else. */
	step_forbid_cancel(ctx);
	if (v == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	return go_on(ctx, args, v, err);
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

bool step_RECEIVE_GUEST_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	uint64_t missed_at = 0;
	g_autoptr(GError) e2 = NULL;

	reception_resume(e->receptions, own_id(ctx), json_str(args, "source"));
	if (!receive(ctx, args, v, &missed_at, &e2)) {
		/* The next daemon goes on where this one stopped: the source may still be told. */
		bool ends = step_stopping(ctx) || !offer_back(ctx, args, v, &missed_at, e2);

		note_owner(ctx, args);
		if (ends)
			return fail(err, ERR_CANCELLED, "the daemon ends");
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	reception_end(e->receptions, own_id(ctx), NULL);
	step_fact(ctx, "pid", json_integer(vmm_pid(v)));
	forget_key(args, v);
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
