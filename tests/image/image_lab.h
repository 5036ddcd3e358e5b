/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of images share: a folder, the real qemu-img, small file systems, and looking at what is
 * left. */
#pragma once

#include "base/err.h"
#include "base/fd.h"
#include "engine/image/limited.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)
#define NOBODY 65534

/* An unprivileged user for qemu-img when we are root. */
static inline uid_t lab_uid(void)
{
	return geteuid() == 0 ? NOBODY : LIMITED_KEEP_USER;
}

static inline char *lab_folder(void)
{
	char *dir = g_strdup("/tmp/test-image-XXXXXX");

	g_assert_nonnull(mkdtemp(dir));
	g_assert_cmpint(chmod(dir, 0711), ==, 0);
	return dir;
}

static inline void lab_remove(const char *dir)
{
	g_autoptr(GError) err = NULL;

	dir_remove(dir, &err);
	g_assert_no_error(err);
}

/* "qemu-img create -f raw %s/a 1M"; false when it fails. */
static inline bool G_GNUC_PRINTF(1, 2) lab_try(const char *fmt, ...)
{
	g_autofree char *line = NULL, *out = NULL, *errors = NULL;
	g_autoptr(GError) err = NULL;
	va_list ap;
	int status;

	va_start(ap, fmt);
	line = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	g_assert_true(g_spawn_command_line_sync(line, &out, &errors, &status, &err));
	return g_spawn_check_wait_status(status, NULL);
}

#define lab_run(...) g_assert_true(lab_try(__VA_ARGS__))

/* A disk that looks like one: zeros, noise, text, and a hole at its end. */
static inline char *lab_raw(const char *dir, const char *name, uint64_t size)
{
	char *path = g_build_filename(dir, name, NULL);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	g_autofree uint32_t *noise = g_new(uint32_t, MIB / 4);
	g_autofree char *text = g_malloc(MIB);

	g_assert_cmpint(fd, >=, 0);
	for (size_t i = 0; i < MIB / 4; i++)
		noise[i] = g_test_rand_int() < 0 ? 0x55aa55aa : (uint32_t)g_test_rand_int();
	memset(text, 'p', MIB);
	g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
	g_assert_cmpint(pwrite(fd, noise, MIB, (off_t)(size / 4)), ==, MIB);
	g_assert_cmpint(pwrite(fd, text, MIB, (off_t)(size / 2)), ==, MIB);
	return path;
}

/* All of it noise: no room is saved anywhere. */
static inline char *lab_noise(const char *dir, const char *name, uint64_t size)
{
	char *path = g_build_filename(dir, name, NULL);
	_cleanup_close_ int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	g_autofree uint32_t *noise = g_new(uint32_t, MIB / 4);

	for (uint64_t done = 0; done < size; done += MIB) {
		for (size_t i = 0; i < MIB / 4; i++)
			noise[i] = (uint32_t)g_test_rand_int();
		g_assert_cmpint(fd_write_all(fd, noise, MIB), ==, 0);
	}
	return path;
}

/* Bytes over what is there. */
static inline void lab_patch(const char *path, uint64_t at, const void *bytes, size_t n)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	g_assert_cmpint(pwrite(fd, bytes, n, (off_t)at), ==, (gssize)n);
}

static inline gint lab_compare(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Names in a folder, sorted, with spaces between. Caller frees. */
static inline char *lab_list(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
	const char *name;

	g_assert_nonnull(dir);
	while ((name = g_dir_read_name(dir)) != NULL)
		g_ptr_array_add(names, g_strdup(name));
	g_ptr_array_sort(names, lab_compare);
	g_ptr_array_add(names, NULL);
	return g_strjoinv(" ", (char **)names->pdata);
}

/* A file system of that size at dir, when we may; unmount with lab_unmount(). */
static inline bool lab_mount(const char *dir, const char *size)
{
	g_autofree char *options = g_strdup_printf("size=%s,mode=0711", size);

	return mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, options) == 0;
}

static inline void lab_unmount(const char *dir)
{
	g_assert_cmpint(umount(dir), ==, 0);
}

static inline char *lab_sha(GChecksumType type, const char *path)
{
	g_autofree char *text = NULL;
	gsize n;

	g_assert_true(g_file_get_contents(path, &text, &n, NULL));
	return g_compute_checksum_for_data(type, (const guchar *)text, n);
}
