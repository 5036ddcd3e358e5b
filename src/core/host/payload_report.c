/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/payload_report.h"

#include <string.h>

#define WORDS_MAX 8
#define INSTRUCTIONS_PER_ITERATION 2

struct slice {
	const char *at;
	size_t n;
};

/* One line: its first word chose the reader; `rest` is what follows, `word` the same cut at the spaces. */
struct line {
	unsigned number;
	struct slice rest;
	struct slice word[WORDS_MAX];
	size_t n;
};

static const char *const tsc_names[] = {
#define X(name, text) [PAYLOAD_TSC_##name] = text,
	PAYLOAD_TSC_TABLE(X)
#undef X
};

const char *payload_tsc_name(PayloadTsc source)
{
	return tsc_names[source];
}

static bool slice_is(struct slice s, const char *text)
{
	return strlen(text) == s.n && memcmp(s.at, text, s.n) == 0;
}

static void slice_copy(struct slice s, char *to, size_t max)
{
	size_t n = MIN(s.n, max);

	memcpy(to, s.at, n);
	to[n] = '\0';
}

static bool refuse(const struct line *l, const char *why, GError **err)
{
	return fail_advice(
	    err, ERR_INVALID,
	    "Was this printed by the payload of this version? Nothing else may use its console.",
	    "line %u of the payload's report: %s", l->number, why);
}

static bool word_dec(const struct line *l, size_t i, uint64_t *ret, GError **err)
{
	uint64_t v = 0;

	if (l->word[i].n == 0 || l->word[i].n > 20)
		return refuse(l, "no decimal number", err);
	for (size_t k = 0; k < l->word[i].n; k++) {
		char c = l->word[i].at[k];

		if (c < '0' || c > '9' || __builtin_mul_overflow(v, UINT64_C(10), &v) ||
		    __builtin_add_overflow(v, (uint64_t)(c - '0'), &v))
			return refuse(l, "no decimal number", err);
	}
	*ret = v;
	return true;
}

static bool word_hex(const struct line *l, size_t i, size_t digits, uint64_t *ret, GError **err)
{
	uint64_t v = 0;

	if (l->word[i].n != digits)
		return refuse(l, "no hexadecimal number of the right length", err);
	for (size_t k = 0; k < digits; k++) {
		int digit = g_ascii_xdigit_value(l->word[i].at[k]);

		if (digit < 0)
			return refuse(l, "no hexadecimal number", err);
		v = v << 4 | (uint64_t)digit;
	}
	*ret = v;
	return true;
}

/* All words of a line as decimal numbers, into the given fields. */
static bool words_dec(const struct line *l, uint64_t *const to[], size_t n, GError **err)
{
	for (size_t i = 0; i < n; i++)
		if (!word_dec(l, i, to[i], err))
			return false;
	return true;
}

static bool read_banner(struct payload_report *r, const struct line *l, GError **err)
{
	unsigned starts = r->starts;
	uint64_t format;

	if (!word_dec(l, 0, &format, err))
		return false;
	if (format != PAYLOAD_FORMAT)
		return refuse(l, "not the format of this version", err);
	*r = (struct payload_report){ .starts = starts + 1 };
	return true;
}

static bool read_cpuid(struct payload_report *r, const struct line *l, GError **err)
{
	const struct payload_cpuid *before;
	uint64_t v[6];
	size_t at;

	for (size_t i = 0; i < G_N_ELEMENTS(v); i++)
		if (!word_hex(l, i, 8, &v[i], err))
			return false;
	before = payload_report_cpuid(r, (uint32_t)v[0], (uint32_t)v[1]);
	if (before != NULL && !r->ready)
		return refuse(l, "a CPUID leaf a second time", err);
	if (before == NULL && r->n_cpuid == PAYLOAD_CPUID_MAX)
		return refuse(l, "too many CPUID leaves", err);
	/* The job `report` tells them again: the last word counts. */
	at = before != NULL ? (size_t)(before - r->cpuid) : r->n_cpuid++;
	r->cpuid[at] = (struct payload_cpuid){
		.leaf = (uint32_t)v[0],
		.subleaf = (uint32_t)v[1],
		.eax = (uint32_t)v[2],
		.ebx = (uint32_t)v[3],
		.ecx = (uint32_t)v[4],
		.edx = (uint32_t)v[5],
	};
	return true;
}

static bool read_xcr0(struct payload_report *r, const struct line *l, GError **err)
{
	r->has_xcr0 = true;
	return word_hex(l, 0, 16, &r->xcr0, err);
}

static bool read_tsc_khz(struct payload_report *r, const struct line *l, GError **err)
{
	return word_dec(l, 0, &r->tsc_khz, err);
}

static bool read_tsc_source(struct payload_report *r, const struct line *l, GError **err)
{
	for (unsigned i = 0; i < _PAYLOAD_TSC_MAX; i++) {
		if (!slice_is(l->word[0], tsc_names[i]))
			continue;
		r->tsc_source = (PayloadTsc)i;
		return true;
	}
	return refuse(l, "an unknown source of the TSC's rate", err);
}

static bool read_memory(struct payload_report *r, const struct line *l, GError **err)
{
	return word_dec(l, 0, &r->memory, err);
}

static bool read_cmdline(struct payload_report *r, const struct line *l, GError **err)
{
	(void)err;
	slice_copy(l->rest, r->cmdline, PAYLOAD_LINE_MAX);
	return true;
}

static bool read_ready(struct payload_report *r, const struct line *l, GError **err)
{
	if (r->n_cpuid == 0)
		return refuse(l, "ready without any CPUID leaf", err);
	r->ready = true;
	return true;
}

/* Which job begins tells nothing that the command line does not. */
static bool read_job(struct payload_report *r, const struct line *l, GError **err)
{
	(void)r;
	(void)l;
	(void)err;
	return true;
}

static bool read_burn(struct payload_report *r, const struct line *l, GError **err)
{
	struct payload_burn b;

	if (!words_dec(l, (uint64_t *const[]){ &b.iterations, &b.ns, &b.cycles }, 3, err))
		return false;
	if (r->n_burn == PAYLOAD_BURN_MAX)
		return refuse(l, "too many burns", err);
	r->burn[r->n_burn++] = b;
	return true;
}

static bool read_dirty(struct payload_report *r, const struct line *l, GError **err)
{
	return words_dec(l, (uint64_t *const[]){ &r->dirty_pages, &r->dirty_ns, &r->dirty_bad }, 3, err);
}

static bool read_verify(struct payload_report *r, const struct line *l, GError **err)
{
	r->verified = true;
	return word_dec(l, 0, &r->verify_pages, err) && word_hex(l, 1, 16, &r->verify_sum, err) &&
	       word_dec(l, 2, &r->verify_bad, err);
}

static bool read_tick(struct payload_report *r, const struct line *l, GError **err)
{
	return words_dec(l, (uint64_t *const[]){ &r->tick, &r->tick_tsc }, 2, err);
}

static bool read_soak(struct payload_report *r, const struct line *l, GError **err)
{
	uint64_t *const number[] = { &r->soak_beat, &r->soak_ns,    &r->soak_gap,
				     &r->soak_back, &r->soak_pages, &r->soak_bad };

	return words_dec(l, number, G_N_ELEMENTS(number), err) && word_hex(l, 6, 16, &r->soak_cpu, err);
}

static bool read_nmi(struct payload_report *r, const struct line *l, GError **err)
{
	return word_dec(l, 0, &r->nmis, err);
}

static bool read_reported(struct payload_report *r, const struct line *l, GError **err)
{
	return word_dec(l, 0, &r->reports, err);
}

static bool read_button(struct payload_report *r, const struct line *l, GError **err)
{
	(void)l;
	(void)err;
	r->button = true;
	return true;
}

static bool read_done(struct payload_report *r, const struct line *l, GError **err)
{
	(void)l;
	(void)err;
	r->done = true;
	return true;
}

/* The first error is the cause of what follows. */
static bool read_error(struct payload_report *r, const struct line *l, GError **err)
{
	if (l->rest.n == 0)
		return refuse(l, "an error without a reason", err);
	if (r->error[0] == '\0')
		slice_copy(l->rest, r->error, PAYLOAD_ERROR_MAX);
	return true;
}

#define FREE_TEXT SIZE_MAX

/* Every line that the payload prints; `n` is how many words follow the first. */
static const struct {
	const char *word;
	size_t n;
	bool once; /* in one start */
	bool (*read)(struct payload_report *r, const struct line *l, GError **err);
} line_table[] = {
	// clang-format off
	{ "payload",    1,         false, read_banner },
	{ "cpuid",      6,         false, read_cpuid },
	{ "xcr0",       1,         true,  read_xcr0 },
	{ "tsc_khz",    1,         true,  read_tsc_khz },
	{ "tsc_source", 1,         true,  read_tsc_source },
	{ "memory",     1,         true,  read_memory },
	{ "cmdline",    FREE_TEXT, true,  read_cmdline },
	{ "ready",      0,         true,  read_ready },
	{ "job",        FREE_TEXT, false, read_job },
	{ "burn",       3,         false, read_burn },
	{ "dirty",      3,         false, read_dirty },
	{ "verify",     3,         false, read_verify },
	{ "tick",       2,         false, read_tick },
	{ "soak",       7,         false, read_soak },
	{ "nmi",        1,         false, read_nmi },
	{ "reported",   1,         false, read_reported },
	{ "button",     0,         true,  read_button },
	{ "done",       0,         true,  read_done },
	{ "error",      FREE_TEXT, false, read_error },
	// clang-format on
};

G_STATIC_ASSERT(G_N_ELEMENTS(line_table) <= 32); /* bits of `seen` */

/* Cut at single spaces; false when there are more words than any line has. */
static bool line_split(struct line *l)
{
	struct slice s = l->rest;

	while (s.n > 0) {
		const char *space = memchr(s.at, ' ', s.n);
		size_t n = space == NULL ? s.n : (size_t)(space - s.at);

		if (l->n == WORDS_MAX)
			return false;
		l->word[l->n++] = (struct slice){ .at = s.at, .n = n };
		n = MIN(n + 1, s.n);
		s = (struct slice){ .at = s.at + n, .n = s.n - n };
	}
	return true;
}

static bool line_printable(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.at[i] < ' ' || s.at[i] > '~')
			return false;
	return true;
}

/* `seen` has a bit for each kind of line that came since the last banner. */
static bool line_read(struct payload_report *r, uint32_t *seen, unsigned number, struct slice s, GError **err)
{
	struct line l = { .number = number, .rest = s };
	const char *space = memchr(s.at, ' ', s.n);
	struct slice first = { .at = s.at, .n = space == NULL ? s.n : (size_t)(space - s.at) };
	size_t i = 0, cut = MIN(first.n + 1, s.n);

	if (s.n > PAYLOAD_LINE_MAX || !line_printable(s))
		return refuse(&l, "too long, or not plain text", err);
	while (i < G_N_ELEMENTS(line_table) && !slice_is(first, line_table[i].word))
		i++;
	if (i == G_N_ELEMENTS(line_table))
		return refuse(&l, "not a line of the payload's", err);
	if (r->starts == 0 && i != 0)
		return refuse(&l, "the first line must be the payload's banner", err);
	l.rest = (struct slice){ .at = s.at + cut, .n = s.n - cut };
	if (line_table[i].n != FREE_TEXT &&
	    (s.at[s.n - 1] == ' ' || !line_split(&l) || l.n != line_table[i].n))
		return refuse(&l, "the wrong number of words", err);
	*seen = i == 0 ? 0 : *seen;
	if (line_table[i].once && (*seen & 1u << i) != 0)
		return refuse(&l, "a second time", err);
	*seen |= 1u << i;
	return line_table[i].read(r, &l, err);
}

bool payload_report_parse(const char *text, size_t len, struct payload_report *ret, GError **err)
{
	struct payload_report r = { 0 };
	struct slice left = { .at = text, .n = len };
	uint32_t seen = 0;
	const char *end;

	if (len > PAYLOAD_TEXT_MAX)
		return fail(err, ERR_INVALID, "the payload's report has %zu bytes, more than %u", len,
			    PAYLOAD_TEXT_MAX);
	for (unsigned n = 1; left.n > 0 && (end = memchr(left.at, '\n', left.n)) != NULL; n++) {
		struct slice line = { .at = left.at, .n = (size_t)(end - left.at) };

		if (!line_read(&r, &seen, n, line, err))
			return false;
		left = (struct slice){ .at = end + 1, .n = left.n - line.n - 1 };
	}
	if (left.n > PAYLOAD_LINE_MAX)
		return fail(err, ERR_INVALID, "the payload's report has a line of %zu bytes", left.n);
	*ret = r;
	return true;
}

const struct payload_cpuid *payload_report_cpuid(const struct payload_report *r, uint32_t leaf,
						 uint32_t subleaf)
{
	for (size_t i = 0; i < r->n_cpuid; i++)
		if (r->cpuid[i].leaf == leaf && r->cpuid[i].subleaf == subleaf)
			return &r->cpuid[i];
	return NULL;
}

uint64_t payload_burn_rate(const struct payload_burn *b)
{
	const unsigned __int128 ns_per_s = 1000000000;
	unsigned __int128 rate;

	if (b->ns == 0)
		return 0;
	rate = ns_per_s * b->iterations * INSTRUCTIONS_PER_ITERATION / b->ns;
	return rate > UINT64_MAX ? UINT64_MAX : (uint64_t)rate;
}
