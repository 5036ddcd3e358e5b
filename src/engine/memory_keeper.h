/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dynamic memory: has the guests of this host that have it tell what they use,
 * lets core/memory/balance.h decide, asks them to follow, and remembers why.
 *
 * Guests with fixed memory are not asked for anything, so none of them is woken.
 * A guest that an operation has (a move, a stop) is left alone until its end.
 * From any thread; it has its own.
 */
#pragma once

#include "base/json.h"

typedef struct Engine Engine;
typedef struct MemoryKeeper MemoryKeeper;

#define MEMORY_KEEPER_PERIOD UINT64_C(3000000)
#define MEMORY_KEEPER_TRAIL 100

/* `period`, in whole seconds of us; 0: MEMORY_KEEPER_PERIOD. For an engine that is not simulated. */
MemoryKeeper *memory_keeper_start(Engine *e, uint64_t period);
/* Waits for its thread; guests keep the memory that they have. NULL is fine. */
void memory_keeper_stop(MemoryKeeper *k);
/* Stops it if need be. NULL is fine; returns NULL. */
MemoryKeeper *memory_keeper_free(MemoryKeeper *k);

/* The guest was reset: it boots with what it booted with before. Does not block. NULL is fine. */
void memory_keeper_reset(MemoryKeeper *k, const char *vm_id);
/* What the guest has now; 0: its memory is fixed, or it is not here. NULL is fine. */
uint64_t memory_keeper_size(MemoryKeeper *k, const char *vm_id);

/*
 * {period, memory (what it has now), decision: {balance_decision_to_json(), and at, method, min, start, max,
 * buffer, weight, base, plugged, ballooned, and of core/memory/online.h onlines, warning}, host: {...},
 * trail: [decision with at, until, rounds]}; NULL
 * when its memory is fixed, it is not here, or nothing is known yet. `k` may be NULL. New reference.
 */
Json *memory_keeper_report(MemoryKeeper *k, const char *vm_id);
/* Of all guests with dynamic memory: [{id, name, size, to, need, floor, verdict}]. New reference. */
Json *memory_keeper_list(MemoryKeeper *k);
/*
 * For an operation that has the guest: wait, at most `timeout` us, until a DIMM that it was being given when
 * the operation began is plugged and recorded; it is given no further one. NULL is fine.
 */
void memory_keeper_settle(MemoryKeeper *k, const char *vm_id, uint64_t timeout);
/* Wait for the end of the next round, at most `timeout` us. */
void memory_keeper_wait(MemoryKeeper *k, uint64_t timeout);
