/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/soak_flow.h"
#include "base/fd.h"

#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define CLIENTS_MAX 1024
#define CHUNK 4096
/* The first two of what is polled. */
enum { END, LISTEN, FIRST_CLIENT };

struct SoakFlow {
	char *address;
	unsigned port;
	int end;
	GThread *thread;
	struct pollfd fd[FIRST_CLIENT + CLIENTS_MAX]; /* the thread's own while it runs */
	nfds_t n;
};

static void take_client(SoakFlow *f)
{
	int fd = accept4(f->fd[LISTEN].fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd >= 0 && f->n == G_N_ELEMENTS(f->fd))
		close(fd);
	else if (fd >= 0)
		f->fd[f->n++] = (struct pollfd){ .fd = fd, .events = POLLIN };
}

/* One that does not take back what it sent has broken its flow, and shall see it. */
static bool answer(int fd)
{
	char data[CHUNK];
	ssize_t n = recv(fd, data, sizeof data, 0);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	return n > 0 && send(fd, data, (size_t)n, MSG_NOSIGNAL) == n;
}

static void serve_clients(SoakFlow *f)
{
	for (nfds_t i = f->n; i-- > FIRST_CLIENT;)
		if (f->fd[i].revents != 0 && !answer(f->fd[i].fd)) {
			close(f->fd[i].fd);
			f->fd[i] = f->fd[--f->n];
		}
}

static void *serve(void *data)
{
	SoakFlow *f = data;

	while (poll(f->fd, f->n, -1) >= 0 || errno == EINTR) {
		if (f->fd[END].revents != 0)
			break;
		serve_clients(f);
		if (f->fd[LISTEN].revents != 0)
			take_client(f);
	}
	return NULL;
}

static int listen_at(const char *address, unsigned *ret_port, GError **err)
{
	const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_PASSIVE };
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_storage own = { 0 };
	socklen_t len = sizeof own;
	struct addrinfo *ai;
	bool ok;

	if (getaddrinfo(address, "0", &hints, &ai) != 0)
		return fail(err, ERR_INVALID, "'%s' is no numeric address", address), -EBADF;
	fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, ai->ai_protocol);
	ok = fd >= 0 && bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0 &&
	     getsockname(fd, (struct sockaddr *)&own, &len) == 0;
	freeaddrinfo(ai);
	if (!ok) {
		fail_advice(err, ERR_INVALID, "Name an address of this machine that the guests reach.",
			    "can't listen on %s: %s", address, g_strerror(errno));
		return -EBADF;
	}
	*ret_port = ntohs(own.ss_family == AF_INET ? ((struct sockaddr_in *)&own)->sin_port
						   : ((struct sockaddr_in6 *)&own)->sin6_port);
	return fd_take(&fd);
}

SoakFlow *soak_flow_open(const char *address, GError **err)
{
	unsigned port;
	_cleanup_close_ int listening = listen_at(address, &port, err), end = -EBADF;
	SoakFlow *f;

	if (listening < 0)
		return NULL;
	end = eventfd(0, EFD_CLOEXEC);
	if (end < 0)
		return fail_errno(err, errno, "can't make an eventfd"), NULL;
	f = g_new0(SoakFlow, 1);
	f->address = g_strdup(address);
	f->port = port;
	f->end = fd_take(&end);
	f->fd[END] = (struct pollfd){ .fd = f->end, .events = POLLIN };
	f->fd[LISTEN] = (struct pollfd){ .fd = fd_take(&listening), .events = POLLIN };
	f->n = FIRST_CLIENT;
	f->thread = g_thread_new("flow", serve, f);
	return f;
}

SoakFlow *soak_flow_close(SoakFlow *f)
{
	if (f == NULL)
		return NULL;
	eventfd_write(f->end, 1);
	g_thread_join(f->thread);
	for (nfds_t i = 0; i < f->n; i++)
		close(f->fd[i].fd);
	g_free(f->address);
	g_free(f);
	return NULL;
}

const char *soak_flow_address(const SoakFlow *f)
{
	return f->address;
}

unsigned soak_flow_port(const SoakFlow *f)
{
	return f->port;
}
