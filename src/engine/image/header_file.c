/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/header_file.h"
#include "base/fd.h"

#include <fcntl.h>
#include <sys/stat.h>

static bool read_at(void *data, uint64_t offset, void *buf, size_t len, GError **err)
{
	int fd = *(int *)data;
	size_t done = 0;

	while (done < len) {
		ssize_t n = pread(fd, (char *)buf + done, len - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return fail_errno(err, n < 0 ? errno : EIO, "can't read the disk image");
		done += (size_t)n;
	}
	return true;
}

/* `fd` lives where the source is used. */
static bool source_open(const char *path, int *fd, struct header_source *ret, struct stat *st, GError **err)
{
	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (*fd < 0 || fstat(*fd, st) < 0)
		return fail_errno(err, errno, "can't open '%s'", path);
	if (!S_ISREG(st->st_mode))
		return fail(err, ERR_INVALID, "'%s' is no file", path);
	*ret = (struct header_source){ .read = read_at, .data = fd, .size = (uint64_t)st->st_size };
	return true;
}

bool image_file_check(const char *path, const ImageFormat *want, uint64_t max_virtual_size,
		      struct image_header *ret, GError **err)
{
	_cleanup_close_ int fd = -EBADF;
	struct header_source src;
	struct stat st;

	return source_open(path, &fd, &src, &st, err) &&
	       image_header_check(&src, want, max_virtual_size, ret, err);
}

bool volume_file_check(const char *path, ImageFormat f, const char *backing, bool encrypted,
		       uint64_t *ret_virtual, uint64_t *ret_actual, GError **err)
{
	_cleanup_close_ int fd = -EBADF;
	struct header_source src;
	struct stat st;

	if (!source_open(path, &fd, &src, &st, err) ||
	    !volume_header_check(&src, f, backing, encrypted, ret_virtual, err))
		return false;
	if (ret_actual != NULL)
		*ret_actual = (uint64_t)st.st_blocks * 512;
	return true;
}

/* O_NONBLOCK, so that a FIFO in its place holds nobody up. */
static bool disk_open(const char *path, int *fd, struct header_source *ret, GError **err)
{
	struct stat st;
	off_t size;

	*fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (*fd < 0 || fstat(*fd, &st) < 0)
		return fail_errno(err, errno, "can't open '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail_advice(err, ERR_INVALID, "Name a disk image or a block device.",
				   "'%s' is neither a file nor a block device", path);
	size = lseek(*fd, 0, SEEK_END);
	if (size < 0)
		return fail_errno(err, errno, "can't see how large '%s' is", path);
	*ret = (struct header_source){ .read = read_at, .data = fd, .size = (uint64_t)size };
	return true;
}

bool disk_file_check(const char *path, GError **err)
{
	static const ImageFormat qcow2 = IMAGE_FORMAT_QCOW2;
	_cleanup_close_ int fd = -EBADF;
	struct header_source src;
	struct image_header h;
	g_autoptr(GError) e = NULL;

	if (!disk_open(path, &fd, &src, err))
		return false;
	if (image_header_check(&src, &qcow2, UINT64_MAX, &h, &e))
		return true;
	g_prefix_error(&e, "'%s' can't be a disk: ", path);
	if (json_object_get(err_details(e), "names") != NULL)
		err_advise(
		    &e,
		    "Make one file of it with `qemu-img convert -O qcow2 FILE FLAT.qcow2` and take that, or "
		    "import FLAT.qcow2 with `plim image import` and make the vm from the image.");
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}
