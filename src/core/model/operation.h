/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Operations: long-running requests as records. Pure.
 *
 * A planner makes an operation whole, so that even its end is data:
 *
 * - `begin`: the writes that accepting it needs, {key, rev, value}, or without
 *   value where a key is only looked at. They hold only if every key still has
 *   the revision that the planner saw (0: must not exist, -1: do not care).
 * - the plan.
 * - `on_done` and `on_failed`: the writes of its end, {key, value} (value null:
 *   delete) or {key, merge} (members are put over the record that is there
 *   then; a record that is gone stays gone), committed in one transaction with
 *   the operation's last state. Facts that steps find (a pid, a size) are
 *   merged into `facts`; operation_fact(NAME) anywhere in these writes is
 *   replaced by the fact. That placeholder is the object {"@fact": NAME}: no
 *   text of a user can be mistaken for one, and records refuse member names
 *   that begin with '@'.
 */
#pragma once

#include "core/plan/plan.h"

// clang-format off
#define OPERATION_STATE_TABLE(X) \
	X(PENDING,   "pending")   \
	X(RUNNING,   "running")   \
	X(UNDOING,   "undoing")   \
	X(DONE,      "done")      \
	X(FAILED,    "failed")    \
	X(CANCELLED, "cancelled")
// clang-format on

typedef enum OperationState {
#define X(name, text) OPERATION_##name,
	OPERATION_STATE_TABLE(X)
#undef X
	    _OPERATION_STATE_MAX,
} OperationState;

typedef struct Operation {
	char *id, *kind;                             /* "vm.start" */
	char *target_type, *target_id, *target_name; /* "vm", uuid, name */
	char *created_at;                            /* when it was accepted */
	char *started_at;  /* when its first step began; NULL while it waits its turn */
	char *finished_at; /* NULL while it runs */
	char *user;        /* who asked */
	char *host;        /* id of the host that carries it out, or NULL */
	OperationState state;
	Plan *plan;
	int index;    /* the step begun last; -1 before the first. Stored, those behind it may have begun. */
	int progress; /* 0 to 100 */
	char *note;   /* what the running step says of itself, instead of its stage; or NULL */
	bool may_cancel;
	Json *facts, *result;      /* objects */
	Json *error;               /* NULL, or an error as JSON */
	Json *begin;               /* array of {key, rev, value}; not part of the stored form */
	Json *on_done, *on_failed; /* arrays of {key, value} or {key, merge} */
} Operation;

Operation *operation_new(const char *id, const char *kind, const char *now);
Operation *operation_free(Operation *op);
void operation_set_target(Operation *op, const char *type, const char *id, const char *name);
/* Require at the beginning that the key has that revision, without writing it. */
void operation_expect(Operation *op, const char *key, int64_t rev);
/* Append to the writes of the beginning. Takes value; NULL deletes the key. */
void operation_on_begin(Operation *op, const char *key, int64_t rev, Json *value);
/* Append to on_done or on_failed. Takes value; NULL deletes the key. */
void operation_on_done(Operation *op, const char *key, Json *value);
void operation_on_failed(Operation *op, const char *key, Json *value);
/* The same for a merge; null members are set to null, not removed. Takes `members`. */
void operation_merge_on_done(Operation *op, const char *key, Json *members);
void operation_merge_on_failed(Operation *op, const char *key, Json *members);
/* Stands for the fact `name` in a value of on_done or on_failed. New reference. */
Json *operation_fact(const char *name);

const char *operation_state_name(OperationState s);
bool operation_ended(const Operation *op);
const char *operation_stage(const Operation *op);

/*
 * The stored form: everything; but of an ended operation not the writes of its
 * end, which are done. Shares its parts with the operation: not to be changed.
 */
Json *operation_to_json(const Operation *op);
/* ERR_INVALID for what this version can't have written, an index outside of the plan included. */
Operation *operation_of_json(const Json *j, GError **err);
/* The API's form: without facts and pending writes. New reference; shares its parts as well. */
Json *operation_to_api(const Operation *op);
/* The same of the stored form, which is changed and returned. */
Json *operation_record_to_api(Json *record);

/* In the details of its error: it has failed only as its daemon ended; true. */
#define OPERATION_INTERRUPTED "interrupted"

/* None of its steps has run: of what its failure says of a vm only the unlocking holds. */
void operation_fail_unrun(Operation *op);
/* Of one that fails behind its point of no return: what it achieved is recorded all the same. */
void operation_fail_as_done(Operation *op);
/*
 * The writes of the end that was reached, facts put in: array of {key, value}
 * or {key, merge}. A missing fact becomes null.
 */
Json *operation_end_writes(const Operation *op);

/* It makes a QEMU and lets it run: what of all operations costs a host the most processor for its time. */
bool operation_is_launch(const Operation *op);
/* The memory that the QEMU of its plan can come to take (core/host/memory.h); 0 when it makes none. */
uint64_t operation_memory_claim(const Operation *op);

/*
 * What must be on disk when. A power cut ends every guest, and a step that only
 * moves guests leaves nothing behind then: an operation of such steps begins
 * with a relaxed commit. Its end is durable, or its begin is and it replays.
 */
bool operation_begins_durable(const Operation *op);
/*
 * Is step `i` to be stored as begun before it runs? The first one is, with the
 * operation's begin, and is stored once more only to be told. Of the others:
 * those that take long, and the first point of no return, which changes what a
 * crash leads to. A crash is recovered without the rest: going forward, they
 * are run again; going backwards, they are undone whether they began or not.
 */
bool operation_stores_step(const Operation *op, guint i);
/* The last step that may have begun when the stored record says `index`: undoing starts there. */
int operation_reach(const Operation *op);

/*
 * Does the begin alone lead to the same end after a power cut? Yes when the
 * first step is the point of no return and the end holds nothing that steps
 * find out. Then it is enough to have the begin on disk when the end is told.
 */
bool operation_replays(const Operation *op);

/*
 * After a crash of the daemon: true when the plan is to be finished, false
 * when what was begun is to be undone. A plan is finished when a point of no
 * return was begun, or when it was already past its last step, and a step that
 * decides itself (step_decides()) is run again.
 */
bool operation_goes_forward(const Operation *op);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Operation, operation_free)
