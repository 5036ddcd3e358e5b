/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of CPU features as bits: 64 words of 32, numbered as in facts.txt.
 *
 * Pure. The text form is stored and sent: "v1-" and words of 8 hex digits joined by "-", the first word
 * first. Words that are left out at the end are 0; words behind the 64th are accepted only when they are 0,
 * so that a set of a newer version is read when it holds nothing that this version doesn't know. Anything
 * else is refused. A set has no form for "not known yet": where there is none, there is a NULL pointer, so
 * that nothing is ever a subset of it.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define CPU_WORDS 64
#define CPU_BITS (32 * CPU_WORDS)
#define CPU_TEXT_WORDS_MAX 256 /* what cpu_bits_parse() reads */

struct cpu_bits {
	uint32_t word[CPU_WORDS];
};

static inline bool cpu_bits_has(const struct cpu_bits *b, unsigned bit)
{
	return bit < CPU_BITS && (b->word[bit / 32] >> bit % 32 & 1) != 0;
}
static inline void cpu_bits_set(struct cpu_bits *b, unsigned bit)
{
	b->word[bit / 32] |= UINT32_C(1) << bit % 32;
}
static inline void cpu_bits_clear(struct cpu_bits *b, unsigned bit)
{
	b->word[bit / 32] &= ~(UINT32_C(1) << bit % 32);
}

/* `into` may be the same as any other. */
void cpu_bits_and(struct cpu_bits *into, const struct cpu_bits *a, const struct cpu_bits *b);
void cpu_bits_or(struct cpu_bits *into, const struct cpu_bits *a, const struct cpu_bits *b);
/* What is in a and not in b. */
void cpu_bits_minus(struct cpu_bits *into, const struct cpu_bits *a, const struct cpu_bits *b);
bool cpu_bits_equal(const struct cpu_bits *a, const struct cpu_bits *b);
/* Every bit of a is in b. */
bool cpu_bits_subset(const struct cpu_bits *a, const struct cpu_bits *b);
bool cpu_bits_empty(const struct cpu_bits *b);
unsigned cpu_bits_count(const struct cpu_bits *b);
/* The first bit that is set at or behind `from`; CPU_BITS when there is none. */
unsigned cpu_bits_next(const struct cpu_bits *b, unsigned from);

/*
 * A set from a version that knew only the first `n_words`: the words it could not speak of are those of the
 * host that the guest runs on, the only ones that are safe to assume.
 */
void cpu_bits_extend(struct cpu_bits *set, size_t n_words, const struct cpu_bits *host);

/* "v1-078bfbff-...", without the zero words at the end, but with one word at least. Caller frees. */
char *cpu_bits_print(const struct cpu_bits *b);
/* ERR_INVALID with what was wrong. `ret_words` (or NULL) gets how many words the text had, at most CPU_WORDS.
 */
bool cpu_bits_parse(const char *text, struct cpu_bits *ret, size_t *ret_words, GError **err);
