/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server that shows the disks of a backup as they were, through NBD on a unix
 * socket. Nothing can be written.
 *
 * It is a QEMU without a machine that runs as QEMU's user, in a sandbox. It gets
 * descriptors of the backup's files, which it can read only, and has no right to
 * open anything: what stands in a file that was tampered with leads it nowhere.
 * It lasts longer than the daemon.
 *
 *     DIR/nbd/sock     an export NAME for each disk; root and QEMU's user may connect
 *     DIR/server.pid   which process it is
 *     DIR/server.log   what it said
 *
 * Blocking, idempotent; worker threads, one at a time for each folder.
 */
#pragma once

#include "base/json.h"
#include "engine/spawn.h"

struct backup_server {
	const char *dir;
	const char *qemu;
	const SpawnUser *user; /* NULL: ours */
};

/*
 * Start it, unless it runs. `sources`: {DISK: [{path, backing}]}, of each disk the
 * full file first, as core/plan/plan_backup.h has it; none may name another file
 * than the one before it. On failure nothing is left.
 */
bool backup_serve(const struct backup_server *s, const Json *sources, GError **err);
/* The process, or 0. */
pid_t backup_server_running(const char *dir);
/* End it, and remove the folder. One that is not there is fine. */
bool backup_unserve(const char *dir, GError **err);

/* "nbd+unix:///DISK?socket=DIR/nbd/sock". Caller frees. */
char *backup_server_uri(const char *dir, const char *disk);
