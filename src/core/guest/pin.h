/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pin: the CPU that a guest is started with and keeps until its next
 * power cycle. Pure.
 *
 *	pin = close((what the vm asks for, or the level) & the level)
 *
 * so that a guest can be moved to every member of the pool. The vm's settings
 * can only lower it:
 *   cpu.level     a set ("v1-..."), or x86-64, x86-64-v2, x86-64-v3, x86-64-v4:
 *                 the level without what only higher ones of these have
 *   cpu.features  "-avx2,-sha-ni" takes features away, with what needs them;
 *                 "+avx2" starts the guest only where the level has it
 * A vm with a cpu.model of its own has no pin.
 *
 * TCG hangs when a guest switches XSAVE on that has none of XSAVEOPT, XSAVEC,
 * XGETBV1 and XSAVES (QEMU 7.2): a pin for TCG has no XSAVE then.
 */
#pragma once

#include "core/cpu/featureset.h"
#include "core/guest/host_facts.h"
#include "core/model/vm.h"

/* What is on offer for guests of one type. */
struct cpu_offer {
	bool there;              /* there is a level, and the host was probed */
	struct featureset level; /* of the pool */
	struct featureset max;   /* of the host that starts the guest */
	bool fixed;              /* `level` is the pin of a guest that runs: it gets all of it and no less */
	char *why;               /* a sentence why nothing is on offer, or NULL */
};

typedef struct CpuOffer {
	struct cpu_offer guest[GUEST_TYPES];
} CpuOffer;

CpuOffer *cpu_offer_free(CpuOffer *o);

GuestType guest_type_of(Accel a);

/*
 * Of a vm that asks for less than the level, or nothing, or for opt-in features that the host has: the guest
 * can be moved then where they are as well. ERR_UNSUPPORTED, ERR_INVALID; with advice.
 */
bool pin_of(const Vm *vm, const HostFacts *host, GuestType type, const struct cpu_offer *offer,
	    struct featureset *ret, GError **err);
/* Only whether the settings can be read: ERR_INVALID. */
bool pin_settings_ok(const Vm *vm, GError **err);
/* The vm's settings ask for less than the level: "cpu.features=-avx2", or NULL. Caller frees. */
char *pin_wish(const Vm *vm);
/* Take out what would hang an emulated guest. */
void pin_spare_tcg(struct featureset *s);

/*
 * The check of a vcpu that QEMU made, before it runs: the properties of its
 * object that must be read (g_strfreev()), and whether what came back, as
 * {property: value}, is the pin. ERR_QEMU with details {missing, extra, differ}.
 *
 * QEMU takes a third of a millisecond over each property. All CPUID features
 * are one of them. The others, numbers and bits of MSRs, are what the command
 * line says, or the QEMU is wrong always: when the same program has made this
 * very CPU before (`again`), only the features are looked at.
 */
char **pin_questions(const struct featureset *pin, bool again);
bool pin_check_answers(const struct featureset *pin, const Json *answers, bool again, GError **err);

/* {guest, set, vendor, family, ..., machine}: as stored in applied.pin. New reference. */
Json *pin_to_json(const struct featureset *pin, GuestType type, const char *machine);
/* ERR_INVALID. `ret_type` may be NULL. */
bool pin_of_json(const Json *j, struct featureset *ret, GuestType *ret_type, GError **err);

/* What a power cycle would make of a guest's CPU. */
struct pin_change {
	struct cpu_bits gains, loses;
	bool numbers; /* family, level, address bits or their like would be others */
};

/*
 * A guest with this pin, started now. ERR_* of pin_of(), and ERR_UNSUPPORTED when it would have no pin any
 * more. False is no change that could be made.
 */
bool pin_change_of(const struct featureset *pin, GuestType type, const Vm *vm, const HostFacts *host,
		   const CpuOffer *cpu, struct pin_change *ret, GError **err);
bool pin_change_is_none(const struct pin_change *c);

/*
 * The same for people and programs, from applied.pin (NULL: it has none):
 * null without a pin, else {guest, set, features, gains, loses, numbers,
 * blocked}; `blocked` is a sentence why it could not be started anew, or null.
 */
Json *pin_view(const Json *pin, const Vm *vm, const HostFacts *host, const CpuOffer *cpu);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CpuOffer, cpu_offer_free)
