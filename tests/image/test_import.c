/* SPDX-License-Identifier: Apache-2.0 */
/* Imports with the real qemu-img: every format, every refusal, and nothing left behind. */
#include "engine/image/import.h"
#include "engine/image/qemu_img.h"
#include "engine/image/scratch.h"
#include "image_lab.h"

#include <linux/landlock.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#define ID "9e194003-4608-4fe3-b073-00bd2a774a57"

typedef struct Place {
	char *dir, *images, *target, *work;
	struct image_import im;
} Place;

static Place *place_at(const char *images)
{
	Place *p = g_new0(Place, 1);

	p->images = g_strdup(images);
	p->target = g_build_filename(images, ID ".qcow2", NULL);
	p->work = g_build_filename(images, "." ID ".fetched", NULL);
	p->im = (struct image_import){
		.work = p->work, .target = p->target, .uid = lab_uid(), .gid = NOBODY, .retry_delay = 1000
	};
	return p;
}

static Place *place_new(void)
{
	g_autofree char *dir = lab_folder(), *images = g_build_filename(dir, "images", NULL);
	Place *p;

	g_assert_true(dir_make(images, 0711, NULL));
	p = place_at(images);
	p->dir = g_steal_pointer(&dir);
	return p;
}

static void place_free(Place *p)
{
	if (p->dir != NULL)
		lab_remove(p->dir);
	g_free(p->dir);
	g_free(p->images);
	g_free(p->target);
	g_free(p->work);
	g_free(p);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Place, place_free)

static void assert_empty(const Place *p)
{
	g_autofree char *left = lab_list(p->images);

	g_assert_cmpstr(left, ==, "");
}

static Json *assert_imported(Place *p)
{
	g_autoptr(GError) err = NULL;
	Json *facts = NULL;
	g_autofree char *left = NULL;
	struct stat st;

	image_import(&p->im, &facts, &err);
	g_assert_no_error(err);
	left = lab_list(p->images);
	g_assert_cmpstr(left, ==, ID ".qcow2");
	g_assert_cmpint(stat(p->target, &st), ==, 0);
	g_assert_cmpint(st.st_mode & 07777, ==, 0444);
	g_assert_cmpint(st.st_uid, ==, geteuid());
	return facts;
}

/* `part` is in the message, the advice says something, and nothing is left. Returns the details. */
static Json *assert_refused(Place *p, ErrCode code, const char *part)
{
	g_autoptr(GError) err = NULL;

	g_assert_false(image_import(&p->im, NULL, &err));
	if (!g_error_matches(err, ERR, (gint)code) || strstr(err->message, part) == NULL)
		g_error("%s: not %s with '%s', but %s: %s", p->im.source, err_name(code), part,
			err_name(err_code(err)), err->message);
	g_assert_nonnull(err_advice(err));
	assert_empty(p);
	return json_ref(err_details(err));
}

static const struct {
	const char *format, *options, *detected;
} formats[] = {
	{ "raw", "", "raw" },
	{ "qcow2", "", "qcow2" },
	{ "qcow2", "-o compat=0.10", "qcow2" },
	{ "qcow2", "-c", "qcow2" },
	{ "qcow2", "-c -o compression_type=zstd", "qcow2" },
	{ "qcow2", "-o extended_l2=on,cluster_size=128k", "qcow2" },
	{ "vmdk", "", "vmdk" },
	{ "vmdk", "-o subformat=streamOptimized", "vmdk" },
	{ "vhdx", "", "vhdx" },
	{ "vhdx", "-o subformat=fixed", "vhdx" },
	{ "vpc", "-o force_size=on", "vpc" },
	{ "vpc", "-o subformat=fixed,force_size=on", "vpc" },
	{ "vdi", "", "vdi" },
	{ "vdi", "-o static=on", "vdi" },
};

static void test_every_format_comes_through(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 24 * MIB);

	for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
		g_autofree char *file = g_build_filename(p->dir, "source", NULL), *sum = NULL;
		_cleanup_json_ Json *facts = NULL;

		if (!lab_try("qemu-img convert -f raw -O %s %s %s %s", formats[i].format, formats[i].options,
			     raw, file)) {
			g_test_message("this qemu-img can't write %s %s", formats[i].format,
				       formats[i].options);
			continue;
		}
		p->im.source = file;
		facts = assert_imported(p);
		g_assert_cmpstr(json_str(facts, "source_format"), ==, formats[i].detected);
		g_assert_cmpstr(json_str(facts, "disk_format"), ==, "qcow2");
		g_assert_cmpuint(json_uint(facts, "virtual_size", 0), ==, 24 * MIB);
		sum = lab_sha(G_CHECKSUM_SHA512, file);
		g_assert_cmpstr(json_str(facts, "os_hash_value"), ==, sum);
		g_assert_cmpuint(json_uint(facts, "size", 0), <, 8 * MIB);
		lab_run("qemu-img compare -f raw -F qcow2 %s %s", raw, p->target);
		g_assert_true(image_verify(p->target, json_str(facts, "stored_hash_value"), NULL, NULL));
		g_assert_true(image_remove(p->target, p->work, NULL));
		assert_empty(p);
	}
}

static void test_a_backing_file_is_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *file = g_build_filename(p->dir, "evil", NULL);
	_cleanup_json_ Json *details = NULL;

	lab_run("qemu-img create -q -u -f qcow2 -b /etc/shadow -F raw %s 1M", file);
	p->im.source = file;
	details = assert_refused(p, ERR_INVALID, "/etc/shadow");
	g_assert_cmpstr(json_str(details, "names"), ==, "/etc/shadow");
}

static void test_a_data_file_is_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *file = g_build_filename(p->dir, "evil", NULL),
			*data = g_build_filename(p->dir, "data", NULL);

	lab_run("qemu-img create -q -f qcow2 -o data_file=%s,data_file_raw=on %s 1M", data, file);
	p->im.source = file;
	json_unref(assert_refused(p, ERR_INVALID, "external data file"));
}

static void test_a_huge_disk_is_refused(void)
{
	static const uint8_t exbibyte[8] = { 0x10 };
	g_autoptr(Place) p = place_new();
	g_autofree char *file = g_build_filename(p->dir, "evil", NULL), *sparse = NULL;

	lab_run("qemu-img create -q -f qcow2 %s 1M", file);
	lab_patch(file, 24, exbibyte, sizeof exbibyte);
	p->im.source = file;
	json_unref(assert_refused(p, ERR_INVALID, "1 EiB"));
	lab_run("qemu-img create -q -f qcow2 %s 2G", file);
	p->im.max_virtual_size = 1 << 30;
	json_unref(assert_refused(p, ERR_INVALID, "2 GiB"));
	sparse = g_build_filename(p->dir, "sparse", NULL);
	lab_run("truncate -s 3M %s", sparse);
	p->im.source = sparse;
	p->im.max_virtual_size = 2 * MIB;
	json_unref(assert_refused(p, ERR_INVALID, "3 MiB"));
}

static void test_vmdk_of_other_files_is_refused(void)
{
	static const char passwd[] = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
				     "createType=\"monolithicFlat\"\nRW 4 FLAT \"/etc/passwd\" 0\n";
	g_autoptr(Place) p = place_new();
	g_autofree char *flat = g_build_filename(p->dir, "flat.vmdk", NULL),
			*text = g_build_filename(p->dir, "text.vmdk", NULL), *sparse = NULL;

	lab_run("qemu-img create -q -f vmdk -o subformat=monolithicFlat %s 1M", flat);
	p->im.source = flat;
	json_unref(assert_refused(p, ERR_INVALID, "VMDK"));
	g_assert_true(g_file_set_contents(text, passwd, -1, NULL));
	p->im.source = text;
	json_unref(assert_refused(p, ERR_INVALID, "VMDK"));
	p->im.format = "vmdk";
	json_unref(assert_refused(p, ERR_INVALID, "VMDK"));
	p->im.format = NULL;
	/* The header is of a whole image, with nothing in it: QEMU would then read the descriptor's extents.
	 */
	sparse = g_build_filename(p->dir, "sparse.vmdk", NULL);
	lab_run("qemu-img create -q -f vmdk %s 1M", sparse);
	lab_patch(sparse, 512, passwd, sizeof passwd);
	lab_patch(sparse, 12, "\0\0\0\0\0\0\0\0", 8);
	p->im.source = sparse;
	json_unref(assert_refused(p, ERR_INVALID, "not whole"));
}

static void test_a_vmdk_parent_is_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *base = g_build_filename(p->dir, "base.vmdk", NULL),
			*file = g_build_filename(p->dir, "evil.vmdk", NULL);

	lab_run("qemu-img create -q -f vmdk %s 1M", base);
	lab_run("qemu-img create -q -f vmdk -b %s -F vmdk %s", base, file);
	p->im.source = file;
	json_unref(assert_refused(p, ERR_INVALID, "base.vmdk"));
}

/* Were our own check blind, qemu-img still could not open what the image names. */
static void test_the_walls_behind_the_check_hold(void)
{
	g_autofree char *dir = lab_folder(), *scratch = g_build_filename(dir, "scratch", NULL),
			*evil = g_build_filename(scratch, "evil", NULL),
			*out = g_build_filename(scratch, "out", NULL);
	struct qemu_img q = { .dir = scratch, .uid = lab_uid(), .gid = NOBODY };
	g_autoptr(GError) err = NULL;

	if (syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) < 1) {
		g_test_skip("this kernel has no Landlock");
		lab_remove(dir);
		return;
	}
	g_assert_true(scratch_make(scratch, q.uid, q.gid, NULL));
	lab_run("qemu-img create -q -u -f qcow2 -b /etc/passwd -F raw %s 1M", evil);
	g_assert_cmpint(chmod(evil, 0644), ==, 0);
	g_assert_false(qemu_img_convert(&q, "evil", IMAGE_FORMAT_QCOW2, "out", IMAGE_FORMAT_RAW, MIB, &err));
	g_assert_error(err, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(err->message, "Permission denied"));
	g_assert_false(g_file_test(out, G_FILE_TEST_EXISTS));
	lab_remove(dir);
}

static void test_broken_images_are_refused(void)
{
	static const uint8_t wild[8] = { 0x80, 0, 0, 0, 0, 0xff, 0xff, 0xff };
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 8 * MIB),
			*file = g_build_filename(p->dir, "broken", NULL);

	lab_run("qemu-img convert -f raw -O qcow2 %s %s", raw, file);
	lab_patch(file, 40, wild, sizeof wild); /* where the first table of the map is */
	p->im.source = file;
	json_unref(assert_refused(p, ERR_QEMU, "qemu-img"));
}

static void test_what_is_no_image_file_is_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *fifo = g_build_filename(p->dir, "fifo", NULL),
			*empty = g_build_filename(p->dir, "empty", NULL),
			*gone = g_build_filename(p->dir, "gone", NULL),
			*sock = g_build_filename(p->dir, "sock", NULL);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	_cleanup_close_ int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpint(mkfifo(fifo, 0644), ==, 0);
	g_assert_true(g_file_set_contents(empty, "", 0, NULL));
	g_strlcpy(addr.sun_path, sock, sizeof addr.sun_path);
	g_assert_cmpint(bind(s, (struct sockaddr *)&addr, sizeof addr), ==, 0);
	p->im.source = p->dir;
	json_unref(assert_refused(p, ERR_INVALID, "a directory"));
	p->im.source = fifo;
	json_unref(assert_refused(p, ERR_INVALID, "a pipe"));
	p->im.source = sock;
	json_unref(assert_refused(p, ERR_INVALID, "a socket"));
	p->im.source = "/dev/zero";
	json_unref(assert_refused(p, ERR_INVALID, "a device"));
	p->im.source = empty;
	json_unref(assert_refused(p, ERR_INVALID, "empty"));
	p->im.source = gone;
	json_unref(assert_refused(p, ERR_NOT_FOUND, "gone"));
	p->im.source = "raw.img";
	json_unref(assert_refused(p, ERR_INVALID, "raw.img"));
	p->im.source = "ftp://example.org/x";
	json_unref(assert_refused(p, ERR_INVALID, "ftp://"));
	p->im.source = "file://elsewhere/etc/x";
	json_unref(assert_refused(p, ERR_INVALID, "elsewhere"));
}

static void test_unreadable_files_are_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 4 * MIB);

	bool root = geteuid() == 0;

	g_assert_cmpint(chmod(raw, 0), ==, 0);
	p->im.source = raw;
	if (root) { /* who reads everything */
		g_assert_cmpint(chown(p->dir, NOBODY, NOBODY), ==, 0);
		g_assert_cmpint(chown(p->images, NOBODY, NOBODY), ==, 0);
		g_assert_cmpint(seteuid(NOBODY), ==, 0);
		p->im.uid = lab_uid();
	}
	json_unref(assert_refused(p, ERR_DENIED, "raw"));
	if (root)
		g_assert_cmpint(seteuid(0), ==, 0);
}

static void test_file_urls_are_paths(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "a b", 4 * MIB),
			*url = g_strdup_printf("file://%s/a%%20b", p->dir);

	p->im.source = url;
	json_unref(assert_imported(p));
}

static void test_checksums_are_held_against_it(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 4 * MIB), *sum512 = lab_sha(G_CHECKSUM_SHA512, raw),
			*sum256 = lab_sha(G_CHECKSUM_SHA256, raw), *up = g_ascii_strup(sum512, -1);
	g_autofree char *good512 = g_strconcat("sha512:", up, NULL),
			*good256 = g_strconcat("sha256:", sum256, NULL),
			*bad512 = g_strconcat("sha512:", sum512, NULL),
			*md5 = g_strconcat("md5:", sum256, NULL);
	_cleanup_json_ Json *details = NULL;

	p->im.source = raw;
	p->im.checksum = good512;
	json_unref(assert_imported(p));
	g_assert_true(image_remove(p->target, p->work, NULL));
	p->im.checksum = good256;
	json_unref(assert_imported(p));
	g_assert_true(image_remove(p->target, p->work, NULL));
	bad512[10] = bad512[10] == '0' ? '1' : '0';
	p->im.checksum = bad512;
	details = assert_refused(p, ERR_INVALID, "checksum");
	g_assert_cmpstr(json_str(details, "expected"), ==, bad512 + 7);
	g_assert_cmpstr(json_str(details, "found"), ==, sum512);
	p->im.checksum = md5;
	json_unref(assert_refused(p, ERR_INVALID, "checksum"));
	p->im.checksum = "sha512:12";
	json_unref(assert_refused(p, ERR_INVALID, "checksum"));
}

static void test_the_named_format_must_be_the_right_one(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 4 * MIB);

	p->im.source = raw;
	p->im.format = "vhdx";
	json_unref(assert_refused(p, ERR_INVALID, "raw"));
	p->im.format = "iso9660";
	json_unref(assert_refused(p, ERR_INVALID, "iso9660"));
	p->im.format = "raw";
	json_unref(assert_imported(p));
}

static void test_a_changed_image_is_seen(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 4 * MIB);
	g_autoptr(GError) err = NULL, gone = NULL;
	_cleanup_json_ Json *facts = NULL;
	const char *sum;

	p->im.source = raw;
	facts = assert_imported(p);
	sum = json_str(facts, "stored_hash_value");
	g_assert_true(image_verify(p->target, sum, NULL, NULL));
	g_assert_cmpint(chmod(p->target, 0644), ==, 0);
	lab_patch(p->target, 300000, "!", 1);
	g_assert_false(image_verify(p->target, sum, NULL, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_cmpstr(json_str(err_details(err), "expected"), ==, sum);
	g_assert_true(image_remove(p->target, p->work, NULL));
	g_assert_false(image_verify(p->target, sum, NULL, &gone));
	g_assert_error(gone, ERR, ERR_NOT_FOUND);
}

/* Progress and cancelling */

struct watch {
	uint64_t cancel_at; /* done, of the step */
	uint64_t last, total;
	bool stop, backwards;
};

static bool watch_cancelled(void *data)
{
	return ((struct watch *)data)->stop;
}

static void watch_progress(uint64_t done, uint64_t total, void *data)
{
	struct watch *w = data;

	w->backwards |= done < w->last;
	w->last = done;
	w->total = total;
	w->stop |= w->cancel_at != 0 && done >= w->cancel_at;
}

static void test_progress_goes_forward_to_the_end(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 16 * MIB);
	struct watch w = { 0 };
	struct hooks hooks = { watch_cancelled, watch_progress, &w };
	_cleanup_json_ Json *f = NULL, *i = NULL, *c = NULL;

	p->im.source = raw;
	p->im.hooks = &hooks;
	g_assert_true(image_fetch(&p->im, &f, NULL));
	g_assert_false(w.backwards);
	g_assert_cmpuint(w.last, ==, 16 * MIB);
	g_assert_cmpuint(w.total, ==, 16 * MIB);
	g_assert_true(image_inspect(&p->im, &i, NULL));
	w = (struct watch){ 0 };
	g_assert_true(image_convert(&p->im, &c, NULL));
	g_assert_false(w.backwards);
	g_assert_cmpuint(w.last, ==, w.total);
	g_assert_cmpuint(w.total, >, 0);
	g_assert_true(image_publish(&p->im, NULL));
}

static void test_cancelling_leaves_nothing(void)
{
	static const uint64_t at[] = { MIB, 15 * MIB };
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", 16 * MIB);

	p->im.source = raw;
	for (size_t i = 0; i < G_N_ELEMENTS(at); i++) {
		struct watch w = { .cancel_at = at[i] };
		struct hooks hooks = { watch_cancelled, watch_progress, &w };

		p->im.hooks = &hooks;
		json_unref(assert_refused(p, ERR_CANCELLED, "cancelled"));
	}
}

static void test_cancelling_a_conversion_leaves_the_source(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", 48 * MIB), *left = NULL;
	struct watch w = { .cancel_at = 100 };
	struct hooks hooks = { watch_cancelled, watch_progress, &w };
	_cleanup_json_ Json *f = NULL, *c = NULL, *again = NULL;
	g_autoptr(GError) err = NULL;

	p->im.source = raw;
	g_assert_true(image_fetch(&p->im, &f, NULL));
	p->im.hooks = &hooks;
	g_assert_false(image_convert(&p->im, &c, &err));
	g_assert_error(err, ERR, ERR_CANCELLED);
	left = lab_list(p->work);
	g_assert_cmpstr(left, ==, "facts.json scratch source");
	p->im.hooks = NULL;
	g_assert_true(image_convert(&p->im, &again, NULL));
	g_assert_true(image_publish(&p->im, NULL));
	lab_run("qemu-img compare -f raw -F qcow2 %s %s", raw, p->target);
}

/* A daemon that died at any point runs the step again. */
static void test_every_step_may_run_twice(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 8 * MIB), *one = NULL, *two = NULL;
	_cleanup_json_ Json *f = NULL, *f2 = NULL, *i = NULL, *i2 = NULL, *c = NULL, *c2 = NULL;

	p->im.source = raw;
	g_assert_true(image_fetch(&p->im, &f, NULL));
	g_assert_true(image_fetch(&p->im, &f2, NULL));
	g_assert_true(json_equal(f, f2));
	g_assert_true(image_inspect(&p->im, &i, NULL));
	g_assert_true(image_inspect(&p->im, &i2, NULL));
	g_assert_true(json_equal(i, i2));
	g_assert_true(image_convert(&p->im, &c, NULL));
	g_assert_true(image_convert(&p->im, &c2, NULL));
	g_assert_true(json_equal(c, c2));
	g_assert_true(image_publish(&p->im, NULL));
	g_assert_true(image_publish(&p->im, NULL));
	one = lab_list(p->images);
	g_assert_cmpstr(one, ==, ID ".qcow2");
	g_assert_true(image_publish_undo(&p->im, NULL));
	g_assert_true(image_publish_undo(&p->im, NULL));
	g_assert_true(image_convert_undo(&p->im, NULL));
	g_assert_true(image_fetch_undo(&p->im, NULL));
	g_assert_true(image_fetch_undo(&p->im, NULL));
	assert_empty(p);
}

static void test_what_a_dead_daemon_left_is_taken_up(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_raw(p->dir, "raw", 8 * MIB),
			*source = g_build_filename(p->work, "source", NULL),
			*half = g_build_filename(p->work, "scratch/disk.qcow2", NULL);
	_cleanup_json_ Json *f = NULL, *c = NULL, *all = NULL;

	p->im.source = raw;
	g_assert_true(image_fetch(&p->im, &f, NULL));
	g_assert_cmpint(chmod(source, 0600), ==, 0);
	g_assert_cmpint(truncate(source, 5000), ==, 0); /* died in the middle of the copy */
	json_unref(f);
	f = NULL;
	g_assert_true(image_fetch(&p->im, &f, NULL));
	g_assert_cmpuint(json_uint(f, "source_size", 0), ==, 8 * MIB);
	g_assert_true(
	    g_file_set_contents(half, "half a disk", -1, NULL)); /* died in the middle of the conversion */
	g_assert_true(image_convert(&p->im, &c, NULL));
	all = assert_imported(p);
	lab_run("qemu-img compare -f raw -F qcow2 %s %s", raw, p->target);
}

static void test_steps_out_of_order_are_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autoptr(GError) err = NULL, err2 = NULL, err3 = NULL;
	Json *facts;

	p->im.source = "/nowhere";
	g_assert_false(image_inspect(&p->im, &facts, &err));
	g_assert_error(err, ERR, ERR_BAD_STATE);
	g_assert_false(image_convert(&p->im, &facts, &err2));
	g_assert_error(err2, ERR, ERR_BAD_STATE);
	g_assert_false(image_publish(&p->im, &err3));
	g_assert_error(err3, ERR, ERR_BAD_STATE);
}

static void test_arguments_of_a_step(void)
{
	_cleanup_json_ Json *args =
				json_pack("{s:s, s:s, s:s, s:s, s:I}", "source", "/a", "work", "/w", "target",
					  "/t", "format", "raw", "max_virtual_size", (json_int_t)5),
			    *bad = json_pack("{s:s}", "source", "/a");
	struct image_import im;

	g_assert_true(image_import_of_args(args, &im, NULL));
	g_assert_cmpstr(im.format, ==, "raw");
	g_assert_null(im.checksum);
	g_assert_cmpuint(im.max_virtual_size, ==, 5);
	g_assert_false(image_import_of_args(bad, &im, NULL));
}

/* Full disks */

static void test_a_full_disk_leaves_nothing(void)
{
	g_autofree char *dir = lab_folder(), *mnt = g_build_filename(dir, "mnt", NULL), *noise = NULL,
			*packed = NULL, *text = NULL;
	g_autoptr(Place) p = NULL;
	_cleanup_json_ Json *early = NULL, *late = NULL;

	g_assert_true(dir_make(mnt, 0711, NULL));
	if (!lab_mount(mnt, "16m")) {
		g_test_skip("no right to mount a tmpfs");
		lab_remove(dir);
		return;
	}
	p = place_at(mnt);
	noise = lab_noise(dir, "noise", 24 * MIB);
	p->im.source = noise;
	early = assert_refused(p, ERR_NO_SPACE, "24 MiB");
	g_assert_cmpint(json_int(early, "needed", 0), ==, 24 * (json_int_t)MIB);
	g_assert_cmpint(json_int(early, "available", 0), >, 0);
	/* Small to fetch, too large when converted. */
	text = g_build_filename(dir, "text", NULL);
	packed = g_build_filename(dir, "packed", NULL);
	lab_run("sh -c \"yes plimsoll | head -c 40000000 >%s\"", text);
	lab_run("qemu-img convert -c -f raw -O qcow2 %s %s", text, packed);
	p->im.source = packed;
	late = assert_refused(p, ERR_NO_SPACE, "room");
	lab_unmount(mnt);
	lab_remove(dir);
}

/* Over HTTP */

typedef struct Server {
	GPid pid;
	int in, out;
	unsigned port;
	char *url;
} Server;

static char *server_line(Server *s)
{
	GString *line = g_string_new(NULL);
	char c;

	while (read(s->out, &c, 1) == 1 && c != '\n')
		g_string_append_c(line, c);
	return g_string_free(line, FALSE);
}

static Server *server_start(const char *file)
{
	g_autofree char *script = g_test_build_filename(G_TEST_DIST, "server.py", NULL), *port = NULL;
	char *argv[] = { (char *)"python3", script, (char *)file, NULL };
	g_autoptr(GError) err = NULL;
	Server *s = g_new0(Server, 1);

	g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
				 NULL, &s->pid, &s->in, &s->out, NULL, &err);
	g_assert_no_error(err);
	port = server_line(s);
	g_assert_cmpstr(port, !=, "");
	s->port = (unsigned)g_ascii_strtoull(port, NULL, 10);
	return s;
}

static void server_stop(Server *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	close(s->in);
	close(s->out);
	g_free(s->url);
	g_free(s);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Server, server_stop)

static const char *server_url(Server *s, const char *path)
{
	g_free(s->url);
	s->url = g_strdup_printf("http://127.0.0.1:%u%s", s->port, path);
	return s->url;
}

/* "path range" lines of so many requests. */
static void assert_requests(Server *s, const char *const *want)
{
	for (; *want != NULL; want++) {
		g_autofree char *line = server_line(s);

		g_assert_cmpstr(line, ==, *want);
	}
}

static void assert_download(Place *p, Server *s, const char *path, const char *raw,
			    const char *const *requests)
{
	_cleanup_json_ Json *facts = NULL;
	g_autofree char *sum = lab_sha(G_CHECKSUM_SHA512, raw);

	p->im.source = server_url(s, path);
	facts = assert_imported(p);
	g_assert_cmpstr(json_str(facts, "os_hash_value"), ==, sum);
	lab_run("qemu-img compare -f raw -F qcow2 %s %s", raw, p->target);
	assert_requests(s, requests);
	g_assert_true(image_remove(p->target, p->work, NULL));
}

#define REQUESTS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* 6 MiB: a third of it, then a third of the rest, then all. */
static void test_downloads_go_on_where_they_were_cut(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", 6 * MIB);
	g_autoptr(Server) s = server_start(raw);

	assert_download(p, s, "/full", raw, REQUESTS("/full -"));
	assert_download(p, s, "/cut", raw, REQUESTS("/cut -", "/cut bytes=2097152-", "/cut bytes=3495253-"));
	assert_download(p, s, "/redirect", raw, REQUESTS("/redirect -", "/full -"));
	assert_download(p, s, "/busy", raw, REQUESTS("/busy -", "/busy -", "/busy -"));
}

static void test_downloads_begin_anew_when_they_must(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", 6 * MIB), *sum = lab_sha(G_CHECKSUM_SHA512, raw),
			*check = NULL;
	g_autoptr(Server) s = server_start(raw);

	assert_download(p, s, "/cut-changed", raw, REQUESTS("/cut-changed -", "/cut-changed bytes=2097152-"));
	assert_download(p, s, "/cut-plain", raw, REQUESTS("/cut-plain -", "/cut-plain -", "/cut-plain -"));
	server_stop(s);
	/* Without a name for what is sent, only a checksum makes it safe to go on. */
	s = server_start(raw);
	assert_download(p, s, "/cut-unnamed", raw,
			REQUESTS("/cut-unnamed -", "/cut-unnamed -", "/cut-unnamed -"));
	server_stop(s);
	s = server_start(raw);
	check = g_strconcat("sha512:", sum, NULL);
	p->im.checksum = check;
	assert_download(
	    p, s, "/cut-unnamed", raw,
	    REQUESTS("/cut-unnamed -", "/cut-unnamed bytes=2097152-", "/cut-unnamed bytes=3495253-"));
}

static void test_a_dead_daemons_download_goes_on(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", 6 * MIB);
	g_autoptr(Server) s = server_start(raw);
	struct watch w = { .cancel_at = 3 * MIB };
	struct hooks hooks = { watch_cancelled, watch_progress, &w };
	g_autoptr(GError) err = NULL;
	g_autofree char *request = NULL, *second = NULL;
	_cleanup_json_ Json *facts = NULL;

	p->im.source = server_url(s, "/full");
	p->im.hooks = &hooks;
	g_assert_false(image_fetch(&p->im, &facts, &err));
	g_assert_error(err, ERR, ERR_CANCELLED);
	p->im.hooks = NULL;
	facts = assert_imported(p);
	lab_run("qemu-img compare -f raw -F qcow2 %s %s", raw, p->target);
	request = server_line(s);
	g_assert_cmpstr(request, ==, "/full -");
	second = server_line(s);
	g_assert_true(g_str_has_prefix(second, "/full bytes=3"));
}

static void test_bad_servers_are_told_apart(void)
{
	static const struct {
		const char *path;
		ErrCode code;
		const char *part;
	} rows[] = {
		{ "/status/404", ERR_NOT_FOUND, "404" },
		{ "/status/403", ERR_DENIED, "403" },
		{ "/status/500", ERR_UNAVAILABLE, "500" },
		{ "/status/204", ERR_UNAVAILABLE, "204" },
		{ "/redirect-file", ERR_UNAVAILABLE, "rotocol" },
		{ "/loop", ERR_UNAVAILABLE, "redirect" },
		{ "/page", ERR_INVALID, "web page" },
	};
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", MIB), *secret = NULL;
	g_autoptr(Server) s = server_start(raw);
	g_autoptr(GError) err = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		p->im.source = server_url(s, rows[i].path);
		json_unref(assert_refused(p, rows[i].code, rows[i].part));
	}
	secret = g_strdup_printf("http://user:secret@127.0.0.1:%u/status/404", s->port);
	p->im.source = secret;
	g_assert_false(image_import(&p->im, NULL, &err));
	g_assert_null(strstr(err->message, "secret"));
	p->im.source = "http://127.0.0.1:1/x";
	json_unref(assert_refused(p, ERR_UNAVAILABLE, "127.0.0.1"));
}

static void test_a_slow_download_can_be_cancelled(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = lab_noise(p->dir, "raw", MIB);
	g_autoptr(Server) s = server_start(raw);
	struct watch w = { .cancel_at = 1000 };
	struct hooks hooks = { watch_cancelled, watch_progress, &w };

	p->im.source = server_url(s, "/slow");
	p->im.hooks = &hooks;
	json_unref(assert_refused(p, ERR_CANCELLED, "cancelled"));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		GTestFunc func;
	} tests[] = {
		{ "formats", test_every_format_comes_through },
		{ "backing", test_a_backing_file_is_refused },
		{ "data-file", test_a_data_file_is_refused },
		{ "huge", test_a_huge_disk_is_refused },
		{ "vmdk-files", test_vmdk_of_other_files_is_refused },
		{ "vmdk-parent", test_a_vmdk_parent_is_refused },
		{ "walls", test_the_walls_behind_the_check_hold },
		{ "broken", test_broken_images_are_refused },
		{ "no-file", test_what_is_no_image_file_is_refused },
		{ "unreadable", test_unreadable_files_are_refused },
		{ "file-url", test_file_urls_are_paths },
		{ "checksum", test_checksums_are_held_against_it },
		{ "named-format", test_the_named_format_must_be_the_right_one },
		{ "verify", test_a_changed_image_is_seen },
		{ "progress", test_progress_goes_forward_to_the_end },
		{ "cancel", test_cancelling_leaves_nothing },
		{ "cancel-convert", test_cancelling_a_conversion_leaves_the_source },
		{ "twice", test_every_step_may_run_twice },
		{ "dead-daemon", test_what_a_dead_daemon_left_is_taken_up },
		{ "order", test_steps_out_of_order_are_refused },
		{ "args", test_arguments_of_a_step },
		{ "full-disk", test_a_full_disk_leaves_nothing },
		{ "http", test_downloads_go_on_where_they_were_cut },
		{ "http-anew", test_downloads_begin_anew_when_they_must },
		{ "http-dead-daemon", test_a_dead_daemons_download_goes_on },
		{ "http-bad", test_bad_servers_are_told_apart },
		{ "http-cancel", test_a_slow_download_can_be_cancelled },
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++) {
		g_autofree char *path = g_strconcat("/import/", tests[i].name, NULL);

		g_test_add_func(path, tests[i].func);
	}
	return g_test_run();
}
