/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/featureset.h"

#include <string.h>

/* Leaves that levelling knows: XSAVE; the address sizes, and AMD's topology. */
#define LEVEL_CAP 0xd
#define XLEVEL_CAP 0x80000008
#define XLEVEL_CAP_AMD 0x8000001e
#define LEAF_HYPERVISOR 0x40000000
#define LEAF_EXTENDED 0x80000000
#define LEAF_CENTAUR 0xc0000000

static const char *const guest_types[] = { "kvm", "tcg" };
static const char *const set_kinds[] = { "raw", "default", "max" };

const char *guest_type_name(GuestType type)
{
	return guest_types[type];
}

/* The index of a name in a table. */
static bool choose(const char *name, const char *const *table, size_t n, size_t *ret)
{
	for (size_t i = 0; i < n; i++)
		if (g_str_equal(name, table[i])) {
			*ret = i;
			return true;
		}
	return false;
}

bool guest_type_parse(const char *name, GuestType *ret, GError **err)
{
	size_t i;

	if (!choose(name, guest_types, G_N_ELEMENTS(guest_types), &i))
		return fail_advice(err, ERR_INVALID, "Write kvm or tcg.", "there is no guest type '%s'",
				   name);
	*ret = (GuestType)i;
	return true;
}

const char *set_kind_name(SetKind kind)
{
	return set_kinds[kind];
}

bool set_kind_parse(const char *name, SetKind *ret, GError **err)
{
	size_t i;

	if (!choose(name, set_kinds, G_N_ELEMENTS(set_kinds), &i))
		return fail_advice(err, ERR_INVALID, "Write raw, default or max.",
				   "there is no featureset '%s' of a host", name);
	*ret = (SetKind)i;
	return true;
}

bool cpu_vendor_known(const char *vendor)
{
	static const char *const known[] = { "GenuineIntel", "AuthenticAMD", "HygonGenuine",
					     "CentaurHauls", "  Shanghai  ", NULL };

	return g_strv_contains(known, vendor);
}

char *cpu_vendor_print(const char *vendor)
{
	GString *s = g_string_new(NULL);

	for (const char *p = vendor; *p != '\0'; p++)
		if (g_ascii_isprint(*p) && *p != '\\')
			g_string_append_c(s, *p);
		else
			g_string_append_printf(s, "\\x%02x", (unsigned)(unsigned char)*p);
	return g_string_free(s, FALSE);
}

bool featureset_equal(const struct featureset *a, const struct featureset *b)
{
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		if (a->xsave[i].size != b->xsave[i].size || a->xsave[i].offset != b->xsave[i].offset)
			return false;
	return cpu_bits_equal(&a->has, &b->has) && memcmp(a->vendor, b->vendor, sizeof(a->vendor)) == 0 &&
	       a->family == b->family && a->model == b->model && a->stepping == b->stepping &&
	       a->level == b->level && a->xlevel == b->xlevel && a->phys_bits == b->phys_bits &&
	       a->tsc_khz == b->tsc_khz && a->tsc_scaling == b->tsc_scaling;
}

static bool is_older(const struct featureset *a, const struct featureset *b)
{
	if (a->family != b->family)
		return a->family < b->family;
	return a->model != b->model ? a->model < b->model : a->stepping < b->stepping;
}

void featureset_meet_numbers(struct featureset *into, const struct featureset *other)
{
	if (is_older(other, into)) {
		into->family = other->family;
		into->model = other->model;
		into->stepping = other->stepping;
	}
	if (memcmp(other->vendor, into->vendor, sizeof(into->vendor)) < 0)
		memcpy(into->vendor, other->vendor, sizeof(into->vendor));
	into->level = MIN(into->level, other->level);
	into->xlevel = MIN(into->xlevel, other->xlevel);
	into->phys_bits = MIN(into->phys_bits, other->phys_bits);
	if (into->tsc_khz != other->tsc_khz)
		into->tsc_khz = 0;
	into->tsc_scaling = into->tsc_scaling && other->tsc_scaling;
}

void featureset_meet(struct featureset *into, const struct featureset *other)
{
	cpu_bits_and(&into->has, &into->has, &other->has);
	featureset_meet_numbers(into, other);
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		if (into->xsave[i].size == 0)
			into->xsave[i] = other->xsave[i];
}

void featureset_make_max(struct featureset *s, struct cpu_causes *ret_causes)
{
	cpu_bits_close(&s->has, CLOSE_HARD, ret_causes);
}

void featureset_make_default(struct featureset *s)
{
	struct cpu_bits hidden;

	cpu_bits_or(&hidden, &feature_of_kind[FEATURE_OPT_IN], &feature_of_kind[FEATURE_NEVER]);
	cpu_bits_minus(&s->has, &s->has, &hidden);
	cpu_bits_close(&s->has, CLOSE_HARD, NULL);
	cpu_bits_or(&s->has, &s->has, &feature_of_kind[FEATURE_ALWAYS]);
	featureset_cap(s);
}

void featureset_remove(struct featureset *s, const struct cpu_bits *gone, CloseKind kind)
{
	cpu_bits_minus(&s->has, &s->has, gone);
	cpu_bits_close(&s->has, kind, NULL);
}

void featureset_cap(struct featureset *s)
{
	bool amd = g_str_equal(s->vendor, "AuthenticAMD") || g_str_equal(s->vendor, "HygonGenuine");
	uint32_t level = LEVEL_CAP, xlevel = amd ? XLEVEL_CAP_AMD : XLEVEL_CAP;

	for (size_t i = 0; i < n_feature_words; i++) {
		const struct feature_word *w = &feature_words[i];

		if (w->kind != WORD_CPUID || s->has.word[i] == 0)
			continue;
		if (w->index < LEAF_HYPERVISOR)
			level = MAX(level, w->index);
		else if (w->index >= LEAF_EXTENDED && w->index < LEAF_CENTAUR)
			xlevel = MAX(xlevel, w->index);
	}
	s->level = MIN(s->level, level);
	s->xlevel = MIN(s->xlevel, xlevel);
}
