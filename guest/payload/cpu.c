/* SPDX-License-Identifier: Apache-2.0 */
#include "cpu.h"

#include "hypervisor.h"
#include "out.h"
#include "x86.h"

#define CPUID_1_ECX_XSAVE (1u << 26)
#define CR4_OSXSAVE (1u << 18)
#define SUBLEAVES_MAX 64
#define LEAVES_MAX 0x100

/*
 * TCG (7.2 and later) takes CR4.OSXSAVE for a reserved bit when the CPU has none of XSAVEOPT, XSAVEC, XGETBV1
 * and XSAVES, and instead of raising an exception it repeats the instruction for ever. Such a CPU has no
 * XSAVE that a guest could use, and the report says so: XCR0 is 0.
 */
static bool cpu_can_xsave(void)
{
	if ((cpuid(1, 0).ecx & CPUID_1_ECX_XSAVE) == 0 || cpuid(0, 0).eax < 0xd)
		return false;
	return hypervisor_find("TCGTCGTCGTCG") == 0 || (cpuid(0xd, 1).eax & 0xf) != 0;
}

static bool cpu_xsave_is_on(void)
{
	return (read_cr4() & CR4_OSXSAVE) != 0;
}

void cpu_xsave_enable(void)
{
	struct cpuid_regs r;
	uint64_t offered;

	if (!cpu_can_xsave())
		return;
	write_cr4(read_cr4() | CR4_OSXSAVE);
	r = cpuid(0xd, 0);
	offered = (uint64_t)r.edx << 32 | r.eax;
	if (try_xsetbv(offered))
		return;
	out_str("error xsetbv ");
	out_hex(offered, 16);
	out_end();
}

/* What is done with a leaf: printed, or taken into a hash. */
static bool leaves_hashed;
static uint64_t leaves_hash;

static void hash_word(uint32_t word)
{
	leaves_hash = (leaves_hash ^ word) * 0x9e3779b97f4a7c15ull;
	leaves_hash ^= leaves_hash >> 29;
}

static struct cpuid_regs leaf_take(uint32_t leaf, uint32_t subleaf)
{
	struct cpuid_regs r = cpuid(leaf, subleaf);
	const uint32_t word[] = { leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx };

	if (leaves_hashed) {
		for (unsigned i = 0; i < sizeof(word) / sizeof(word[0]); i++)
			hash_word(word[i]);
		return r;
	}
	out_str("cpuid");
	for (unsigned i = 0; i < sizeof(word) / sizeof(word[0]); i++) {
		out_str(" ");
		out_hex(word[i], 8);
	}
	out_end();
	return r;
}

/* EAX of subleaf 0 is the last subleaf. */
static void leaf_counted(uint32_t leaf)
{
	uint32_t last = leaf_take(leaf, 0).eax;

	for (uint32_t i = 1; i <= last && i < SUBLEAVES_MAX; i++)
		leaf_take(leaf, i);
}

/* Caches: a type of zero in EAX ends the list. */
static void leaf_caches(uint32_t leaf)
{
	for (uint32_t i = 0; i < SUBLEAVES_MAX; i++)
		if ((leaf_take(leaf, i).eax & 0x1f) == 0)
			return;
}

/* Topology: a level type of zero in ECX ends the list. */
static void leaf_topology(uint32_t leaf)
{
	for (uint32_t i = 0; i < SUBLEAVES_MAX; i++)
		if ((leaf_take(leaf, i).ecx & 0xff00) == 0)
			return;
}

/* XSAVE: 0 and 1 describe the whole, the others one state component each, those of XCR0 and of IA32_XSS. */
static void leaf_xsave(uint32_t leaf)
{
	struct cpuid_regs user = leaf_take(leaf, 0), all = leaf_take(leaf, 1);
	uint64_t components = ((uint64_t)user.edx << 32 | user.eax) | ((uint64_t)all.edx << 32 | all.ecx);

	for (uint32_t i = 2; i < 63; i++)
		if (components >> i & 1)
			leaf_take(leaf, i);
}

/* Monitoring and allocation of shared resources: subleaf 0 has a bit for each further one. */
static void leaf_resources(uint32_t leaf)
{
	struct cpuid_regs r = leaf_take(leaf, 0);
	uint32_t bits = leaf == 0xf ? r.edx : r.ebx;

	for (uint32_t i = 1; i < 32; i++)
		if (bits >> i & 1)
			leaf_take(leaf, i);
}

/* SGX: two fixed subleaves, then enclave page sections until a type of zero. */
static void leaf_sgx(uint32_t leaf)
{
	leaf_take(leaf, 0);
	leaf_take(leaf, 1);
	for (uint32_t i = 2; i < SUBLEAVES_MAX; i++)
		if ((leaf_take(leaf, i).eax & 0xf) == 0)
			return;
}

static void leaf_plain(uint32_t leaf)
{
	leaf_take(leaf, 0);
}

/* The leaves that have subleaves, from the manuals of Intel (vol. 2A, CPUID) and AMD (vol. 3, appendix E). */
static const struct {
	uint32_t leaf;
	void (*print)(uint32_t leaf);
} subleaved[] = {
	{ 0x4, leaf_caches },
	{ 0x7, leaf_counted },
	{ 0xb, leaf_topology },
	{ 0xd, leaf_xsave },
	{ 0xf, leaf_resources },
	{ 0x10, leaf_resources },
	{ 0x12, leaf_sgx },
	{ 0x14, leaf_counted },
	{ 0x17, leaf_counted },
	{ 0x18, leaf_counted },
	{ 0x1d, leaf_counted },
	{ 0x1f, leaf_topology },
	{ 0x20, leaf_counted },
	{ 0x8000001d, leaf_caches },
	{ 0x80000020, leaf_resources },
	{ 0x80000026, leaf_topology },
};

static void leaf_report(uint32_t leaf)
{
	for (unsigned i = 0; i < sizeof(subleaved) / sizeof(subleaved[0]); i++) {
		if (subleaved[i].leaf == leaf) {
			subleaved[i].print(leaf);
			return;
		}
	}
	leaf_plain(leaf);
}

static void range_report(uint32_t base, uint32_t last)
{
	for (uint32_t leaf = base; leaf <= last && leaf - base < LEAVES_MAX; leaf++)
		leaf_report(leaf);
}

static void hypervisor_report(uint32_t base)
{
	uint32_t last = hypervisor_max(base);

	if (last != 0)
		range_report(base, last);
}

void cpu_xcr0_report(void)
{
	out_str("xcr0 ");
	out_hex(cpu_xsave_is_on() ? xgetbv() : 0, 16);
	out_end();
}

void cpu_leaves_report(void)
{
	range_report(0, cpuid(0, 0).eax);
	hypervisor_report(HYPERVISOR_BASE);
	hypervisor_report(HYPERVISOR_BASE_2);
	if (cpuid(0x80000000u, 0).eax >= 0x80000000u)
		range_report(0x80000000u, cpuid(0x80000000u, 0).eax);
}

uint64_t cpu_leaves_hash(void)
{
	leaves_hash = 0;
	leaves_hashed = true;
	cpu_leaves_report();
	leaves_hashed = false;
	return leaves_hash;
}
