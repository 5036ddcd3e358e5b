/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two holes in a guest's memory where its PCI devices live: what QEMU can
 * really do. Pure.
 *
 * The low gap ends at 4 GiB and begins where the memory below it ends, so its
 * size is 4 GiB less that end. QEMU puts as much memory below as the machine
 * type allows (hw/i386/pc_q35.c, pc_piix.c):
 *
 *   q35  all of it below 2816 MiB, else 2 GiB at most
 *   pc   all of it below 3.5 GiB, else 3 GiB at most when less is asked for
 *
 * and less when `max-ram-below-4g` says so; never more. Below 512 MiB firmware
 * and kernels find no room for what must lie low.
 *
 * The high gap begins behind the memory above 4 GiB, at a whole GiB, and is a
 * number of GiB (`pci-hole64-size`; 32 on q35 and 2 on pc by themselves). Its
 * end must be an address that the CPU can form; that of AMD may not use the
 * last 12 GiB below 1 TiB (HyperTransport), and QEMU would move the memory.
 */
#pragma once

#include "base/err.h"

struct mmio_machine {
	bool q35; /* else pc */
	uint64_t memory;
	uint64_t hotplug;   /* room for more behind the memory, from a whole GiB on */
	unsigned phys_bits; /* of the guest's addresses */
	bool amd;
};

#define MMIO_LOW_GAP_MAX (UINT64_C(3584) << 20)

/*
 * ERR_UNSUPPORTED with the details min and max, and advice that names the
 * range, when the gap can't be had with just that size.
 */
bool mmio_low_gap_check(const struct mmio_machine *m, uint64_t gap, GError **err);
bool mmio_high_gap_check(const struct mmio_machine *m, uint64_t gap, GError **err);

/* What max-ram-below-4g must be for a gap that was checked; 0: the gap is that by itself. */
uint64_t mmio_low_gap_limit(const struct mmio_machine *m, uint64_t gap);
