/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/cpuid.h"

#include <string.h>

#define CPUID_LINE_MAX 4096 /* comments may be long */
#define FIELDS_MAX 7

const struct cpuid_leaf *cpuid_leaf_at(const struct cpuid_dump *d, uint32_t leaf, uint32_t subleaf)
{
	for (size_t i = 0; i < d->n_leaves; i++)
		if (d->leaf[i].leaf == leaf && d->leaf[i].subleaf == subleaf)
			return &d->leaf[i];
	return NULL;
}

uint32_t cpuid_reg(const struct cpuid_dump *d, uint32_t leaf, uint32_t subleaf, unsigned reg)
{
	const struct cpuid_leaf *l = cpuid_leaf_at(d, leaf, subleaf);

	return l != NULL ? l->reg[reg] : 0;
}

bool cpuid_add(struct cpuid_dump *d, const struct cpuid_leaf *leaf, GError **err)
{
	const struct cpuid_leaf *there = cpuid_leaf_at(d, leaf->leaf, leaf->subleaf);

	if (there != NULL) {
		if (memcmp(there, leaf, sizeof(*leaf)) != 0)
			return fail(err, ERR_INVALID, "leaf %08x.%x is there twice, with different answers",
				    leaf->leaf, leaf->subleaf);
		return true;
	}
	if (d->n_leaves == CPUID_LEAVES_MAX)
		return fail(err, ERR_LIMIT, "a CPU has more than %d leaves", CPUID_LEAVES_MAX);
	d->leaf[d->n_leaves++] = *leaf;
	return true;
}

static bool add_msr(struct cpuid_dump *d, const uint32_t v[3], GError **err)
{
	const struct cpuid_msr msr = { v[0], v[1], v[2] };

	for (size_t i = 0; i < d->n_msrs; i++) {
		if (d->msr[i].index != msr.index)
			continue;
		if (memcmp(&d->msr[i], &msr, sizeof(msr)) != 0)
			return fail(err, ERR_INVALID, "MSR %08x is there twice, with different values",
				    msr.index);
		return true;
	}
	if (d->n_msrs == CPUID_MSRS_MAX)
		return fail(err, ERR_LIMIT, "a CPU has more than %d MSRs", CPUID_MSRS_MAX);
	d->msr[d->n_msrs++] = msr;
	return true;
}

/* One to eight hex digits, and nothing else. */
static bool read_hex(const char *text, uint32_t *ret)
{
	size_t n = strlen(text);
	uint32_t v = 0;

	if (n == 0 || n > 8)
		return false;
	for (; *text != '\0'; text++) {
		int digit = g_ascii_xdigit_value(*text);

		if (digit < 0)
			return false;
		v = v << 4 | (uint32_t)digit;
	}
	*ret = v;
	return true;
}

/* All fields; the prefixes are what must stand before each number. */
static bool read_numbers(char *const *field, size_t n, const char *const *prefix, uint32_t *ret)
{
	for (size_t i = 0; i < n; i++) {
		const char *p = prefix != NULL ? prefix[i] : "";

		if (!g_str_has_prefix(field[i], p) || !read_hex(field[i] + strlen(p), &ret[i]))
			return false;
	}
	return true;
}

/* Fields of a line, cut in place. FIELDS_MAX + 1 when there are more. */
static size_t split(char *line, char *field[FIELDS_MAX])
{
	size_t n = 0;

	for (char *p = line; *p != '\0';) {
		while (*p == ' ' || *p == '\t')
			*p++ = '\0';
		if (*p == '\0')
			break;
		if (n == FIELDS_MAX)
			return FIELDS_MAX + 1;
		field[n++] = p;
		while (*p != '\0' && *p != ' ' && *p != '\t')
			p++;
	}
	return n;
}

struct reader {
	GPtrArray *cpus;
	struct cpuid_dump *cpu; /* NULL before the first line of one */
	bool is_raw;            /* the output of cpuid -r */
};

static bool begin_cpu(struct reader *r, GError **err)
{
	if (r->cpus->len == CPUID_CPUS_MAX)
		return fail(err, ERR_LIMIT, "there are more than %d CPUs", CPUID_CPUS_MAX);
	r->cpu = g_new0(struct cpuid_dump, 1);
	g_ptr_array_add(r->cpus, r->cpu);
	return true;
}

/* "CPU:" or "CPU 12:" */
static bool is_cpu_line(char *const *field, size_t n)
{
	size_t digits;

	if (n == 1)
		return g_str_equal(field[0], "CPU:");
	if (n != 2 || !g_str_equal(field[0], "CPU"))
		return false;
	digits = strspn(field[1], "0123456789");
	return digits > 0 && digits < 7 && g_str_equal(field[1] + digits, ":");
}

/* "0x00000007 0x01: eax=0x... ebx=0x... ecx=0x... edx=0x..." */
static bool read_raw(char *const *field, size_t n, struct cpuid_leaf *ret)
{
	static const char *const prefix[] = { "0x", "0x", "eax=0x", "ebx=0x", "ecx=0x", "edx=0x" };
	size_t end;
	uint32_t v[6];

	if (n != 6 || (end = strlen(field[1])) == 0 || field[1][end - 1] != ':')
		return false;
	field[1][end - 1] = '\0';
	if (!read_numbers(field, 6, prefix, v))
		return false;
	*ret = (struct cpuid_leaf){ v[0], v[1], { v[2], v[3], v[4], v[5] } };
	return true;
}

static bool read_dump(char *const *field, size_t n, struct cpuid_leaf *ret)
{
	uint32_t v[6];

	if (n != 6 || !read_numbers(field, 6, NULL, v))
		return false;
	*ret = (struct cpuid_leaf){ v[0], v[1], { v[2], v[3], v[4], v[5] } };
	return true;
}

static bool read_fields(struct reader *r, char *const *field, size_t n, GError **err)
{
	struct cpuid_leaf leaf;
	uint32_t v[3];

	if (is_cpu_line(field, n)) {
		r->is_raw = true;
		return begin_cpu(r, err);
	}
	if (r->cpu == NULL && !begin_cpu(r, err))
		return false;
	if (!r->is_raw && n == 4 && g_str_equal(field[0], "msr") && read_numbers(field + 1, 3, NULL, v))
		return add_msr(r->cpu, v, err);
	if ((!r->is_raw && read_dump(field, n, &leaf)) || read_raw(field, n, &leaf))
		return cpuid_add(r->cpu, &leaf, err);
	return fail(err, ERR_INVALID, "this is no line of a CPUID dump");
}

static bool read_line(struct reader *r, const char *line, size_t len, GError **err)
{
	char text[CPUID_LINE_MAX + 1], *field[FIELDS_MAX];
	size_t n;

	if (len > CPUID_LINE_MAX)
		return fail(err, ERR_INVALID, "the line is too long");
	memcpy(text, line, len);
	text[len] = '\0';
	if (memchr(text, '\0', len) != NULL)
		return fail(err, ERR_INVALID, "there is a zero byte");
	if (len > 0 && text[len - 1] == '\r')
		text[len - 1] = '\0';
	if (text[0] == '#')
		return true;
	n = split(text, field);
	return n == 0 || read_fields(r, field, n, err);
}

static bool advise(GError **err)
{
	return err_advise(err, "A file is a CPUID dump, the output of `cpuid -r`, or a host record of "
			       "`plim host cpu --export`.");
}

static bool read_text(struct reader *r, const char *text, size_t len, GError **err)
{
	size_t number = 1;

	for (size_t at = 0; at < len; number++) {
		const char *end = memchr(text + at, '\n', len - at);
		size_t n = end != NULL ? (size_t)(end - text) - at : len - at;

		if (!read_line(r, text + at, n, err)) {
			g_prefix_error(err, "line %zu: ", number);
			return advise(err);
		}
		at += n + 1;
	}
	return true;
}

static bool check_cpus(const GPtrArray *cpus, GError **err)
{
	if (cpus->len == 0) {
		fail(err, ERR_INVALID, "there is no CPUID leaf in it");
		return advise(err);
	}
	for (guint i = 0; i < cpus->len; i++)
		for (uint32_t leaf = 0; leaf <= 1; leaf++)
			if (cpuid_leaf_at(cpus->pdata[i], leaf, 0) == NULL) {
				fail(err, ERR_INVALID, "CPU %u has no leaf %u, which says what it is", i,
				     leaf);
				return advise(err);
			}
	return true;
}

GPtrArray *cpuid_parse(const char *text, size_t len, GError **err)
{
	g_autoptr(GPtrArray) cpus = g_ptr_array_new_with_free_func(g_free);
	struct reader r = { .cpus = cpus };

	if (len > CPUID_TEXT_MAX) {
		fail(err, ERR_LIMIT, "it is larger than %u bytes", CPUID_TEXT_MAX);
		return NULL;
	}
	if (!read_text(&r, text, len, err) || !check_cpus(cpus, err))
		return NULL;
	return g_steal_pointer(&cpus);
}
