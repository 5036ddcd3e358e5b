/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that hang: core/evidence/hang.h says whom to ask; here they are asked,
 * and evidence of those that don't answer is kept, once for each hang. The guest
 * itself is not touched. From any thread.
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
 * has (a hook of its freeze may keep the agent busy), is asked.
 */
void hang_ask(HangWatch *h, const char *vm_id, uint64_t patience);
/* Its vcpus look well again. */
void hang_over(HangWatch *h, const char *vm_id);
