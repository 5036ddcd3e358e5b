/* SPDX-License-Identifier: Apache-2.0 */
/* For the parts of header.c: one function a format. Nobody else includes this. */
#pragma once

#include "core/image/header.h"

#include <string.h>

static inline uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32(const uint8_t *p)
{
	return (uint32_t)le16(p) | (uint32_t)le16(p + 2) << 16;
}

static inline uint64_t le64(const uint8_t *p)
{
	return (uint64_t)le32(p) | (uint64_t)le32(p + 4) << 32;
}

static inline uint32_t be32(const uint8_t *p)
{
	return __builtin_bswap32(le32(p));
}

static inline uint64_t be64(const uint8_t *p)
{
	return __builtin_bswap64(le64(p));
}

/* ERR_INVALID when the file is shorter. */
bool header_read(const struct header_source *src, uint64_t offset, void *buf, size_t len, GError **err);
/* "the VMDK names another file as its WHAT: NAME"; the name may be any bytes, NULL when unknown. */
bool header_fail_names(ImageFormat f, const char *what, const char *name, size_t name_len, GError **err);
bool header_fail(ImageFormat f, ErrCode code, const char *why, GError **err);

/* Each is given a file that begins with its format's magic, and fills in the virtual size. */
/* `backing`: the one backing file that it may and must name, or NULL. `encrypted`: must it be, or must it
 * not. */
bool header_check_qcow2(const struct header_source *src, const char *backing, bool encrypted,
			uint64_t *ret_virtual, GError **err);
bool header_check_vmdk(const struct header_source *src, uint64_t *ret_virtual, GError **err);
bool header_check_vhdx(const struct header_source *src, uint64_t *ret_virtual, GError **err);
/* The footer of 512 bytes: at the end of every VHD, and a copy at the beginning of most. */
bool header_check_vpc(const uint8_t footer[512], uint64_t *ret_virtual, GError **err);
bool header_check_vdi(const struct header_source *src, uint64_t *ret_virtual, GError **err);
