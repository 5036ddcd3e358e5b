/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VHDX, VHD and VDI.
 *
 * VHDX is little-endian: identifier at 0, two region tables at 192 and 256 KiB
 * which say where the metadata table is, whose items say how large the disk is
 * and whether it has a parent (MS-VHDX 2.2.3, 2.6).
 */
#include "core/image/header-impl.h"

#define KIB64 UINT64_C(65536)
#define REGION_AT (3 * KIB64)
#define REGION_ENTRIES_MAX 2047u
#define METADATA_ENTRIES_MAX 2047u
#define ENTRY_LENGTH 32u
#define HAS_PARENT 2u

typedef uint8_t Guid[16];

static const Guid region_metadata = { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b,
				      0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e };
static const Guid item_parameters = { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d,
				      0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b };
static const Guid item_virtual_size = { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48,
					0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 };
static const Guid item_parent = { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45,
				  0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c };

static bool fail_broken(GError **err)
{
	return header_fail(IMAGE_FORMAT_VHDX, ERR_INVALID, "has a broken header", err);
}

/* {signature, checksum, count, reserved}, then {guid, offset u64, length u32, required u32}. */
static bool find_metadata(const struct header_source *src, uint64_t *ret_at, GError **err)
{
	uint8_t head[16], entry[ENTRY_LENGTH];

	if (!header_read(src, REGION_AT, head, sizeof head, err))
		return false;
	if (memcmp(head, "regi", 4) != 0 || le32(head + 8) > REGION_ENTRIES_MAX)
		return fail_broken(err);
	for (uint32_t i = 0; i < le32(head + 8); i++) {
		if (!header_read(src, REGION_AT + 16 + (uint64_t)i * ENTRY_LENGTH, entry, sizeof entry, err))
			return false;
		if (memcmp(entry, region_metadata, sizeof region_metadata) == 0) {
			*ret_at = le64(entry + 16);
			return true;
		}
	}
	return fail_broken(err);
}

struct vhdx {
	uint64_t metadata_at;
	bool seen_parameters, seen_size;
	uint64_t virtual_size;
};

static bool check_item(const struct header_source *src, const uint8_t *entry, struct vhdx *v, GError **err)
{
	uint64_t at = v->metadata_at + le32(entry + 16);
	uint8_t item[8];

	if (memcmp(entry, item_parent, sizeof(Guid)) == 0)
		return header_fail_names(IMAGE_FORMAT_VHDX, "a parent", NULL, 0, err);
	if (memcmp(entry, item_parameters, sizeof(Guid)) == 0) {
		if (v->seen_parameters || !header_read(src, at, item, sizeof item, err))
			return fail_broken(err);
		v->seen_parameters = true;
		if (le32(item + 4) & HAS_PARENT)
			return header_fail_names(IMAGE_FORMAT_VHDX, "a parent", NULL, 0, err);
	} else if (memcmp(entry, item_virtual_size, sizeof(Guid)) == 0) {
		if (v->seen_size || !header_read(src, at, item, sizeof item, err))
			return fail_broken(err);
		v->seen_size = true;
		v->virtual_size = le64(item);
	}
	return true;
}

/* {signature, reserved u16, count u16, reserved}, then {guid, offset u32, length u32, bits u32, reserved}. */
static bool check_metadata(const struct header_source *src, struct vhdx *v, GError **err)
{
	uint8_t head[32], entry[ENTRY_LENGTH];

	if (v->metadata_at > UINT64_MAX / 2)
		return fail_broken(err);
	if (!header_read(src, v->metadata_at, head, sizeof head, err))
		return false;
	if (memcmp(head, "metadata", 8) != 0 || le16(head + 10) > METADATA_ENTRIES_MAX)
		return fail_broken(err);
	for (uint16_t i = 0; i < le16(head + 10); i++)
		if (!header_read(src, v->metadata_at + 32 + (uint64_t)i * ENTRY_LENGTH, entry, sizeof entry,
				 err) ||
		    !check_item(src, entry, v, err))
			return false;
	return (v->seen_parameters && v->seen_size) || fail_broken(err);
}

bool header_check_vhdx(const struct header_source *src, uint64_t *ret_virtual, GError **err)
{
	struct vhdx v = { 0 };

	if (!find_metadata(src, &v.metadata_at, err) || !check_metadata(src, &v, err))
		return false;
	*ret_virtual = v.virtual_size;
	return true;
}

/* Big-endian. Type 2 is fixed, 3 dynamic, 4 differencing. */
bool header_check_vpc(const uint8_t footer[512], uint64_t *ret_virtual, GError **err)
{
	uint32_t type = be32(footer + 60);

	if (type == 4)
		return header_fail_names(IMAGE_FORMAT_VPC, "a parent", NULL, 0, err);
	if (type != 2 && type != 3)
		return header_fail(IMAGE_FORMAT_VPC, ERR_UNSUPPORTED, "is of an unknown type", err);
	*ret_virtual = be64(footer + 48);
	return true;
}

/* Little-endian. Type 1 is dynamic, 2 static, 3 undo, 4 differencing; links to others are uuids. */
bool header_check_vdi(const struct header_source *src, uint64_t *ret_virtual, GError **err)
{
	static const uint8_t none[32];
	uint8_t h[0x1d8];
	uint32_t type;

	if (!header_read(src, 0, h, sizeof h, err))
		return false;
	type = le32(h + 0x4c);
	if (type == 3 || type == 4 || memcmp(h + 0x1a8, none, sizeof none) != 0)
		return header_fail_names(IMAGE_FORMAT_VDI, "a parent", NULL, 0, err);
	if (type != 1 && type != 2)
		return header_fail(IMAGE_FORMAT_VDI, ERR_UNSUPPORTED, "is of an unknown type", err);
	*ret_virtual = le64(h + 0x170);
	return true;
}
