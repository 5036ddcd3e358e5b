/* SPDX-License-Identifier: Apache-2.0 */
/* core/image/header.h on files. Links of ours are not followed; ERR_INVALID for what is no regular file. */
#pragma once

#include "core/image/header.h"

bool image_file_check(const char *path, const ImageFormat *want, uint64_t max_virtual_size,
		      struct image_header *ret, GError **err);
/* `ret_actual` (may be NULL): bytes on disk. */
bool volume_file_check(const char *path, ImageFormat f, const char *backing, bool encrypted,
		       uint64_t *ret_virtual, uint64_t *ret_actual, GError **err);
/*
 * A qcow2 disk that its owner keeps where he likes: links are followed, and it
 * may be a block device. It must be whole in its one file, as an import would have it.
 */
bool disk_file_check(const char *path, GError **err);
