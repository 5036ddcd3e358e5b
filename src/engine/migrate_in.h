/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving end of a migration: a QEMU that was started with
 * `-incoming defer -S` and waits for its guest.
 *
 * It holds the guest still when all of it is there, and takes no lock on its
 * disks until it is told that the guest is ours: until then the sender can take
 * its guest back. A QEMU whose migration fails ends by itself. Worker threads.
 */
#pragma once

#include "engine/vmm.h"

struct migrate_in_spec {
	const char *address;     /* of this host, numeric, where the other comes in */
	const char *key_dir;     /* migrate_key_write(); NULL: in clear */
	const char *const *node; /* block nodes that the other fills, NULL-terminated */
	bool post_copy;
};

struct migrate_in_ports {
	unsigned memory, disks; /* 0: there are none to fill */
};

/* Open the doors. A second time, after a crash: ERR_BAD_STATE; such a QEMU is ended and made anew. */
bool migrate_in_open(Vmm *v, const struct migrate_in_spec *spec, struct migrate_in_ports *ret, GError **err);
struct migrate_in_end {
	bool disks;       /* some were filled */
	bool alone;       /* nobody else has files of its disks open for writing */
	bool run;         /* it ran; else it stands still here too */
	uint64_t timeout; /* us for what is still on its way */
};

/*
 * The guest is ours: once all of it is there it goes on, at once if it is `alone`
 * (QEMU itself lets it go on then). ret_ran_at is the monotonic time of that, or 0.
 * Idempotent. After an error it does not run, and QEMU must be ended: it might do later.
 */
bool migrate_in_finish(Vmm *v, const struct migrate_in_end *how, uint64_t *ret_ran_at, GError **err);
