/* SPDX-License-Identifier: Apache-2.0 */
/* What runs operations (exec.c) and what their steps may call (exec_step.c) share this. */
#pragma once

#include "core/model/operation.h"
#include "engine/exec.h"

/* Steps that wait for their guests at a time, each with a thread. */
#define RESTING_MAX 512

typedef struct Task {
	Exec *exec;
	WorkerPool *pool; /* whose thread it runs on */
	Operation *op;
	int cancelled; /* atomic */
	int synced;    /* atomic: its begin is on disk, and leads to the same end */
} Task;

struct StepContext {
	Task *task;
	guint step, n_steps;
	uint64_t stored_at; /* monotonic time of the last progress that was stored */
};

struct Exec {
	struct exec_config config;
	int stopping; /* atomic */
	GMutex lock;  /* of the members below */
	GCond ended;
	GHashTable *task; /* id -> Task, while it runs or waits */
	GQueue past;      /* ids of ended operations of ours, the oldest first */
	bool frozen;
	unsigned submitting; /* between the look at `frozen` and the task in the table */
};

/* NULL with an error for what is no operation. New. */
Operation *exec_parse_item(const StoreItem *item, GError **err);
/* Its record, which must be of this revision, or STORE_ANY. */
void exec_put_operation(StoreTx *tx, const Operation *op, int64_t rev);
/* From now on it can't be cancelled. False, with ERR_CANCELLED: it was. */
bool exec_forbid_cancel(Task *t, GError **err);
/* Progress is news, not a promise: a store that refuses it does not fail the operation. */
void exec_store_progress(Exec *e, const Operation *op);
