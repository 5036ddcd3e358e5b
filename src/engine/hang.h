/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that hang: core/evidence/hang.h says whom to ask; here they are asked.
 * One that does not answer and gets on with nothing hangs: evidence of it is
 * kept, once for each hang. One that works without an agent is told of, once.
 * The guest itself is not touched. From any thread.
 */
#pragma once

#include "engine/engine.h"

typedef struct HangWatch HangWatch;

HangWatch *hang_watch_new(Engine *e);
/* NULL is fine; returns NULL. No question is under way any more. */
HangWatch *hang_watch_free(HangWatch *h);

/*
 * Ask the guest on a thread of the engine's pool, for `patience` us. Only one
 * that runs, whose agent had answered and is connected, and that no operation
 * has (a hook of its freeze may keep the agent busy), is asked. `spins`:
 * hang_spins(); such a one is looked at before it is said to hang.
 */
void hang_ask(HangWatch *h, const char *vm_id, uint64_t patience, bool spins);
/* Its vcpus look well again. */
void hang_over(HangWatch *h, const char *vm_id);
/* Its crash kernel writes a dump: it is not asked until it is reset. */
void hang_leave(HangWatch *h, const char *vm_id);
/* The guest was reset, or its agent answers: nothing is known of it. Does not block. */
void hang_reset(HangWatch *h, const char *vm_id);
