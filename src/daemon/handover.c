/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/handover.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <systemd/sd-daemon.h>

static const struct {
	const char *name;
	size_t offset;
} SOCKETS[] = {
	{ "plimsoll-local", offsetof(struct api_sockets, local) },
	{ "plimsoll-tls", offsetof(struct api_sockets, tls) },
	{ "plimsoll-pool", offsetof(struct api_sockets, pool) },
};

static int *socket_at(const struct api_sockets *s, size_t offset)
{
	return (int *)((char *)s + offset);
}

struct api_sockets handover_take(void)
{
	struct api_sockets s = { -EBADF, -EBADF, -EBADF };
	char **names = NULL;
	int n = sd_listen_fds_with_names(1, &names);

	for (int i = 0; i < n; i++)
		for (size_t k = 0; k < G_N_ELEMENTS(SOCKETS); k++)
			if (strcmp(names[i], SOCKETS[k].name) == 0)
				*socket_at(&s, SOCKETS[k].offset) = SD_LISTEN_FDS_START + i;
	for (int i = 0; i < n; i++)
		free(names[i]);
	free(names);
	return s;
}

/* Out of the way of the numbers that they are to get. */
static int move_up(int fd)
{
	int moved = fcntl(fd, F_DUPFD_CLOEXEC, SD_LISTEN_FDS_START + (int)G_N_ELEMENTS(SOCKETS));

	close(fd);
	return moved;
}

void handover_give(const struct api_sockets *sockets)
{
	g_autoptr(GString) names = g_string_new(NULL);
	g_autofree char *pid = g_strdup_printf("%d", (int)getpid()), *count = NULL;
	int fds[G_N_ELEMENTS(SOCKETS)], n = 0;

	for (size_t k = 0; k < G_N_ELEMENTS(SOCKETS); k++) {
		int fd = *socket_at(sockets, SOCKETS[k].offset);

		fd = fd > 0 ? move_up(fd) : -EBADF;
		if (fd < 0)
			continue;
		g_string_append_printf(names, "%s%s", n > 0 ? ":" : "", SOCKETS[k].name);
		fds[n++] = fd;
	}
	if (n == 0)
		return;
	/* dup2() leaves out FD_CLOEXEC, and closes whatever had the number, all of which ends with this
	 * process. */
	for (int i = 0; i < n; i++)
		dup2(fds[i], SD_LISTEN_FDS_START + i);
	count = g_strdup_printf("%d", n);
	g_setenv("LISTEN_PID", pid, TRUE);
	g_setenv("LISTEN_FDS", count, TRUE);
	g_setenv("LISTEN_FDNAMES", names->str, TRUE);
}
