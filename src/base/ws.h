/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A WebSocket to the daemon, for commands that sit in poll() on a terminal and
 * this: `plim vm console` and its like. One thread, nothing runs by itself.
 *
 *	while (!ws_closed(ws, NULL, NULL)) {
 *		struct pollfd p[2] = { { STDIN_FILENO, POLLIN }, { ws_fd(ws), ws_events(ws) } };
 *
 *		poll(p, 2, -1);
 *		if (p[0].revents != 0)
 *			ws_send(ws, false, buf, len);
 *		if (!ws_service(ws, err))
 *			return false;
 *		while ((m = ws_next(ws)) != NULL) { ...; g_free(m); }
 *	}
 *
 * The connection beneath is the caller's choice: the daemon's unix socket, or
 * anything that moves bytes, as TLS does.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct Ws Ws;

struct ws_message {
	bool text;
	size_t len;
	uint8_t data[]; /* with a NUL behind it that does not count */
};

/* A connection that never blocks. */
struct ws_connection {
	int fd; /* to poll() */
	void *data;
	/* Bytes moved, 0 at the end, -EAGAIN when nothing can be moved now, another -errno when it broke. */
	ssize_t (*recv)(void *data, void *buf, size_t len);
	ssize_t (*send)(void *data, const void *buf, size_t len);
	void (*close)(void *data);
};

/*
 * Agree on a WebSocket at `path` ("/v1/vms/web1/console?..."), within
 * `timeout`. Takes the connection, also on failure. `host` is the server's name
 * as the request says it; `headers` are further lines ("Authorization: ..."),
 * NULL at the end, or NULL.
 *
 * When the server refuses, its own error is passed on, with code and advice;
 * ERR_UNAVAILABLE when it can't be reached, ERR_TIMEOUT when it does not answer.
 */
Ws *ws_connect(const struct ws_connection *c, const char *host, const char *path, const char *const *headers,
	       uint64_t timeout, GError **err);
/* The same on a unix socket. */
Ws *ws_connect_unix(const char *socket, const char *path, const char *const *headers, uint64_t timeout,
		    GError **err);
/* Closes at once. Returns NULL; NULL is fine. */
Ws *ws_free(Ws *ws);

int ws_fd(const Ws *ws);
/* What to poll() for: POLLIN, POLLOUT. */
short ws_events(const Ws *ws);
/*
 * Moves bytes in both directions, as far as that goes without waiting. False
 * when the connection is broken. Call it after each poll(), whatever that
 * said, and take all messages after it.
 */
bool ws_service(Ws *ws, GError **err);
/* The next message that has arrived, or NULL. Caller frees with g_free(). */
struct ws_message *ws_next(Ws *ws);
/* Copies. Sent by the next ws_service(). False when the conversation is ending. */
bool ws_send(Ws *ws, bool text, const void *buf, size_t len);
/* Bytes that wait to be sent: who reads from a fast source stops at some point. */
size_t ws_queued(const Ws *ws);
/*
 * Says goodbye, behind all that was sent before; it is over when the server has
 * said so too. `reason` may be NULL.
 */
void ws_close(Ws *ws, unsigned code, const char *reason);
/*
 * Is it over? Then `ret_code` and `ret_reason` are what the server said; 1006
 * and "" when it just went away. Either may be NULL; the reason is borrowed.
 */
bool ws_closed(const Ws *ws, unsigned *ret_code, const char **ret_reason);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ws, ws_free)
