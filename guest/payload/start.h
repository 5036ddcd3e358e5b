/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the PVH start info tells: command line, memory map, where ACPI begins. Copied at once, because it lies
 * in memory that the jobs may use.
 */
#pragma once

#include "str.h"

#define START_CMDLINE_MAX 2047
#define START_RANGES_MAX 16

struct start_range {
	uint64_t start, end;
};

struct start {
	char cmdline[START_CMDLINE_MAX + 1];
	size_t cmdline_len;
	uint64_t rsdp;   /* physical address, 0 when the loader gave none */
	uint64_t memory; /* bytes of RAM in the map, 0 without a map */
	/* RAM that jobs may write: at or above 1 MiB and behind the payload itself. */
	struct start_range range[START_RANGES_MAX];
	size_t n_range;
};

/* False when `paddr` holds no start info. */
bool start_read(uint32_t paddr, struct start *ret);
