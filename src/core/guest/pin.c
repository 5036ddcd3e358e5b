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
			return fail_advice(err, ERR_INVALID, "Write -avx2,-sha-ni to take features away.",
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

	if (!read_wish(vm, &w, err) || !level_has(&offer->level, &w, vm->name, type, err))
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
