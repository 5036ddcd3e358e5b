/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A featureset: CPU features and the few numbers beside them that a guest sees too.
 *
 * Pure. Three sets of a host, each within the one before:
 *   raw      what CPUID shows: bits as they are, before anything is taken away
 *   max      what a guest that arrives may hold: closed (no feature without what it needs)
 *   default  what a guest that boots gets: max without opt-in and never, and with always
 * A probe through QEMU knows max; of a bare dump of CPUID, max is the closed raw set, which is an estimate:
 * KVM hides some features and adds others.
 *
 * Nothing here stands for "not known yet": that is a NULL pointer.
 */
#pragma once

#include "core/cpu/cpuid.h"
#include "core/cpu/feature.h"

#define CPU_VENDOR_LENGTH 12

typedef enum GuestType {
	GUEST_KVM,
	GUEST_TCG,
} GuestType;
#define GUEST_TYPES 2

/* "kvm", "tcg" */
const char *guest_type_name(GuestType type);
bool guest_type_parse(const char *name, GuestType *ret, GError **err);

typedef enum SetKind { SET_RAW, SET_DEFAULT, SET_MAX } SetKind;
const char *set_kind_name(SetKind kind);
bool set_kind_parse(const char *name, SetKind *ret, GError **err);

/* Where a state component lies in the uncompacted XSAVE area; size 0 is not known. */
struct xsave_layout {
	uint32_t size, offset;
};

struct featureset {
	struct cpu_bits has;
	char vendor[CPU_VENDOR_LENGTH + 1]; /* exactly the bytes of leaf 0, whatever they are */
	uint32_t family, model, stepping;
	uint32_t level, xlevel; /* highest leaves, e.g. 0xd and 0x80000008 */
	uint32_t phys_bits;
	struct xsave_layout xsave[CPU_XSAVE_COMPONENTS]; /* as xsave_components[] */
	uint64_t tsc_khz;                                /* 0: not known */
	bool tsc_scaling;                                /* the host can run a guest's TSC at another rate */
};

/* A vendor whose processors are known to keep the rules here; a pool of KVM hosts takes no other. */
bool cpu_vendor_known(const char *vendor);
/* The vendor for people: bytes that are no text are escaped. Caller frees. */
char *cpu_vendor_print(const char *vendor);

/*
 * The raw set of one logical CPU. Leaves behind the highest one that the CPU names are stale and left out,
 * and so are 4000000x of anything but KVM, c000000x of others than Centaur and Zhaoxin, and components of
 * XSAVE that the CPU does not have. ERR_INVALID when leaf 0 or 1 is missing.
 */
bool featureset_of_cpuid(const struct cpuid_dump *d, struct featureset *ret, GError **err);
/*
 * The raw set that all logical CPUs (struct cpuid_dump) have. `ret_differ` gets what only some of them have.
 * ERR_INVALID when they are not of one vendor.
 */
bool featureset_of_cpus(const GPtrArray *cpus, struct featureset *ret, struct cpu_bits *ret_differ,
			GError **err);
bool featureset_equal(const struct featureset *a, const struct featureset *b);

/*
 * What two sets have in common: the AND of the features and the lower of each number, family, model and
 * stepping as one (guests choose their mitigations by them, and those of the older CPU are the safe ones).
 * Vendors are the caller's business; of two different ones the first in order stays.
 */
void featureset_meet(struct featureset *into, const struct featureset *other);
/* The same of the numbers alone: features and layouts stay. */
void featureset_meet_numbers(struct featureset *into, const struct featureset *other);

/* max of raw, default of max: in place. `ret_causes` (or NULL) says what closing took away. */
void featureset_make_max(struct featureset *s, struct cpu_causes *ret_causes);
void featureset_make_default(struct featureset *s);
/* Take features away, and what needs them. */
void featureset_remove(struct featureset *s, const struct cpu_bits *gone, CloseKind kind);
/*
 * The highest leaves that a guest sees: those of the set, but no higher than levelling goes (0xd; 0x80000008,
 * 0x8000001e of AMD) unless a feature lives there.
 */
void featureset_cap(struct featureset *s);

/*
 * The value of QEMU's -cpu: "base,vendor=GenuineIntel,family=6,...,enforce,fpu=on,...". `known` is what the
 * QEMU at hand knows; NULL is QEMU 7.2. ERR_UNSUPPORTED when it doesn't know a feature of the set, or the
 * vendor is not a known one (QEMU would take any text). Caller frees.
 */
char *featureset_print_qemu(const struct featureset *s, const struct cpu_bits *known, GError **err);

/*
 * Compare what guest code saw with what it was given, leaf by leaf: features that CPUID shows, vendor,
 * family, model, stepping, highest leaves, physical address bits. Features that QEMU sets from the topology
 * (ht, cmp-legacy) don't count. ERR_QEMU with details {missing, extra, differ}.
 */
bool featureset_check_guest(const struct featureset *given, const struct cpuid_dump *guest, GError **err);

/* {set, vendor, family, model, stepping, level, xlevel, phys_bits, xsave, tsc_khz, tsc_scaling}. New
 * reference. */
Json *featureset_to_json(const struct featureset *s);
/*
 * The way back. `set`, vendor, family, model, stepping, level, xlevel and phys_bits must be there; other keys
 * are left alone. ERR_INVALID, ERR_UNSUPPORTED for a set of a newer version.
 */
bool featureset_of_json(const Json *j, struct featureset *ret, GError **err);
