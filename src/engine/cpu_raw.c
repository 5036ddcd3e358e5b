/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cpu_raw.h"

#include <cpuid.h>
#include <errno.h>
#include <sched.h>

#define EXTENDED 0x80000000u
#define CENTAUR 0xc0000000u
/* What a CPU says of the end of a range is not believed beyond. */
#define RANGE_MAX 0x40u
/* More than any kernel is built for. */
#define CPUS_MAX 8192

/* Leaves of which more than the first subleaf says something about features or the layout of their state. */
static const struct {
	uint32_t leaf, n;
} lists[] = { { 0x7, 3 }, { 0xd, 32 }, { 0x12, 2 }, { 0x14, 2 } };

static uint32_t subleaves(uint32_t leaf)
{
	for (size_t i = 0; i < G_N_ELEMENTS(lists); i++)
		if (lists[i].leaf == leaf)
			return lists[i].n;
	return 1;
}

static struct cpuid_leaf read_leaf(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_leaf l = { .leaf = leaf, .subleaf = subleaf };

	__cpuid_count(leaf, subleaf, l.reg[0], l.reg[1], l.reg[2], l.reg[3]);
	return l;
}

static bool read_range(struct cpuid_dump *d, uint32_t first, GError **err)
{
	uint32_t last = read_leaf(first, 0).reg[0];

	/* Where the range does not exist, the answer is that of another leaf. */
	if (last < first || last - first > 0xffff)
		return true;
	last = MIN(last, first + RANGE_MAX);
	for (uint32_t leaf = first; leaf <= last; leaf++)
		for (uint32_t sub = 0; sub < subleaves(leaf); sub++) {
			struct cpuid_leaf l = read_leaf(leaf, sub);

			if (!cpuid_add(d, &l, err))
				return false;
		}
	return true;
}

/* Of the CPU that runs this. */
static bool read_here(GPtrArray *out, GError **err)
{
	struct cpuid_dump *d = g_new0(struct cpuid_dump, 1);

	g_ptr_array_add(out, d);
	return read_range(d, 0, err) && read_range(d, EXTENDED, err) && read_range(d, CENTAUR, err);
}

static bool read_each(GPtrArray *out, const cpu_set_t *mine, cpu_set_t *one, size_t size, GError **err)
{
	for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++) {
		if (!CPU_ISSET_S(cpu, size, mine))
			continue;
		CPU_ZERO_S(size, one);
		CPU_SET_S(cpu, size, one);
		if (sched_setaffinity(0, size, one) == 0 && !read_here(out, err))
			return false;
	}
	return out->len > 0 || fail(err, ERR_INTERNAL, "no CPU of this host could be visited");
}

static bool visit_all(GPtrArray *out, cpu_set_t *mine, cpu_set_t *one, size_t size, GError **err)
{
	bool ok;

	CPU_ZERO_S(size, mine);
	if (sched_getaffinity(0, size, mine) < 0)
		return fail_errno(err, errno, "can't tell the CPUs of this host apart");
	ok = read_each(out, mine, one, size, err);
	sched_setaffinity(0, size, mine);
	return ok;
}

GPtrArray *cpu_raw_read(GError **err)
{
	g_autoptr(GPtrArray) out = g_ptr_array_new_with_free_func(g_free);
	cpu_set_t *mine = CPU_ALLOC(CPUS_MAX), *one = CPU_ALLOC(CPUS_MAX);
	bool ok = visit_all(out, mine, one, CPU_ALLOC_SIZE(CPUS_MAX), err);

	CPU_FREE(mine);
	CPU_FREE(one);
	return ok ? g_steal_pointer(&out) : NULL;
}
