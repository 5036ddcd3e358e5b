/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/console.h"
#include "base/fd.h"
#include "base/ws.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <termios.h>

/* Ctrl-]: telnet's and virsh's key. */
#define DETACH 0x1d
#define CONNECT_TIMEOUT (UINT64_C(10) * 1000000)
/* Typed faster than the guest reads: then the terminal waits. */
#define QUEUE_MAX 65536

static void make_raw(struct termios *saved)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, saved) < 0)
		return;
	raw = *saved;
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

/* Who talks to the guest: a terminal, or a viewer on a socket. */
struct party {
	int in, out;
	bool typed; /* Ctrl-] leaves */
	const char *what;
};

/* False when it was the last of it: Ctrl-], or the end of the input. */
static bool pass_input(Ws *ws, const struct party *p)
{
	uint8_t buf[16384];
	ssize_t n = read(p->in, buf, sizeof buf);
	uint8_t *key = n > 0 && p->typed ? memchr(buf, DETACH, (size_t)n) : NULL;
	size_t len = key != NULL ? (size_t)(key - buf) : (size_t)MAX(n, 0);

	if (len > 0 && !ws_send(ws, false, buf, len))
		return false;
	return n > 0 && key == NULL;
}

static bool pass_output(Ws *ws, const struct party *p, GError **err)
{
	struct ws_message *m;
	int r = 0;

	while (r == 0 && (m = ws_next(ws)) != NULL) {
		r = fd_write_all(p->out, m->data, m->len);
		g_free(m);
	}
	return r == 0 || fail_errno(err, -r, "can't write to the %s", p->what);
}

/* After the last input the rest of what was typed is sent, and the goodbye. */
static bool relay(Ws *ws, const struct party *who, GError **err)
{
	bool input = true;

	while (!ws_closed(ws, NULL, NULL)) {
		struct pollfd p[] = { { .fd = input && ws_queued(ws) < QUEUE_MAX ? who->in : -1,
					.events = POLLIN },
				      { .fd = ws_fd(ws), .events = ws_events(ws) } };

		if (poll(p, G_N_ELEMENTS(p), -1) < 0 && errno != EINTR)
			return fail_errno(err, errno, "can't wait for input");
		if (p[0].revents != 0) {
			input = pass_input(ws, who);
			if (!input)
				ws_close(ws, 1000, NULL);
		}
		if (!ws_service(ws, err) || !pass_output(ws, who, err))
			return false;
	}
	return true;
}

bool console_attach(const char *socket, const char *path, const char *name, GError **err)
{
	g_autoptr(Ws) ws = ws_connect_unix(socket, path, NULL, CONNECT_TIMEOUT, err);
	const struct party me = { STDIN_FILENO, STDOUT_FILENO, true, "terminal" };
	bool terminal = isatty(STDIN_FILENO), ok;
	struct termios saved;

	if (ws == NULL)
		return false;
	if (terminal) {
		fprintf(stderr, "console of %s; Ctrl-] leaves it\n", name);
		make_raw(&saved);
	}
	ok = relay(ws, &me, err);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
		fprintf(stderr, "\nleft the console\n");
	}
	return ok;
}

bool display_serve(const char *socket, const char *path, int listener, GError **err)
{
	_cleanup_close_ int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	g_autoptr(Ws) ws = NULL;
	const struct party viewer = { fd, fd, false, "viewer" };
	g_autoptr(GError) e = NULL;

	if (fd < 0)
		return fail_errno(err, errno, "can't take a viewer");
	ws = ws_connect_unix(socket, path, NULL, CONNECT_TIMEOUT, err);
	if (ws == NULL)
		return false;
	/* A viewer that just goes away is how it ends. */
	if (!relay(ws, &viewer, &e))
		fprintf(stderr, "the viewer has gone: %s\n", e->message);
	return true;
}
