/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that does the same again and again, with a pause between, until it
 * is stopped: for what looks at all guests, or at the pool, every few seconds.
 * Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Rounds Rounds;

/* What a round returns that was the last one. */
#define ROUNDS_OVER UINT64_MAX

/* One round, in the thread. Returns how long to pause until the next one, us, or ROUNDS_OVER. */
typedef uint64_t (*RoundFunc)(void *data);

/* Begins with a round after `pause` us. `name` is the thread's; `data` must live until rounds_stop(). */
Rounds *rounds_start(const char *name, uint64_t pause, RoundFunc round, void *data);
/* Returns when the round that is under way, if any, has ended; there is no further one. False: it was
 * stopped before, or NULL. Several may stop it at once; none of them in a round. */
bool rounds_stop(Rounds *r);
/* Stops it first. Returns NULL. */
Rounds *rounds_free(Rounds *r);
/* Until the next end of a round, or the last one; at most `timeout` us. */
void rounds_wait(Rounds *r, uint64_t timeout);
