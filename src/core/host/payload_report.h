/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the payload guest printed (guest/payload, docs/payload.md), as numbers.
 *
 * Pure. The text comes from a guest, so every byte of it is checked: a line that
 * the payload does not print, or prints only once, is refused with its number.
 * A text that simply ends early is no error, because the guest may still be
 * printing: a last line without its end is left out, and `ready` and `done` say
 * how far it came. A guest that restarts prints its banner again; the report is
 * then about its last start.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define PAYLOAD_FORMAT 1
#define PAYLOAD_TEXT_MAX (4u << 20) /* what payload_report_parse() accepts */
#define PAYLOAD_LINE_MAX 2200       /* the command line has at most 2047 bytes */
#define PAYLOAD_CPUID_MAX 256
#define PAYLOAD_BURN_MAX 16
#define PAYLOAD_ERROR_MAX 127

/* How the payload found the TSC's rate, in the order it tries them: name, name in the text */
// clang-format off
#define PAYLOAD_TSC_TABLE(X)                 \
	X(NONE,         "none")              \
	X(TIMING_LEAF,  "cpuid40000010")     \
	X(CRYSTAL_LEAF, "cpuid15")           \
	X(PVCLOCK,      "pvclock")           \
	X(HYPERV,       "hyperv")            \
	X(PIT,          "pit")               \
	X(LAPIC,        "lapic")
// clang-format on

typedef enum PayloadTsc {
#define X(name, text) PAYLOAD_TSC_##name,
	PAYLOAD_TSC_TABLE(X)
#undef X
	    _PAYLOAD_TSC_MAX,
} PayloadTsc;

const char *payload_tsc_name(PayloadTsc source);

struct payload_cpuid {
	uint32_t leaf, subleaf;
	uint32_t eax, ebx, ecx, edx;
};

/* A burn: iterations of two instructions each. `ns` is 0 when the guest had no clock. */
struct payload_burn {
	uint64_t iterations, ns, cycles;
};

struct payload_report {
	unsigned starts; /* banners seen; everything below is about the last one */

	struct payload_cpuid cpuid[PAYLOAD_CPUID_MAX];
	size_t n_cpuid;
	bool has_xcr0; /* false with xsave=off */
	uint64_t xcr0;
	uint64_t tsc_khz;
	PayloadTsc tsc_source;
	uint64_t memory;
	char cmdline[PAYLOAD_LINE_MAX + 1];
	bool ready;

	struct payload_burn burn[PAYLOAD_BURN_MAX];
	size_t n_burn;
	uint64_t dirty_pages, dirty_ns, dirty_bad;     /* the last line of a dirty job */
	uint64_t verify_pages, verify_sum, verify_bad; /* the last verify */
	bool verified;                                 /* there was one */
	uint64_t tick, tick_tsc;                       /* the last tick */
	uint64_t soak_beat, soak_ns, soak_gap;         /* the last line of soak */
	uint64_t soak_back, soak_pages, soak_bad, soak_cpu;
	uint64_t nmis;
	uint64_t reports; /* of the job `report`; `cpuid` is what the last one told */
	bool button;
	bool done;
	/* "" while the guest reports none; it idles after one, but for a refused XSETBV. */
	char error[PAYLOAD_ERROR_MAX + 1];
};

/*
 * ERR_INVALID for a text that is none of the payload's, of another format, or too long; *ret is untouched
 * then. `text` need not be terminated.
 */
bool payload_report_parse(const char *text, size_t len, struct payload_report *ret, GError **err);

/* NULL when the guest printed no such leaf. */
const struct payload_cpuid *payload_report_cpuid(const struct payload_report *r, uint32_t leaf,
						 uint32_t subleaf);

/* Instructions a second; 0 when the guest had no clock. */
uint64_t payload_burn_rate(const struct payload_burn *b);
