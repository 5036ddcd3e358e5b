/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that write memory: dirty, verify what it wrote, and soak, which also watches the clock and the CPU.
 *
 * The pages are written round and round, and each write has a number, 1 for the first. A page holds the
 * number of its last write in its first word, and a hash of it and of the page's place in its last word. What
 * any page must hold follows from how many writes there were, so a write that a migration lost, or memory
 * from another moment, is seen: at the next round by dirty itself, at any time by verify.
 */
#include "clock.h"
#include "cpu.h"
#include "job.h"
#include "memory.h"
#include "out.h"
#include "trap.h"

#define PAGES_PER_MIB (1048576u / MEMORY_PAGE)
#define RATE_MAX_MIB 1048576u
#define SIZE_MAX_MIB 524288u
#define TICK_HZ 100
#define SOAK_HZ 20
#define NS_PER_S 1000000000u
/* A guest that was stopped for a while does not catch up: it goes on at its rate. */
#define CREDIT_MAX_NS (NS_PER_S / 4)

static struct {
	uint64_t pages, written, bad;
	struct memory_cursor at;
} dirty;

static uint64_t page_hash(uint64_t number, uint64_t place)
{
	uint64_t h = number * 0x9e3779b97f4a7c15ull + place;

	h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93ull;
	return h ^ (h >> 32);
}

/* The number of the last write to the page at `place`; 0 when it has not been written yet. */
static uint64_t page_number(uint64_t place)
{
	uint64_t rounds = dirty.written / dirty.pages + (place < dirty.written % dirty.pages ? 1 : 0);

	return rounds == 0 ? 0 : (rounds - 1) * dirty.pages + place + 1;
}

static bool page_check(const volatile uint64_t *page, uint64_t place)
{
	uint64_t number = page_number(place);

	return number == 0 || (page[0] == number && page[MEMORY_WORDS - 1] == page_hash(number, place));
}

static void page_write(void)
{
	uint64_t place = dirty.written % dirty.pages;
	volatile uint64_t *page;

	if (place == 0)
		dirty.at = (struct memory_cursor){ 0 };
	page = memory_next(&dirty.at);
	if (!page_check(page, place))
		dirty.bad++;
	dirty.written++;
	page[0] = dirty.written;
	page[MEMORY_WORDS - 1] = page_hash(dirty.written, place);
}

static void progress_print(uint64_t ns)
{
	out_str("dirty ");
	out_dec(dirty.written);
	out_str(" ");
	out_dec(ns);
	out_str(" ");
	out_dec(dirty.bad);
	out_end();
}

/* Write `rate` pages a second until `ns` have passed, with a line of progress every second. */
static void dirty_run(uint64_t rate, uint64_t ns)
{
	uint64_t start = clock_ns(), now = start, last = start, printed = start, credit = 0;

	while (now - start < ns) {
		uint64_t passed;

		clock_tick_wait();
		now = clock_ns();
		passed = now - last < CREDIT_MAX_NS ? now - last : CREDIT_MAX_NS;
		last = now;
		for (credit += passed * rate; credit >= NS_PER_S; credit -= NS_PER_S)
			page_write();
		if (now - printed >= NS_PER_S) {
			printed = now;
			progress_print(now - start);
		}
	}
	if (now != printed)
		progress_print(now - start);
}

/* dirty:RATE_MIB_S:SIZE_MIB[:DURATION] */
void job_dirty(struct span args)
{
	uint64_t rate = job_number(&args, 1, RATE_MAX_MIB, JOB_REQUIRED);
	uint64_t size = job_number(&args, 1, SIZE_MAX_MIB, JOB_REQUIRED);
	uint64_t ns = job_duration(&args, UINT64_MAX - 1);

	if (size * PAGES_PER_MIB > memory_pages())
		job_fail("not that much memory to dirty");
	if (clock_tsc_khz() == 0 || !clock_ticks_start(TICK_HZ))
		job_fail("no clock");
	dirty.pages = size * PAGES_PER_MIB;
	dirty.written = dirty.bad = 0;
	dirty_run(rate * PAGES_PER_MIB, ns);
	clock_ticks_stop();
}

struct verdict {
	uint64_t pages, sum, bad;
};

/* Look at every page that has been written. */
static struct verdict pages_verify(void)
{
	struct memory_cursor at = { 0 };
	struct verdict v = { .pages = dirty.written < dirty.pages ? dirty.written : dirty.pages };

	for (uint64_t place = 0; place < v.pages; place++) {
		const volatile uint64_t *page = memory_next(&at);

		v.sum += page[MEMORY_WORDS - 1];
		if (!page_check(page, place))
			v.bad++;
	}
	return v;
}

/* `verify PAGES SUM BAD` */
void job_verify(struct span args)
{
	struct verdict v = pages_verify();

	(void)args;
	out_str("verify ");
	out_dec(v.pages);
	out_str(" ");
	out_hex(v.sum, 16);
	out_str(" ");
	out_dec(v.bad);
	out_end();
}

/* What soak has seen of its clock: how often it went back, and the longest time between two ticks. */
struct watch {
	uint64_t last, back, gap;
};

static void watch_tick(struct watch *w)
{
	uint64_t now = clock_ns();

	if (now < w->last)
		w->back++;
	else if (w->last != 0 && now - w->last > w->gap)
		w->gap = now - w->last;
	w->last = now;
}

/* `soak BEAT NS GAP BACK PAGES BAD CPU` */
static void soak_print(uint64_t beat, const struct watch *w)
{
	struct verdict v = pages_verify();
	const uint64_t number[] = { beat, w->last, w->gap, w->back, v.pages, dirty.bad + v.bad };

	out_str("soak");
	for (unsigned i = 0; i < sizeof(number) / sizeof(number[0]); i++) {
		out_str(" ");
		out_dec(number[i]);
	}
	out_str(" ");
	out_hex(cpu_leaves_hash(), 16);
	out_end();
}

/* What a migration must never do: so that a test can see that it would be seen. */
static void page_break(void)
{
	struct memory_cursor start = { 0 };

	memory_next(&start)[MEMORY_WORDS - 1] ^= 1;
}

/* soak:RATE_MIB_S:SIZE_MIB[:HZ[:break]]; with `break` an NMI damages a page. For ever. */
_Noreturn void job_soak(struct span args)
{
	uint64_t rate = job_number(&args, 1, RATE_MAX_MIB, JOB_REQUIRED);
	uint64_t size = job_number(&args, 1, SIZE_MAX_MIB, JOB_REQUIRED);
	uint64_t hz = job_number(&args, 1, TICK_HZ, SOAK_HZ);
	bool may_break = span_is(span_cut(&args, ':'), "break");
	struct watch watch = { 0 };
	uint64_t nmis = 0;

	if (size * PAGES_PER_MIB > memory_pages())
		job_fail("not that much memory to dirty");
	if (clock_tsc_khz() == 0 || !clock_ticks_start(hz))
		job_fail("no clock");
	dirty.pages = size * PAGES_PER_MIB;
	dirty.written = dirty.bad = 0;
	for (uint64_t beat = 1;; beat++) {
		clock_tick_wait();
		watch_tick(&watch);
		for (uint64_t n = rate * PAGES_PER_MIB / hz; n > 0; n--)
			page_write();
		if (trap_nmi_count() != nmis && may_break)
			page_break();
		nmis = trap_nmi_count();
		soak_print(beat, &watch);
	}
}
