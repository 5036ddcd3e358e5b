/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk image's header says, read by ourselves before anything else
 * opens the file. Pure: bytes come from a function that the caller brings.
 *
 * An image that came from outside can name other files: a backing file, an
 * external data file, a parent, extents. Whoever opens such an image opens
 * those too, with his own rights. So the format is recognised here, from the
 * bytes and never from the name, and an image is refused when it
 *   - is not whole in its one file (names another one in any way),
 *   - is larger for its guest than allowed,
 *   - is encrypted, marked corrupt, or of a version or with features that are
 *     not known here,
 *   - is packed (gzip, xz, tar, ...) or of a format that is not supported.
 * Everything unclear is refused: this is a gate, not a reader. What passes is
 * opened later with the format found here, never probed again.
 *
 * Formats as documented: qcow2 in QEMU's docs/interop/qcow2.txt, VMDK in
 * VMware's "Virtual Disk Format 5.0", VHDX in MS-VHDX, VHD in "Virtual Hard
 * Disk Image Format Specification", VDI as VirtualBox writes it.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

// clang-format off
#define IMAGE_FORMAT_TABLE(X)                             \
	/* id     name: what QEMU calls it, and people */ \
	X(RAW,   "raw",   "raw")                          \
	X(QCOW2, "qcow2", "qcow2")                        \
	X(VMDK,  "vmdk",  "VMDK")                         \
	X(VHDX,  "vhdx",  "VHDX")                         \
	X(VPC,   "vpc",   "VHD")                          \
	X(VDI,   "vdi",   "VDI")
// clang-format on

typedef enum ImageFormat {
#define X(id, name, people) IMAGE_FORMAT_##id,
	IMAGE_FORMAT_TABLE(X)
#undef X
	    _IMAGE_FORMAT_MAX,
} ImageFormat;

/* "qcow2": QEMU's name */
const char *image_format_name(ImageFormat f);
/* Also takes "vhd". ERR_INVALID with the list. */
bool image_format_parse(const char *text, ImageFormat *ret, GError **err);

/* Reads exactly `len` bytes at `offset`; only asked for what lies within the size. */
typedef bool (*HeaderReadFunc)(void *data, uint64_t offset, void *buf, size_t len, GError **err);

struct header_source {
	HeaderReadFunc read;
	void *data;
	uint64_t size;
};

struct image_header {
	ImageFormat format;
	uint64_t virtual_size; /* bytes, as the header has it; QEMU may round it */
};

/* The largest disk that is taken when nobody says otherwise. */
#define IMAGE_VIRTUAL_SIZE_MAX (UINT64_C(16) << 40)

/*
 * Recognise, check, or refuse. `want` is the format that the user named, or
 * NULL; another one is refused, except that a fixed VHD may be called raw.
 * ERR_INVALID with advice, and {format, names} in the details when the image
 * names another file; ERR_UNSUPPORTED for formats and features that are not
 * known; else what `read` failed with.
 */
bool image_header_check(const struct header_source *src, const ImageFormat *want, uint64_t max_virtual_size,
			struct image_header *ret, GError **err);

/*
 * The same for a disk of our own, of format raw or qcow2, which guests and
 * their QEMU wrote to: an overlay must still name `backing` (NULL: none) and no
 * other file. ERR_CONFLICT when it is not what it was, ERR_INVALID when it
 * names another file. `encrypted`: by LUKS it is then, and else not at all.
 */
bool volume_header_check(const struct header_source *src, ImageFormat f, const char *backing, bool encrypted,
			 uint64_t *ret_virtual, GError **err);
