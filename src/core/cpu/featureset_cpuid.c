/* SPDX-License-Identifier: Apache-2.0 */
/* From the registers of CPUID to a featureset, and back to a comparison with them. */
#include "core/cpu/featureset.h"

#include <string.h>

#define LEAF_XSAVE 0xd
#define LEAF_FEATURES 7
#define LEAF_SIZES 0x80000008
#define KVM_WORD_LEAF 0x40000001
/* Guests with Hyper-V's leaves at the usual place find KVM's behind them. */
#define KVM_STEP 0x100
#define FAMILY_EXTENDED 0xf
#define FAMILY_INTEL 6
#define PHYS_BITS_PAE 36
#define PHYS_BITS_DEFAULT 32

static void read_vendor(const struct cpuid_dump *d, char vendor[CPU_VENDOR_LENGTH + 1])
{
	static const CpuRegister order[] = { CPU_EBX, CPU_EDX, CPU_ECX };

	memset(vendor, 0, CPU_VENDOR_LENGTH + 1);
	for (size_t i = 0; i < CPU_VENDOR_LENGTH; i++)
		vendor[i] = (char)(cpuid_reg(d, 0, 0, order[i / 4]) >> 8 * (i % 4));
}

static void read_signature(const struct cpuid_dump *d, struct featureset *s)
{
	uint32_t eax = cpuid_reg(d, 1, 0, CPU_EAX), family = eax >> 8 & 0xf;

	s->family = family;
	s->model = eax >> 4 & 0xf;
	s->stepping = eax & 0xf;
	if (family == FAMILY_EXTENDED)
		s->family += eax >> 20 & 0xff;
	if (family == FAMILY_EXTENDED || family == FAMILY_INTEL)
		s->model |= (eax >> 16 & 0xf) << 4;
}

/* Where KVM's leaves begin, or 0: others use the same numbers for other things. */
static uint32_t kvm_base(const struct cpuid_dump *d)
{
	for (uint32_t leaf = KVM_WORD_LEAF - 1; leaf <= KVM_WORD_LEAF - 1 + KVM_STEP; leaf += KVM_STEP) {
		const struct cpuid_leaf *l = cpuid_leaf_at(d, leaf, 0);

		if (l != NULL && memcmp(&l->reg[CPU_EBX], "KVMKVMKVM\0\0\0", 12) == 0)
			return leaf;
	}
	return 0;
}

/* The leaf that really holds a word of CPUID on this CPU; NULL when it would be stale or somebody else's. */
static const struct cpuid_leaf *live_leaf(const struct cpuid_dump *d, const struct featureset *s,
					  const struct feature_word *w)
{
	bool centaur = g_str_equal(s->vendor, "CentaurHauls") || g_str_equal(s->vendor, "  Shanghai  ");
	uint32_t index = w->index;

	if (index >= 0xc0000000) {
		if (!centaur || cpuid_reg(d, 0xc0000000, 0, CPU_EAX) < index)
			return NULL;
	} else if (index >= 0x80000000) {
		if (index > s->xlevel)
			return NULL;
	} else if (index >= 0x40000000) {
		uint32_t base = kvm_base(d);

		if (base == 0)
			return NULL;
		index = base + 1;
	} else if (index > s->level) {
		return NULL;
	}
	/* Leaf 7 counts its own subleaves. */
	if (index == LEAF_FEATURES && w->subleaf > cpuid_reg(d, LEAF_FEATURES, 0, CPU_EAX))
		return NULL;
	return cpuid_leaf_at(d, index, w->subleaf);
}

static uint32_t msr_word(const struct cpuid_dump *d, const struct feature_word *w)
{
	for (size_t i = 0; i < d->n_msrs; i++) {
		const struct cpuid_msr *m = &d->msr[i];

		if (m->index != w->index)
			continue;
		if (w->kind == WORD_MSR_CAN)
			return m->high & ~m->low;
		return w->kind == WORD_MSR_HIGH ? m->high : m->low;
	}
	return 0;
}

static uint32_t read_word(const struct cpuid_dump *d, const struct featureset *s,
			  const struct feature_word *w)
{
	const struct cpuid_leaf *leaf;

	switch (w->kind) {
	case WORD_CPUID:
		leaf = live_leaf(d, s, w);
		return leaf != NULL ? leaf->reg[w->reg] : 0;
	case WORD_MSR_LOW:
	case WORD_MSR_HIGH:
	case WORD_MSR_CAN:
		return msr_word(d, w);
	case WORD_QEMU:
		break;
	}
	return 0;
}

static void read_features(const struct cpuid_dump *d, struct featureset *s)
{
	struct cpu_bits all = { 0 };

	for (size_t i = 0; i < n_feature_words; i++)
		all.word[i] = read_word(d, s, &feature_words[i]);
	cpu_bits_and(&s->has, &all, &feature_known);
	for (size_t i = 0; i < n_features; i++)
		if (features[i].twin != FEATURE_NONE && !cpu_bits_has(&all, features[i].twin))
			cpu_bits_clear(&s->has, features[i].id);
}

/* Old dumps carry components that the CPU doesn't have, and sizes of 0. */
static void read_xsave(const struct cpuid_dump *d, struct featureset *s)
{
	uint64_t there = cpuid_reg(d, LEAF_XSAVE, 0, CPU_EAX) | (uint64_t)cpuid_reg(d, LEAF_XSAVE, 0, CPU_EDX)
								    << 32;

	if (s->level < LEAF_XSAVE)
		return;
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
		unsigned n = xsave_components[i].number;

		if ((there >> n & 1) == 0 || !cpu_bits_has(&s->has, xsave_components[i].feature))
			continue;
		s->xsave[i].size = cpuid_reg(d, LEAF_XSAVE, n, CPU_EAX);
		s->xsave[i].offset = s->xsave[i].size != 0 ? cpuid_reg(d, LEAF_XSAVE, n, CPU_EBX) : 0;
	}
}

static void read_phys_bits(const struct cpuid_dump *d, struct featureset *s)
{
	const struct feature *pae = feature_find("pae");

	s->phys_bits = s->xlevel >= LEAF_SIZES ? cpuid_reg(d, LEAF_SIZES, 0, CPU_EAX) & 0xff : 0;
	if (s->phys_bits == 0)
		s->phys_bits = cpu_bits_has(&s->has, pae->id) ? PHYS_BITS_PAE : PHYS_BITS_DEFAULT;
}

bool featureset_of_cpuid(const struct cpuid_dump *d, struct featureset *ret, GError **err)
{
	struct featureset s = { 0 };
	uint32_t xlevel = cpuid_reg(d, 0x80000000, 0, CPU_EAX);

	if (cpuid_leaf_at(d, 0, 0) == NULL || cpuid_leaf_at(d, 1, 0) == NULL)
		return fail(err, ERR_INVALID, "CPUID leaves 0 and 1 are missing");
	read_vendor(d, s.vendor);
	read_signature(d, &s);
	s.level = cpuid_reg(d, 0, 0, CPU_EAX);
	/* A CPU without extended leaves answers with something else. */
	s.xlevel = xlevel >= 0x80000000 && xlevel < 0xc0000000 ? xlevel : 0;
	read_features(d, &s);
	read_xsave(d, &s);
	read_phys_bits(d, &s);
	*ret = s;
	return true;
}

bool featureset_of_cpus(const GPtrArray *cpus, struct featureset *ret, struct cpu_bits *ret_differ,
			GError **err)
{
	struct featureset all = { 0 };
	struct cpu_bits any = { 0 };

	if (cpus->len == 0)
		return fail(err, ERR_INVALID, "there are no CPUs");
	for (guint i = 0; i < cpus->len; i++) {
		struct featureset one;

		if (!featureset_of_cpuid(cpus->pdata[i], &one, err))
			return false;
		if (i > 0 && memcmp(one.vendor, all.vendor, sizeof(one.vendor)) != 0)
			return fail(err, ERR_INVALID, "CPU %u has another vendor than CPU 0", i);
		cpu_bits_or(&any, &any, &one.has);
		if (i == 0)
			all = one;
		else
			featureset_meet(&all, &one);
	}
	cpu_bits_minus(ret_differ, &any, &all.has);
	*ret = all;
	return true;
}

/* ---- what guest code saw ---- */

/* Bits that CPUID shows, but for those that QEMU sets from the topology. */
static void visible_bits(const struct cpuid_dump *guest, struct cpu_bits *ret)
{
	static const char *const topology[] = { "ht", "cmp-legacy" };
	bool kvm = kvm_base(guest) != 0;

	*ret = feature_known;
	for (size_t i = 0; i < CPU_WORDS; i++)
		if (i >= n_feature_words || feature_words[i].kind != WORD_CPUID ||
		    (feature_words[i].index == KVM_WORD_LEAF && !kvm))
			ret->word[i] = 0;
	for (size_t i = 0; i < G_N_ELEMENTS(topology); i++)
		cpu_bits_clear(ret, feature_find(topology[i])->id);
}

static void add_differ(Json *into, GString *text, const char *name, uint32_t given, uint32_t seen)
{
	Json *pair;

	if (given == seen)
		return;
	pair = json_object();
	json_put_uint(pair, "given", given);
	json_put_uint(pair, "seen", seen);
	json_put(into, name, pair);
	g_string_append_printf(text, "; %s is 0x%x instead of 0x%x", name, seen, given);
}

static void add_names(GString *text, const char *what, const struct cpu_bits *bits)
{
	g_autofree char *names = NULL;

	if (cpu_bits_empty(bits))
		return;
	names = cpu_bits_names_print(bits, 0);
	g_string_append_printf(text, "; %s %s", what, names);
}

bool featureset_check_guest(const struct featureset *given, const struct cpuid_dump *guest, GError **err)
{
	_cleanup_json_ Json *differ = json_object();
	g_autoptr(GString) text = g_string_new(NULL);
	struct cpu_bits visible, missing, extra;
	struct featureset seen;

	if (!featureset_of_cpuid(guest, &seen, err))
		return false;
	visible_bits(guest, &visible);
	cpu_bits_minus(&missing, &given->has, &seen.has);
	cpu_bits_and(&missing, &missing, &visible);
	cpu_bits_minus(&extra, &seen.has, &given->has);
	cpu_bits_and(&extra, &extra, &visible);
	add_names(text, "it lacks", &missing);
	add_names(text, "it has", &extra);
	if (memcmp(given->vendor, seen.vendor, sizeof(seen.vendor)) != 0) {
		g_autofree char *vendor = cpu_vendor_print(seen.vendor);

		json_put_str(differ, "vendor", vendor);
		g_string_append_printf(text, "; vendor is %s", vendor);
	}
	add_differ(differ, text, "family", given->family, seen.family);
	add_differ(differ, text, "model", given->model, seen.model);
	add_differ(differ, text, "stepping", given->stepping, seen.stepping);
	add_differ(differ, text, "level", given->level, seen.level);
	add_differ(differ, text, "xlevel", given->xlevel, seen.xlevel);
	add_differ(differ, text, "phys_bits", given->phys_bits, seen.phys_bits);
	if (text->len == 0)
		return true;
	fail(err, ERR_QEMU, "guest code sees another CPU than it was given: %s", text->str + 2);
	err_detail(err, "missing", cpu_bits_names_json(&missing));
	err_detail(err, "extra", cpu_bits_names_json(&extra));
	return err_detail(err, "differ", g_steal_pointer(&differ));
}
