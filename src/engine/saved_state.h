/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file that a suspended guest's state is in, and the moment at which it is worth nothing any more: when
 * the guest has run one instruction, its disks may not fit to it, and nobody may load it again.
 *
 * So the file loses its name, PATH, before QEMU is told to go on, and has the name PATH.taken until it is
 * known that QEMU did. If QEMU did not, the file gets its name back. PATH is a state that no guest has run
 * from since, however host and daemon ended; PATH.taken one of which only the QEMU that has loaded it can say
 * that. Worker threads.
 */
#pragma once

#include "engine/qmp.h"

typedef enum SavedEnd {
	SAVED_RUNS,  /* the guest runs, the file is gone */
	SAVED_KEPT,  /* it did not run: the file is as before */
	SAVED_SPENT, /* it may have run, and does not now, or nobody knows: the file is gone */
} SavedEnd;

/*
 * Lets a guest that was loaded from `path`, and stands, run. Idempotent: may be called again after a crash of
 * the daemon. `q` NULL: QEMU has ended. When QEMU does not answer it is asked for `patience` us what it did.
 * The error is set unless the guest runs.
 */
SavedEnd saved_state_run(Qmp *q, const char *path, uint64_t patience, GError **err);
/* By both names; one that is not there is fine. */
bool saved_state_remove(const char *path, GError **err);
/* Gives a file its name, or another one, so that a power cut does not take that back. */
bool saved_state_rename(const char *from, const char *to, GError **err);
