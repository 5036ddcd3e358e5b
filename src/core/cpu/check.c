/* SPDX-License-Identifier: Apache-2.0 */
#include "core/cpu/check.h"

#include <inttypes.h>
#include <string.h>

/* What a guest's own correction of its clock copes with. */
#define TSC_PPM_MAX 250

static const struct {
	const char *code;
	bool blocks;
} kinds[] = {
#define X(name, code, blocks) { code, blocks },
	CPU_REASON_TABLE(X)
#undef X
};

const char *cpu_reason_code(CpuReasonKind kind)
{
	return kinds[kind].code;
}

bool cpu_reason_blocks(CpuReasonKind kind)
{
	return kinds[kind].blocks;
}

static struct cpu_reason *add(struct cpu_verdict *v, CpuReasonKind kind)
{
	struct cpu_reason *r = &v->reason[v->n++];

	memset(r, 0, sizeof(*r));
	r->kind = kind;
	v->can = v->can && !kinds[kind].blocks;
	return r;
}

static void check_number(struct cpu_verdict *v, CpuReasonKind kind, uint32_t need, uint32_t have)
{
	struct cpu_reason *r;

	if (need <= have)
		return;
	r = add(v, kind);
	r->need = need;
	r->have = have;
}

/* A pin without a vendor is a bare set of features, and says nothing of it. */
static void check_vendor(struct cpu_verdict *v, const struct featureset *pin, const struct featureset *max)
{
	struct cpu_reason *r;

	if (pin->vendor[0] == '\0' || memcmp(pin->vendor, max->vendor, sizeof(pin->vendor)) == 0)
		return;
	r = add(v, CPU_REASON_VENDOR);
	memcpy(r->need_vendor, pin->vendor, sizeof(r->need_vendor));
	memcpy(r->have_vendor, max->vendor, sizeof(r->have_vendor));
}

static void check_features(struct cpu_verdict *v, const struct featureset *pin, const struct featureset *max)
{
	cpu_bits_minus(&v->missing, &pin->has, &max->has);
	/* Every host gives them, so a dump of CPUID need not show them. */
	cpu_bits_minus(&v->missing, &v->missing, &feature_of_kind[FEATURE_ALWAYS]);
	if (!cpu_bits_empty(&v->missing))
		add(v, CPU_REASON_FEATURES)->features = v->missing;
}

/* The guest's saved state is laid out as on its host. */
static void check_layouts(struct cpu_verdict *v, const struct featureset *pin, const struct featureset *max)
{
	struct cpu_bits differ = { 0 };

	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++) {
		const struct xsave_layout *a = &pin->xsave[i], *b = &max->xsave[i];
		FeatureId f = xsave_components[i].feature;

		if (cpu_bits_has(&pin->has, f) && cpu_bits_has(&max->has, f) && a->size != 0 &&
		    b->size != 0 && (a->size != b->size || a->offset != b->offset))
			cpu_bits_set(&differ, f);
	}
	if (!cpu_bits_empty(&differ))
		add(v, CPU_REASON_XSAVE)->features = differ;
}

static void check_tsc(struct cpu_verdict *v, const struct featureset *pin, const struct featureset *max)
{
	uint64_t a = pin->tsc_khz, b = max->tsc_khz, apart = a > b ? a - b : b - a;
	struct cpu_reason *r;

	if (a == 0 || b == 0 || max->tsc_scaling || apart <= a / (1000000 / TSC_PPM_MAX))
		return;
	r = add(v, cpu_bits_has(&pin->has, feature_find("invtsc")->id) ? CPU_REASON_INVTSC : CPU_REASON_TSC);
	r->need = a;
	r->have = b;
}

void cpu_check(const struct featureset *pin, GuestType type, const struct featureset *max,
	       struct cpu_verdict *ret)
{
	struct cpu_verdict *v = ret;

	v->can = true;
	v->n = 0;
	v->missing = (struct cpu_bits){ 0 };
	if (pin == NULL || cpu_bits_empty(&pin->has))
		add(v, CPU_REASON_NO_PIN);
	if (max == NULL || cpu_bits_empty(&max->has))
		add(v, CPU_REASON_NO_SET);
	if (v->n > 0)
		return;
	if (type == GUEST_KVM)
		check_vendor(v, pin, max);
	check_features(v, pin, max);
	check_number(v, CPU_REASON_LEVEL, pin->level, max->level);
	check_number(v, CPU_REASON_XLEVEL, pin->xlevel, max->xlevel);
	check_number(v, CPU_REASON_PHYS_BITS, pin->phys_bits, max->phys_bits);
	check_layouts(v, pin, max);
	check_tsc(v, pin, max);
}

/* ---- sentences ---- */

static void print_features(GString *s, const struct cpu_reason *r, const struct cpu_check_names *names)
{
	g_autofree char *list = cpu_bits_names_print(&r->features, 0);

	g_string_append_printf(s, "it needs %s (%s%s%s)", list, names->host != NULL ? names->host : "",
			       names->host != NULL ? ": " : "",
			       names->why != NULL ? names->why : "not in what it offers");
}

static void print_vendor(GString *s, const struct cpu_reason *r)
{
	g_autofree char *need = cpu_vendor_print(r->need_vendor), *have = cpu_vendor_print(r->have_vendor);

	g_string_append_printf(s, "it was started on a CPU of %s, and this one is of %s", need, have);
}

static void print_reason(GString *s, const struct cpu_reason *r, const struct cpu_check_names *names)
{
	g_autofree char *list = NULL;

	switch (r->kind) {
	case CPU_REASON_NO_PIN:
		g_string_append(s, "nothing is known of the features that it was started with");
		return;
	case CPU_REASON_NO_SET:
		g_string_append(s, "the host offers nothing for guests of this type, as far as is known");
		return;
	case CPU_REASON_VENDOR:
		print_vendor(s, r);
		return;
	case CPU_REASON_FEATURES:
		print_features(s, r, names);
		return;
	case CPU_REASON_LEVEL:
	case CPU_REASON_XLEVEL:
		g_string_append_printf(s, "it uses CPUID leaves up to 0x%" PRIx64 ", the host has 0x%" PRIx64,
				       r->need, r->have);
		return;
	case CPU_REASON_PHYS_BITS:
		g_string_append_printf(s, "it has %" PRIu64 " physical address bits, the host has %" PRIu64,
				       r->need, r->have);
		return;
	case CPU_REASON_XSAVE:
		list = cpu_bits_names_print(&r->features, 0);
		g_string_append_printf(s, "the host keeps the state of %s at another place", list);
		return;
	case CPU_REASON_INVTSC:
	case CPU_REASON_TSC:
		g_string_append_printf(s,
				       "its TSC runs at %" PRIu64 " kHz, that of the host at %" PRIu64
				       " kHz, and the host can't scale it",
				       r->need, r->have);
		return;
	case _CPU_REASON_MAX:
		break;
	}
	g_assert_not_reached();
}

char *cpu_reason_print(const struct cpu_reason *r, const struct cpu_check_names *names)
{
	GString *s = g_string_sized_new(128);

	print_reason(s, r, names);
	return g_string_free(s, FALSE);
}

static void print_hosts(GString *s, const char *const *hosts)
{
	if (*hosts == NULL)
		g_string_append(s, "; no host can take it");
	for (size_t i = 0; hosts[i] != NULL; i++)
		g_string_append_printf(s, "%s%s", i == 0 ? "; hosts that can take it: " : ", ", hosts[i]);
}

char *cpu_verdict_print(const struct cpu_verdict *v, const struct cpu_check_names *names)
{
	GString *s = g_string_sized_new(256);
	bool first = true;

	if (names->vm != NULL)
		g_string_append_printf(s, "vm %s", names->vm);
	else
		g_string_append(s, "the guest");
	g_string_append_printf(s, " %s move to %s", v->can ? "can" : "cannot",
			       names->host != NULL ? names->host : "the host");
	for (size_t i = 0; i < v->n; i++) {
		/* Of a guest that can move only what to look out for is left to say. */
		g_string_append(s, first ? (v->can ? ", but: " : ": ") : "; ");
		print_reason(s, &v->reason[i], names);
		first = false;
	}
	if (!v->can && names->lost != NULL)
		g_string_append_printf(s, "; %s", names->lost);
	if (!v->can && names->can != NULL)
		print_hosts(s, names->can);
	return g_string_free(s, FALSE);
}

static Json *reason_to_json(const struct cpu_reason *r, const struct cpu_check_names *names)
{
	g_autofree char *text = cpu_reason_print(r, names);
	Json *j = json_object();

	json_put_str(j, "code", cpu_reason_code(r->kind));
	json_put_bool(j, "blocks", cpu_reason_blocks(r->kind));
	json_put_str(j, "message", text);
	if (r->kind == CPU_REASON_FEATURES || r->kind == CPU_REASON_XSAVE) {
		json_put(j, "features", cpu_bits_names_json(&r->features));
	} else if (r->kind == CPU_REASON_VENDOR) {
		g_autofree char *need = cpu_vendor_print(r->need_vendor),
				*have = cpu_vendor_print(r->have_vendor);

		json_put_str(j, "need", need);
		json_put_str(j, "have", have);
	} else if (r->need != 0) {
		json_put_uint(j, "need", r->need);
		json_put_uint(j, "have", r->have);
	}
	return j;
}

Json *cpu_verdict_to_json(const struct cpu_verdict *v, const struct cpu_check_names *names)
{
	Json *j = json_object(), *reasons = json_array();

	for (size_t i = 0; i < v->n; i++)
		json_array_append_new(reasons, reason_to_json(&v->reason[i], names));
	json_put_str(j, "verdict", v->can ? "ok" : "refuse");
	json_put(j, "missing", cpu_bits_names_json(&v->missing));
	json_put(j, "reasons", reasons);
	return j;
}
