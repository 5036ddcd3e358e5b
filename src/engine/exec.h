/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The executor: runs the plans of operations, and decides nothing.
 *
 * exec_submit() stores an operation together with the writes that belong to its
 * beginning (a name taken, a vm locked); then its steps run, one after the
 * other, on a thread of the pool. operation_begins_durable() says whether that
 * outlives a power cut, operation_stores_step() before which steps their index
 * is stored (relaxed: a crash of the daemon keeps it; after a power cut no QEMU
 * lives anyway and steps are idempotent). If a step fails or the operation is
 * cancelled, the steps that were begun are undone backwards. The end is one
 * transaction: the operation's last state and the writes it brings. It is
 * durable, but for what exec_sync() says.
 *
 * After a crash exec_recover() finishes or undoes what it finds, as
 * operation_goes_forward() says. In a pool the store has the operations of all
 * hosts; an executor minds those that name its host, or none, and no others.
 *
 * Launches (operation_is_launch()) have threads of their own, a few, so that a
 * storm of starts waits in a queue of its own and not in the way of all else. A
 * step that only waits for a guest says so with step_rest(), and holds up nobody.
 *
 * Every function may be called from any thread but the loop's, unless it says
 * otherwise: they commit and so may block.
 */
#pragma once

#include "base/worker.h"
#include "core/model/operation.h"
#include "store/store.h"

typedef struct Exec Exec;
typedef struct StepContext StepContext;

/* Straight-line code; may block until its own deadline. Must be idempotent. */
typedef bool (*StepFunc)(StepContext *ctx, const Json *args, GError **err);

struct step_impl {
	StepFunc run;
	StepFunc undo; /* NULL exactly when step_undoes() is false */
};

/* Called on a worker thread after the end was committed. */
typedef void (*ExecEndFunc)(const Operation *op, void *data);

struct exec_config {
	Store *store;
	WorkerPool *pool;
	WorkerPool *launch_pool;       /* of launches; NULL: the same */
	const struct step_impl *steps; /* indexed by StepKind */
	void *engine;                  /* handed to steps */
	const char *host;              /* id of this host; NULL: the store is nobody else's */
	/*
	 * May add to the transaction of a beginning what must hold for it, or refuse. What it set aside for
	 * one that was not stored after all goes with `dismiss`. Both or none; they may be called on many
	 * threads at once.
	 */
	bool (*admit)(const Operation *op, StoreTx *tx, void *data, GError **err);
	void (*dismiss)(const Operation *op, void *data);
	ExecEndFunc on_end; /* may be NULL */
	void *data;
};

Exec *exec_new(const struct exec_config *config);
/*
 * No operation begins any more, and those that run are interrupted and waited for; those in the queue stay in
 * the store for the next start.
 */
void exec_stop(Exec *e);
/* The same, if that was not done; nobody may be in any of its functions. Returns NULL; NULL is fine. */
Exec *exec_free(Exec *e);

/*
 * Takes `op`, also on failure. True when the operation is stored, together
 * with its `begin` writes, and queued; who tells somebody so before its end
 * calls exec_sync() first. ERR_CONFLICT when one of those does not
 * hold; ERR_UNAVAILABLE while the daemon stops. Where the store can't tell
 * whether it is stored, it fails without a step when the store answers again.
 */
bool exec_submit(Exec *e, Operation *op, GError **err);

/*
 * Puts the begin of an operation on disk, while it runs: an answer before its
 * end needs that. For one that replays (operation_replays()) it is worth doing
 * at once, because then its end need not be synced, which would come after all
 * that its steps take.
 */
bool exec_sync(Exec *e, const char *id, GError **err);

/*
 * Wait until the operation `id` has ended, `timeout` (us) at most. False when
 * it has not; no error: the store has the record. True at once for operations
 * that this executor does not run.
 */
bool exec_wait(Exec *e, const char *id, uint64_t timeout);

/*
 * The same of all operations that this executor runs and that are about that object. For threads other than
 * an operation's.
 */
bool exec_wait_target(Exec *e, const char *target_id, uint64_t timeout);

/* ERR_BAD_STATE when it does not run here, ERR_UNSUPPORTED when it can't be cancelled any more. */
bool exec_cancel(Exec *e, const char *id, GError **err);

/*
 * Take no more operations, and wait until those under way have ended: what is
 * in the store then stays as it is. ERR_BUSY when that takes longer than
 * `timeout` (us), and all is as before. exec_thaw() ends it.
 */
bool exec_freeze(Exec *e, uint64_t timeout, GError **err);
void exec_thaw(Exec *e);

/*
 * Finish or undo each stored operation that has not ended. Call once, before
 * the first exec_submit(). Calls `each` (may be NULL) for every one found.
 */
typedef void (*ExecRecoverFunc)(const Operation *op, bool forward, void *data);
bool exec_recover(Exec *e, ExecRecoverFunc each, void *data, GError **err);

/* exec_stop() waits for the operations to stop: who waits for something else must, too. */
bool exec_is_stopping(const Exec *e);

/* For steps. */
void *step_engine(const StepContext *ctx);
const Operation *step_operation(const StepContext *ctx);
/* Merged into the operation's facts; takes `value`. */
void step_fact(StepContext *ctx, const char *name, Json *value);
/*
 * The facts are on record, for ever, when this returns. ERR_BAD_STATE when another host has ended the
 * operation, as it does who evicts this one; after any other error nobody knows.
 */
bool step_commit(StepContext *ctx, GError **err);
/* A member of the operation's result, which the API shows; takes `value`. */
void step_result(StepContext *ctx, const char *name, Json *value);
/* Progress of the step that runs, 0 to 100. Stored at most a few times a second. */
void step_progress(StepContext *ctx, unsigned percent);
/* The stage, while this step runs, in place of the step's own. Stored at once: for what happens seldom. */
void step_say(StepContext *ctx, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
/*
 * Around a wait for something outside of this daemon: the step's thread counts
 * as free for other operations meanwhile. False: too many rest already, and no
 * step_wake() is due.
 */
bool step_rest(StepContext *ctx);
void step_wake(StepContext *ctx);
/* True when the operation was cancelled or the daemon stops: return ERR_CANCELLED soon. */
bool step_cancelled(const StepContext *ctx);
/* True when the daemon stops: a step that returns ERR_CANCELLED then is run again by the next one. */
bool step_stopping(const StepContext *ctx);
/* For an undo that finds that its step's work is all that is left: see operation_fail_as_done(). */
void step_keep(StepContext *ctx);
/* From now on the operation can't be cancelled; false when it was already. The daemon's stop is not meant. */
bool step_forbid_cancel(StepContext *ctx);
/* The same for one that was cancelled too late: it goes on as if nobody had. */
void step_outlive_cancel(StepContext *ctx);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Exec, exec_free)
