/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which CPU features a guest can have here, found out by running one with them.
 *
 * QEMU says what it believes that it can give; then the payload guest boots
 * with exactly that (-cpu base,...,enforce), and what its code sees is compared
 * with what it was given, bit by bit. What QEMU refuses, what aborts a vcpu and
 * what guest code does not see is taken away, with all that needs it, until
 * both agree. Features that not all logical CPUs of the host have are not
 * offered under KVM: a vcpu moves between them.
 *
 * Blocks, a third of a second for each try; for worker threads.
 */
#pragma once

#include "core/cpu/featureset.h"
#include "engine/probe-impl.h"

/* What was found for one accelerator. */
typedef struct CpuFound {
	bool known;            /* max is what guest code saw */
	struct featureset max; /* closed */
	char *reason;          /* why nothing is known */
	Json *dropped;         /* [{features, why}]: what QEMU promised and a guest could not have */
} CpuFound;

/*
 * `known` may be what was found before: when that still holds, one run of the
 * guest is all; NULL: search. Fails on nothing: what goes wrong is `reason`.
 */
void probe_cpu(const Probe *p, Accel accel, const struct featureset *known, CpuFound *ret);
void cpu_found_clear(CpuFound *f);

/*
 * What the result depends on: {processor, cpus, cpuid, microcode, firmware,
 * kernel, kernel_command_line, qemu, payload}. Quick. New reference.
 */
Json *probe_cpu_digest(const Probe *p, GError **err);
/* What the host's own CPUs have in common, before any QEMU. */
bool probe_cpu_raw(struct featureset *ret, GError **err);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(CpuFound, cpu_found_clear)
