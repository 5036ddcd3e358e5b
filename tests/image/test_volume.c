/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes with the real qemu-img: overlays, empty ones, clones; and that what a guest wrote is not trusted.
 */
#include "core/backup/manifest.h"
#include "engine/volume/volume.h"
#include "image_lab.h"

#include <signal.h>
#include <sys/wait.h>

typedef struct Place {
	char *dir, *volumes, *image, *path;
	struct volume_make v;
} Place;

/* An image of 8 MiB with something in it, and the place of one volume. */
static Place *place_new(void)
{
	Place *p = g_new0(Place, 1);
	g_autofree char *raw = NULL;

	p->dir = lab_folder();
	p->volumes = g_build_filename(p->dir, "volumes", NULL);
	p->image = g_build_filename(p->dir, "image.qcow2", NULL);
	p->path = g_build_filename(p->volumes, "one.qcow2", NULL);
	g_assert_true(dir_make(p->volumes, 0711, NULL));
	raw = lab_raw(p->dir, "raw", 8 * MIB);
	lab_run("qemu-img convert -f raw -O qcow2 %s %s", raw, p->image);
	g_assert_cmpint(chmod(p->image, 0444), ==, 0);
	p->v = (struct volume_make){
		.path = p->path, .format = IMAGE_FORMAT_QCOW2, .uid = lab_uid(), .gid = NOBODY
	};
	return p;
}

static void place_free(Place *p)
{
	lab_remove(p->dir);
	g_free(p->dir);
	g_free(p->volumes);
	g_free(p->image);
	g_free(p->path);
	g_free(p);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Place, place_free)

static void assert_list(const Place *p, const char *want)
{
	g_autofree char *left = lab_list(p->volumes);

	g_assert_cmpstr(left, ==, want);
}

static uint64_t make(Place *p)
{
	g_autoptr(GError) err = NULL;
	uint64_t size = 0;

	volume_create(&p->v, &size, &err);
	g_assert_no_error(err);
	return size;
}

static void assert_create_refused(Place *p, ErrCode code, const char *part)
{
	g_autoptr(GError) err = NULL;

	g_assert_false(volume_create(&p->v, NULL, &err));
	g_assert_error(err, ERR, (gint)code);
	g_assert_nonnull(strstr(err->message, part));
}

static void write_text(const char *path, const char *format, const char *at)
{
	lab_run("qemu-io -f %s -c \"write -P 0x61 %s 64k\" %s", format, at, path);
}

static void test_an_overlay_shows_its_image_and_keeps_it(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *before = lab_sha(G_CHECKSUM_SHA512, p->image), *after = NULL, *text = NULL;
	struct volume_info info;
	struct stat st;

	p->v.backing = p->image;
	g_assert_cmpuint(make(p), ==, 8 * MIB);
	assert_list(p, "one.qcow2");
	g_assert_cmpint(stat(p->path, &st), ==, 0);
	g_assert_cmpint(st.st_mode & 07777, ==, 0600);
	if (geteuid() == 0)
		g_assert_cmpuint(st.st_uid, ==, NOBODY);
	lab_run("qemu-img compare -f qcow2 -F qcow2 %s %s", p->image, p->path);
	write_text(p->path, "qcow2", "0");
	g_assert_false(lab_try("qemu-img compare -f qcow2 -F qcow2 %s %s", p->image, p->path));
	after = lab_sha(G_CHECKSUM_SHA512, p->image);
	g_assert_cmpstr(before, ==, after);
	g_assert_true(volume_info(p->path, IMAGE_FORMAT_QCOW2, p->image, &info, NULL));
	g_assert_cmpuint(info.virtual_size, ==, 8 * MIB);
	g_assert_cmpuint(info.actual_size, <, MIB);
	/* Nobody has to guess what the image is. */
	g_assert_true(g_file_get_contents(p->path, &text, NULL, NULL));
	g_assert_nonnull(memmem(text, 4096, "\xe2\x79\x2a\xca\0\0\0\5qcow2", 13));
}

static void test_overlays_may_be_larger_not_smaller(void)
{
	g_autoptr(Place) p = place_new();

	p->v.backing = p->image;
	p->v.size = 8 * MIB - 512;
	assert_create_refused(p, ERR_INVALID, "smaller");
	assert_list(p, "");
	p->v.size = 20 * MIB + 1;
	g_assert_cmpuint(make(p), ==, 20 * MIB + 512);
}

static void test_empty_volumes(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *raw = g_build_filename(p->volumes, "two.raw", NULL);
	struct volume_info info;

	p->v.size = 100 * MIB;
	g_assert_cmpuint(make(p), ==, 100 * MIB);
	g_assert_true(volume_info(p->path, IMAGE_FORMAT_QCOW2, NULL, &info, NULL));
	g_assert_cmpuint(info.virtual_size, ==, 100 * MIB);
	p->v.path = raw;
	p->v.format = IMAGE_FORMAT_RAW;
	g_assert_cmpuint(make(p), ==, 100 * MIB);
	g_assert_true(volume_info(raw, IMAGE_FORMAT_RAW, NULL, &info, NULL));
	g_assert_cmpuint(info.virtual_size, ==, 100 * MIB);
	g_assert_cmpuint(info.actual_size, <, MIB);
}

static void test_bad_wishes_are_refused(void)
{
	g_autoptr(Place) p = place_new();

	assert_create_refused(p, ERR_INVALID, "size");
	p->v.size = IMAGE_VIRTUAL_SIZE_MAX + 1;
	assert_create_refused(p, ERR_INVALID, "size");
	p->v.size = 0;
	p->v.backing = "/no/such/image";
	assert_create_refused(p, ERR_NOT_FOUND, "/no/such/image");
	p->v.backing = "image.qcow2";
	assert_create_refused(p, ERR_INVALID, "absolute");
	p->v.backing = p->image;
	p->v.format = IMAGE_FORMAT_RAW;
	assert_create_refused(p, ERR_INVALID, "overlay");
	assert_list(p, "");
}

static void test_twice_is_once(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *first = NULL, *second = NULL;

	p->v.backing = p->image;
	make(p);
	write_text(p->path, "qcow2", "1M");
	first = lab_sha(G_CHECKSUM_SHA512, p->path);
	make(p);
	second = lab_sha(G_CHECKSUM_SHA512, p->path);
	g_assert_cmpstr(first, ==, second);
	p->v.size = 100 * MIB;
	assert_create_refused(p, ERR_CONFLICT, "something else");
	p->v.size = 0;
	p->v.backing = NULL;
	p->v.size = 8 * MIB;
	assert_create_refused(p, ERR_CONFLICT, "something else");
	g_assert_true(volume_delete(p->path, NULL));
	g_assert_true(volume_delete(p->path, NULL));
	assert_list(p, "");
}

static void test_what_a_dead_daemon_left_is_removed(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *partial = g_build_filename(p->volumes, ".one.qcow2.partial", NULL),
			*disk = g_build_filename(partial, "disk", NULL);

	g_assert_true(dir_make(partial, 0700, NULL));
	g_assert_true(g_file_set_contents(disk, "half a disk", -1, NULL));
	p->v.size = MIB;
	make(p);
	assert_list(p, "one.qcow2");
	g_assert_true(dir_make(partial, 0700, NULL));
	g_assert_true(volume_delete(p->path, NULL));
	assert_list(p, "");
}

static void test_a_clone_depends_on_nothing(void)
{
	static const ImageFormat to[] = { IMAGE_FORMAT_QCOW2, IMAGE_FORMAT_RAW };
	g_autoptr(Place) p = place_new();
	g_autofree char *copy = g_build_filename(p->volumes, "copy", NULL);

	p->v.backing = p->image;
	p->v.size = 12 * MIB;
	make(p);
	write_text(p->path, "qcow2", "9M");
	for (size_t i = 0; i < G_N_ELEMENTS(to); i++) {
		struct volume_make c = { .path = copy,
					 .format = to[i],
					 .source = p->path,
					 .source_format = IMAGE_FORMAT_QCOW2,
					 .source_backing = p->image,
					 .uid = lab_uid(),
					 .gid = NOBODY };
		g_autoptr(GError) err = NULL;
		struct volume_info info;
		uint64_t size;

		volume_clone(&c, &size, &err);
		g_assert_no_error(err);
		g_assert_cmpuint(size, ==, 12 * MIB);
		lab_run("qemu-img compare -f qcow2 -F %s %s %s", image_format_name(to[i]), p->path, copy);
		g_assert_true(volume_info(copy, to[i], NULL, &info, NULL));
		g_assert_true(volume_clone(&c, &size, NULL));
		g_assert_true(volume_delete(copy, NULL));
		c.size = 32 * MIB;
		g_assert_true(volume_clone(&c, &size, NULL));
		g_assert_true(volume_info(copy, to[i], NULL, &info, NULL));
		g_assert_cmpuint(info.virtual_size, ==, 32 * MIB);
		g_assert_true(volume_delete(copy, NULL));
		c.size = MIB;
		g_assert_false(volume_clone(&c, &size, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
	assert_list(p, "one.qcow2");
}

/* A QEMU that was taken over can write into its volume's header; nothing of ours may follow what it says. */
static void test_a_changed_header_is_refused(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *copy = g_build_filename(p->volumes, "copy", NULL);
	struct volume_make c;
	struct volume_info info;
	g_autoptr(GError) other = NULL, data = NULL, none = NULL, gone = NULL;

	p->v.backing = p->image;
	make(p);
	c = p->v;
	c.path = copy;
	c.source = p->path;
	c.source_format = IMAGE_FORMAT_QCOW2;
	c.source_backing = p->image;
	lab_run("qemu-img rebase -u -f qcow2 -b /etc/shadow -F raw %s", p->path);
	g_assert_false(volume_clone(&c, NULL, &other));
	g_assert_error(other, ERR, ERR_INVALID);
	g_assert_nonnull(strstr(other->message, "/etc/shadow"));
	lab_run("qemu-img rebase -u -f qcow2 -b %s -F qcow2 %s", p->image, p->path);
	g_assert_true(volume_clone(&c, NULL, NULL));
	lab_patch(p->path, 79, "\4", 1); /* the bit of an external data file */
	p->v.size = 16 * MIB;
	g_assert_false(volume_grow(&p->v, &data));
	g_assert_error(data, ERR, ERR_INVALID);
	g_assert_nonnull(strstr(data->message, "data file"));
	g_assert_false(volume_info(copy, IMAGE_FORMAT_QCOW2, p->image, &info, &none));
	g_assert_error(none, ERR, ERR_CONFLICT);
	g_assert_true(g_file_set_contents(copy, "hello", -1, NULL));
	g_assert_false(volume_info(copy, IMAGE_FORMAT_QCOW2, NULL, &info, &gone));
	g_assert_error(gone, ERR, ERR_CONFLICT);
}

/* A guest of a raw disk can write what it likes; raw stays raw. */
static void test_a_raw_disk_is_never_probed(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *evil = g_build_filename(p->dir, "evil", NULL), *text = NULL,
			*copy = g_build_filename(p->volumes, "copy.raw", NULL);
	struct volume_make c;
	struct volume_info info;
	gsize n;

	lab_run("qemu-img create -q -u -f qcow2 -b /etc/passwd -F raw %s 1M", evil);
	g_assert_true(g_file_get_contents(evil, &text, &n, NULL));
	p->v.format = IMAGE_FORMAT_RAW;
	p->v.size = MIB;
	make(p);
	lab_patch(p->path, 0, text, n);
	g_assert_true(volume_info(p->path, IMAGE_FORMAT_RAW, NULL, &info, NULL));
	g_assert_cmpuint(info.virtual_size, ==, MIB);
	c = p->v;
	c.path = copy;
	c.source = p->path;
	c.source_format = IMAGE_FORMAT_RAW;
	g_assert_true(volume_clone(&c, NULL, NULL));
	lab_run("cmp %s %s", p->path, copy);
}

static void test_volumes_grow(void)
{
	g_autoptr(Place) p = place_new();
	g_autoptr(GError) err = NULL;
	struct volume_info info;

	p->v.backing = p->image;
	make(p);
	p->v.size = 64 * MIB;
	volume_grow(&p->v, &err);
	g_assert_no_error(err);
	g_assert_true(volume_grow(&p->v, NULL));
	g_assert_true(volume_info(p->path, IMAGE_FORMAT_QCOW2, p->image, &info, NULL));
	g_assert_cmpuint(info.virtual_size, ==, 64 * MIB);
	p->v.size = 32 * MIB;
	g_assert_false(volume_grow(&p->v, &err));
	g_assert_error(err, ERR, ERR_INVALID);
}

/* A process that has the volume open as QEMU has, until its stdin is closed. */
static GPid hold(const char *path, int *ret_in)
{
	char *argv[] = { (char *)"qemu-io", (char *)"-f", (char *)"qcow2", (char *)path, NULL };
	g_autoptr(GError) err = NULL;
	char buf[256] = "";
	size_t n = 0;
	GPid pid;
	int out;

	g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
				 NULL, &pid, ret_in, &out, NULL, &err);
	g_assert_no_error(err);
	g_assert_cmpint(write(*ret_in, "write 0 512\n", 12), ==, 12);
	while (strstr(buf, "wrote") == NULL && n < sizeof buf - 1) {
		ssize_t r = read(out, buf + n, sizeof buf - 1 - n);

		g_assert_cmpint(r, >, 0);
		n += (size_t)r;
	}
	close(out);
	return pid;
}

static void test_a_disk_in_use_is_left_alone(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *copy = g_build_filename(p->volumes, "copy", NULL);
	g_autoptr(GError) busy = NULL, busy2 = NULL;
	struct volume_make c;
	struct volume_info info;
	GPid pid;
	int in;

	p->v.size = 8 * MIB;
	make(p);
	pid = hold(p->path, &in);
	g_assert_true(volume_info(p->path, IMAGE_FORMAT_QCOW2, NULL, &info, NULL));
	g_assert_cmpuint(info.virtual_size, ==, 8 * MIB);
	c = p->v;
	c.path = copy;
	c.source = p->path;
	c.source_format = IMAGE_FORMAT_QCOW2;
	g_assert_false(volume_clone(&c, NULL, &busy));
	g_assert_error(busy, ERR, ERR_BUSY);
	p->v.size = 16 * MIB;
	g_assert_false(volume_grow(&p->v, &busy2));
	g_assert_error(busy2, ERR, ERR_BUSY);
	g_assert_nonnull(err_advice(busy2));
	assert_list(p, "one.qcow2");
	close(in);
	g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
	g_assert_true(volume_grow(&p->v, NULL));
}

/*
 * Each in a folder of its own names the one before it: QEMU alone would make a path of 5800 bytes of that,
 * and take 32 MiB for what it remembers of the tables of each, as the disk is large.
 */
#define CHAIN BACKUP_CHAIN_MAX
#define CHAIN_SIZE (UINT64_C(256) << 30)

static void test_a_long_chain_is_copied(void)
{
	g_autoptr(Place) p = place_new();
	g_autoptr(GPtrArray) path = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *copy = g_build_filename(p->volumes, "copy", NULL),
			*backing = g_strdup_printf("../backup-with-a-long-id-%03d/d", CHAIN - 2);
	struct volume_make c = { .path = copy,
				 .format = IMAGE_FORMAT_QCOW2,
				 .source_format = IMAGE_FORMAT_QCOW2,
				 .source_backing = backing,
				 .uid = lab_uid(),
				 .gid = NOBODY };
	g_autoptr(GError) err = NULL;
	uint64_t size;

	for (int i = 0; i < CHAIN; i++) {
		g_autofree char *dir = g_strdup_printf("%s/backup-with-a-long-id-%03d", p->dir, i);
		char *file = g_build_filename(dir, "d", NULL);

		g_assert_true(dir_make(dir, 0700, NULL));
		if (i == 0)
			lab_run("qemu-img create -q -f qcow2 %s 256G", file);
		else
			lab_run(
			    "qemu-img create -q -u -f qcow2 -F qcow2 -b ../backup-with-a-long-id-%03d/d %s 256G",
			    i - 1, file);
		g_ptr_array_add(path, file);
	}
	lab_run("qemu-io -c 'write -q -P 7 1M 64k' %s", (const char *)path->pdata[0]);
	c.source = path->pdata[CHAIN - 1];
	g_ptr_array_add(path, NULL);
	c.chain = (const char *const *)path->pdata;
	volume_clone(&c, &size, &err);
	g_assert_no_error(err);
	g_assert_cmpuint(size, ==, CHAIN_SIZE);
	lab_run("qemu-io -r -c 'read -q -P 7 1M 64k' %s", copy);
	lab_run("qemu-io -r -c 'read -q -P 0 2M 64k' %s", copy);
}

static void test_a_full_disk_leaves_no_half_clone(void)
{
	g_autoptr(Place) p = place_new();
	g_autofree char *noise = lab_noise(p->dir, "noise", 24 * MIB),
			*mnt = g_build_filename(p->dir, "mnt", NULL),
			*copy = g_build_filename(mnt, "copy", NULL), *left = NULL;
	struct volume_make c = { .path = copy,
				 .source = noise,
				 .source_format = IMAGE_FORMAT_RAW,
				 .format = IMAGE_FORMAT_QCOW2,
				 .uid = lab_uid(),
				 .gid = NOBODY };
	g_autoptr(GError) err = NULL;

	g_assert_true(dir_make(mnt, 0711, NULL));
	if (!lab_mount(mnt, "16m")) {
		g_test_skip("no right to mount a tmpfs");
		return;
	}
	g_assert_false(volume_clone(&c, NULL, &err));
	left = lab_list(mnt);
	lab_unmount(mnt);
	g_assert_error(err, ERR, ERR_NO_SPACE);
	g_assert_cmpint(json_int(err_details(err), "available", -1), >=, 0);
	g_assert_cmpstr(left, ==, "");
}

static void test_arguments_of_a_step(void)
{
	_cleanup_json_ Json *args = json_pack("{s:s, s:s, s:I, s:s}", "path", "/v/one.raw", "format", "raw",
					      "size", (json_int_t)5, "backing", "/i"),
			    *vmdk = json_pack("{s:s, s:s}", "path", "/v", "format", "vmdk"),
			    *relative = json_pack("{s:s}", "path", "v");
	struct volume_make v;

	g_assert_true(volume_make_of_args(args, &v, NULL));
	g_assert_cmpint(v.format, ==, IMAGE_FORMAT_RAW);
	g_assert_cmpuint(v.size, ==, 5);
	g_assert_cmpstr(v.backing, ==, "/i");
	g_assert_false(volume_make_of_args(vmdk, &v, NULL));
	g_assert_false(volume_make_of_args(relative, &v, NULL));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/volume/overlay", test_an_overlay_shows_its_image_and_keeps_it);
	g_test_add_func("/volume/long-chain", test_a_long_chain_is_copied);
	g_test_add_func("/volume/overlay-size", test_overlays_may_be_larger_not_smaller);
	g_test_add_func("/volume/empty", test_empty_volumes);
	g_test_add_func("/volume/refused", test_bad_wishes_are_refused);
	g_test_add_func("/volume/twice", test_twice_is_once);
	g_test_add_func("/volume/dead-daemon", test_what_a_dead_daemon_left_is_removed);
	g_test_add_func("/volume/clone", test_a_clone_depends_on_nothing);
	g_test_add_func("/volume/changed-header", test_a_changed_header_is_refused);
	g_test_add_func("/volume/raw", test_a_raw_disk_is_never_probed);
	g_test_add_func("/volume/grow", test_volumes_grow);
	g_test_add_func("/volume/busy", test_a_disk_in_use_is_left_alone);
	g_test_add_func("/volume/full-disk", test_a_full_disk_leaves_no_half_clone);
	g_test_add_func("/volume/args", test_arguments_of_a_step);
	return g_test_run();
}
