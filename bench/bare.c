/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least that a program can do to start and to stop a QEMU: what `plim` and
 * `virsh`, which are programs too, are compared with. Only libc.
 *
 *     bare start SOCKET FD[,FD...] PROGRAM ARGUMENT...
 *     bare stop SOCKET PID
 *
 * The first FD is QEMU's listening monitor socket SOCKET, the others listen on
 * SOCKET.FD. `start` ends when `cont` was answered and prints the process id;
 * `stop` ends when the process has ended.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define FDS_MAX 16
/* Above the numbers that QEMU is given, so that no dup2() hits one that is still to be passed on. */
#define FD_BASE 200

__attribute__((noreturn)) static void give_up(const char *what)
{
	fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
	exit(1);
}

static struct sockaddr_un address_of(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (snprintf(a.sun_path, sizeof a.sun_path, "%s", path) >= (int)sizeof a.sun_path)
		give_up("a path that is too long");
	return a;
}

static int listen_on(const char *path)
{
	struct sockaddr_un a = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), high;

	unlink(path);
	if (bind(fd, (const struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 1) < 0)
		give_up(path);
	high = fcntl(fd, F_DUPFD_CLOEXEC, FD_BASE);
	close(fd);
	return high;
}

/* Sends a line, and reads until a whole line holds `want`. */
static void ask(int fd, const char *line, const char *want)
{
	static char got[65536];
	size_t len = 0;

	if (write(fd, line, strlen(line)) < 0)
		give_up("write");
	do {
		ssize_t n = read(fd, got + len, sizeof got - 1 - len);

		if (n <= 0)
			give_up("QEMU closed its monitor");
		len += (size_t)n;
		got[len] = '\0';
	} while (strstr(got, want) == NULL || got[len - 1] != '\n');
}

static int connect_monitor(const char *path)
{
	struct sockaddr_un a = address_of(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (const struct sockaddr *)&a, sizeof a) < 0)
		give_up(path);
	ask(fd, "", "\"QMP\"");
	ask(fd, "{\"execute\":\"qmp_capabilities\"}\n", "\"return\"");
	return fd;
}

static int start(const char *socket_path, char *numbers, char **argv)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int fd[FDS_MAX], n = 0;
	char path[4096];
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);
	for (int i = 0; i < 3; i++)
		posix_spawn_file_actions_addopen(&actions, i, "/dev/null", O_RDWR, 0);
	for (char *word = strtok(numbers, ","); word != NULL && n < FDS_MAX; word = strtok(NULL, ",")) {
		snprintf(path, sizeof path, n == 0 ? "%s" : "%s.%s", socket_path, word);
		fd[n] = listen_on(path);
		posix_spawn_file_actions_adddup2(&actions, fd[n++], atoi(word));
	}
	errno = posix_spawn(&pid, argv[0], &actions, &attributes, argv, environ);
	if (errno != 0)
		give_up(argv[0]);
	while (n > 0)
		close(fd[--n]);
	ask(connect_monitor(socket_path), "{\"execute\":\"cont\"}\n", "\"return\"");
	printf("%d\n", (int)pid);
	return 0;
}

static int stop(const char *socket_path, pid_t pid)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	if (p.fd < 0)
		give_up("no such process");
	ask(connect_monitor(socket_path), "{\"execute\":\"quit\"}\n", "\"return\"");
	return poll(&p, 1, -1) == 1 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc >= 5 && strcmp(argv[1], "start") == 0)
		return start(argv[2], argv[3], argv + 4);
	if (argc == 4 && strcmp(argv[1], "stop") == 0)
		return stop(argv[2], (pid_t)atoi(argv[3]));
	fprintf(stderr, "usage: bare start SOCKET FD[,FD...] PROGRAM ARGUMENT... | bare stop SOCKET PID\n");
	return 2;
}
