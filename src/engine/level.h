/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The level of the pool, kept: for each type of guest what every host's record
 * (cpus/ID) offers to a guest that boots.
 *
 * Follows the records of all hosts, reachable or not, counts for each feature
 * who lacks it, and writes what comes out to the record `level`. Every daemon
 * of a pool does so; the record is changed by compare-and-swap in one
 * transaction with its event, so that a change is told once.
 *
 * The record: {kvm: null | {SET..., lost: [{feature, hosts: [NAME], since}]},
 * tcg: ..., at, cause: {host, name, what}}, SET as core/cpu/featureset.h.
 */
#pragma once

#include "base/loop.h"
#include "base/worker.h"
#include "core/cpu/level.h"
#include "engine/events.h"

typedef struct LevelKeeper LevelKeeper;

/* Borrows all of them. Nothing is known before the first level_keeper_refresh(). */
LevelKeeper *level_keeper_new(Loop *l, WorkerPool *pool, Store *store, Events *events);
/* After the pool's last job, when the loop does not turn any more. NULL is fine; returns NULL. */
LevelKeeper *level_keeper_free(LevelKeeper *k);

/*
 * Follow the records from now on, as they change. `followed` (may be NULL) is
 * called on a worker thread each time that they were read: the store answers.
 * Any thread, once.
 */
void level_keeper_begin(LevelKeeper *k, void (*followed)(void *data), void *data);
/* Look at what changed, now, and write the record when the level did. Blocks; worker threads. */
bool level_keeper_refresh(LevelKeeper *k, GError **err);

/* False while no host offers such guests. Any thread. */
bool level_keeper_get(LevelKeeper *k, GuestType type, struct featureset *ret);
/* What the pool would gain without that host. Any thread. */
void level_keeper_sole(LevelKeeper *k, GuestType type, const char *host_id, struct cpu_bits *ret);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(LevelKeeper, level_keeper_free)
