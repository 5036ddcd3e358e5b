/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May a guest with this pin run on that host?
 *
 * Pure. The same question at a migration, a resume, an evacuation and a restart elsewhere. All reasons are
 * found, not only the first; a warning doesn't forbid. A pin or a set that is not there, and an empty pin,
 * are reasons against: nothing is known of such a guest.
 */
#pragma once

#include "core/cpu/featureset.h"

/* code, whether it forbids the move */
// clang-format off
#define CPU_REASON_TABLE(X)             \
	X(NO_PIN,       "no-pin",        true)   \
	X(NO_SET,       "no-set",        true)   \
	X(VENDOR,       "vendor",        true)   \
	X(FEATURES,     "features",      true)   \
	X(LEVEL,        "level",         true)   \
	X(XLEVEL,       "xlevel",        true)   \
	X(PHYS_BITS,    "phys-bits",     true)   \
	X(XSAVE,        "xsave-layout",  true)   \
	X(INVTSC,       "tsc-frequency", true)   \
	X(TSC,          "tsc-drift",     false)
// clang-format on

typedef enum CpuReasonKind {
#define X(name, code, blocks) CPU_REASON_##name,
	CPU_REASON_TABLE(X)
#undef X
	    _CPU_REASON_MAX,
} CpuReasonKind;

struct cpu_reason {
	CpuReasonKind kind;
	uint64_t need, have;      /* LEVEL, XLEVEL, PHYS_BITS; kHz of INVTSC and TSC */
	struct cpu_bits features; /* FEATURES, XSAVE */
	char need_vendor[CPU_VENDOR_LENGTH + 1], have_vendor[CPU_VENDOR_LENGTH + 1]; /* VENDOR */
};

struct cpu_verdict {
	bool can;
	struct cpu_bits missing; /* features, whatever else is wrong */
	size_t n;
	struct cpu_reason reason[_CPU_REASON_MAX];
};

/* `pin` and `max` may be NULL, when there is none. */
void cpu_check(const struct featureset *pin, GuestType type, const struct featureset *max,
	       struct cpu_verdict *ret);

const char *cpu_reason_code(CpuReasonKind kind);
bool cpu_reason_blocks(CpuReasonKind kind);

/* What is known beyond the sets; every member may be NULL, and then the sentence does without it. */
struct cpu_check_names {
	const char *vm, *host;
	const char *why;        /* of the missing features: "not in the CPU", "hidden by an admin's mask" */
	const char *lost;       /* "pool level dropped avx512f when host3 joined 2026-09-01" */
	const char *const *can; /* hosts that can take the guest, NULL-terminated; an empty list is told */
};

/* One reason: "it needs avx512f, avx512bw (host3: not in the CPU)". Caller frees. */
char *cpu_reason_print(const struct cpu_reason *r, const struct cpu_check_names *names);
/*
 * The whole verdict: "vm web1 cannot move to host3: it needs avx512f, avx512bw (host3: not in the CPU); pool
 * level dropped avx512f when host3 joined 2026-09-01; hosts that can take it: host1, host2". Caller frees.
 */
char *cpu_verdict_print(const struct cpu_verdict *v, const struct cpu_check_names *names);
/* {verdict: "ok"|"refuse", missing: [NAME...], reasons: [{code, blocks, message, ...}]}. New reference. */
Json *cpu_verdict_to_json(const struct cpu_verdict *v, const struct cpu_check_names *names);
