/* SPDX-License-Identifier: Apache-2.0 */
/* Headers of images from outside: what is taken, and what must never be. */
#include "image_bytes.h"

#define GIB (UINT64_C(1) << 30)
#define DESC                                                                                                    \
	"# Disk DescriptorFile\nversion=1\nCID=e0f0244c\nparentCID=ffffffff\ncreateType=\"monolithicSparse\"\n" \
	"# Extent description\nRW 204800 SPARSE \"s.vmdk\"\n"

static bool check_max(ImageBytes *b, const char *want, uint64_t max, struct image_header *h, GError **err)
{
	struct header_source src = image_bytes_source(b);
	ImageFormat f;

	if (want != NULL)
		g_assert_true(image_format_parse(want, &f, NULL));
	return image_header_check(&src, want != NULL ? &f : NULL, max, h, err);
}

static bool check(ImageBytes *b, struct image_header *h, GError **err)
{
	return check_max(b, NULL, IMAGE_VIRTUAL_SIZE_MAX, h, err);
}

static void assert_taken(ImageBytes *b, ImageFormat f, uint64_t virtual_size)
{
	g_autoptr(GError) err = NULL;
	struct image_header h;

	g_assert_true(check(b, &h, &err));
	g_assert_no_error(err);
	g_assert_cmpint(h.format, ==, f);
	g_assert_cmpuint(h.virtual_size, ==, virtual_size);
}

/* `part` is in the message; every refusal says what to do. */
static void assert_refused(ImageBytes *b, ErrCode code, const char *part)
{
	g_autoptr(GError) err = NULL;
	struct image_header h;

	g_assert_false(check(b, &h, &err));
	g_assert_error(err, ERR, (gint)code);
	if (strstr(err->message, part) == NULL)
		g_error("'%s' is not in '%s'", part, err->message);
	g_assert_nonnull(err_advice(err));
}

static ImageBytes *qcow2(unsigned version)
{
	ImageBytes *b = image_bytes_new(196624);

	put_text(b, 0, "QFI\xfb");
	put_be(b, 4, 4, version);
	put_be(b, 20, 4, 16);
	put_be(b, 24, 8, 10 * GIB);
	if (version == 3)
		put_be(b, 100, 4, 112);
	return b;
}

static ImageBytes *vmdk(const char *descriptor)
{
	ImageBytes *b = image_bytes_new(65536);

	put_text(b, 0, "KDMV");
	put_le(b, 4, 4, 1);
	put_le(b, 12, 8, 204800);
	put_le(b, 20, 8, 128);
	put_le(b, 28, 8, 1);
	put_le(b, 36, 8, 20);
	put_text(b, 512, descriptor);
	return b;
}

static void put_guid(ImageBytes *b, uint64_t at, const char *hex)
{
	for (unsigned i = 0; i < 16; i++) {
		char byte[3] = { hex[2 * i], hex[2 * i + 1], '\0' };

		put_le(b, at + i, 1, g_ascii_strtoull(byte, NULL, 16));
	}
}

#define GUID_METADATA "06a27c8b90479a4bb8fe575f050f886e"
#define GUID_BAT "6677c22d23f600429d64115e9bfd4a08"
#define GUID_PARAMETERS "3767a1ca36fa434db3b633f0aa44e76b"
#define GUID_SIZE "2442a52f1bcd7648b2115dbed83bf4b8"
#define GUID_PARENT "2d5fd3a80bb34d45abf7d3d84834ab0c"

static ImageBytes *vhdx(unsigned parameter_bits)
{
	ImageBytes *b = image_bytes_new(4 << 20);

	put_text(b, 0, "vhdxfile");
	put_text(b, 192 << 10, "regi");
	put_le(b, (192 << 10) + 8, 4, 2);
	put_guid(b, (192 << 10) + 16, GUID_BAT);
	put_guid(b, (192 << 10) + 48, GUID_METADATA);
	put_le(b, (192 << 10) + 64, 8, 2 << 20);
	put_text(b, 2 << 20, "metadata");
	put_le(b, (2 << 20) + 10, 2, 2);
	put_guid(b, (2 << 20) + 32, GUID_PARAMETERS);
	put_le(b, (2 << 20) + 48, 4, 65536);
	put_guid(b, (2 << 20) + 64, GUID_SIZE);
	put_le(b, (2 << 20) + 80, 4, 65544);
	put_le(b, (2 << 20) + 65536 + 4, 4, parameter_bits);
	put_le(b, (2 << 20) + 65544, 8, 20 * GIB);
	return b;
}

static ImageBytes *vpc(unsigned type, bool copy)
{
	ImageBytes *b = image_bytes_new(1536);

	for (int i = 0; i < (copy ? 2 : 1); i++) {
		uint64_t at = i == 0 ? 1024 : 0;

		put_text(b, at, "conectix");
		put_be(b, at + 48, 8, 5 * GIB);
		put_be(b, at + 60, 4, type);
	}
	return b;
}

static ImageBytes *vdi(unsigned type)
{
	ImageBytes *b = image_bytes_new(4096);

	put_text(b, 0, "<<< Oracle VM VirtualBox Disk Image >>>\n");
	put_le(b, 0x40, 4, 0xbeda107f);
	put_le(b, 0x4c, 4, type);
	put_le(b, 0x170, 8, 7 * GIB);
	return b;
}

static void test_whole_images_are_taken(void)
{
	g_autoptr(ImageBytes) q2 = qcow2(2), q3 = qcow2(3), m = vmdk(DESC), x = vhdx(1), v = vpc(3, true),
			      f = vpc(2, false), d = vdi(1), raw = image_bytes_new(1 << 20);

	assert_taken(q2, IMAGE_FORMAT_QCOW2, 10 * GIB);
	assert_taken(q3, IMAGE_FORMAT_QCOW2, 10 * GIB);
	assert_taken(m, IMAGE_FORMAT_VMDK, 204800 * 512);
	assert_taken(x, IMAGE_FORMAT_VHDX, 20 * GIB);
	assert_taken(v, IMAGE_FORMAT_VPC, 5 * GIB);
	assert_taken(f, IMAGE_FORMAT_VPC, 5 * GIB);
	assert_taken(d, IMAGE_FORMAT_VDI, 7 * GIB);
	assert_taken(raw, IMAGE_FORMAT_RAW, 1 << 20);
}

static void test_harmless_extensions_are_taken(void)
{
	g_autoptr(ImageBytes) b = qcow2(3), z = qcow2(3);

	put_be(b, 112, 4, 0x6803f857); /* names of features */
	put_be(b, 116, 4, 45);         /* padded to 48 */
	put_be(b, 120 + 48, 4, 0x23852875);
	put_be(b, 124 + 48, 4, 24);
	assert_taken(b, IMAGE_FORMAT_QCOW2, 10 * GIB);
	put_be(z, 72, 8, 1 << 3); /* compressed with zstd */
	put_be(z, 104, 1, 1);
	assert_taken(z, IMAGE_FORMAT_QCOW2, 10 * GIB);
}

static void test_a_backing_file_is_refused_by_name(void)
{
	g_autoptr(ImageBytes) b = qcow2(3), far = qcow2(2), unnamed = qcow2(3);
	g_autoptr(GError) err = NULL;
	struct image_header h;

	put_be(b, 8, 8, 512);
	put_be(b, 16, 4, 11);
	put_text(b, 512, "/etc/shadow");
	assert_refused(b, ERR_INVALID, "'/etc/shadow'");
	g_assert_false(check(b, &h, &err));
	g_assert_cmpstr(json_str(err_details(err), "names"), ==, "/etc/shadow");
	g_assert_cmpstr(json_str(err_details(err), "format"), ==, "qcow2");
	g_assert_nonnull(strstr(err_advice(err), "qemu-img convert"));
	put_be(far, 8, 8, UINT64_MAX - 3);
	put_be(far, 16, 4, 0xffffffff);
	assert_refused(far, ERR_INVALID, "backing file");
	put_be(unnamed, 8, 8, 512);
	assert_refused(unnamed, ERR_INVALID, "backing file");
}

static void test_an_external_data_file_is_refused(void)
{
	g_autoptr(ImageBytes) bit = qcow2(3), name = qcow2(3), later = qcow2(3), v2 = qcow2(2);

	put_be(bit, 72, 8, 1 << 2);
	assert_refused(bit, ERR_INVALID, "external data file");
	put_be(name, 112, 4, 0x44415441);
	put_be(name, 116, 4, 11);
	put_text(name, 120, "/etc/shadow");
	assert_refused(name, ERR_INVALID, "'/etc/shadow'");
	put_be(later, 112, 4, 0x6803f857);
	put_be(later, 116, 4, 3);
	put_be(later, 128, 4, 0x44415441);
	put_be(later, 132, 4, 5);
	assert_refused(later, ERR_INVALID, "external data file");
	put_be(v2, 72, 4, 0x44415441);
	put_be(v2, 76, 4, 4);
	assert_refused(v2, ERR_INVALID, "external data file");
}

static void test_unclear_qcow2_is_refused(void)
{
	static const struct {
		uint64_t at;
		unsigned width;
		uint64_t v;
		ErrCode code;
		const char *part;
	} rows[] = {
		{ 4, 4, 4, ERR_UNSUPPORTED, "version" },
		{ 20, 4, 8, ERR_INVALID, "broken" },
		{ 20, 4, 40, ERR_INVALID, "broken" },
		{ 32, 4, 2, ERR_UNSUPPORTED, "encrypted" },
		{ 72, 8, 1 << 1, ERR_INVALID, "corrupt" },
		{ 72, 8, UINT64_C(1) << 40, ERR_UNSUPPORTED, "features" },
		{ 104, 1, 9, ERR_UNSUPPORTED, "compressed" },
		{ 100, 4, 72, ERR_INVALID, "broken" },
		{ 100, 4, 0xfffffff8, ERR_INVALID, "broken" },
		{ 116, 4, 0xffffffff, ERR_INVALID, "broken" }, /* of the extension put below */
		{ 24, 8, 0, ERR_INVALID, "size 0" },
		{ 24, 8, UINT64_C(1) << 60, ERR_INVALID, "1 EiB" },
		{ 24, 8, UINT64_MAX, ERR_INVALID, "limit" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(ImageBytes) b = qcow2(3);

		put_be(b, 112, 4, rows[i].at == 116 ? 0x12345678 : 0);
		put_be(b, rows[i].at, rows[i].width, rows[i].v);
		assert_refused(b, rows[i].code, rows[i].part);
	}
}

static void test_vmdk_of_several_files_is_refused(void)
{
	static const struct {
		const char *desc, *part;
	} rows[] = {
		{ "version=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\nRW 100 FLAT \"/etc/passwd\" 0\n",
		  "monolithicFlat" },
		{ DESC "RW 100 FLAT \"/etc/passwd\" 0\n", "/etc/passwd" },
		{ DESC "RDONLY 100 SPARSE \"two.vmdk\"\n", "two.vmdk" },
		{ DESC "createType=\"vmfs\"\n", "vmfs" },
		{ "createType=\"monolithicSparse\"\nrw 100 sparse \"/x/s.vmdk\"\n", "/x/s.vmdk" },
		{ "createType = monolithicSparse\nparentCID = 12345678\n", "12345678" },
		{ DESC "parentFileNameHint=\"/etc/shadow\"\n", "/etc/shadow" },
		{ DESC "x PARENTFILENAMEHINT = \"/etc/shadow\"\n", "/etc/shadow" },
		{ "hello\n", "descriptor" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(ImageBytes) b = vmdk(rows[i].desc);

		assert_refused(b, ERR_INVALID, rows[i].part);
	}
}

/* QEMU looks for a parent at 0x200 even when the header says that the descriptor is elsewhere. */
static void test_a_vmdk_parent_hidden_from_the_header_is_refused(void)
{
	g_autoptr(ImageBytes) b = vmdk("CID=1\nparentFileNameHint=\"/etc/shadow\"\n"), nul = vmdk(DESC),
			      empty = vmdk(DESC), none = vmdk(DESC), far = vmdk(DESC);

	put_le(b, 28, 8, 64);
	put_text(b, 64 * 512, DESC);
	assert_refused(b, ERR_INVALID, "/etc/shadow");
	put_text(nul, 512 + 2048, "parentFileNameHint=\"behind-a-nul\"");
	assert_refused(nul, ERR_INVALID, "behind-a-nul");
	put_le(empty, 12, 8, 0); /* capacity 0: QEMU then believes the descriptor's extents */
	assert_refused(empty, ERR_INVALID, "not whole");
	put_le(none, 28, 8, 0);
	assert_refused(none, ERR_INVALID, "descriptor");
	put_le(far, 28, 8, UINT64_MAX);
	assert_refused(far, ERR_INVALID, "descriptor");
}

static void test_vmdk_footers_count(void)
{
	g_autoptr(ImageBytes) b = vmdk(DESC), huge = vmdk(DESC), cut = vmdk(DESC), empty = vmdk(DESC);
	ImageBytes *all[] = { b, huge, cut, empty };

	for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
		put_le(all[i], 56, 8, UINT64_MAX);
		if (all[i] != cut)
			put_text(all[i], 65536 - 1024, "KDMV");
		put_le(all[i], 65536 - 1024 + 12, 8, 409600);
	}
	assert_taken(b, IMAGE_FORMAT_VMDK, 409600 * 512);
	put_le(huge, 65536 - 1024 + 12, 8, UINT64_C(1) << 51);
	assert_refused(huge, ERR_INVALID, "limit");
	assert_refused(cut, ERR_INVALID, "footer");
	put_le(empty, 65536 - 1024 + 12, 8, 0);
	assert_refused(empty, ERR_INVALID, "not whole");
}

static void test_descriptor_files_are_refused(void)
{
	static const char *const texts[] = {
		DESC,
		"# disk descriptorfile\n",
		"# a comment\n\n  \r\n#another\nversion=1\nRW 1 FLAT \"/etc/passwd\" 0\n",
		"version=3\n",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		g_autoptr(ImageBytes) b = image_bytes_new(1024), tight = image_bytes_new(strlen(texts[i]));

		put_text(b, 0, texts[i]);
		assert_refused(b, ERR_INVALID, "VMDK");
		put_text(tight, 0, texts[i]);
		assert_refused(tight, ERR_INVALID, "VMDK");
	}
}

static void test_vhdx_with_a_parent_is_refused(void)
{
	g_autoptr(ImageBytes) bit = vhdx(2), locator = vhdx(0), twice = vhdx(0), broken = vhdx(0),
			      far = vhdx(0), none = vhdx(0);

	assert_refused(bit, ERR_INVALID, "parent");
	put_le(locator, (2 << 20) + 10, 2, 3);
	put_guid(locator, (2 << 20) + 96, GUID_PARENT);
	assert_refused(locator, ERR_INVALID, "parent");
	put_le(twice, (2 << 20) + 10, 2, 3);
	put_guid(twice, (2 << 20) + 96, GUID_SIZE);
	assert_refused(twice, ERR_INVALID, "broken");
	put_text(broken, 192 << 10, "REGI");
	assert_refused(broken, ERR_INVALID, "broken");
	put_le(far, (192 << 10) + 64, 8, UINT64_MAX - 8);
	assert_refused(far, ERR_INVALID, "broken");
	put_le(none, (2 << 20) + 10, 2, 1);
	assert_refused(none, ERR_INVALID, "broken");
}

static void test_vhd_and_vdi_with_a_parent_are_refused(void)
{
	g_autoptr(ImageBytes) v = vpc(4, true), odd = vpc(7, true), liar = vpc(2, true), d = vdi(4),
			      link = vdi(1);

	assert_refused(v, ERR_INVALID, "parent");
	assert_refused(odd, ERR_UNSUPPORTED, "type");
	put_be(liar, 60, 4, 4); /* the copy at the beginning says something else than the end */
	assert_refused(liar, ERR_INVALID, "parent");
	assert_refused(d, ERR_INVALID, "parent");
	put_le(link, 0x1b8, 4, 1);
	assert_refused(link, ERR_INVALID, "parent");
}

static void test_what_is_no_disk_is_refused(void)
{
	static const struct {
		uint64_t at;
		const char *magic;
		const char *part;
	} rows[] = {
		{ 0, "\x1f\x8b", "gzip" },
		{ 0,
		  "\xfd"
		  "7zXZ",
		  "xz" },
		{ 257, "ustar", "tar" },
		{ 0, "PK\x03\x04", "ZIP" },
		{ 0, "COWD", "VMDK" },
		{ 0, "LUKS\xba\xbe", "LUKS" },
		{ 0, "\x28\xb5\x2f\xfd", "Zst" },
		{ 0, "WithoutFreeSpace", "Parallels" },
	};
	g_autoptr(ImageBytes) empty = image_bytes_new(0), old = image_bytes_new(512),
			      page = image_bytes_new(512);

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(ImageBytes) b = image_bytes_new(4096);

		put_text(b, rows[i].at, rows[i].magic);
		assert_refused(b, ERR_UNSUPPORTED, rows[i].part);
	}
	assert_refused(empty, ERR_INVALID, "empty");
	put_text(page, 0, "<!DOCTYPE html><title>404</title>");
	assert_refused(page, ERR_INVALID, "web page");
	put_text(old, 0, "QFI\xfb");
	put_be(old, 4, 4, 1);
	assert_refused(old, ERR_UNSUPPORTED, "qcow");
}

/* What the cut leaves is enough, or no longer the format. A VMDK says enough once its type is there. */
static void test_headers_cut_anywhere_are_refused(void)
{
	ImageBytes *all[] = { qcow2(3), vmdk(DESC), vhdx(0), vdi(1) };
	const uint64_t typed = 512 + (uint64_t)(strstr(DESC, "Sparse\"") - DESC) + strlen("Sparse");
	static const uint64_t needed[] = { 112, 512 + sizeof DESC, (2 << 20) + 65552, 0x1d8 };

	for (size_t i = 0; i < G_N_ELEMENTS(all); i++) {
		for (int k = 0; k < 200; k++) {
			g_autoptr(GError) err = NULL;
			struct image_header h;

			all[i]->size = (uint64_t)g_test_rand_int_range(8, (gint32)needed[i]);
			if (check(all[i], &h, &err))
				g_assert_true(h.format == IMAGE_FORMAT_RAW ||
					      (i == 1 && all[i]->size >= typed));
			else
				g_assert_nonnull(err_advice(err));
		}
		image_bytes_free(all[i]);
	}
}

static void test_the_named_format_must_be_right(void)
{
	g_autoptr(ImageBytes) q = qcow2(3), fixed = vpc(2, false), dynamic = vpc(3, true),
			      raw = image_bytes_new(512);
	g_autoptr(GError) err = NULL, err2 = NULL, err3 = NULL;
	struct image_header h;
	ImageFormat f;

	g_assert_true(check_max(q, "qcow2", GIB * 10, &h, NULL));
	g_assert_false(check_max(q, "raw", GIB * 10, &h, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_false(check_max(raw, "VMDK", GIB, &h, &err2));
	g_assert_error(err2, ERR, ERR_INVALID);
	g_assert_true(check_max(fixed, "raw", GIB, &h, NULL));
	g_assert_cmpint(h.format, ==, IMAGE_FORMAT_RAW);
	g_assert_cmpuint(h.virtual_size, ==, 1536);
	g_assert_false(check_max(dynamic, "raw", 10 * GIB, &h, &err3));
	g_assert_false(check_max(q, NULL, GIB * 10 - 1, &h, NULL));
	g_assert_false(image_format_parse("iso", &f, NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/image-header/whole", test_whole_images_are_taken);
	g_test_add_func("/image-header/extensions", test_harmless_extensions_are_taken);
	g_test_add_func("/image-header/backing", test_a_backing_file_is_refused_by_name);
	g_test_add_func("/image-header/data-file", test_an_external_data_file_is_refused);
	g_test_add_func("/image-header/unclear", test_unclear_qcow2_is_refused);
	g_test_add_func("/image-header/vmdk-files", test_vmdk_of_several_files_is_refused);
	g_test_add_func("/image-header/vmdk-hidden", test_a_vmdk_parent_hidden_from_the_header_is_refused);
	g_test_add_func("/image-header/vmdk-footer", test_vmdk_footers_count);
	g_test_add_func("/image-header/descriptor", test_descriptor_files_are_refused);
	g_test_add_func("/image-header/vhdx", test_vhdx_with_a_parent_is_refused);
	g_test_add_func("/image-header/vhd-vdi", test_vhd_and_vdi_with_a_parent_are_refused);
	g_test_add_func("/image-header/no-disk", test_what_is_no_disk_is_refused);
	g_test_add_func("/image-header/cut", test_headers_cut_anywhere_are_refused);
	g_test_add_func("/image-header/named", test_the_named_format_must_be_right);
	return g_test_run();
}
