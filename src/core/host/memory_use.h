/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a QEMU takes of its host's memory, beside the memory of its guest.
 *
 * Pure. Read from the text of /proc/PID/smaps (proc_pid_smaps(5)). Counted is
 * the proportional share (PSS): a page that n processes map counts 1/n for
 * each, so that the sum over all guests is what they really take together.
 *
 * QEMU keeps every block of guest memory (RAM, video memory, firmware) out of
 * core files and out of children; its own memory has not both of these flags.
 * The guest's RAM is, of these blocks, the one of its size, and those of the
 * sizes of what it may have more or was given since.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/* name in the API; what of QEMU's own it is. The sum of them is the overhead, without page tables. */
// clang-format off
#define MEMORY_PART_TABLE(X)                                                             \
	X(PROGRAM,    "program")    /* the program and its libraries, code and data */   \
	X(HEAP,       "heap")       /* what it allocated, stacks */                      \
	X(DEVICES,    "devices")    /* video memory, firmware, tables for the guest */   \
	X(TRANSLATED, "translated") /* guest code that TCG translated; none under KVM */
// clang-format on

typedef enum MemoryPart {
#define X(key, name) MEMORY_##key,
	MEMORY_PART_TABLE(X)
#undef X
	    _MEMORY_PART_MAX,
} MemoryPart;

const char *memory_part_name(MemoryPart p);

/* Bytes. Swapped pages count as if they were in memory. */
struct memory_use {
	uint64_t guest;  /* of the guest's RAM */
	uint64_t merged; /* of the guest's RAM, pages that KSM shares; 0 on kernels that don't tell */
	uint64_t part[_MEMORY_PART_MAX]; /* of the rest */
};

/*
 * `size`: the guest's RAM, as QEMU was told; `more`: sizes of other blocks of it, [bytes]: the room for more
 * (virtio-mem), or DIMMs; NULL: none.
 * ERR_INVALID when the text is none of smaps, ERR_NOT_FOUND when no block has that size: the process has not
 * begun, or ends.
 */
bool memory_use_parse(const char *text, size_t len, uint64_t size, const Json *more, struct memory_use *ret,
		      GError **err);

/* The sum of the parts. */
uint64_t memory_use_overhead(const struct memory_use *u);

/* A line "NAME: 12 kB" of /proc/PID/status or smaps_rollup, in bytes; 0 when there is none. */
uint64_t memory_line_find(const char *text, const char *name);
