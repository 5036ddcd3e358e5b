/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the HTTP server: for http_*.c only.
 *
 * A connection is in one of these states. The loop's events move it on through
 * conn_pump(), which goes on as long as there is something to do:
 *
 *	HANDSHAKE  TLS is being agreed                          -> HEAD
 *	HEAD       waits for a request head, or reads it        -> BODY, ANSWER, FLUSH
 *	BODY       reads the body of `req`                      -> ANSWER, FLUSH
 *	ANSWER     the handler has `req`, or a stream answers it; nothing is read,
 *	           so that a client's pipelined requests wait   -> HEAD, FLUSH, WS
 *	WS         a WebSocket                                  -> FLUSH
 *	FLUSH      sends what waits; nothing follows            -> LINGER
 *	LINGER     our side is closed; what the client still sends is thrown away
 *	           for a moment, as closing with unread bytes would take the answer
 *	           from it                                      -> DEAD
 *	DEAD       closed; freed when no function uses it any more
 *
 * Anything may be DEAD after a callback of the user: whoever calls one holds
 * the connection between conn_enter() and conn_leave().
 */
#pragma once

#include "api/http.h"
#include "api/http_head.h"
#include "api/http_tls.h"

typedef struct HttpConn HttpConn;
typedef struct Listener Listener;

typedef enum ConnState {
	CONN_HANDSHAKE,
	CONN_HEAD,
	CONN_BODY,
	CONN_ANSWER,
	CONN_WS,
	CONN_FLUSH,
	CONN_LINGER,
	CONN_DEAD,
} ConnState;

struct HttpServer {
	Loop *loop;
	struct http_config cfg; /* strings are NULL here: they live in the listeners */
	Listener *unix_listener, *tls_listener;
	GHashTable *conns; /* HttpConn, a set */
	GQueue deferred;   /* struct deferred */
	LoopSource *defer_timer;
	uint8_t *scratch; /* what is read goes here first */
	size_t scratch_size;
	char date[32]; /* the Date header of second date_at */
	uint64_t date_at;
};

/* A callback that must not run now, because its object is in use further up the stack. */
struct deferred {
	void (*func)(void *object);
	void *object;
};

struct HttpConn {
	HttpServer *server;
	Listener *listener;
	ConnState state;
	unsigned users; /* between conn_enter() and conn_leave() */
	int fd;
	Tls *tls; /* NULL on the unix socket */
	LoopSource *io, *timer;
	uint32_t events;
	uint64_t timer_at, deadline; /* UINT64_MAX: none */
	uint64_t since;              /* the state was entered, or the head began */
	uint64_t moved_at;           /* of the last progress in sending, or in throwing away */
	struct http_peer peer;
	uint32_t served; /* requests */

	GByteArray *in;  /* bytes read and not used yet */
	size_t searched; /* of `in`, for the end of a head */
	bool readable;   /* the socket has more, as far as known */
	bool writable;
	bool eof;   /* read to its end */
	bool rdhup; /* the client will send no more */

	GQueue out; /* GBytes */
	size_t out_off, out_len;

	HttpRequest *req;
	bool answered; /* the whole answer is in `out` */
	bool keep_alive;
	struct http_chunks chunks;
	uint64_t body_left, body_got;
	uint64_t body_mark; /* body_got at `since` */
	bool body_paused;

	HttpStream *stream;
	HttpWs *ws;
};

struct HttpRequest {
	gint refs; /* atomic */
	/* any thread */
	gint answered; /* atomic: someone has answered, or the client has gone */
	Loop *loop;
	/* the loop's thread */
	HttpConn *conn; /* NULL when closed */
	struct http_head head;
	struct http_peer peer;
	GByteArray *body;
	uint64_t body_max;
	GString *headers; /* of the answer */
	void *data;       /* the handler's own */
	bool in_begin, handled, head_only;
	void (*on_close)(HttpRequest *req, void *data);
	void *on_close_data;
	bool (*on_body)(HttpRequest *req, const uint8_t *buf, size_t len, void *data);
	void *on_body_data;
};

/* ---- http_server.c ---- */

/* Call func(object) soon, from the loop; server_undefer() takes it back. */
void server_defer(HttpServer *s, void (*func)(void *object), void *object);
void server_undefer(HttpServer *s, void *object);
/* "Sat, 21 Nov 2026 09:30:00 GMT" */
const char *server_date(HttpServer *s);

/* ---- http_listen.c ---- */

/* NULL without an error when the configuration has none of that kind. Both take the socket it may bring. */
bool listener_open_unix(HttpServer *s, const struct http_config *cfg, Listener **ret, GError **err);
bool listener_open_tls(HttpServer *s, const struct http_config *cfg, Listener **ret, GError **err);
/* Its connections must be gone. */
Listener *listener_free(Listener *ln);
unsigned listener_port(const Listener *ln);
/* A connection is gone. */
void listener_release(Listener *ln);
/* A connection became idle: where there was no room for another one, now it can give way. */
void listener_look(Listener *ln);
/* No connection is taken from now on. NULL is fine. */
void listener_rest(Listener *ln);
/* Gives up the socket, which stays where it is; -EBADF for NULL. Before listener_free(). */
int listener_hand_over(Listener *ln);

/* ---- http_conn.c ---- */

/* Takes fd, `tls` (NULL on the unix socket) and what `peer` owns. */
void conn_new(HttpServer *s, Listener *ln, int fd, Tls *tls, struct http_peer *peer);
void conn_enter(HttpConn *c);
/* The last one out goes on with the connection, and frees it when it is DEAD. */
void conn_leave(HttpConn *c);
/* Closes at once. Idempotent. */
void conn_die(HttpConn *c);
void conn_set_state(HttpConn *c, ConnState state);
/* Queues bytes to send; takes `bytes`. */
void conn_queue(HttpConn *c, GBytes *bytes);
/* Sends what the socket takes. May make it DEAD. */
void conn_send(HttpConn *c);
/* Reads once, up to `max` bytes in `in` in all. False when nothing came. May make it DEAD. */
bool conn_read(HttpConn *c, size_t max);
/* Throws away the first `n` bytes of `in`. */
void conn_used(HttpConn *c, size_t n);

/* ---- http_exchange.c: one request on a connection ---- */

/* One step in HEAD or BODY; false when more bytes are needed, or the reader of the body pauses. */
bool exchange_step(HttpConn *c);
/* The answer is complete and sent: on to the next request, or to the end. */
void exchange_next(HttpConn *c);
/* The client was too slow: refuse what is being read. */
void exchange_timeout(HttpConn *c);
/* The connection has no more to do with its request, which is closed if it was not answered. */
void exchange_release(HttpConn *c);

/* ---- http_request.c ---- */

/* Takes `head`. The connection's own reference. */
HttpRequest *request_new(HttpConn *c, struct http_head *head);
/* The client has gone: calls on_close() unless it was answered. */
void request_close(HttpRequest *req);
/* Gives up a reference, without a look at whether someone is left who could answer. */
void request_drop(HttpRequest *req);
/* Answers 500 if nobody has answered and nobody is left who could. */
void request_check_abandoned(HttpRequest *req, gint refs_left);

/* ---- http_respond.c ---- */

/* Whoever answers claims the request first: false when there is no one to answer, or it was answered. */
bool request_claim(HttpRequest *req);
/*
 * The head of an answer on this connection. `length` may be
 * HTTP_LENGTH_UNKNOWN; `extra` are further header lines, or NULL.
 */
GByteArray *respond_head(HttpConn *c, unsigned status, const char *content_type, uint64_t length,
			 const GString *extra);
/* An error that belongs to no request, or to one that is not complete; nothing follows it. */
void respond_refusal(HttpConn *c, unsigned status, const GError *e);

/* ---- http_stream.c, http_ws.c ---- */

/* Does it want to know when everything is sent? Then it is told. */
bool stream_wants_drain(const HttpStream *st);
void stream_drained(HttpStream *st);
/* The connection is gone. */
void stream_lost(HttpStream *st);

/* Bytes have arrived, or there is room to send: goes on as far as it can. May make the connection DEAD. */
void ws_pump(HttpWs *ws);
void ws_lost(HttpWs *ws);
/* The time of the next ping, or the end of the wait for a goodbye; UINT64_MAX: none. */
uint64_t ws_deadline(const HttpWs *ws);
void ws_timeout(HttpWs *ws);
bool ws_wants_read(const HttpWs *ws);
bool ws_wants_drain(const HttpWs *ws);
void ws_drained(HttpWs *ws);
