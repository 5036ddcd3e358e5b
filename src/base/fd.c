/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <sys/stat.h>

int fd_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static char *read_open(int fd, const char *path, size_t max, size_t *ret_len, GError **err)
{
	g_autoptr(GByteArray) all = g_byte_array_new();
	guint8 chunk[4096];

	for (;;) {
		ssize_t n = read(fd, chunk, sizeof chunk);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			fail_errno(err, errno, "can't read '%s'", path);
			return NULL;
		}
		if (n == 0)
			break;
		if (all->len + (size_t)n > max) {
			fail(err, ERR_INVALID, "'%s' is longer than %zu bytes", path, max);
			return NULL;
		}
		g_byte_array_append(all, chunk, (guint)n);
	}
	if (ret_len != NULL)
		*ret_len = all->len;
	g_byte_array_append(all, (const guint8 *)"", 1);
	return (char *)g_byte_array_free(g_steal_pointer(&all), FALSE);
}

char *file_read_virtual(const char *path, size_t max, size_t *ret_len, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		fail_errno(err, errno, "can't open '%s'", path);
		return NULL;
	}
	return read_open(fd, path, max, ret_len, err);
}

char *file_read(const char *path, size_t max, size_t *ret_len, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		fail_errno(err, errno, "can't open '%s'", path);
		return NULL;
	}
	if (!S_ISREG(st.st_mode)) {
		fail(err, ERR_INVALID, "'%s' is not a regular file", path);
		return NULL;
	}
	return read_open(fd, path, max, ret_len, err);
}

bool dir_sync(const char *dir, GError **err)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return fail_errno(err, errno, "can't sync '%s'", dir);
	return true;
}

static bool write_sync(int fd, const char *path, const void *buf, size_t len, mode_t mode, GError **err)
{
	int r = fd_write_all(fd, buf, len);

	if (r == 0 && (fchmod(fd, mode) < 0 || fsync(fd) < 0))
		r = -errno;
	return r == 0 || fail_errno(err, -r, "can't write '%s'", path);
}

bool file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, GError **err)
{
	g_autofree char *tmp = g_strdup_printf("%s.XXXXXX", path), *dir = g_path_get_dirname(path);
	_cleanup_close_ int fd = mkostemp(tmp, O_CLOEXEC);

	if (fd < 0)
		return fail_errno(err, errno, "can't make a file beside '%s'", path);
	if (!write_sync(fd, path, buf, len, mode, err)) {
		unlink(tmp);
		return false;
	}
	if (rename(tmp, path) < 0) {
		fail_errno(err, errno, "can't replace '%s'", path);
		unlink(tmp);
		return false;
	}
	return dir_sync(dir, err);
}

bool dir_make(const char *path, mode_t mode, GError **err)
{
	struct stat st;

	if (g_mkdir_with_parents(path, (gint)mode) < 0)
		return fail_errno(err, errno, "can't make the folder '%s'", path);
	if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
		return fail(err, ERR_INVALID, "'%s' is not a folder", path);
	return true;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

bool dir_remove(const char *path, GError **err)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", path);
	return true;
}
