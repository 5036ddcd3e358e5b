/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The features of x86 CPUs: names, places, what they need, whether guests get them.
 *
 * Pure. The tables are made from facts.txt, where the kinds and the sources of the rules are written.
 * A feature is identified by its place, 32 * word + bit, which never changes; its name is QEMU's. Names are
 * found in any spelling: upper case, "_" for "-", Linux', libvirt's and Xen's where they differ.
 *
 * kvmclock and vmx-invept-single-context have two bits. A set holds the first of them, and only when both
 * are there; `twin` is the second.
 */
#pragma once

#include "core/cpu/bits.h"

typedef uint16_t FeatureId;
#define FEATURE_NONE UINT16_MAX

typedef enum WordKind {
	WORD_CPUID,
	WORD_MSR_LOW,
	WORD_MSR_HIGH,
	WORD_MSR_CAN, /* what the high half allows to be 1 and the low half doesn't force to be */
	WORD_QEMU,    /* properties that no register shows */
} WordKind;

typedef enum CpuRegister { CPU_EAX, CPU_EBX, CPU_ECX, CPU_EDX } CpuRegister;

struct feature_word {
	const char *name; /* "7.0.ebx" */
	WordKind kind;
	uint32_t index, subleaf; /* a leaf of CPUID, or an MSR */
	uint8_t reg;             /* CpuRegister */
};

typedef enum FeatureKind {
	FEATURE_AND,
	FEATURE_OR,
	FEATURE_ALWAYS,
	FEATURE_OPT_IN,
	FEATURE_NEVER,
} FeatureKind;

struct feature {
	const char *name;
	FeatureId id, twin; /* twin: FEATURE_NONE but for two */
	uint8_t kind;       /* FeatureKind */
	uint8_t since;      /* of QEMU: 7 (7.2 knows it) or 10 */
	const char *why;    /* a sentence on the kind, or NULL */
};

struct feature_edge {
	FeatureId feature, parent;
	bool hard; /* without the parent the feature can't be used; otherwise they only belong together */
	const char *source;
};

/* A part of the XSAVE area, which is there with a feature. */
struct xsave_component {
	uint8_t number; /* of the bit in XCR0 or IA32_XSS */
	FeatureId feature;
};

#define CPU_XSAVE_COMPONENTS 10
extern const struct xsave_component xsave_components[];

extern const struct feature_word feature_words[];
extern const size_t n_feature_words;
extern const struct feature features[]; /* by id */
extern const size_t n_features;
extern const struct feature_edge feature_edges[]; /* by feature */
extern const size_t n_feature_edges;

/* Every feature, twins left out; those that QEMU 7.2 knows; those of one FeatureKind. */
extern const struct cpu_bits feature_known, feature_of_qemu7, feature_of_kind[];

/* NULL when the bit has no name. */
const struct feature *feature_at(unsigned bit);
/* In any spelling; NULL when there is none. */
const struct feature *feature_find(const char *name);
/* The same, refused with ERR_INVALID, the nearest names as advice. */
bool feature_parse(const char *name, const struct feature **ret, GError **err);
/* "and", "or", "always", "opt-in", "never" */
const char *feature_kind_name(FeatureKind kind);
/* "CPUID 00000007.0 ebx bit 5", "MSR 0000010a bit 33", "a property of QEMU". Caller frees. */
char *feature_place_print(FeatureId id);
/* "avx2", or "7.0.ebx[6]" for a bit without a name. Caller frees. */
char *feature_print(unsigned bit);

/* Names of a set in the order of the bits, NULL-terminated. Caller frees with g_strfreev(). */
char **cpu_bits_names(const struct cpu_bits *b);
/* The same in alphabetic order as a JSON array; new reference. */
Json *cpu_bits_names_json(const struct cpu_bits *b);
/* "avx, avx2": at most `max` names, then "and 12 more"; 0 is all. Caller frees. */
char *cpu_bits_names_print(const struct cpu_bits *b, unsigned max);
/* "avx2,sse4.2" or the text form. ERR_INVALID. */
bool cpu_bits_parse_names(const char *text, struct cpu_bits *ret, GError **err);
/* A JSON array of names. ERR_INVALID. */
bool cpu_bits_of_json(const Json *names, struct cpu_bits *ret, GError **err);

/* Which missing parent took each bit away: FEATURE_NONE where none did. */
struct cpu_causes {
	FeatureId parent[CPU_BITS];
};

typedef enum CloseKind {
	CLOSE_HARD,
	CLOSE_SOFT, /* and what only belongs together */
} CloseKind;

/*
 * Take away what can't be used without something that is missing, and bits without a name. True when anything
 * fell. The cause of each is the nearest missing parent that was not in the set to begin with; `ret_causes`
 * may be NULL. Closed sets stay closed when they are intersected.
 */
bool cpu_bits_close(struct cpu_bits *set, CloseKind kind, struct cpu_causes *ret_causes);
/* All that falls with one feature, itself left out. */
void feature_dependents(FeatureId id, CloseKind kind, struct cpu_bits *ret);
