/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that does the same again and again, with a pause between, until it
 * is stopped: for what looks at all guests of the host every few seconds.
 * Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

typedef struct Rounds Rounds;

/* One round, in the thread. Returns how long to pause until the next one, us. */
typedef uint64_t (*RoundFunc)(void *data);

/* Begins with a round at once. `name` is the thread's; `data` must live until rounds_stop(). */
Rounds *rounds_start(const char *name, RoundFunc round, void *data);
/* Returns when the round that is under way, if any, has ended; there is no further one. False: it was
 * stopped, or NULL. */
bool rounds_stop(Rounds *r);
/* Stops it first. Returns NULL. */
Rounds *rounds_free(Rounds *r);
/* Until the next end of a round, or the last one; at most `timeout` us. */
void rounds_wait(Rounds *r, uint64_t timeout);
