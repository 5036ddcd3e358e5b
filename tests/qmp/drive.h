/* SPDX-License-Identifier: Apache-2.0 */
/* Turning a loop until something has happened, with a deadline that fails the test. */
#pragma once

#include "base/loop.h"

#define SECONDS UINT64_C(1000000)

/* Fails the test when it takes longer than 30 s. */
void drive_until(Loop *l, const bool *done);
void drive_until_count(Loop *l, const unsigned *count, unsigned want);
/* Everything that is due, and nothing that has to be waited for. */
void drive_idle(Loop *l);
/* Run func(data) on another thread and turn the loop meanwhile. */
void drive_worker(Loop *l, void (*func)(void *data), void *data);
