/* SPDX-License-Identifier: Apache-2.0 */
/* Jobs that use time: burn, sleep, tick. */
#include "clock.h"
#include "job.h"
#include "out.h"
#include "trap.h"
#include "x86.h"

#define NS_PER_MS 1000000u
#define TICK_HZ_MAX 10000

/* Two instructions an iteration, whatever the compiler does. */
static void spin(uint64_t n)
{
	if (n > 0)
		__asm__ volatile("1: dec %0; jnz 1b" : "+r"(n) : : "cc");
}

/* The chunk grows until it takes a millisecond: the clock is then read seldom, and the end is not overrun. */
static uint64_t spin_for(uint64_t ns)
{
	uint64_t from = clock_ns(), total = 0, chunk = 1000;

	for (;;) {
		uint64_t before = clock_ns(), after;

		if (before - from >= ns)
			return total;
		spin(chunk);
		total += chunk;
		after = clock_ns();
		if (after - before < NS_PER_MS)
			chunk *= 2;
	}
}

static bool is_duration(struct span args)
{
	return args.n > 0 && args.at[args.n - 1] == 's';
}

/* burn:ITERATIONS or burn:DURATION, which has its unit: 2s, 500ms. */
void job_burn(struct span args)
{
	uint64_t n, cycles;

	if (is_duration(args) && clock_tsc_khz() == 0)
		job_fail("no clock");
	cycles = rdtsc();
	if (is_duration(args)) {
		n = spin_for(job_duration(&args, JOB_REQUIRED));
	} else {
		n = job_number(&args, 1, UINT64_MAX - 1, JOB_REQUIRED);
		spin(n);
	}
	cycles = rdtsc() - cycles;
	out_str("burn ");
	out_dec(n);
	out_str(" ");
	out_dec(clock_ns_of_cycles(cycles));
	out_str(" ");
	out_dec(cycles);
	out_end();
	trap_nmi_report();
}

/* sleep:DURATION */
void job_sleep(struct span args)
{
	if (!clock_sleep(job_duration(&args, JOB_REQUIRED)))
		job_fail("no clock");
}

/* tick:HZ[:COUNT] */
void job_tick(struct span args)
{
	uint64_t hz = job_number(&args, 1, TICK_HZ_MAX, JOB_REQUIRED);
	uint64_t count = job_number(&args, 1, UINT64_MAX - 1, UINT64_MAX - 1);

	if (!clock_ticks_start(hz))
		job_fail("no local APIC");
	for (uint64_t n = 1; n <= count; n++) {
		clock_tick_wait();
		out_str("tick ");
		out_dec(n);
		out_str(" ");
		out_dec(rdtsc());
		out_end();
	}
	clock_ticks_stop();
}
