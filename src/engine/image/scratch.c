/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/scratch.h"
#include "base/fd.h"
#include "engine/image/limited.h"
#include "engine/image/space.h"

#include <fcntl.h>
#include <sys/stat.h>

bool scratch_make(const char *path, uid_t uid, gid_t gid, GError **err)
{
	if (!dir_make(path, 0700, err))
		return false;
	if (geteuid() == 0 && uid != LIMITED_KEEP_USER && chown(path, uid, gid) < 0)
		return fail_errno(err, errno, "can't hand over '%s'", path);
	return true;
}

bool scratch_take(const char *from, const char *to, uid_t uid, gid_t gid, mode_t mode, GError **err)
{
	_cleanup_close_ int fd = open(from, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	g_autofree char *dir = g_path_get_dirname(from);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_errno(err, errno, "qemu-img left no disk");
	if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		return fail(err, ERR_QEMU, "qemu-img left something that is no disk");
	if ((geteuid() == 0 && fchown(fd, uid, gid) < 0) || fchmod(fd, mode) < 0)
		return fail_errno(err, errno, "can't take over '%s'", from);
	if (fsync(fd) < 0)
		return errno == ENOSPC || errno == EDQUOT ? space_fail(dir, "the disk", 0, err)
							  : fail_errno(err, errno, "can't write '%s'", from);
	return rename(from, to) == 0 || fail_errno(err, errno, "can't move '%s' to '%s'", from, to);
}

bool sync_dir_of(const char *path, GError **err)
{
	g_autofree char *dir = g_path_get_dirname(path);
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return (fd >= 0 && fsync(fd) == 0) || fail_errno(err, errno, "can't sync '%s'", dir);
}
