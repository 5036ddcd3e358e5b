/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2: big-endian header at 0 (72 bytes in version 2, 104 and more in 3),
 * header extensions {type, length, data padded to 8} behind it until a type of
 * 0, the name of the backing file anywhere in the first cluster.
 */
#include "core/image/header-impl.h"

enum {
	AT_VERSION = 4,
	AT_BACKING_OFFSET = 8,
	AT_BACKING_SIZE = 16,
	AT_CLUSTER_BITS = 20,
	AT_SIZE = 24,
	AT_CRYPT = 32,
	AT_INCOMPATIBLE = 72,
	AT_HEADER_LENGTH = 100,
	AT_COMPRESSION = 104,
};

#define V2_LENGTH 72u
#define V3_LENGTH 104u
#define EXT_DATA_FILE 0x44415441u /* "DATA" */
#define EXT_MAX 1024              /* an image has five at most */

/* Bits of incompatible features. Without a repair, nothing reads a dirty or corrupt image for certain. */
#define BIT_DIRTY (UINT64_C(1) << 0)
#define BIT_CORRUPT (UINT64_C(1) << 1)
#define BIT_DATA_FILE (UINT64_C(1) << 2)
#define BIT_COMPRESSION (UINT64_C(1) << 3)
#define BIT_EXTENDED_L2 (UINT64_C(1) << 4)
#define BITS_KNOWN (BIT_DIRTY | BIT_CORRUPT | BIT_DATA_FILE | BIT_COMPRESSION | BIT_EXTENDED_L2)

static bool fail_backing(const struct header_source *src, const uint8_t *h, GError **err)
{
	char name[1024] = "";
	uint64_t at = be64(h + AT_BACKING_OFFSET);
	size_t n = MIN(be32(h + AT_BACKING_SIZE), sizeof name - 1);
	bool have = header_read(src, at, name, n, NULL);

	return header_fail_names(IMAGE_FORMAT_QCOW2, "a backing file", have ? name : NULL, n, err);
}

static bool check_features(uint64_t bits, uint8_t compression, GError **err)
{
	if (bits & BIT_DATA_FILE)
		return header_fail_names(IMAGE_FORMAT_QCOW2, "an external data file", NULL, 0, err);
	if (bits & BIT_CORRUPT)
		return fail_advice(err, ERR_INVALID, "Repair a copy of it: `qemu-img check -r all IMAGE`.",
				   "the qcow2 image is marked as corrupt");
	if (bits & ~BITS_KNOWN)
		return header_fail(IMAGE_FORMAT_QCOW2, ERR_UNSUPPORTED,
				   "uses features that are not known here", err);
	if ((bits & BIT_COMPRESSION ? compression > 1 : compression != 0))
		return header_fail(IMAGE_FORMAT_QCOW2, ERR_UNSUPPORTED, "is compressed in an unknown way",
				   err);
	return true;
}

static bool check_extensions(const struct header_source *src, uint64_t at, uint64_t end, GError **err)
{
	for (int i = 0; at + 8 <= end; i++) {
		uint8_t ext[8];
		uint32_t type, len;

		if (at + 8 > src->size)
			return true; /* a header alone, cut behind its end: QEMU reads zeros there */
		if (!header_read(src, at, ext, sizeof ext, err))
			return false;
		type = be32(ext);
		len = be32(ext + 4);
		if (type == 0)
			return true;
		if (i == EXT_MAX || len > end - at - 8)
			return header_fail(IMAGE_FORMAT_QCOW2, ERR_INVALID, "has a broken header", err);
		if (type == EXT_DATA_FILE) {
			char name[1024] = "";
			size_t n = MIN(len, sizeof name - 1);
			bool have = header_read(src, at + 8, name, n, NULL);

			return header_fail_names(IMAGE_FORMAT_QCOW2, "an external data file",
						 have ? name : NULL, n, err);
		}
		at += 8 + (((uint64_t)len + 7) & ~UINT64_C(7));
	}
	return true;
}

/* Exactly that name. */
static bool check_backing(const struct header_source *src, const uint8_t *h, const char *backing,
			  GError **err)
{
	uint32_t n = be32(h + AT_BACKING_SIZE);
	char name[1024];

	if (be64(h + AT_BACKING_OFFSET) == 0 && backing == NULL)
		return true;
	if (be64(h + AT_BACKING_OFFSET) == 0)
		return fail_advice(err, ERR_CONFLICT, "Restore it from a backup.",
				   "the disk should be an overlay of '%s' and is none", backing);
	if (backing == NULL || n != strlen(backing) || n > sizeof name ||
	    !header_read(src, be64(h + AT_BACKING_OFFSET), name, n, NULL) || memcmp(name, backing, n) != 0)
		return fail_backing(src, h, err);
	return true;
}

/* LUKS, by QEMU; the older way, 1, protects little, and nothing here uses it. */
#define CRYPT_LUKS 2

static bool check_crypt(uint32_t method, bool encrypted, GError **err)
{
	if (encrypted && method != CRYPT_LUKS)
		return header_fail(IMAGE_FORMAT_QCOW2, ERR_CONFLICT, "should be encrypted by LUKS and is not",
				   err);
	return encrypted || method == 0 ||
	       header_fail(IMAGE_FORMAT_QCOW2, ERR_UNSUPPORTED, "is encrypted", err);
}

bool header_check_qcow2(const struct header_source *src, const char *backing, bool encrypted,
			uint64_t *ret_virtual, GError **err)
{
	uint8_t h[V3_LENGTH + 8] = { 0 };
	uint32_t version, cluster_bits, length = V2_LENGTH;

	if (!header_read(src, 0, h, V2_LENGTH, err))
		return false;
	version = be32(h + AT_VERSION);
	cluster_bits = be32(h + AT_CLUSTER_BITS);
	if (version < 2 || version > 3)
		return header_fail(IMAGE_FORMAT_QCOW2, ERR_UNSUPPORTED, "has an unknown version", err);
	if (cluster_bits < 9 || cluster_bits > 21)
		return header_fail(IMAGE_FORMAT_QCOW2, ERR_INVALID, "has a broken header", err);
	if (!check_backing(src, h, backing, err))
		return false;
	if (!check_crypt(be32(h + AT_CRYPT), encrypted, err))
		return false;
	if (version == 3) {
		if (!header_read(src, 0, h, V3_LENGTH, err))
			return false;
		length = be32(h + AT_HEADER_LENGTH);
		if (length < V3_LENGTH || length > 1u << cluster_bits || length % 8 != 0)
			return header_fail(IMAGE_FORMAT_QCOW2, ERR_INVALID, "has a broken header", err);
		if (length > V3_LENGTH && !header_read(src, 0, h, V3_LENGTH + 8, err))
			return false;
		if (!check_features(be64(h + AT_INCOMPATIBLE), h[AT_COMPRESSION], err))
			return false;
	}
	if (!check_extensions(src, length, UINT64_C(1) << cluster_bits, err))
		return false;
	*ret_virtual = be64(h + AT_SIZE);
	return true;
}
