/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files and block devices that QEMU opens by path, while it runs as another
 * user than the daemon.
 *
 * To read, that user gets a file through its group, so that a QEMU that was
 * taken over can't give itself more; to write, it becomes the owner. What lies
 * below the state folder is ours and stays as it was made. Of any other file,
 * owner, group and mode are kept in the local store before they are changed
 * (key grant/HASH), with the vms that use it, and restored when the last of
 * them goes; unless somebody else changed or replaced the file meanwhile. A
 * file that the user can open anyway is left alone.
 *
 * Of our own qcow2 volumes the backing images that are ours too are made
 * readable. Backing files of foreign images are never touched: what a guest
 * wrote into a header must not open a file of the host. They must be readable.
 *
 * Root gives nobody a file that a third one led it to: of the way to the file
 * each folder and each link belongs to root or to the file's owner (way.h), or
 * the grant is refused. Of a file that stays as it is only the links count, and
 * of one that is open to all nothing. QEMU opens the path itself, and later:
 * whoever owns the way can lead it to what QEMU's user may open, and no further.
 *
 * Everything is idempotent; any thread. A lock on the state folder (flock(2))
 * keeps grants of one host apart. The daemon must be root.
 */
#pragma once

#include "engine/spawn.h"
#include "store/store.h"

#define GRANT_PREFIX "grant/"

struct grant_host {
	Store *local;
	const char *state; /* folder of what is ours */
};

struct grant {
	const char *vm;   /* id of the vm that uses it */
	const char *path; /* absolute; links of root and of the file's owner are followed */
	bool readonly;
	const char *user_name; /* for messages */
	const SpawnUser *user;
};

/*
 * ERR_NOT_FOUND and ERR_INVALID for what is no file or block device;
 * ERR_DENIED, with advice that names the folder in the way, when the user
 * still could not open it, or when somebody else has a hand in the way to it. A foreign file is as before
 * then.
 */
bool grant_add(const struct grant_host *h, const struct grant *g, GError **err);
/* The vm does not use `path` any more; one that was not granted, or is gone, is fine. */
bool grant_remove(const struct grant_host *h, const char *vm, const char *path, GError **err);
