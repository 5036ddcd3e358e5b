/* SPDX-License-Identifier: Apache-2.0 */
/* The NoCloud seed as a medium: an ISO 9660 image labelled `cidata`, written with libarchive. */
#pragma once

#include "core/guest/cloud_init.h"

#include <sys/types.h>

/*
 * Write the seed to `path`, in one piece or not at all, readable by its owner
 * and `gid` only (it may hold a password's hash). Nothing is written when the
 * file already holds the same: a start is no reason to touch the disk.
 */
bool seed_write(const char *path, const CloudInit *c, gid_t gid, GError **err);
