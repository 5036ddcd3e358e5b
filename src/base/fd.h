/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File descriptors that close themselves, and files written whole.
 * An unset descriptor is -EBADF, never 0. Everything is O_CLOEXEC.
 */
#pragma once

#include "base/err.h"

#include <errno.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

static inline void fd_closep(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}

#define _cleanup_close_ __attribute__((cleanup(fd_closep)))

static inline int fd_take(int *fd)
{
	int r = *fd;

	*fd = -EBADF;
	return r;
}

/* Write all of it, past EINTR and short writes. Returns 0 or -errno. */
int fd_write_all(int fd, const void *buf, size_t len);

/*
 * The whole file as text with a NUL behind it. ERR_INVALID when it is longer
 * than `max` or no regular file. `ret_len` may be NULL. Caller frees.
 */
char *file_read(const char *path, size_t max, size_t *ret_len, GError **err);
/* The same for files of /proc and /sys, which say no size. */
char *file_read_virtual(const char *path, size_t max, size_t *ret_len, GError **err);
/*
 * Replace `path` at once: a temporary file beside it, fsync, rename, fsync of
 * the folder. After a crash the file is the old one or the new one.
 */
bool file_write_atomic(const char *path, const void *buf, size_t len, mode_t mode, GError **err);
/* mkdir -p; an existing folder is fine. */
bool dir_make(const char *path, mode_t mode, GError **err);
/* fsync of a folder: the names in it outlive a power cut. */
bool dir_sync(const char *path, GError **err);
/* rm -rf that does not follow links and does not cross to another file system; absent is fine. */
bool dir_remove(const char *path, GError **err);
