/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes: the files that are the disks of vms.
 *
 * An overlay holds what differs from its image; image and format stand in its
 * header, so the image must never move or change. What guests and their QEMU
 * wrote is not trusted: before anything opens a volume as qcow2, its header
 * must still name the file that we put there and no other.
 *
 * Blocking, idempotent, for worker threads: the steps VOLUME_CREATE,
 * VOLUME_CLONE and VOLUME_DELETE. A volume appears under its name when it is
 * whole; what was begun lies in a folder ".NAME.partial" beside it, which the
 * next run and volume_delete() remove.
 */
#pragma once

#include "core/image/header.h"
#include "engine/image/hooks.h"

#include <sys/types.h>

struct volume_make {
	const char *path;   /* path_volume(): absolute */
	ImageFormat format; /* IMAGE_FORMAT_QCOW2 or IMAGE_FORMAT_RAW */
	uint64_t size;      /* bytes; rounded up to 512. 0: the image's, or the source's */
	/* volume_create(): absolute path of an active image, or NULL; needs qcow2 */
	const char *backing;
	/* volume_clone(): the volume to copy, and what it is an overlay of, or NULL */
	const char *source;
	ImageFormat source_format;
	const char *source_backing;
	/*
	 * volume_clone(): all files that the source is made of, NULL-terminated, which nobody but the daemon
	 * may read; NULL: source and source_backing.
	 */
	const char *const *chain;
	/* volume_clone(): the LUKS passphrases of these files; NULL: they are plain
	 */
	const char *const *secrets;
	uid_t uid; /* the owner, when we are root; LIMITED_KEEP_USER */
	gid_t gid;
	const struct hooks *hooks;
};

/*
 * From a step's arguments {path, format, size?, backing?, source?,
 * source_format?, source_backing?}; borrows its strings. ERR_INVALID.
 */
bool volume_make_of_args(const Json *args, struct volume_make *ret, GError **err);

/*
 * ERR_INVALID for sizes of 0, beyond IMAGE_VIRTUAL_SIZE_MAX or smaller than the
 * image; ERR_NOT_FOUND without the image; ERR_CONFLICT when another volume has
 * that path; ERR_NO_SPACE. `ret_size` (may be NULL): what the guest will see.
 */
bool volume_create(const struct volume_make *v, uint64_t *ret_size, GError **err);
/* A full copy that depends on nothing. ERR_BUSY while a vm runs on the source. */
bool volume_clone(const struct volume_make *v, uint64_t *ret_size, GError **err);
/* Absent is fine. Undoes the two above. */
bool volume_delete(const char *path, GError **err);

/* Put what volume_clone() made at `path` in the place of the volume `target`. Done again it is fine. */
bool volume_swap(const char *path, const char *target, GError **err);

struct volume_info {
	uint64_t virtual_size; /* bytes that the guest sees */
	uint64_t actual_size;  /* bytes on disk */
};

/* Reads the header only: also of a volume that a vm runs on, and without a process. */
bool volume_info(const char *path, ImageFormat f, const char *backing, struct volume_info *ret, GError **err);

/*
 * ERR_NO_SPACE, with numbers, when the file system could not hold all of a
 * volume that is to be that large: what its file has by now counts as there.
 */
bool volume_check_room(const char *path, uint64_t size, GError **err);

/*
 * Make it larger while no vm runs on it; `v` has path, format, size, backing
 * and owner. The same size is fine. ERR_INVALID for a smaller one, ERR_BUSY.
 */
bool volume_grow(const struct volume_make *v, GError **err);
