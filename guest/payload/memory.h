/* SPDX-License-Identifier: Apache-2.0 */
/* The RAM that jobs may write, as one row of pages over all the ranges of the memory map. */
#pragma once

#include "start.h"

#define MEMORY_PAGE 4096u
#define MEMORY_WORDS (MEMORY_PAGE / sizeof(uint64_t))

/*
 * Map what lies above 4 GiB too (up to 512 GiB); the page tables for it are taken from the start of the row.
 * `s` must stay.
 */
void memory_init(const struct start *s);
/* Pages in the row. */
uint64_t memory_pages(void);

/* A place in the row; all zeros is its start. */
struct memory_cursor {
	size_t range;
	uint64_t offset;
};

/* The page at the cursor, which moves on. Not to be called more than memory_pages() times from the start. */
volatile uint64_t *memory_next(struct memory_cursor *c);
