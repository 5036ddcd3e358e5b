/* SPDX-License-Identifier: Apache-2.0 */
#include "core/image/header.h"
#include "base/str.h"
#include "core/image/header-impl.h"

#include <inttypes.h>

static const struct {
	const char *name, *people;
} format_table[] = {
#define X(id, n, p) [IMAGE_FORMAT_##id] = { .name = n, .people = p },
	IMAGE_FORMAT_TABLE(X)
#undef X
};

const char *image_format_name(ImageFormat f)
{
	return format_table[f].name;
}

bool image_format_parse(const char *text, ImageFormat *ret, GError **err)
{
	g_autofree char *shown = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(format_table); i++)
		if (g_ascii_strcasecmp(text, format_table[i].name) == 0 ||
		    g_ascii_strcasecmp(text, format_table[i].people) == 0) {
			*ret = (ImageFormat)i;
			return true;
		}
	shown = g_utf8_make_valid(text, (gssize)strnlen(text, 40));
	return fail_advice(err, ERR_INVALID, "Use raw, qcow2, vmdk, vhdx, vpc (VHD) or vdi, or leave it out.",
			   "'%s' is no format of disk images", shown);
}

bool header_read(const struct header_source *src, uint64_t offset, void *buf, size_t len, GError **err)
{
	if (offset > src->size || len > src->size - offset)
		return fail_advice(err, ERR_INVALID, "Fetch it again and compare its checksum.",
				   "the image is cut off: its header points behind its end");
	return src->read(src->data, offset, buf, len, err);
}

bool header_fail_names(ImageFormat f, const char *what, const char *name, size_t name_len, GError **err)
{
	g_autofree char *shown = NULL;

	if (name != NULL)
		shown = g_utf8_make_valid(name, (gssize)strnlen(name, MIN(name_len, 1024)));
	fail_advice(
	    err, ERR_INVALID,
	    "Flatten it where its other files are: `qemu-img convert -O qcow2 IMAGE FLAT.qcow2`, then import "
	    "FLAT.qcow2.",
	    "the %s image is not whole: it names %s%s%s%s", format_table[f].people, what,
	    shown != NULL ? " '" : "", shown != NULL ? shown : "", shown != NULL ? "'" : "");
	err_detail(err, "format", json_string(format_table[f].name));
	return err_detail(err, "names", shown != NULL ? json_text_or_escaped(shown) : json_null());
}

bool header_fail(ImageFormat f, ErrCode code, const char *why, GError **err)
{
	return fail_advice(
	    err, code,
	    "Convert it with a tool that can read it: `qemu-img convert -O qcow2 IMAGE NEW.qcow2`, then "
	    "import NEW.qcow2.",
	    "the %s image %s", format_table[f].people, why);
}

/* What is no disk image, or none that we take. */
static const struct foreign {
	uint64_t offset;
	const char *magic;
	size_t len;
	const char *what;
	enum { PACKED, FORMAT, PAGE } kind;
} foreign_table[] = {
#define MAGIC(s) s, sizeof(s) - 1
	{ 0, MAGIC("\x1f\x8b"), "gzip", PACKED },
	{ 0,
	  MAGIC("\xfd"
		"7zXZ\0"),
	  "xz", PACKED },
	{ 0, MAGIC("\x28\xb5\x2f\xfd"), "Zstandard", PACKED },
	{ 0, MAGIC("BZh"), "bzip2", PACKED },
	{ 0, MAGIC("\x04\x22\x4d\x18"), "LZ4", PACKED },
	{ 0, MAGIC("7z\xbc\xaf\x27\x1c"), "7-Zip", PACKED },
	{ 0, MAGIC("PK\x03\x04"), "ZIP", PACKED },
	{ 257, MAGIC("ustar"), "tar (an OVA is one)", PACKED },
	{ 0, MAGIC("QED\0"), "QED", FORMAT },
	{ 0, MAGIC("QFI\xfb\0\0\0\x01"), "qcow of version 1", FORMAT },
	{ 0, MAGIC("COWD"), "VMDK of version 3", FORMAT },
	{ 0, MAGIC("WithoutFreeSpace"), "Parallels", FORMAT },
	{ 0, MAGIC("WithouFreSpacExt"), "Parallels", FORMAT },
	{ 0, MAGIC("Bochs Virtual HD Image"), "Bochs", FORMAT },
	{ 0, MAGIC("LUKS\xba\xbe"), "LUKS", FORMAT },
	{ 0, MAGIC("#!/bin/sh\n#V2.0 Format\n"), "cloop", FORMAT },
	{ 0, MAGIC("<!DOCTYPE "), "a web page", PAGE },
	{ 0, MAGIC("<!doctype "), "a web page", PAGE },
	{ 0, MAGIC("<html"), "a web page", PAGE },
#undef MAGIC
};

static bool begins_with(const struct header_source *src, uint64_t offset, const char *magic, size_t len)
{
	uint8_t buf[32];

	g_assert(len <= sizeof buf);
	return header_read(src, offset, buf, len, NULL) && memcmp(buf, magic, len) == 0;
}

static bool refuse_foreign(const struct header_source *src, GError **err)
{
	for (size_t i = 0; i < G_N_ELEMENTS(foreign_table); i++) {
		const struct foreign *f = &foreign_table[i];

		if (!begins_with(src, f->offset, f->magic, f->len))
			continue;
		if (f->kind == PAGE)
			return fail_advice(err, ERR_INVALID,
					   "Check the address: servers send that for missing files.",
					   "the file is no disk image but %s", f->what);
		if (f->kind == PACKED)
			return fail_advice(err, ERR_UNSUPPORTED,
					   "Unpack it and import the disk image that is in it.",
					   "the file is packed: %s", f->what);
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Convert it: `qemu-img convert -O qcow2 IMAGE NEW.qcow2`, then import NEW.qcow2.",
		    "images of format %s are not supported", f->what);
	}
	return true;
}

/* A VMDK whose descriptor is a text file of its own: the data lies elsewhere. Seen as QEMU sees it. */
static bool is_vmdk_descriptor(const struct header_source *src)
{
	g_autofree char *text = NULL;
	size_t n = (size_t)MIN(src->size, 20480);
	const char *p;

	text = g_malloc0(n + 1);
	if (!header_read(src, 0, text, n, NULL))
		return false;
	if (g_ascii_strncasecmp(text, "# Disk Descriptor", strlen("# Disk Descriptor")) == 0)
		return true;
	for (p = text; *p == '#' || *p == ' ' || *p == '\r' || *p == '\n'; p++) {
		if (*p == '#')
			p += strcspn(p, "\n");
		if (*p == '\0')
			return false;
	}
	return g_str_has_prefix(p, "version=");
}

#define VPC_COOKIE "conectix"

static ImageFormat recognise(const struct header_source *src)
{
	if (begins_with(src, 0, "QFI\xfb", 4))
		return IMAGE_FORMAT_QCOW2;
	if (begins_with(src, 0, "KDMV", 4))
		return IMAGE_FORMAT_VMDK;
	if (begins_with(src, 0, "vhdxfile", 8))
		return IMAGE_FORMAT_VHDX;
	if (begins_with(src, 0, VPC_COOKIE, 8) ||
	    (src->size >= 512 && begins_with(src, src->size - 512, VPC_COOKIE, 8)))
		return IMAGE_FORMAT_VPC;
	if (begins_with(src, 0x40, "\x7f\x10\xda\xbe", 4))
		return IMAGE_FORMAT_VDI;
	return IMAGE_FORMAT_RAW;
}

/* Both copies of the footer must be fit to be believed: QEMU takes the first that looks right. */
static bool check_vpc(const struct header_source *src, uint64_t *ret_virtual, GError **err)
{
	uint64_t at[2] = { 0, src->size - MIN(src->size, 512) }, size[2] = { 0, 0 };
	uint8_t footer[512];

	for (int i = 0; i < 2; i++) {
		if (!begins_with(src, at[i], VPC_COOKIE, 8))
			continue;
		if (!header_read(src, at[i], footer, sizeof footer, err) ||
		    !header_check_vpc(footer, &size[i], err))
			return false;
	}
	*ret_virtual = MAX(size[0], size[1]);
	return true;
}

static bool check_format(const struct header_source *src, struct image_header *h, GError **err)
{
	switch (h->format) {
	case IMAGE_FORMAT_RAW:
		h->virtual_size = src->size;
		return true;
	case IMAGE_FORMAT_QCOW2:
		return header_check_qcow2(src, NULL, false, &h->virtual_size, err);
	case IMAGE_FORMAT_VMDK:
		return header_check_vmdk(src, &h->virtual_size, err);
	case IMAGE_FORMAT_VHDX:
		return header_check_vhdx(src, &h->virtual_size, err);
	case IMAGE_FORMAT_VPC:
		return check_vpc(src, &h->virtual_size, err);
	case IMAGE_FORMAT_VDI:
		return header_check_vdi(src, &h->virtual_size, err);
	case _IMAGE_FORMAT_MAX:
		break;
	}
	g_assert_not_reached();
}

static bool check_wanted(const struct header_source *src, struct image_header *h, const ImageFormat *want,
			 GError **err)
{
	bool fixed_vhd = h->format == IMAGE_FORMAT_VPC && !begins_with(src, 0, VPC_COOKIE, 8);

	if (want == NULL || *want == h->format)
		return true;
	if (*want == IMAGE_FORMAT_RAW && fixed_vhd) {
		h->format = IMAGE_FORMAT_RAW;
		return true;
	}
	return fail_advice(err, ERR_INVALID, "Leave the format out, or name the right one.",
			   "the image was called %s, but its header is of format %s",
			   format_table[*want].people, format_table[h->format].people);
}

bool image_header_check(const struct header_source *src, const ImageFormat *want, uint64_t max_virtual_size,
			struct image_header *ret, GError **err)
{
	struct image_header h = { .format = recognise(src) };

	if (src->size == 0)
		return fail_advice(err, ERR_INVALID, "Fetch it again.", "the image is empty");
	if (!refuse_foreign(src, err))
		return false;
	if (is_vmdk_descriptor(src))
		return header_fail_names(IMAGE_FORMAT_VMDK, "the files that hold its data", NULL, 0, err);
	if (!check_wanted(src, &h, want, err) || !check_format(src, &h, err))
		return false;
	if (h.virtual_size == 0)
		return header_fail(h.format, ERR_INVALID, "is a disk of size 0", err);
	if (h.virtual_size > max_virtual_size) {
		g_autofree char *is = print_size(h.virtual_size), *most = print_size(max_virtual_size);

		return fail_advice(
		    err, ERR_INVALID,
		    "If it is meant to be so large, allow it with the import's limit of the disk size.",
		    "the image is a disk of %s; the limit is %s", is, most);
	}
	*ret = h;
	return true;
}

bool volume_header_check(const struct header_source *src, ImageFormat f, const char *backing, bool encrypted,
			 uint64_t *ret_virtual, GError **err)
{
	if (f == IMAGE_FORMAT_RAW) {
		*ret_virtual = src->size;
		return true;
	}
	g_assert(f == IMAGE_FORMAT_QCOW2);
	if (!begins_with(src, 0, "QFI\xfb", 4))
		return fail_advice(err, ERR_CONFLICT, "Restore it from a backup.",
				   "the disk is no qcow2 image any more");
	return header_check_qcow2(src, backing, encrypted, ret_virtual, err);
}
