/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that QEMU stopped because a disk of it failed: which disk, and what
 * is told about it. Pure.
 *
 * With werror=enospc QEMU keeps the write that found no room, and tries it
 * again at `cont`: nothing is lost, and the guest saw no error.
 */
#pragma once

#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_stop {
	const char
	    *disk; /* its name in the vm, borrowed from QEMU's answer; NULL: no disk says that it failed */
	bool no_space; /* the host had no room; else it is another error */
	uint64_t size; /* what the guest sees; 0: not known */
};

/* How full the disk's place is; what is not known is 0, `folder` NULL. */
struct disk_room {
	const char *folder;
	uint64_t holds;       /* bytes that the disk's file takes on the host */
	uint64_t free, total; /* of the folder's file system */
};

/* The first disk with an error in what query-block answered. */
struct disk_stop disk_stop_of(const Json *blocks);

/* "disk 'root' found no room on the host": why the vm is paused. Caller frees. */
char *disk_stop_reason(const struct disk_stop *s);
/* The whole of it as sentences, with numbers and what to do next. Caller frees. */
char *disk_stop_tell(const char *vm_name, const struct disk_stop *s, const struct disk_room *room);
/* {disk, no_space, size, folder, holds, free, total}: the event's details. New reference. */
Json *disk_stop_details(const struct disk_stop *s, const struct disk_room *room);
