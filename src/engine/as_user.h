/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What another user may do with a path, asked from the kernel as that user.
 *
 * The calling thread, and no other, takes that user's identity for files for
 * the time of the question (setfsuid(2) belongs to a thread), so that modes,
 * ACLs, capabilities and network file systems all have their say. Nothing is
 * opened: closing a block device that was open for writing would make udev
 * look at it again.
 */
#pragma once

#include "engine/spawn.h"

/* The groups that QEMU's user gets beside its own. NULL-terminated. */
extern const char *const qemu_user_groups[];

/*
 * 0 when `u` may do `mode` (R_OK, W_OK, X_OK) with `path`, links followed, else
 * -errno: -ENOENT, -EACCES, -EROFS, ... The daemon must be root, or be `u`.
 */
int as_user_access(const SpawnUser *u, const char *path, int mode);

/*
 * The first folder on the way to the absolute `path` that `u` may not pass, or
 * NULL when it may pass all. Caller frees.
 */
char *as_user_barrier(const SpawnUser *u, const char *path);
