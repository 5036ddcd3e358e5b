/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CPU record of this host: found (probe_cpu.h), kept, masked, published.
 *
 * What was found is kept in the host's own store with what it depends on. At
 * the start of the daemon it is published at once when none of that changed,
 * and proven by one run of a guest beside everything else; else it is searched
 * for anew. Differences become events that name features.
 *
 * An admin's mask takes features out of what the host offers, with all that
 * needs them (cpu-masks/ID). The level of the pool (level.h) follows from the
 * published records of all hosts.
 */
#pragma once

#include "core/guest/pin.h"

typedef struct Engine Engine;
typedef struct HostCpu HostCpu;

HostCpu *host_cpu_new(Engine *e);
HostCpu *host_cpu_free(HostCpu *h);

/*
 * The start of the daemon, when the accelerators are known: publishes what is
 * remembered, and has the rest done by the engine's pool. Quick.
 */
void host_cpu_begin(HostCpu *h);
/* For level_keeper_begin(): publishes what the store did not take before. */
void host_cpu_followed(void *host_cpu);
/* Until what guests of the type are offered is known, `timeout` us at most. Any thread but the loop's. */
bool host_cpu_wait(HostCpu *h, GuestType type, uint64_t timeout);
/* Search for it anew, now. Blocks. What can't be found is no failure: it is told. */
bool host_cpu_probe(HostCpu *h, GError **err);

/* What guests that this host starts are offered now. Any thread. */
CpuOffer *host_cpu_offer(HostCpu *h);

/*
 * Change the mask of this host: `add` and `remove` may be empty. ERR_INVALID
 * for features that every guest must have. `ret_also` gets what goes, or comes
 * back, with them. Blocks.
 */
bool host_cpu_mask(HostCpu *h, const struct cpu_bits *add, const struct cpu_bits *remove, const char *user,
		   bool dry_run, struct cpu_bits *ret_also, GError **err);

/*
 * {reasons: {kvm, tcg}, dropped: {kvm: [{features, why}], tcg}}: what only this
 * daemon knows of the last probe. New reference.
 */
Json *host_cpu_notes(HostCpu *h);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostCpu, host_cpu_free)
