/* SPDX-License-Identifier: Apache-2.0 */
/* The little of a C library that the payload needs. The compiler may call the mem functions by itself. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *memset(void *to, int c, size_t n);
void *memcpy(void *restrict to, const void *restrict from, size_t n);
int memcmp(const void *a, const void *b, size_t n);

/* A piece of the command line; not terminated. */
struct span {
	const char *at;
	size_t n;
};

bool span_is(struct span s, const char *word);
/* Cut `s` at the first `mark`: what is before it is returned, `s` keeps what is behind it. */
struct span span_cut(struct span *s, char mark);
/* The whole of `s` as a decimal number. False when it is none or does not fit; *ret is untouched then. */
bool span_number(struct span s, uint64_t *ret);
