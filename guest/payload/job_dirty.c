/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Jobs that write memory: dirty, and verify what it wrote.
 *
 * The pages are written round and round, and each write has a number, 1 for the first. A page holds the
 * number of its last write in its first word, and a hash of it and of the page's place in its last word. What
 * any page must hold follows from how many writes there were, so a write that a migration lost, or memory
 * from another moment, is seen: at the next round by dirty itself, at any time by verify.
 */
#include "clock.h"
#include "job.h"
#include "memory.h"
#include "out.h"

#define PAGES_PER_MIB (1048576u / MEMORY_PAGE)
#define RATE_MAX_MIB 1048576u
#define SIZE_MAX_MIB 524288u
#define TICK_HZ 100
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

/* Look at every page that has been written: `verify PAGES SUM BAD`. */
void job_verify(struct span args)
{
	struct memory_cursor at = { 0 };
	uint64_t pages = dirty.written < dirty.pages ? dirty.written : dirty.pages, sum = 0, bad = 0;

	(void)args;
	for (uint64_t place = 0; place < pages; place++) {
		const volatile uint64_t *page = memory_next(&at);

		sum += page[MEMORY_WORDS - 1];
		if (!page_check(page, place))
			bad++;
	}
	out_str("verify ");
	out_dec(pages);
	out_str(" ");
	out_hex(sum, 16);
	out_str(" ");
	out_dec(bad);
	out_end();
}
