/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which host of a pool does something. Pure.
 *
 * A vm that is off goes, in this order, to the host that was asked for; to the
 * one that has the files of its disks; among all others to the one with the
 * most free memory, the first by name among equals. Every host that can't have
 * it is named with the reason.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef struct PlaceHost {
	const char *id, *name;
	bool online;     /* renews its lease */
	bool accel[2];   /* works, by Accel of core/guest/host_facts.h */
	uint64_t memory; /* bytes that no vm has been given */
} PlaceHost;

typedef struct PlaceVm {
	const char *name;
	const char *wanted; /* id of the host that was asked for, or NULL */
	const char *files;  /* id of the host that has its files, or NULL: any */
	int accel;          /* that it needs, or -1 */
	uint64_t memory;
} PlaceVm;

/*
 * Why `h` can't have the vm, as the end of a sentence that begins with the
 * host's name, or NULL when it can. Caller frees.
 */
char *place_reason(const PlaceVm *vm, const PlaceHost *h);
/*
 * The host, or NULL: ERR_CONFLICT with details `hosts`, [{id, name, reason}].
 * Borrowed from `hosts`.
 */
const PlaceHost *place_choose(const PlaceVm *vm, const PlaceHost *hosts, size_t n, GError **err);

/* ---- who may be in a pool ---- */

typedef struct PlaceCpu {
	const char *name;   /* of the host */
	const char *vendor; /* "GenuineIntel", or NULL: not known */
	bool kvm;           /* it runs guests under KVM */
} PlaceCpu;

/*
 * Hosts of different vendors can't share guests under KVM: ERR_UNSUPPORTED with
 * the host in the way. Any difference of features is fine.
 */
bool place_check_vendor(const PlaceCpu *joins, const PlaceCpu *members, size_t n, GError **err);
