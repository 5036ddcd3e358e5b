/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TPM of a vm: a swtpm beside its QEMU.
 *
 * It runs as QEMU's user, keeps its state in a folder of that user's, listens
 * on a socket that we made, and ends by itself once a QEMU that was connected
 * is gone. Its process id stands in a file beside the socket since before the
 * program began; a process is taken for it only if its command line also names
 * the state folder, so that a daemon that was killed at any time finds its
 * swtpm again and never another process.
 *
 * Everything is idempotent. Blocks; for worker threads.
 */
#pragma once

#include "engine/spawn.h"

struct tpm {
	const char *program;   /* path of swtpm */
	const char *dir;       /* state; made when it is not there */
	const char *socket;    /* beside it: swtpm.pid, swtpm.log */
	const SpawnUser *user; /* NULL: ours */
};

/*
 * Start it, unless it runs. ERR_NOT_FOUND when there is no such program. A
 * state that swtpm can't read shows when QEMU connects.
 */
bool tpm_start(const struct tpm *t, GError **err);
/* End it; one that has ended, or never began, is fine. Its state stays. */
bool tpm_stop(const struct tpm *t, GError **err);
/* The process that serves `t`, or 0. */
pid_t tpm_running(const struct tpm *t);
