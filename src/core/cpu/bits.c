/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/bits.h"

#include <string.h>

#define PREFIX "v1-"

void cpu_bits_and(struct cpu_bits *into, const struct cpu_bits *a, const struct cpu_bits *b)
{
	for (size_t i = 0; i < CPU_WORDS; i++)
		into->word[i] = a->word[i] & b->word[i];
}

void cpu_bits_or(struct cpu_bits *into, const struct cpu_bits *a, const struct cpu_bits *b)
{
	for (size_t i = 0; i < CPU_WORDS; i++)
		into->word[i] = a->word[i] | b->word[i];
}

void cpu_bits_minus(struct cpu_bits *into, const struct cpu_bits *a, const struct cpu_bits *b)
{
	for (size_t i = 0; i < CPU_WORDS; i++)
		into->word[i] = a->word[i] & ~b->word[i];
}

bool cpu_bits_equal(const struct cpu_bits *a, const struct cpu_bits *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

bool cpu_bits_subset(const struct cpu_bits *a, const struct cpu_bits *b)
{
	uint32_t left = 0;

	for (size_t i = 0; i < CPU_WORDS; i++)
		left |= a->word[i] & ~b->word[i];
	return left == 0;
}

bool cpu_bits_empty(const struct cpu_bits *b)
{
	uint32_t any = 0;

	for (size_t i = 0; i < CPU_WORDS; i++)
		any |= b->word[i];
	return any == 0;
}

unsigned cpu_bits_count(const struct cpu_bits *b)
{
	unsigned n = 0;

	for (size_t i = 0; i < CPU_WORDS; i++)
		n += (unsigned)__builtin_popcount(b->word[i]);
	return n;
}

unsigned cpu_bits_next(const struct cpu_bits *b, unsigned from)
{
	if (from >= CPU_BITS)
		return CPU_BITS;
	for (unsigned w = from / 32; w < CPU_WORDS; w++) {
		uint32_t left = w == from / 32 ? b->word[w] & UINT32_MAX << from % 32 : b->word[w];

		if (left != 0)
			return 32 * w + (unsigned)__builtin_ctz(left);
	}
	return CPU_BITS;
}

void cpu_bits_extend(struct cpu_bits *set, size_t n_words, const struct cpu_bits *host)
{
	for (size_t i = n_words; i < CPU_WORDS; i++)
		set->word[i] = host->word[i];
}

char *cpu_bits_print(const struct cpu_bits *b)
{
	GString *s = g_string_sized_new(sizeof(PREFIX) + 9 * (size_t)CPU_WORDS);
	size_t n = CPU_WORDS;

	while (n > 1 && b->word[n - 1] == 0)
		n--;
	g_string_append(s, PREFIX);
	for (size_t i = 0; i < n; i++)
		g_string_append_printf(s, "%s%08x", i == 0 ? "" : "-", b->word[i]);
	return g_string_free(s, FALSE);
}

/* Eight hex digits and nothing else. */
static bool read_word(const char *p, uint32_t *ret)
{
	uint32_t v = 0;

	for (int i = 0; i < 8; i++) {
		int digit = g_ascii_xdigit_value(p[i]);

		if (digit < 0)
			return false;
		v = v << 4 | (uint32_t)digit;
	}
	*ret = v;
	return true;
}

static bool fail_set(GError **err, const char *what)
{
	return fail_advice(
	    err, ERR_INVALID,
	    "A featureset is v1- and words of 8 hex digits, joined by -: v1-078bfbff-00802009.",
	    "the featureset %s", what);
}

static bool fail_word(GError **err, size_t n)
{
	g_autofree char *what = g_strdup_printf("has a word %zu that is not 8 hex digits", n + 1);

	return fail_set(err, what);
}

static bool fail_newer(GError **err)
{
	return fail_advice(err, ERR_UNSUPPORTED, "Use the version of Plimsoll that wrote it, or a newer one.",
			   "the featureset has features that this version does not know");
}

bool cpu_bits_parse(const char *text, struct cpu_bits *ret, size_t *ret_words, GError **err)
{
	struct cpu_bits b = { 0 };
	const char *p = text;
	size_t n = 0;

	if (!g_str_has_prefix(p, PREFIX))
		return fail_set(err, "does not begin with v1-");
	for (p += strlen(PREFIX);; p += 9, n++) {
		uint32_t v;

		if (n == CPU_TEXT_WORDS_MAX)
			return fail_set(err, "is too long");
		if (!read_word(p, &v) || (p[8] != '-' && p[8] != '\0'))
			return fail_word(err, n);
		if (n < CPU_WORDS)
			b.word[n] = v;
		else if (v != 0)
			return fail_newer(err);
		if (p[8] == '\0')
			break;
	}
	*ret = b;
	if (ret_words != NULL)
		*ret_words = MIN(n + 1, CPU_WORDS);
	return true;
}
