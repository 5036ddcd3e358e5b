/* SPDX-License-Identifier: Apache-2.0 */
/* What the host's kernel says of its memory being short. Any thread. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct host_pressure {
	uint64_t
	    psi; /* time of the last 10 s in which tasks waited for memory, 1/100 percent; 0: not known */
	uint64_t swapped; /* pages written to swap space since it booted */
};

struct host_pressure host_pressure_look(void);
