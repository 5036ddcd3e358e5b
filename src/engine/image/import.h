/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Import of disk images: from a file or a URL into the store's own form.
 *
 * Nothing from outside is trusted. The bytes are copied first, hashed on the
 * way, so that what is checked is what is used; our own header check
 * (core/image/header.h) decides the format and refuses whatever names other
 * files, before anything opens the image as such; then qemu-img, under limits
 * (limited.h) and told the format, looks at it and rewrites it as qcow2. The
 * result is checked again, hashed, made read-only and renamed into place.
 *
 * The steps of a plan, each blocking, idempotent and for worker threads:
 *
 *   image_fetch    source -> WORK/source          undone by image_fetch_undo
 *   image_inspect  looks at WORK/source
 *   image_convert  WORK/source -> WORK/disk.qcow2 undone by image_convert_undo
 *   image_publish  WORK/disk.qcow2 -> TARGET      undone by image_publish_undo
 *
 * Each writes down in WORK/facts.json what it found, so that the next one, in
 * this daemon or after a restart, goes on from there; an interrupted download
 * goes on where it was when the server can. Facts are named as the image's
 * properties are:
 *
 *   fetch    source_size, os_hash_algo, os_hash_value, checksum (MD5)
 *   inspect  source_format, virtual_size, disk_format, container_format
 *   convert  size, stored_hash_value, virtual_size
 *
 * WORK belongs to root, with one folder in it that the unprivileged user may
 * write, where qemu-img works.
 *
 * Who may name which local file is the caller's business: this reads whatever
 * the daemon can.
 */
#pragma once

#include "core/image/header.h"
#include "engine/image/hooks.h"

#include <sys/types.h>

struct image_import {
	const char *source;        /* absolute path, file://, http:// or https:// */
	const char *format;        /* what the user says that it is; NULL: see */
	const char *checksum;      /* "sha512:HEX" or "sha256:HEX" of the source's bytes, or NULL */
	const char *work;          /* path_image_fetched() */
	const char *target;        /* path_image(); on the same file system */
	uint64_t max_virtual_size; /* 0: IMAGE_VIRTUAL_SIZE_MAX */
	uid_t uid;                 /* whom qemu-img runs as when we are root; LIMITED_KEEP_USER */
	gid_t gid;
	uint64_t retry_delay; /* us before a download is tried again, doubled each time; 0: 1 s */
	const struct hooks *hooks;
};

/*
 * From a step's arguments {source, format?, checksum?, work, target,
 * max_virtual_size?}; borrows its strings. The rest is zero. ERR_INVALID.
 */
bool image_import_of_args(const Json *args, struct image_import *ret, GError **err);

/* Before anything is begun: is the source of a form that can be fetched, are format and checksum well-formed?
 */
bool image_import_check(const struct image_import *im, GError **err);

/*
 * ERR_INVALID (directories, devices, empty files, other schemes, a checksum
 * that doesn't hold), ERR_NOT_FOUND, ERR_DENIED, ERR_NO_SPACE, ERR_UNAVAILABLE
 * (the server, after retries), ERR_CANCELLED. `ret_facts`: new reference.
 * After a failure WORK is left for a retry or image_fetch_undo().
 */
bool image_fetch(const struct image_import *im, Json **ret_facts, GError **err);
/* What image_header_check() refuses, and what qemu-img can't open. */
bool image_inspect(const struct image_import *im, Json **ret_facts, GError **err);
/* ERR_NO_SPACE, ERR_QEMU (broken), ERR_LIMIT, ERR_TIMEOUT, ERR_CANCELLED; leaves no disk.qcow2 then. */
bool image_convert(const struct image_import *im, Json **ret_facts, GError **err);
/* Removes WORK when the image is in place. */
bool image_publish(const struct image_import *im, GError **err);

bool image_fetch_undo(const struct image_import *im, GError **err);
bool image_convert_undo(const struct image_import *im, GError **err);
bool image_publish_undo(const struct image_import *im, GError **err);

/* All of it; nothing is left behind when it fails. `ret_facts` (may be NULL): of all steps together. */
bool image_import(const struct image_import *im, Json **ret_facts, GError **err);

/* The image and what an import left of it. Absent is fine. */
bool image_remove(const char *target, const char *work, GError **err);

/* Read it all: does the file still have this SHA-512? ERR_INVALID with both when not, ERR_NOT_FOUND. */
bool image_verify(const char *target, const char *sha512, const struct hooks *hooks, GError **err);
