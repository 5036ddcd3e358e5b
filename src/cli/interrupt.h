/* SPDX-License-Identifier: Apache-2.0 */
/* An interrupt (^C) or SIGTERM that ends what a command does, in order, and not only the program. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* From now on they wait until they are asked for. Before any other thread is made. */
void interrupt_hold(void);
/* Did one come? */
bool interrupt_came(void);
/* Wait so many microseconds, or until one comes. */
void interrupt_wait(uint64_t us);
