/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a change of the pool's hosts would do to the CPU level, and to the
 * places where running guests can go. Pure; nothing is changed.
 *
 * Hosts are their CPU records (core/cpu/record.h), known by the name in them.
 */
#pragma once

#include "core/cpu/record.h"

// clang-format off
#define WHATIF_TABLE(X)         \
	X(JOIN,    "join")      \
	X(LEAVE,   "leave")     \
	X(DISABLE, "disable")   \
	X(UPGRADE, "upgrade")
// clang-format on

typedef enum WhatIfKind {
#define X(name, text) WHATIF_##name,
	WHATIF_TABLE(X)
#undef X
} WhatIfKind;

bool whatif_kind_of_name(const char *name, WhatIfKind *ret);

struct whatif_change {
	WhatIfKind kind;
	const char *host;                 /* LEAVE */
	const char *feature;              /* DISABLE */
	const struct host_record *record; /* JOIN: of the new host; UPGRADE: of the host as it will be */
};

/* A guest that runs. */
struct whatif_vm {
	const char *id, *name, *host; /* name of its host */
	bool pinned;
	struct featureset pin;
	GuestType type;
};

/*
 * {kvm: {lost: [NAME], gained: [NAME]}, tcg: {...},
 *  vms: [{id, name, host, lost: [HOST], gained: [HOST]}]}: only vms that lose or gain a host they could
 * move to; one whose own host leaves is always told, with `must_move`.
 *
 * ERR_NOT_FOUND for a host or feature that is not there, ERR_CONFLICT for one that is there already,
 * ERR_UNSUPPORTED when no such pool could be (another vendor). New reference.
 */
Json *whatif(const struct host_record *const *hosts, size_t n, const struct whatif_change *change,
	     const struct whatif_vm *vms, size_t n_vms, GError **err);
