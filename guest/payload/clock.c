/* SPDX-License-Identifier: Apache-2.0 */
#include "clock.h"

#include "apic.h"
#include "hypervisor.h"
#include "trap.h"
#include "x86.h"

#define KHZ_MAX 100000000u /* 100 GHz: what a source says beyond that is nonsense */
#define STILL_READS 1000u  /* of a counter without a change: it stands still */

static struct {
	uint64_t tsc_khz;
	const char *source;
	uint64_t ticks_seen;
} clk = { .source = "none" };

uint64_t clock_tsc_khz(void)
{
	return clk.tsc_khz;
}

const char *clock_source(void)
{
	return clk.source;
}

/* The VMware timing leaf, which KVM shows with an invariant TSC. */
static uint64_t khz_of_timing_leaf(void)
{
	return hypervisor_max(HYPERVISOR_BASE) >= 0x40000010u ? cpuid(0x40000010u, 0).eax : 0;
}

static uint64_t khz_of_crystal_leaf(void)
{
	struct cpuid_regs r;

	if (cpuid(0, 0).eax < 0x15)
		return 0;
	r = cpuid(0x15, 0);
	return r.eax == 0 ? 0 : (uint64_t)r.ecx * r.ebx / r.eax / 1000;
}

/* KVM's clock page says how cycles become nanoseconds: ns = (cycles << shift) * mul / 2^32. */
static uint64_t khz_of_pvclock(void)
{
	static volatile struct {
		uint32_t version, pad;
		uint64_t tsc_timestamp, system_time;
		uint32_t mul;
		int8_t shift;
		uint8_t flags, pad2[2];
	} page __attribute__((aligned(64)));
	const uint32_t msr = 0x4b564d01, feature = 1u << 3;
	uint32_t base = hypervisor_find("KVMKVMKVM\0\0");
	uint64_t khz;

	if (base == 0 || (cpuid(base + 1, 0).eax & feature) == 0)
		return 0;
	if (!try_wrmsr(msr, (uint64_t)&page | 1))
		return 0;
	try_wrmsr(msr, 0);
	if (page.mul == 0 || page.shift < -31 || page.shift > 31)
		return 0;
	khz = (1000000ull << 32) / page.mul;
	return page.shift < 0 ? khz << -page.shift : khz >> page.shift;
}

static uint64_t khz_of_hyperv(void)
{
	const uint32_t msr = 0x40000022, access = 1u << 11, available = 1u << 8;
	uint32_t base = hypervisor_find("Microsoft Hv");
	struct cpuid_regs r;
	uint64_t hz;

	if (base == 0 || hypervisor_max(base) < base + 3)
		return 0;
	r = cpuid(base + 3, 0);
	if ((r.eax & access) == 0 || (r.edx & available) == 0 || !try_rdmsr(msr, &hz))
		return 0;
	return hz / 1000;
}

/* A moment on both clocks. */
struct sample {
	uint64_t tsc;
	uint32_t count;
};

/*
 * Reading the counter leaves the guest, and takes long when the host has other things to do: of some readings
 * the one with the least time around it is right.
 */
static struct sample sample_take(uint32_t (*counter)(void))
{
	struct sample best = { 0 };
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < 8; i++) {
		uint64_t before = rdtsc(), around;
		uint32_t count = counter();

		around = rdtsc() - before;
		if (around >= least)
			continue;
		least = around;
		best = (struct sample){ .tsc = before + around / 2, .count = count };
	}
	return best;
}

/* The TSC against a counter that counts upwards at `hz`, over `window` counts. 0 when it stands still. */
static uint64_t khz_measure(uint32_t (*counter)(void), uint64_t hz, uint32_t window)
{
	struct sample first = sample_take(counter), last;
	uint32_t elapsed = 0;

	for (uint32_t i = 0; elapsed < window; i++) {
		elapsed = counter() - first.count;
		if (i == STILL_READS && elapsed == 0)
			return 0;
	}
	last = sample_take(counter);
	if (last.count <= first.count)
		return 0;
	return (last.tsc - first.tsc) * hz / (last.count - first.count) / 1000;
}

#define PIT_HZ 1193182u
#define PIT_COUNTER2 0x42
#define PIT_CONTROL 0x43
#define PIT_COUNTER2_ONCE 0xb0 /* counter 2, both bytes, mode 0: counts down once */
#define PIT_COUNTER2_LATCH 0x80
#define PIT_COUNTER2_STATUS 0xe8 /* read back counter 2's status: bit 7 is its output, done */
#define PIT_GATE 0x61 /* bit 0 lets counter 2 count, bit 1 is the speaker; microvm has no such port */
#define PIT_START 0xffffu

static uint32_t pit_count(void)
{
	uint32_t lo, hi;

	outb(PIT_CONTROL, PIT_COUNTER2_LATCH);
	lo = inb(PIT_COUNTER2);
	hi = inb(PIT_COUNTER2);
	return PIT_START - (lo | hi << 8);
}

static bool pit_ran_out(void)
{
	outb(PIT_CONTROL, PIT_COUNTER2_STATUS);
	return (inb(PIT_COUNTER2) & 0x80) != 0;
}

/* Again when it ran out because the host let us wait for 55 ms. */
static uint64_t khz_of_pit(void)
{
	for (unsigned attempt = 0; attempt < 5; attempt++) {
		uint64_t khz;

		outb(PIT_GATE, (uint8_t)((inb(PIT_GATE) & ~2u) | 1u));
		outb(PIT_CONTROL, PIT_COUNTER2_ONCE);
		outb(PIT_COUNTER2, PIT_START & 0xff);
		outb(PIT_COUNTER2, PIT_START >> 8);
		khz = khz_measure(pit_count, PIT_HZ, PIT_HZ / 200);
		if (khz == 0 || !pit_ran_out())
			return khz;
	}
	return 0;
}

#define APIC_HZ (1000000000u / APIC_DIVIDER)

static uint32_t lapic_count(void)
{
	return UINT32_MAX - apic_count();
}

static uint64_t khz_of_lapic(void)
{
	uint64_t khz;

	if (!apic_present())
		return 0;
	apic_count_start(UINT32_MAX);
	khz = khz_measure(lapic_count, APIC_HZ, APIC_HZ / 200);
	apic_count_start(0);
	return khz;
}

static const struct {
	const char *name;
	uint64_t (*khz)(void);
} sources[] = {
	{ "cpuid40000010", khz_of_timing_leaf },
	{ "cpuid15", khz_of_crystal_leaf },
	{ "pvclock", khz_of_pvclock },
	{ "hyperv", khz_of_hyperv },
	{ "pit", khz_of_pit },
	{ "lapic", khz_of_lapic },
};

void clock_init(void)
{
	for (unsigned i = 0; i < sizeof(sources) / sizeof(sources[0]); i++) {
		uint64_t khz = sources[i].khz();

		if (khz == 0 || khz > KHZ_MAX)
			continue;
		clk.tsc_khz = khz;
		clk.source = sources[i].name;
		return;
	}
}

uint64_t clock_ns_of_cycles(uint64_t cycles)
{
	if (clk.tsc_khz == 0)
		return 0;
	return cycles / clk.tsc_khz * 1000000 + cycles % clk.tsc_khz * 1000000 / clk.tsc_khz;
}

uint64_t clock_ns(void)
{
	return clock_ns_of_cycles(rdtsc());
}

bool clock_ticks_start(uint64_t hz)
{
	if (!apic_present())
		return false;
	clk.ticks_seen = trap_timer_count();
	apic_timer_start((uint32_t)(APIC_HZ / hz));
	return true;
}

void clock_tick_wait(void)
{
	while (trap_timer_count() == clk.ticks_seen)
		wait_for_interrupt();
	clk.ticks_seen = trap_timer_count();
	trap_nmi_report();
}

void clock_ticks_stop(void)
{
	apic_timer_stop();
}

bool clock_sleep(uint64_t ns)
{
	uint64_t from = clock_ns();

	if (clk.tsc_khz == 0 || !clock_ticks_start(100))
		return false;
	while (clock_ns() - from < ns)
		clock_tick_wait();
	clock_ticks_stop();
	return true;
}
