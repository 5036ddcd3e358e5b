/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host record: what a host can give its guests, as `plim host cpu --export` writes it and the pool stores
 * it.
 *
 * Pure. {
 *   "format": "plimsoll-host-record", "version": 1,
 *   "host": "host1", "date": "2026-11-21T09:30:00Z",
 *   "qemu": {"version": "7.2.22", "machines": ["pc-q35-7.2", ...]},
 *   "digest": {...},                          what the probe depended on; a record is old when it changed
 *   "kvm": {"max": SET, "default": SET},      null where the host can't run such guests
 *   "tcg": {"max": SET, "default": SET},
 *   "raw": SET,                               what CPUID shows, optional
 *   "masked": ["rtm"]                         taken out of max by an admin, with what needs it; optional
 * }
 * SET is the JSON of a featureset. Keys that are not listed are kept out. A record of a newer version is
 * refused with advice; an older one would be read.
 */
#pragma once

#include "core/cpu/featureset.h"

#define HOST_RECORD_FORMAT "plimsoll-host-record"
#define HOST_RECORD_VERSION 1
#define HOST_RECORD_TEXT_MAX (4u << 20)
#define HOST_RECORD_MACHINES_MAX 1024

struct guest_sets {
	bool there; /* false: the host runs no guests of this type, and the sets are empty */
	struct featureset max, dflt;
};

/* Strings are owned by the record. */
struct host_record {
	char *host, *date, *qemu_version;
	char **machines; /* never NULL */
	Json *digest;    /* an object; NULL when there is none */
	struct guest_sets guest[GUEST_TYPES];
	bool has_raw;
	struct featureset raw;
	struct cpu_bits masked;
};

/* Frees what the record holds and clears it; fine on a record of zeros. */
void host_record_done(struct host_record *r);
static inline void host_record_donep(struct host_record *r)
{
	host_record_done(r);
}
#define _cleanup_host_record_ __attribute__((cleanup(host_record_donep)))

/* New reference. */
Json *host_record_to_json(const struct host_record *r);
/*
 * ERR_INVALID when it is malformed, when a default set is not within its max, or a set is not closed;
 * ERR_UNSUPPORTED when it is of a newer version. `ret` is written only on success.
 */
bool host_record_of_json(const Json *j, struct host_record *ret, GError **err);
bool host_record_parse(const char *text, size_t len, struct host_record *ret, GError **err);

/* The set of a guest type. ERR_NOT_FOUND when the host runs no such guests, or no raw set is there. */
bool host_record_set(const struct host_record *r, GuestType type, SetKind kind, struct featureset *ret,
		     GError **err);
bool host_record_knows_machine(const struct host_record *r, const char *machine);
