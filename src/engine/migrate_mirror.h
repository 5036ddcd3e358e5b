/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Disks that a guest takes along: copied to the other QEMU's NBD server while
 * the guest writes on.
 *
 * A write of the guest is answered when both sides have it (write-blocking),
 * so that from the moment all is copied the two are the same, and what a fast
 * writer does can't keep the copy from its end. Worker threads.
 */
#pragma once

#include "engine/vmm.h"

struct migrate_mirror {
	const char *node; /* here and there, and the name of the export */
	const char *host;
	unsigned port;
	bool tls;       /* with MIGRATE_KEY_ID */
	uint64_t speed; /* bytes a second; 0: as fast as it goes */
};

/* Connect, and begin to copy. Its end is told by BLOCK_JOB_READY of migrate_mirror_job(). */
bool migrate_mirror_begin(Vmm *v, const struct migrate_mirror *m, GError **err);
/* The id of the job that copies `node`. Caller frees. */
char *migrate_mirror_job(const char *node);
/* Bytes copied and to copy, of all jobs of `v`. */
bool migrate_mirror_progress(Vmm *v, uint64_t *ret_done, uint64_t *ret_len, GError **err);
/* Ask a job that is ready to end with both sides the same; BLOCK_JOB_COMPLETED tells when it has. */
bool migrate_mirror_finish(Vmm *v, const char *node, GError **err);
/* Whatever there is of it goes: the job, the connection. Idempotent; waits for the job's end. */
bool migrate_mirror_drop(Vmm *v, const char *node, GError **err);
