/* SPDX-License-Identifier: Apache-2.0 */
/* Which guest of a host goes where, when all have to leave. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evacuate_host {
	const char *id;
	uint64_t free_memory;
	bool possible; /* nothing else is in the way */
};

struct evacuate_guest {
	const char *name;
	uint64_t memory;
	const struct evacuate_host *host; /* those that it could go to */
	size_t n_hosts;
	const struct evacuate_host *to; /* result: one of them, or NULL: nowhere */
};

/*
 * Each guest goes to the host that then has the most memory left, with all counted that was promised to it.
 * The largest are placed first, as they find room in the fewest places; `guest` is put into that order, which
 * is the order to move in. Returns how many can go nowhere.
 */
size_t evacuate(struct evacuate_guest *guest, size_t n);
