/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/mmio_gap.h"

#include <inttypes.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define END_OF_LOW (4 * GIB)
/* Memory of at least this size is split, and so much of it may then lie below. */
#define Q35_SPLIT (2816 * MIB)
#define Q35_SPLIT_LOW (2 * GIB)
#define PC_SPLIT (3584 * MIB)
#define PC_SPLIT_LOW (3 * GIB)
/* Where HyperTransport begins: AMD I/O Virtualization Technology Specification, 2.1.2. */
#define AMD_HT_START UINT64_C(0xfd00000000)

/* "2GiB", "3328MiB": as it may be typed. Caller frees. */
static char *print_typed(uint64_t bytes)
{
	if (bytes % GIB == 0)
		return g_strdup_printf("%" PRIu64 "GiB", bytes / GIB);
	if (bytes % MIB == 0)
		return g_strdup_printf("%" PRIu64 "MiB", bytes / MIB);
	return g_strdup_printf("%" PRIu64, bytes);
}

static bool is_split(const struct mmio_machine *m)
{
	return m->memory >= (m->q35 ? Q35_SPLIT : PC_SPLIT);
}

/* The gap when all memory lies below it. */
static uint64_t gap_of_whole(const struct mmio_machine *m)
{
	return END_OF_LOW - m->memory;
}

/* The smallest gap with memory on both sides. */
static uint64_t least_split(const struct mmio_machine *m)
{
	uint64_t least = END_OF_LOW - (m->q35 ? Q35_SPLIT_LOW : PC_SPLIT_LOW);

	/* q35 splits whole memory anywhere; pc only where split memory would be. */
	if (is_split(m))
		return least;
	return m->q35 ? gap_of_whole(m) : MAX(gap_of_whole(m), least);
}

uint64_t mmio_low_gap_limit(const struct mmio_machine *m, uint64_t gap)
{
	return !is_split(m) && gap == gap_of_whole(m) ? 0 : END_OF_LOW - gap;
}

static const char *family(const struct mmio_machine *m)
{
	return m->q35 ? "q35" : "pc";
}

static bool refuse_low(const struct mmio_machine *m, uint64_t gap, GError **err)
{
	struct mmio_machine other = { .memory = m->memory };
	uint64_t least = least_split(m), whole = is_split(m) ? 0 : gap_of_whole(m);
	g_autofree char *asked = print_typed(gap), *min = print_typed(least),
			*max = print_typed(MMIO_LOW_GAP_MAX), *own = print_typed(whole),
			*memory = print_typed(m->memory);

	fail(err, ERR_UNSUPPORTED, "memory.low_mmio_gap can't be %s on %s with %s of memory", asked,
	     family(m), memory);
	err_detail(err, "min", json_integer((json_int_t)MIN(least, whole > 0 ? whole : least)));
	err_detail(err, "max", json_integer((json_int_t)MAX(MMIO_LOW_GAP_MAX, whole)));
	if (least > MMIO_LOW_GAP_MAX)
		return err_advise(
		    err, "The gap begins where memory ends and is %s: unset it, or give the vm more memory.",
		    own);
	if (whole > 0 && whole < least)
		return err_advise(err, "Choose %s, or %s to %s in whole MiB.", own, min, max);
	if (m->q35 && mmio_low_gap_check(&other, gap, NULL))
		return err_advise(err, "Choose %s to %s in whole MiB, or set machine=pc, which can do it.",
				  min, max);
	return err_advise(err, "Choose %s to %s in whole MiB.", min, max);
}

bool mmio_low_gap_check(const struct mmio_machine *m, uint64_t gap, GError **err)
{
	if (!is_split(m) && gap == gap_of_whole(m))
		return true;
	if (gap % MIB == 0 && gap >= least_split(m) && gap <= MMIO_LOW_GAP_MAX)
		return true;
	return refuse_low(m, gap, err);
}

/* Behind all memory, however it is split: a gap below moves the same memory up. */
static uint64_t high_start(const struct mmio_machine *m, uint64_t low_memory)
{
	uint64_t above = m->memory > low_memory ? m->memory - low_memory : 0;

	return (END_OF_LOW + above + GIB - 1) / GIB * GIB + (m->hotplug + GIB - 1) / GIB * GIB;
}

bool mmio_high_gap_check(const struct mmio_machine *m, uint64_t gap, GError **err)
{
	uint64_t end = UINT64_C(1) << m->phys_bits, max;
	/* The most that may lie above, so that the answer does not depend on the low gap. */
	uint64_t start = high_start(m, MIN(m->memory, END_OF_LOW - MMIO_LOW_GAP_MAX));
	g_autofree char *asked = print_typed(gap), *most = NULL;

	if (m->amd)
		end = MIN(end, AMD_HT_START);
	max = end > start ? (end - start) / GIB * GIB : 0;
	if (gap % GIB == 0 && gap >= GIB && gap <= max)
		return true;
	fail(err, ERR_UNSUPPORTED, "memory.high_mmio_gap can't be %s for a CPU with %u address bits", asked,
	     m->phys_bits);
	err_detail(err, "min", json_integer((json_int_t)(max > 0 ? GIB : 0)));
	err_detail(err, "max", json_integer((json_int_t)max));
	most = print_typed(max);
	if (max == 0)
		return err_advise(err, "Unset it: behind this memory there is no room for a gap.");
	return err_advise(err, "Choose 1GiB to %s in whole GiB.", most);
}
