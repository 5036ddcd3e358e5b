/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that is plugged into a running guest as DIMMs, where its system has no
 * driver for virtio-mem. Pure.
 *
 * A DIMM comes through ACPI, which every system with memory hotplug knows. It
 * would go only when the guest moves all of its pages out of it, which it
 * hardly ever can: none is taken away, and the balloon takes what is not
 * needed. So a guest keeps its DIMMs until it is off, over resets, moves and
 * suspension. Which it has is recorded with what it was started with, as the
 * list `dimms` of their sizes, in the order in which they came: QEMU gives
 * addresses in that order, here and where the guest goes.
 */
#pragma once

#include "core/guest/argv.h"

/* Linux takes plugged memory into use in pieces of this size (a memory block of x86); a DIMM is whole ones.
 */
#define DIMM_PIECE (UINT64_C(128) << 20)
#define DIMM_SLOTS 32
/* QEMU keeps so much of the address space for each slot, to align what is in it. */
#define DIMM_SLOT_SPACE (UINT64_C(1) << 30)
#define DIMMS "dimms"

/*
 * Size of the DIMM that makes `plugged` bytes at least `wanted`, of `region` at
 * most; 0: none is needed, or there is no more room. In a large region also a
 * small need gets a large one, so that the slots last.
 */
uint64_t dimm_next(uint64_t region, uint64_t plugged, uint64_t wanted);
/* Of a record, which may be another host's; NULL and null are none. */
bool dimm_list_check(const Json *sizes, uint64_t region, GError **err);
uint64_t dimm_list_sum(const Json *sizes);

/*
 * Sizes of the DIMMs among QEMU's memory devices (query-memory-devices), by number. A guest may eject any of
 * them through ACPI, so numbers may be missing: `ret_free` is the first that is. New reference.
 */
Json *dimm_list_of(const Json *devices, size_t *ret_free);

/* Names of QEMU's device `n` and of its memory. Caller frees. */
char *dimm_id(size_t n);
char *dimm_memory_id(size_t n);

/* Recorded arguments (argv_to_json()) as a start with these DIMMs would have them. New reference. */
Json *dimm_arguments(const Json *arguments, const Json *sizes);
