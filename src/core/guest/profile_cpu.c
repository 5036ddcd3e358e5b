/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/profile-impl.h"

#include <string.h>

/* A model, then features with signs: "EPYC,-avx2,+x2apic,level=13". It becomes part of one argument. */
static bool cpu_model_ok(const char *text)
{
	for (const char *c = text; *c != '\0'; c++)
		if (!g_ascii_isalnum(*c) && strchr("._-+,=", *c) == NULL)
			return false;
	return g_ascii_isalnum(text[0]) && strstr(text, ",,") == NULL && !g_str_equal(text, "help");
}

/* A model of the vm's own: all hosts that have it can run the guest, and no other is looked for. */
static bool decide_model(ProfileMaker *m, const char *set, GError **err)
{
	g_autofree char *wish = pin_wish(m->vm);

	if (!cpu_model_ok(set))
		return fail_advice(err, ERR_INVALID,
				   "Write a model of QEMU, and features with + or - behind it: EPYC,-avx2.",
				   "cpu.model can't be '%s'", set);
	if (wish != NULL)
		return fail_advice(err, ERR_INVALID, "Unset one of them: `plim vm unset NAME cpu.model`.",
				   "cpu.model is a CPU of the vm's own, and %s lowers the pool's level",
				   wish);
	if (m->p->guest == GUEST_TCG && g_str_has_prefix(set, "host"))
		return fail_advice(err, ERR_UNSUPPORTED, "Set cpu.model to max, or to auto.",
				   "the CPU model 'host' needs kvm, and this vm runs under tcg");
	profile_decide(m->p, PROFILE_CPU, set, CAUSE_VM, "cpu.model", set, NULL);
	return true;
}

/* All that the host has: nothing is known of the others, or not even of this one. */
static bool decide_unlevelled(ProfileMaker *m, const struct cpu_offer *offer, GError **err)
{
	bool kvm = m->p->guest == GUEST_KVM;
	g_autofree char *wish = pin_wish(m->vm);

	if (!pin_settings_ok(m->vm, err))
		return false;
	if (offer != NULL && wish != NULL) {
		fail(err, ERR_UNSUPPORTED, "%s can't be kept: %s", wish, offer->why);
		return err_advise(err, "Unset it, or look at the host again: `plim host probe %s`.",
				  m->host->name);
	}
	if (offer != NULL)
		profile_could_not(m->p, "the pool's CPU level",
				  cause_new(CAUSE_DEFAULT, "cpu.model", "auto", NULL),
				  "The guest gets all features of this host: %s", offer->why);
	profile_decide_as(m->p, PROFILE_CPU, kvm ? "host" : "max", PROFILE_ACCEL,
			  kvm ? "All features of the host's CPU that a guest can be moved with."
			      : "All features that the emulator has.");
	return true;
}

static bool decide_pin(ProfileMaker *m, const struct cpu_offer *offer, GError **err)
{
	g_autofree char *wish = pin_wish(m->vm),
			*key = g_strdup_printf("level.%s", guest_type_name(m->p->guest)), *value = NULL;

	if (!pin_of(m->vm, m->host, m->p->guest, offer, &m->p->pin, err))
		return false;
	m->p->has_pin = true;
	m->p->qemu = offer->max.has;
	value = g_strdup_printf("%u features", cpu_bits_count(&m->p->pin.has));
	if (wish != NULL)
		profile_decide(m->p, PROFILE_CPU, "level", CAUSE_VM, "cpu", wish,
			       "The pool's level, lowered as the vm asks.");
	else
		profile_decide(m->p, PROFILE_CPU, "level", CAUSE_POOL, key, value,
			       "What every host of the pool can give, so that the guest can be moved.");
	return true;
}

bool profile_decide_cpu(ProfileMaker *m, GError **err)
{
	g_autofree char *set = profile_setting_text(m, "cpu.model");
	const struct cpu_offer *offer;

	m->p->guest = profile_is(m->p, PROFILE_ACCEL, "kvm") ? GUEST_KVM : GUEST_TCG;
	offer = m->cpu != NULL ? &m->cpu->guest[m->p->guest] : NULL;
	if (set != NULL)
		return decide_model(m, set, err);
	if (offer == NULL || !offer->there)
		return decide_unlevelled(m, offer, err);
	return decide_pin(m, offer, err);
}
