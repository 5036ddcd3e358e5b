/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qemu-img, under limits. The format of a file is always said, never probed.
 * Files are named by absolute paths or relative to `dir`.
 *
 * Failures: what limited_run() says; ERR_NO_SPACE when it ran out of disk;
 * ERR_BUSY when a running QEMU holds the file; else ERR_QEMU with its words.
 */
#pragma once

#include "core/image/header.h"
#include "engine/image/limited.h"

struct qemu_img {
	const char *dir; /* where it works, and may write; NULL: nowhere */
	/* Files that it reads, and writes, beside those in dir; NULL-terminated; NULL: none. */
	const char *const *readable, *const *writable;
	/*
	 * Of a conversion: all qcow2 files that its source is made of, the full one first, NULL-terminated.
	 * Each is named to QEMU; from names that are relative to each other it would make one that grows with
	 * every file until it is too long. NULL: the source says what it rests on.
	 */
	const char *const *chain;
	/*
	 * LUKS passphrases, NULL-terminated: of the file that is made or checked, or of each of `chain`. They
	 * stand in no command line. NULL: plain files.
	 */
	const char *const *secrets;
	uid_t uid; /* as whom, when we are root; LIMITED_KEEP_USER */
	gid_t gid;
	uint64_t file_size_max; /* of what it writes; 0: no bound */
	uint64_t deadline;      /* us; 0: 60 s */
	const struct hooks *hooks;
};

struct qemu_img_info {
	uint64_t virtual_size, actual_size; /* bytes */
	char *backing;                      /* as the file names it, or NULL */
	Json *raw;                          /* all that it said */
};

void qemu_img_info_clear(struct qemu_img_info *info);
#define _cleanup_info_ __attribute__((cleanup(qemu_img_info_clear)))

bool qemu_img_info(const struct qemu_img *q, const char *path, ImageFormat f, struct qemu_img_info *ret,
		   GError **err);
/* To a new file, whole, sparse. `virtual_size` is for the progress. */
bool qemu_img_convert(const struct qemu_img *q, const char *from, ImageFormat from_format, const char *to,
		      ImageFormat to_format, uint64_t virtual_size, GError **err);
/*
 * An empty file, or an overlay of `backing`; `size` 0: the backing file's. A
 * relative path is only written down, and not opened: it needs a size.
 */
bool qemu_img_create(const struct qemu_img *q, const char *path, ImageFormat f, const char *backing,
		     ImageFormat backing_format, uint64_t size, GError **err);
/* Remove the dirty bitmaps of a qcow2 file that are not whole: with one of them it can't be made larger. */
bool qemu_img_drop_broken_bitmaps(const struct qemu_img *q, const char *path, GError **err);
/* Are the tables of this qcow2 file whole? What it rests on is not opened. ERR_QEMU when not. */
bool qemu_img_check(const struct qemu_img *q, const char *path, GError **err);
/* Only larger. */
bool qemu_img_grow(const struct qemu_img *q, const char *path, ImageFormat f, uint64_t size, GError **err);
