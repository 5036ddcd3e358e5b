/* SPDX-License-Identifier: Apache-2.0 */
#include "base/socket.h"
#include "base/fd.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

/*
 * The address of `path`. One that is too long is named through its opened
 * folder, which stays open in *ret_dir until the address was used.
 */
static bool address_of(const char *path, struct sockaddr_un *ret, int *ret_dir, GError **err)
{
	g_autofree char *dir = NULL, *base = NULL, *through = NULL;

	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*ret_dir = -EBADF;
	if (strlen(path) < sizeof ret->sun_path) {
		memcpy(ret->sun_path, path, strlen(path) + 1);
		return true;
	}
	dir = g_path_get_dirname(path);
	base = g_path_get_basename(path);
	*ret_dir = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*ret_dir < 0)
		return fail_errno(err, errno, "can't open the folder '%s'", dir);
	through = g_strdup_printf("/proc/self/fd/%d/%s", *ret_dir, base);
	if (strlen(through) >= sizeof ret->sun_path)
		return fail(err, ERR_INVALID, "'%s' is too long for the name of a socket", base);
	memcpy(ret->sun_path, through, strlen(through) + 1);
	return true;
}

static int socket_new(int flags, GError **err)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		fail_errno(err, errno, "can't make a socket");
	return fd;
}

int socket_listen(const char *path, GError **err)
{
	_cleanup_close_ int fd = -EBADF, dir = -EBADF;
	struct sockaddr_un addr;

	if (!address_of(path, &addr, &dir, err))
		return -EBADF;
	fd = socket_new(0, err); /* blocks: whoever inherits it expects that */
	if (fd < 0)
		return -EBADF;
	unlink(path);
	/* The mode is set before there is a name: nobody else can connect in between. */
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)&addr, sizeof addr) < 0 ||
	    listen(fd, 8) < 0) {
		fail_errno(err, errno, "can't listen on '%s'", path);
		return -EBADF;
	}
	return fd_take(&fd);
}

static int connect_to(const char *path, int flags, GError **err)
{
	_cleanup_close_ int fd = -EBADF, dir = -EBADF;
	struct sockaddr_un addr;
	int r;

	if (!address_of(path, &addr, &dir, err))
		return -EBADF;
	fd = socket_new(flags, err);
	if (fd < 0)
		return -EBADF;
	do
		r = connect(fd, (const struct sockaddr *)&addr, sizeof addr);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return fd_take(&fd);
	if (errno == ECONNREFUSED || errno == ENOENT || errno == EAGAIN)
		fail(err, ERR_UNAVAILABLE, "nobody answers on '%s': %s", path, g_strerror(errno));
	else
		fail_errno(err, errno, "can't connect to '%s'", path);
	return -EBADF;
}

int socket_connect(const char *path, GError **err)
{
	return connect_to(path, SOCK_NONBLOCK, err);
}

int socket_connect_wait(const char *path, GError **err)
{
	return connect_to(path, 0, err);
}
