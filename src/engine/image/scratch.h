/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A folder in which a program of another user may make a file, and how that
 * file becomes ours: nothing of that program reaches further than the folder.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Mode 0700, of `uid` (when we are root and it is not LIMITED_KEEP_USER). One that is there is fine. */
bool scratch_make(const char *path, uid_t uid, gid_t gid, GError **err);

/*
 * Take the file `from` out of a scratch folder: it must be a plain file with
 * one name. It gets that owner (when we are root) and mode, is made durable,
 * and moved to `to`, over what is there. ERR_NO_SPACE when its last bytes find
 * no room.
 */
bool scratch_take(const char *from, const char *to, uid_t uid, gid_t gid, mode_t mode, GError **err);

/* A rename or removal in the folder of `path` becomes durable. */
bool sync_dir_of(const char *path, GError **err);
