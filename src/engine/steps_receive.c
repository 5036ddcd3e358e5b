/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of the host that a guest comes to. Their arguments:
 *   RECEIVE_OPEN   vm, name, address, key_dir, nodes, post_copy
 *   RECEIVE_GUEST  vm, name, host (this one), source (the other), operation (its), key_dir, disks (some are
 * filled), run
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/agent_clock.h"
#include "engine/engine-impl.h"
#include "engine/migrate_in.h"
#include "engine/migrate_link.h"
#include "engine/records.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* Between two looks at the store while nobody says anything. */
#define LOOK (SECOND / 4)
#define KILL_TIMEOUT (20 * SECOND)
/* What the source gets to take back a guest that can't go on here. */
#define TAKE_BACK (5 * SECOND)
#define TAKE_BACK_LOOK 20000
/* For the agent's port to be open again over here. */
#define CLOCK_TIMEOUT (3 * SECOND)

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
	return g_strcmp0(lock, json_str(args, "operation")) == 0 ? UNDECIDED : THEIRS;
}

static bool fail_given_up(const Json *args, GError **err)
{
	return fail(err, ERR_CANCELLED, "the other host gave the move of '%s' up", json_str(args, "name"));
}

/* Until the guest is ours. */
static bool wait_for_guest(StepContext *ctx, const Json *args, Vmm *v, GError **err)
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
		if (!vmm_alive(v))
			return fail(err, ERR_GONE, "QEMU of '%s' ended while its guest came: see its log",
				    json_str(args, "name"));
	}
}

/* ---- it is ours ---- */

/* One that can't go on must never do so later: the source may take its guest back. */
static bool go_on(const Json *args, Vmm *v, GError **err)
{
	if (migrate_in_finish(v, json_bool(args, "disks", true), json_bool(args, "run", true), err))
		return true;
	vmm_kill(v, KILL_TIMEOUT, NULL);
	return false;
}

static void forget_key(const Json *args, Vmm *v)
{
	migrate_key_unload(v);
	dir_remove(json_str(args, "key_dir"), NULL);
}

/* The source still has the whole guest, if it lives: it is told first, and the end here is judged after. */
static void offer_back(StepContext *ctx, const Json *args, const GError *why)
{
	Engine *e = engine_of(ctx);
	uint64_t until = time_monotonic() + TAKE_BACK;

	reception_end(e->receptions, own_id(ctx), why);
	while (look(e, args, own_id(ctx)) == OURS && time_monotonic() < until)
		g_usleep(TAKE_BACK_LOOK);
}

/* After the guest runs, and only if it says what time it has. */
static void restore_clock(StepContext *ctx, const Json *args)
{
	Engine *e = engine_of(ctx);
	g_autoptr(Agent) a = fleet_agent(e->fleet, json_str(args, "vm"));
	g_autoptr(GError) err = NULL;
	int64_t offset, late;

	if (a == NULL || !reception_clock(e->receptions, own_id(ctx), &offset))
		return;
	if (!agent_wait_open(a, CLOCK_TIMEOUT, &err) || !agent_clock_restore(a, offset, &late, &err))
		log_info("vm %s: its clock was not looked at after its move: %s", json_str(args, "name"),
			 err->message);
	else if (late != 0)
		log_info("vm %s: its clock was late by %" G_GINT64_FORMAT " ms after its move, and was set",
			 json_str(args, "name"), late / 1000);
}

bool step_RECEIVE_GUEST_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	g_autoptr(GError) e2 = NULL;

	if (v == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	if (!wait_for_guest(ctx, args, v, err))
		return false;
	/* Whoever cancelled this was too late: the guest is nowhere else. */
	step_forbid_cancel(ctx);
	if (!go_on(args, v, &e2)) {
		offer_back(ctx, args, e2);
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	reception_end(e->receptions, own_id(ctx), NULL);
	step_fact(ctx, "pid", json_integer(vmm_pid(v)));
	forget_key(args, v);
	restore_clock(ctx, args);
	return true;
}

/* A vm that was ours already, and whose QEMU could not go on, is unlocked: the supervisor deals with its end.
 */
bool step_RECEIVE_GUEST_undo(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autofree char *key = key_vm_runtime(json_str(args, "vm"));

	for (;;) {
		g_autoptr(GError) e2 = NULL;
		int64_t rev = 0;
		_cleanup_json_ Json *runtime = record_get(e->store, key, &rev, &e2);
		g_autofree char *text = NULL;
		StoreTx *tx;

		if (runtime == NULL || g_strcmp0(json_str(runtime, "operation"), own_id(ctx)) != 0)
			return e2 == NULL || (g_propagate_error(err, g_steal_pointer(&e2)), false);
		json_put(runtime, "operation", json_null());
		text = json_print(runtime);
		tx = store_tx_new();
		store_tx_set(tx, key, rev, text);
		if (store_commit(e->store, tx, STORE_DURABLE, NULL, &e2))
			return true;
		if (!g_error_matches(e2, ERR, ERR_CONFLICT)) {
			g_propagate_error(err, g_steal_pointer(&e2));
			return false;
		}
	}
}
