/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of the host that a guest comes to. Their arguments:
 *   RECEIVE_OPEN   vm, name, address, key_dir, nodes, post_copy
 *   RECEIVE_GUEST  vm, name, host (this one), source (the other), operation (its), key_dir, run,
 *                  disks (some are filled), alone (no disk is one that the source has open for writing)
 */
#include "base/fd.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/arrival.h"
#include "engine/engine-impl.h"
#include "engine/migrate_in.h"
#include "engine/migrate_link.h"
#include "engine/receive.h"
#include "engine/records.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#define SECOND UINT64_C(1000000)
/* Between two looks at whether the source has said something. */
#define LOOK (SECOND / 4)
/* For the source's word of the guest's clock. */
#define WORD_TIMEOUT (5 * SECOND)
/* For the agent of a guest that has come, in a QEMU that is new to it. */
#define CLOCK_TIMEOUT (20 * SECOND)

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

static void forget_key(const Json *args, Vmm *v)
{
	migrate_key_unload(v);
	dir_remove(json_str(args, "key_dir"), NULL);
}

/* The source has not said yet what the guest's clock shows, when the guest did not wait for its word. */
static void await_word(StepContext *ctx)
{
	uint64_t until = time_monotonic() + WORD_TIMEOUT;

	while (reception_wish(engine_of(ctx)->receptions, own_id(ctx), LOOK) == RECEPTION_WAIT &&
	       time_monotonic() < until && !step_stopping(ctx))
		;
}

/* After the guest runs, and only if it says what time it has. */
static void restore_clock(StepContext *ctx, const Json *args)
{
	struct agent_clock was;

	if (reception_clock(engine_of(ctx)->receptions, own_id(ctx), &was))
		step_clock_restore(ctx, args, &was, step_operation(ctx)->created_at, CLOCK_TIMEOUT);
}

bool step_RECEIVE_GUEST_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = engine_of(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	g_autoptr(GError) why = NULL;
	Arrival a;

	arrival_init(&a, ctx, args, v);
	if (!arrival_receive(&a, &why)) {
		/* The next daemon goes on where this one stopped: the source may still be told. */
		if (!arrival_back(&a, &why))
			return fail(err, ERR_CANCELLED, "the daemon ends");
		g_propagate_error(err, g_steal_pointer(&why));
		return false;
	}
	reception_end(e->receptions, own_id(ctx), NULL);
	if (a.unsure)
		return true;
	step_fact(ctx, "pid", json_integer(vmm_pid(v)));
	forget_key(args, v);
	await_word(ctx);
	restore_clock(ctx, args);
	return true;
}

struct unlocking {
	StepContext *ctx;
	const Json *args;
};

/* The vm is ours and nobody's business any more: the supervisor deals with it. */
static bool unlock(void *data, GError **err)
{
	const struct unlocking *u = data;
	Store *store = engine_of(u->ctx)->store;
	g_autofree char *key = key_vm_runtime(json_str(u->args, "vm")), *text = NULL;
	g_autoptr(GError) e = NULL;
	int64_t rev = 0;
	_cleanup_json_ Json *runtime = record_get(store, key, &rev, &e);
	StoreTx *tx;

	if (runtime == NULL || g_strcmp0(json_str(runtime, "operation"), own_id(u->ctx)) != 0)
		return e == NULL || (g_propagate_error(err, g_steal_pointer(&e)), false);
	json_put(runtime, "operation", json_null());
	text = json_print(runtime);
	tx = store_tx_new();
	store_tx_set(tx, key, rev, text);
	return store_commit(store, tx, STORE_DURABLE, NULL, err);
}

/*
 * A vm that was ours already, and whose QEMU could not go on, is unlocked: the supervisor deals with its end.
 * One that becomes ours only now, when its disks are about to be removed here, stays locked: the source,
 * which has all of it, finds how this ended and takes it back.
 */
bool step_RECEIVE_GUEST_undo(StepContext *ctx, const Json *args, GError **err)
{
	struct unlocking u = { ctx, args };

	return !json_bool(step_operation(ctx)->facts, RECEPTION_KEEPS, true) || store_retry(unlock, &u, err);
}
