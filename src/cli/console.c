/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/console.h"
#include "base/fd.h"
#include "base/ws.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
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

/* False when it was the last of it: Ctrl-], or the end of the input. */
static bool pass_input(Ws *ws)
{
	uint8_t buf[1024];
	ssize_t n = read(STDIN_FILENO, buf, sizeof buf);
	uint8_t *key = n > 0 ? memchr(buf, DETACH, (size_t)n) : NULL;
	size_t len = key != NULL ? (size_t)(key - buf) : (size_t)MAX(n, 0);

	if (len > 0 && !ws_send(ws, false, buf, len))
		return false;
	return n > 0 && key == NULL;
}

static bool pass_output(Ws *ws, GError **err)
{
	struct ws_message *m;
	int r = 0;

	while (r == 0 && (m = ws_next(ws)) != NULL) {
		r = fd_write_all(STDOUT_FILENO, m->data, m->len);
		g_free(m);
	}
	return r == 0 || fail_errno(err, -r, "can't write to the terminal");
}

/* After the last input the rest of what was typed is sent, and the goodbye. */
static bool relay(Ws *ws, GError **err)
{
	bool input = true;

	while (!ws_closed(ws, NULL, NULL)) {
		struct pollfd p[] = { { .fd = input && ws_queued(ws) < QUEUE_MAX ? STDIN_FILENO : -1,
					.events = POLLIN },
				      { .fd = ws_fd(ws), .events = ws_events(ws) } };

		if (poll(p, G_N_ELEMENTS(p), -1) < 0 && errno != EINTR)
			return fail_errno(err, errno, "can't wait for input");
		if (p[0].revents != 0) {
			input = pass_input(ws);
			if (!input)
				ws_close(ws, 1000, NULL);
		}
		if (!ws_service(ws, err) || !pass_output(ws, err))
			return false;
	}
	return true;
}

bool console_attach(const char *socket, const char *path, const char *name, GError **err)
{
	g_autoptr(Ws) ws = ws_connect_unix(socket, path, NULL, CONNECT_TIMEOUT, err);
	bool terminal = isatty(STDIN_FILENO), ok;
	struct termios saved;

	if (ws == NULL)
		return false;
	if (terminal) {
		fprintf(stderr, "console of %s; Ctrl-] leaves it\n", name);
		make_raw(&saved);
	}
	ok = relay(ws, err);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSADRAIN, &saved);
		fprintf(stderr, "\nleft the console\n");
	}
	return ok;
}
