/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/pin.h"
#include "core/cpu/check.h"

#include <string.h>

#define NAMES_SHOWN 12

CpuOffer *cpu_offer_free(CpuOffer *o)
{
	if (o != NULL) {
		for (int t = 0; t < GUEST_TYPES; t++)
			g_free(o->guest[t].why);
		g_free(o);
	}
	return NULL;
}

GuestType guest_type_of(Accel a)
{
	return a == ACCEL_KVM ? GUEST_KVM : GUEST_TCG;
}

/* ---- what the vm asks for ---- */

/* The levels of the x86-64 psABI: what each adds to the one below. */
static const struct {
	const char *name, *adds;
} baseline[] = {
	{ "x86-64", "lm,cmov,cx8,fpu,fxsr,mmx,syscall,sse,sse2" },
	{ "x86-64-v2", "cx16,lahf-lm,popcnt,pni,sse4.1,sse4.2,ssse3" },
	{ "x86-64-v3", "avx,avx2,bmi1,bmi2,f16c,fma,abm,movbe" },
	{ "x86-64-v4", "avx512f,avx512bw,avx512cd,avx512dq,avx512vl" },
};

/* What a vm's settings come to: only these, not those, and these must be there. */
struct wish {
	bool has_only;
	struct cpu_bits only, without, needed;
};

static const char *setting_text(const Vm *vm, const char *key)
{
	const char *text = json_string_value(vm_setting(vm, key));

	return text != NULL && text[0] != '\0' && !g_str_equal(text, "auto") ? text : NULL;
}

static void add_names(struct cpu_bits *into, const char *names)
{
	struct cpu_bits b;
	bool known = cpu_bits_parse_names(names, &b, NULL);

	g_assert(known); /* the table above */
	cpu_bits_or(into, into, &b);
}

static bool read_baseline(const char *text, struct wish *w)
{
	size_t n = 0;

	while (n < G_N_ELEMENTS(baseline) && !g_str_equal(baseline[n].name, text))
		n++;
	for (size_t i = 0; n < G_N_ELEMENTS(baseline) && i < G_N_ELEMENTS(baseline); i++)
		add_names(i <= n ? &w->needed : &w->without, baseline[i].adds);
	return n < G_N_ELEMENTS(baseline);
}

static bool read_level(const char *text, struct wish *w, GError **err)
{
	if (text == NULL || read_baseline(text, w))
		return true;
	if (!cpu_bits_parse(text, &w->only, NULL, err)) {
		g_prefix_error(err, "cpu.level can't be '%.64s': ", text);
		return err_advise(
		    err, "Write x86-64, x86-64-v2, x86-64-v3, x86-64-v4, or a set as `plim cpu level` "
			 "prints it.");
	}
	w->has_only = true;
	cpu_bits_or(&w->needed, &w->needed, &w->only);
	return true;
}

static bool read_features(const char *text, struct wish *w, GError **err)
{
	g_auto(GStrv) part = g_strsplit(text != NULL ? text : "", ",", -1);

	for (size_t i = 0; part[i] != NULL; i++) {
		const char *word = g_strstrip(part[i]);
		const struct feature *f;

		if (word[0] != '+' && word[0] != '-')
			return fail_advice(
			    err, ERR_INVALID,
			    "Write -avx2,-sha-ni to take features away, +vmx for what is only given "
			    "when asked.",
			    "cpu.features: '%.64s' begins with neither + nor -", word);
		if (!feature_parse(word + 1, &f, err)) {
			g_prefix_error(err, "cpu.features: ");
			return false;
		}
		cpu_bits_set(word[0] == '+' ? &w->needed : &w->without, f->id);
	}
	return true;
}

static bool read_wish(const Vm *vm, struct wish *w, GError **err)
{
	struct cpu_bits both;
	g_autofree char *names = NULL;

	if (!read_level(setting_text(vm, "cpu.level"), w, err) ||
	    !read_features(setting_text(vm, "cpu.features"), w, err))
		return false;
	cpu_bits_and(&both, &w->needed, &w->without);
	if (cpu_bits_empty(&both) || setting_text(vm, "cpu.features") == NULL)
		return true;
	/* "cpu.level=x86-64-v3 cpu.features=-avx2" is clear enough: the guest goes without it. */
	cpu_bits_minus(&w->needed, &w->needed, &both);
	return true;
}

bool pin_settings_ok(const Vm *vm, GError **err)
{
	struct wish w = { 0 };

	return read_wish(vm, &w, err);
}

char *pin_wish(const Vm *vm)
{
	const char *level = setting_text(vm, "cpu.level"), *signs = setting_text(vm, "cpu.features");

	if (level != NULL && signs != NULL)
		return g_strdup_printf("cpu.level=%s, cpu.features=%s", level, signs);
	if (level != NULL)
		return g_strdup_printf("cpu.level=%s", level);
	return signs != NULL ? g_strdup_printf("cpu.features=%s", signs) : NULL;
}

/* ---- the pin ---- */

void pin_spare_tcg(struct featureset *s)
{
	static const char *const any[] = { "xsaveopt", "xsavec", "xgetbv1", "xsaves" };
	struct cpu_bits gone = { 0 };

	for (size_t i = 0; i < G_N_ELEMENTS(any); i++)
		if (cpu_bits_has(&s->has, feature_find(any[i])->id))
			return;
	cpu_bits_set(&gone, feature_find("xsave")->id);
	featureset_remove(s, &gone, CLOSE_HARD);
}

/*
 * What no guest gets unasked, and what needs it: nested virtualisation is of little use without its
 * extensions, which a "-" behind it takes away again. How the host lays out XSAVE for it comes along.
 */
static void add_opt_in(struct featureset *pin, const struct wish *w, const struct featureset *max)
{
	struct cpu_bits asked, more = { 0 };

	cpu_bits_and(&asked, &w->needed, &feature_of_kind[FEATURE_OPT_IN]);
	cpu_bits_and(&asked, &asked, &max->has);
	for (unsigned b = cpu_bits_next(&asked, 0); b < CPU_BITS; b = cpu_bits_next(&asked, b + 1)) {
		struct cpu_bits needs_it;

		feature_dependents((FeatureId)b, CLOSE_HARD, &needs_it);
		cpu_bits_or(&more, &more, &needs_it);
	}
	cpu_bits_and(&more, &more, &max->has);
	cpu_bits_minus(&more, &more, &feature_of_kind[FEATURE_NEVER]);
	cpu_bits_or(&more, &more, &asked);
	cpu_bits_or(&pin->has, &pin->has, &more);
	for (size_t i = 0; i < CPU_XSAVE_COMPONENTS; i++)
		if (cpu_bits_has(&more, xsave_components[i].feature))
			pin->xsave[i] = max->xsave[i];
}

static bool level_has(const struct featureset *level, const struct wish *w, const char *vm, GuestType type,
		      GError **err)
{
	struct cpu_bits missing;
	g_autofree char *names = NULL;

	cpu_bits_minus(&missing, &w->needed, &level->has);
	if (cpu_bits_empty(&missing))
		return true;
	names = cpu_bits_names_print(&missing, NAMES_SHOWN);
	fail(err, ERR_UNSUPPORTED, "vm '%s' asks for %s, which the pool's level for %s guests has not", vm,
	     names, guest_type_name(type));
	err_detail(err, "missing", cpu_bits_names_json(&missing));
	return err_advise(
	    err,
	    "Take it out of cpu.level and cpu.features. `plim host cpu` says what the hosts have; a vm "
	    "that stays on its host can have all of it with cpu.model=%s.",
	    type == GUEST_KVM ? "host" : "max");
}

static bool host_has(const struct featureset *pin, const HostFacts *host, const char *vm, GuestType type,
		     const struct featureset *max, GError **err)
{
	const struct cpu_check_names names = { .vm = vm, .host = host->name };
	g_autofree char *text = NULL;
	struct cpu_verdict v;

	cpu_check(pin, type, max, &v);
	if (v.can)
		return true;
	text = cpu_verdict_print(&v, &names);
	fail(err, ERR_UNSUPPORTED, "%s", text);
	err_detail(err, "missing", cpu_bits_names_json(&v.missing));
	return err_advise(err, "`plim host probe %s` looks at the host again; another host may take the vm.",
			  host->name);
}

bool pin_of(const Vm *vm, const HostFacts *host, GuestType type, const struct cpu_offer *offer,
	    struct featureset *ret, GError **err)
{
	struct featureset pin = offer->level;
	struct wish w = { 0 };

	if (offer->fixed) {
		*ret = pin;
		return host_has(&pin, host, vm->name, type, &offer->max, err);
	}
	if (!read_wish(vm, &w, err))
		return false;
	add_opt_in(&pin, &w, &offer->max);
	if (!level_has(&pin, &w, vm->name, type, err))
		return false;
	if (w.has_only)
		cpu_bits_and(&pin.has, &pin.has, &w.only);
	featureset_remove(&pin, &w.without, CLOSE_HARD);
	cpu_bits_close(&pin.has, CLOSE_HARD, NULL);
	if (type == GUEST_TCG)
		pin_spare_tcg(&pin);
	featureset_cap(&pin);
	if (cpu_bits_empty(&pin.has))
		return fail_advice(err, ERR_UNSUPPORTED, "Ask for less to be taken away.",
				   "vm '%s' would have a CPU without any feature", vm->name);
	if (!host_has(&pin, host, vm->name, type, &offer->max, err))
		return false;
	*ret = pin;
	return true;
}

/* ---- what QEMU made of it ---- */

#define WORDS_PROPERTY "feature-words"

/* The numbers beside the features, as properties. */
static const struct {
	const char *property;
	size_t offset;
} numbers[] = {
	{ "family", offsetof(struct featureset, family) },
	{ "model", offsetof(struct featureset, model) },
	{ "stepping", offsetof(struct featureset, stepping) },
	{ "level", offsetof(struct featureset, level) },
	{ "xlevel", offsetof(struct featureset, xlevel) },
	{ "phys-bits", offsetof(struct featureset, phys_bits) },
};

static bool is_cpuid_word(unsigned bit)
{
	return bit / 32 < n_feature_words && feature_words[bit / 32].kind == WORD_CPUID;
}

/* The words of CPUID are one property; bits of MSRs are properties of their own. */
char **pin_questions(const struct featureset *pin, bool again)
{
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();

	g_strv_builder_add(b, WORDS_PROPERTY);
	if (again)
		return g_strv_builder_end(b);
	g_strv_builder_add(b, "vendor");
	for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++)
		g_strv_builder_add(b, numbers[i].property);
	for (unsigned bit = cpu_bits_next(&pin->has, 0); bit < CPU_BITS;
	     bit = cpu_bits_next(&pin->has, bit + 1))
		if (!is_cpuid_word(bit) && feature_at(bit) != NULL)
			g_strv_builder_add(b, feature_at(bit)->name);
	return g_strv_builder_end(b);
}

static int word_at(uint32_t leaf, uint32_t subleaf, const char *reg)
{
	static const char *const name[] = { "EAX", "EBX", "ECX", "EDX" };

	for (size_t w = 0; w < n_feature_words; w++)
		if (feature_words[w].kind == WORD_CPUID && feature_words[w].index == leaf &&
		    feature_words[w].subleaf == subleaf && g_strcmp0(name[feature_words[w].reg], reg) == 0)
			return (int)w;
	return -1;
}

/* QEMU lists words that hold no features of guests too: the state components of leaf 0xd. */
static bool read_words(const Json *list, struct cpu_bits *ret, GError **err)
{
	const Json *item;
	size_t i;

	if (json_array_size(list) == 0)
		return fail(err, ERR_QEMU, "QEMU does not tell the features of its vcpu");
	json_array_foreach(list, i, item)
	{
		uint32_t leaf = (uint32_t)json_uint(item, "cpuid-input-eax", UINT32_MAX),
			 subleaf = (uint32_t)json_uint(item, "cpuid-input-ecx", 0);
		int w = word_at(leaf, subleaf, json_str(item, "cpuid-register"));

		if (w >= 0)
			ret->word[w] = (uint32_t)json_uint(item, "features", 0);
	}
	return true;
}

/* The bits of MSRs that were asked for; `again`: as before. */
static void read_properties(const struct featureset *pin, const Json *answers, bool again,
			    struct cpu_bits *ret)
{
	for (unsigned bit = cpu_bits_next(&pin->has, 0); bit < CPU_BITS;
	     bit = cpu_bits_next(&pin->has, bit + 1))
		if (!is_cpuid_word(bit) && feature_at(bit) != NULL &&
		    (again || json_bool(answers, feature_at(bit)->name, false)))
			cpu_bits_set(ret, bit);
}

/* What QEMU makes of the topology is no feature of the pin. */
static void leave_topology(struct cpu_bits *b)
{
	static const char *const names[] = { "ht", "cmp-legacy" };

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++)
		cpu_bits_clear(b, feature_find(names[i])->id);
}

static Json *numbers_that_differ(const struct featureset *pin, const Json *answers, bool again)
{
	Json *list = json_array();

	if (again)
		return list;
	if (g_strcmp0(json_str(answers, "vendor"), pin->vendor) != 0)
		json_array_append_new(list, json_string("vendor"));
	for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
		const uint32_t *want =
		    (const uint32_t *)(const void *)((const char *)pin + numbers[i].offset);

		if (json_uint(answers, numbers[i].property, UINT64_MAX) != *want)
			json_array_append_new(list, json_string(numbers[i].property));
	}
	return list;
}

static void append_names(GString *text, const char *what, const struct cpu_bits *b)
{
	g_autofree char *names = cpu_bits_names_print(b, NAMES_SHOWN);

	if (!cpu_bits_empty(b))
		g_string_append_printf(text, "%s%s %s", text->len > 0 ? ", " : "", what, names);
}

bool pin_check_answers(const struct featureset *pin, const Json *answers, bool again, GError **err)
{
	struct cpu_bits seen = { 0 }, missing, extra;
	g_autoptr(GString) text = g_string_new(NULL);
	_cleanup_json_ Json *differ = NULL;

	if (!read_words(json_arr(answers, WORDS_PROPERTY), &seen, err))
		return false;
	read_properties(pin, answers, again, &seen);
	cpu_bits_and(&seen, &seen, &feature_known);
	cpu_bits_minus(&missing, &pin->has, &seen);
	cpu_bits_minus(&extra, &seen, &pin->has);
	leave_topology(&missing);
	leave_topology(&extra);
	differ = numbers_that_differ(pin, answers, again);
	if (cpu_bits_empty(&missing) && cpu_bits_empty(&extra) && json_array_size(differ) == 0)
		return true;
	append_names(text, "without", &missing);
	append_names(text, "with", &extra);
	for (size_t i = 0; i < json_array_size(differ); i++)
		g_string_append_printf(text, "%sanother %s", text->len > 0 ? ", " : "",
				       json_string_value(json_array_get(differ, i)));
	fail(err, ERR_QEMU, "QEMU made another CPU than it was told to: %s", text->str);
	err_detail(err, "missing", cpu_bits_names_json(&missing));
	err_detail(err, "extra", cpu_bits_names_json(&extra));
	err_detail(err, "differ", json_incref(differ));
	return err_advise(err, "Look at the host again with `plim host probe`, and start the vm anew.");
}

/* ---- as records ---- */

Json *pin_to_json(const struct featureset *pin, GuestType type, const char *machine)
{
	Json *j = featureset_to_json(pin);

	json_put_str(j, "guest", guest_type_name(type));
	json_put_str(j, "machine", machine);
	return j;
}

bool pin_of_json(const Json *j, struct featureset *ret, GuestType *ret_type, GError **err)
{
	const char *guest = json_str(j, "guest");
	GuestType type;

	if (guest == NULL)
		return fail(err, ERR_INVALID, "a pin lacks its type of guest");
	if (!guest_type_parse(guest, &type, err) || !featureset_of_json(j, ret, err))
		return false;
	if (ret_type != NULL)
		*ret_type = type;
	return true;
}

/* ---- what a power cycle would change ---- */

static bool same_numbers(const struct featureset *a, const struct featureset *b)
{
	for (size_t i = 0; i < G_N_ELEMENTS(numbers); i++) {
		const uint32_t *x = (const uint32_t *)(const void *)((const char *)a + numbers[i].offset),
			       *y = (const uint32_t *)(const void *)((const char *)b + numbers[i].offset);

		if (*x != *y)
			return false;
	}
	return g_str_equal(a->vendor, b->vendor);
}

bool pin_change_of(const struct featureset *pin, GuestType type, const Vm *vm, const HostFacts *host,
		   const CpuOffer *cpu, struct pin_change *ret, GError **err)
{
	const struct cpu_offer *offer = &cpu->guest[type];
	struct featureset next;

	if (setting_text(vm, "cpu.model") != NULL)
		return fail(err, ERR_UNSUPPORTED, "at its next start it gets a CPU of its own (cpu.model)");
	if (!offer->there)
		return fail(err, ERR_UNSUPPORTED, "%s", offer->why);
	if (!pin_of(vm, host, type, offer, &next, err))
		return false;
	cpu_bits_minus(&ret->gains, &next.has, &pin->has);
	cpu_bits_minus(&ret->loses, &pin->has, &next.has);
	ret->numbers = !same_numbers(pin, &next);
	return true;
}

bool pin_change_is_none(const struct pin_change *c)
{
	return cpu_bits_empty(&c->gains) && cpu_bits_empty(&c->loses) && !c->numbers;
}

Json *pin_view(const Json *pin, const Vm *vm, const HostFacts *host, const CpuOffer *cpu)
{
	g_autoptr(GError) e = NULL;
	struct pin_change c = { 0 };
	struct featureset now;
	GuestType type;
	Json *j;

	if (!pin_of_json(pin, &now, &type, NULL))
		return json_null();
	pin_change_of(&now, type, vm, host, cpu, &c, &e);
	j = json_object();
	json_put_str(j, "guest", guest_type_name(type));
	json_put_str(j, "set", json_str(pin, "set"));
	json_put_uint(j, "features", cpu_bits_count(&now.has));
	json_put(j, "gains", cpu_bits_names_json(&c.gains));
	json_put(j, "loses", cpu_bits_names_json(&c.loses));
	json_put_bool(j, "numbers", c.numbers);
	json_put_str(j, "blocked", e != NULL ? e->message : NULL);
	return j;
}
