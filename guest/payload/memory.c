/* SPDX-License-Identifier: Apache-2.0 */
#include "memory.h"

#define GIB (1ull << 30)
#define MAPPED_GIB 4     /* by boot.S */
#define MAPPABLE_GIB 512 /* what one page of pointers reaches */
#define LARGE_PAGE (2ull << 20)
#define ENTRIES 512
#define PRESENT_WRITABLE 0x3u
#define LARGE 0x80u

extern uint64_t page_pointers[ENTRIES];

static struct {
	struct start_range range[START_RANGES_MAX];
	size_t n;
	uint64_t pages;
} row;

/* A page for page tables, from below 4 GiB; NULL when the ranges there are used up. */
static uint64_t *table_page(void)
{
	struct start_range *r = &row.range[0];
	uint64_t *page = (uint64_t *)r->start;

	if (row.n == 0 || r->end - r->start < 2 * MEMORY_PAGE || r->start >= MAPPED_GIB * GIB)
		return NULL;
	r->start += MEMORY_PAGE;
	return page;
}

static bool gib_map(uint64_t gib)
{
	uint64_t *directory;

	if (gib >= MAPPABLE_GIB)
		return false;
	if (page_pointers[gib] != 0)
		return true;
	directory = table_page();
	if (directory == NULL)
		return false;
	for (uint64_t i = 0; i < ENTRIES; i++)
		directory[i] = (gib * GIB + i * LARGE_PAGE) | PRESENT_WRITABLE | LARGE;
	page_pointers[gib] = (uint64_t)directory | PRESENT_WRITABLE;
	return true;
}

/* What of `r` can be mapped, counted from its start. */
static struct start_range range_map(struct start_range r)
{
	for (uint64_t gib = r.start / GIB; gib * GIB < r.end; gib++) {
		if (gib_map(gib))
			continue;
		r.end = gib * GIB > r.start ? gib * GIB : r.start;
		break;
	}
	return r;
}

void memory_init(const struct start *s)
{
	for (size_t i = 0; i < s->n_range; i++)
		row.range[i] = s->range[i];
	row.n = s->n_range;
	/* The first range lies lowest and gives the tables: what it has left is known at the end only. */
	for (size_t i = 1; i < row.n; i++)
		row.range[i] = range_map(row.range[i]);
	for (size_t i = 0; i < row.n; i++)
		row.pages += (row.range[i].end - row.range[i].start) / MEMORY_PAGE;
}

uint64_t memory_pages(void)
{
	return row.pages;
}

volatile uint64_t *memory_next(struct memory_cursor *c)
{
	uint64_t at;

	while (c->offset == row.range[c->range].end - row.range[c->range].start) {
		c->range++;
		c->offset = 0;
	}
	at = row.range[c->range].start + c->offset;
	c->offset += MEMORY_PAGE;
	return (volatile uint64_t *)at;
}
