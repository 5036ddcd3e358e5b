/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The receiving end of a migration: a QEMU that was started with
 * `-incoming defer -S` and waits for its guest.
 *
 * It holds the guest still when all of it is there, and takes no lock on its
 * disks, until migrate_in_finish(): that the guest is ours, or promised to us.
 * Before it the sender can take its guest back. A QEMU whose migration fails ends by itself. Worker threads.
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
	bool disks; /* some were filled */
	/* Nobody else has files of its disks open for writing: QEMU 7.2 opens them when it is told to go on
	 * early. */
	bool alone;
	bool run;         /* it ran; else it stands still here too */
	uint64_t timeout; /* us for what is still on its way */
	/* Or NULL. True: nothing more is waited for, with the error that it sets. */
	bool (*ended)(void *data, GError **err);
	void *data;
};

struct migrate_in_result {
	uint64_t ran_at; /* monotonic time at which the guest went on, or 0 */
	/* After an error: QEMU itself said that the guest never ran. Else what it told since the call says
	 * so. */
	bool asked;
};

/*
 * The guest is ours, or is when all of it is there: then it goes on, at once if it is `alone`
 * (QEMU itself lets it go on then). Idempotent. After an error it has not run since the call, and QEMU must
 * be ended: it might do later. One that ran and ended is no error.
 */
bool migrate_in_finish(Vmm *v, const struct migrate_in_end *how, struct migrate_in_result *ret, GError **err);
