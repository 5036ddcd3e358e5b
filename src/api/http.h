/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server: HTTP/1.1, Server-Sent Events and WebSocket on a unix socket
 * and on TLS, all of it on the daemon's own event loop.
 *
 * A handler is a plain function. It is called with a complete request and
 * answers it once, at once or later, with one of:
 *
 *	http_respond(), http_respond_json(), http_respond_error()    one piece
 *	http_stream_start(), _write(), _end()                        many pieces
 *	http_ws_accept()                                             a WebSocket
 *
 * Everything here belongs to the loop's thread, except http_request_ref(),
 * http_request_unref(), http_request_closed() and the http_post_...() functions,
 * with which a worker thread answers.
 *
 * A request outlives its connection. When the client goes away the request is
 * closed (http_request_closed()), whatever answers it does nothing, and nobody
 * has to ask first. A request that nobody answers, because the last reference
 * to it is gone, is answered 500: no client waits for ever for our mistake.
 *
 * What the server refuses by itself (malformed, too large, too slow, too many)
 * is answered with the error shape of base/err.h and never reaches a handler.
 * So is what a browser sends for a page of another origin: it would carry the
 * user's certificate, but not the user's will.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "base/loop.h"

#include <sys/types.h>

typedef struct HttpServer HttpServer;
typedef struct HttpRequest HttpRequest;
typedef struct HttpStream HttpStream;
typedef struct HttpWs HttpWs;

/* ---- the server ---- */

typedef enum HttpClientCert {
	HTTP_CLIENT_CERT_NONE,     /* not asked for */
	HTTP_CLIENT_CERT_OPTIONAL, /* one that is shown must be valid */
	HTTP_CLIENT_CERT_REQUIRED,
} HttpClientCert;

/* All strings are copied. A limit of 0 means its default. */
struct http_config {
	/*
	 * Listener on a unix socket, or NULL. Mode 0660; it belongs to the group
	 * of that name when there is one and the daemon may give it away.
	 */
	const char *unix_path;
	const char *unix_group;
	/* A socket that listens at unix_path already, from http_server_hand_over(); 0: none. Taken. */
	int unix_fd;

	/*
	 * Listener on TLS, or NULL: "10.0.0.1:7443", "[::]:7443"; port 0 takes any
	 * (http_server_tls_port()). Files are PEM. Client certificates are checked
	 * against tls_client_ca, which must be given unless they are not asked for.
	 */
	const char *tls_address;
	const char *tls_cert, *tls_key, *tls_client_ca;
	HttpClientCert tls_client_cert;
	/* The same for tls_address. One that listens elsewhere is closed, and another is made. */
	int tls_fd;

	unsigned max_connections; /* of each listener; 1024 */
	size_t head_max;          /* request line and headers; 16 KiB */
	size_t body_max;          /* unless http_request_set_body_max() says otherwise; 1 MiB */
	size_t queue_max;         /* what may wait for one slow client of a stream or WebSocket; 1 MiB */
	uint64_t head_timeout;    /* for a TLS handshake, and for a request head; 10 s */
	uint64_t idle_timeout;    /* of a connection kept alive between requests; 60 s */
	uint64_t write_timeout;   /* without any progress while something waits to be sent; 30 s */

	/*
	 * Called when the head of a request has arrived and its body has not: the
	 * place to set limits, to take the body in pieces, or to refuse before
	 * anything is sent. May be NULL.
	 */
	void (*begin)(HttpRequest *req, void *data);
	/* Called with the complete request, unless begin() answered it. */
	void (*handle)(HttpRequest *req, void *data);
	void *data;
};

/*
 * ERR_CONFLICT when someone listens on the unix socket or the port already
 * (a socket that nobody listens on is replaced), ERR_INVALID for addresses and
 * certificates that cannot be used.
 */
HttpServer *http_server_new(Loop *l, const struct http_config *cfg, GError **err);
/*
 * Closes every connection (requests, streams and WebSockets hear of it as when
 * their client goes away) and removes the unix socket. Worker threads that may
 * answer must be gone before. Not from inside one of the server's callbacks.
 * Returns NULL; NULL is fine.
 */
HttpServer *http_server_free(HttpServer *s);
unsigned http_server_tls_port(const HttpServer *s);
/* Connections that are open, of all listeners. */
unsigned http_server_connections(const HttpServer *s);

/*
 * For a server that another one follows at once, so that no client notices:
 * http_server_rest() takes no more connections (who comes waits in the kernel),
 * http_server_is_busy() tells whether a connection that was taken still waits
 * for an answer or has yet to ask its first question (streams and WebSockets
 * don't count), and http_server_hand_over() gives up the listening sockets,
 * each -EBADF when there is none: the caller's, for the next http_config. The
 * unix socket is not removed then.
 */
void http_server_rest(HttpServer *s);
bool http_server_is_busy(const HttpServer *s);
void http_server_hand_over(HttpServer *s, int *ret_unix, int *ret_tls);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HttpServer, http_server_free)

/* ---- who asks ---- */

typedef enum HttpPeerKind {
	HTTP_PEER_UNIX,
	HTTP_PEER_TLS,
} HttpPeerKind;

/* What was proven when the connection was made; it does not change afterwards. */
struct http_peer {
	HttpPeerKind kind;
	/* unix: the credentials the kernel vouches for (SO_PEERCRED, SO_PEERGROUPS) */
	uid_t uid;
	gid_t gid;
	pid_t pid;
	gid_t *groups; /* supplementary */
	size_t n_groups;
	/* TLS: address with port; the common name and the SHA-256 in lower-case hex when a valid one was
	 * shown */
	char *address;
	char *cert_cn;
	char *cert_sha256;
};

/* Is `gid` the peer's group, or among its supplementary groups? False for peers on TLS. */
bool http_peer_in_group(const struct http_peer *p, gid_t gid);

/* ---- the request ---- */

const struct http_peer *http_request_peer(const HttpRequest *req);
/* As sent, in upper case by convention. HEAD is passed on as "HEAD"; its answer is sent without the body. */
const char *http_request_method(const HttpRequest *req);
/* The path as sent, still percent-encoded, without the query. Begins with '/'. */
const char *http_request_path(const HttpRequest *req);
/*
 * The path cut at its slashes, each piece decoded: "/v1/vms/a%2Fb" is
 * {"v1", "vms", "a/b", NULL}. Pieces may be empty. Decoded text is valid UTF-8
 * without control characters: anything else was refused.
 */
const char *const *http_request_segments(const HttpRequest *req);
/* The first value of that name, decoded ("" for a name without one), or NULL. */
const char *http_request_query(const HttpRequest *req, const char *name);
/* The i-th parameter in order, false past the last: to find all of one name, or unknown ones. */
bool http_request_query_at(const HttpRequest *req, size_t i, const char **ret_name, const char **ret_value);
/* The value of a header, any case, or NULL. */
const char *http_request_header(const HttpRequest *req, const char *name);
/* The body, with a NUL behind it that does not count. Empty while it has not arrived, and when it is
 * streamed. */
const char *http_request_body(const HttpRequest *req, size_t *ret_len);

/* A pointer of the handler's own, for what begin() leaves to handle(). NULL until set. */
void http_request_set_data(HttpRequest *req, void *data);
void *http_request_data(const HttpRequest *req);

HttpRequest *http_request_ref(HttpRequest *req);
/* NULL is fine. */
void http_request_unref(HttpRequest *req);

/* Has the client gone, or was the request answered? Then answering is pointless, and harmless. From any
 * thread. */
bool http_request_closed(const HttpRequest *req);
/* Called once if the client goes away before anyone has answered. NULL takes it back. */
void http_request_on_close(HttpRequest *req, void (*func)(HttpRequest *req, void *data), void *data);

/* In begin() only: this route takes larger (or only smaller) bodies. Those not streamed end at 256 MiB. */
void http_request_set_body_max(HttpRequest *req, uint64_t max);
/*
 * In begin() only: the body is passed on in pieces as it arrives and not kept.
 * func() returns false to say: no more until http_request_body_resume().
 * handle() is called after the last piece, as always.
 */
void http_request_body_stream(HttpRequest *req,
			      bool (*func)(HttpRequest *req, const uint8_t *buf, size_t len, void *data),
			      void *data);
void http_request_body_resume(HttpRequest *req);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HttpRequest, http_request_unref)

/* ---- answers in one piece ---- */

/* A further header of the answer to come. Control characters in the value become spaces. */
void http_respond_header(HttpRequest *req, const char *name, const char *value);
/* Copies `buf`. content_type may be NULL when there is no body. */
void http_respond(HttpRequest *req, unsigned status, const char *content_type, const void *buf, size_t len);
/* Takes `body`. */
void http_respond_json(HttpRequest *req, unsigned status, Json *body);
/* {code, message, details, advice} with the status that belongs to the code. */
void http_respond_error(HttpRequest *req, const GError *e);

/*
 * The same from any thread. Both take the caller's reference to `req`;
 * http_post_json() takes `body`, which the caller must not share.
 */
void http_post_json(HttpRequest *req, unsigned status, Json *body);
void http_post_error(HttpRequest *req, const GError *e);

/* ---- answers in many pieces ---- */

struct http_stream_callbacks {
	/*
	 * All that was written has been sent on: the time to write the next piece. Once in a turn
	 * of the loop, so that a client that takes everything does not keep others waiting. May be NULL.
	 */
	void (*on_drain)(HttpStream *st, void *data);
	/*
	 * The client has gone, or was dropped for being too slow. Called at most
	 * once, never from inside a call on this stream, and not after
	 * http_stream_end(), which is still to be called. May be NULL.
	 */
	void (*on_close)(HttpStream *st, void *data);
};

/* Length not known: it ends when it ends. */
#define HTTP_LENGTH_UNKNOWN UINT64_MAX

/*
 * Sends the head. NULL when nothing is to follow it: the client has gone
 * already, or asked for the head only. The request is answered in any case.
 * The stream is the caller's until http_stream_end() or http_stream_abort().
 */
HttpStream *http_stream_start(HttpRequest *req, unsigned status, const char *content_type, uint64_t length,
			      const struct http_stream_callbacks *cb, void *data);
/*
 * Copies `buf` into the queue and sends what the client takes now. False when
 * it has gone, or more than queue_max waits after that: then it is dropped, so
 * that one slow reader costs a bounded amount of memory.
 */
bool http_stream_write(HttpStream *st, const void *buf, size_t len);
/* Bytes that wait. Whoever produces on demand writes one piece, and the next in on_drain(). */
size_t http_stream_queued(const HttpStream *st);
/* Ends the answer and frees the stream. If less than `length` was written the client sees a broken answer. */
void http_stream_end(HttpStream *st);
/* Frees the stream and lets the client see a broken answer: for failures half way. */
void http_stream_abort(HttpStream *st);

/* ---- WebSocket ---- */

struct http_ws_callbacks {
	/* A whole message; text is valid UTF-8. Not NUL-terminated. */
	void (*on_message)(HttpWs *ws, bool text, const uint8_t *buf, size_t len, void *data);
	/* As for streams. May be NULL. */
	void (*on_drain)(HttpWs *ws, void *data);
	/*
	 * The last call: the WebSocket is gone when it returns. Exactly once, never
	 * from inside a call on this WebSocket. `code` is what the client said,
	 * 1006 when it just went away, 1008 when it was dropped for being too slow.
	 */
	void (*on_close)(HttpWs *ws, unsigned code, void *data);
	size_t message_max;     /* larger ones close it with 1009; 0: 1 MiB */
	uint64_t ping_interval; /* pings, and drops a client that did not answer the one before; 0: none */
	const char *protocol;   /* subprotocol that is agreed to when the client offers it, or NULL; static */
};

/* Does the request ask for a WebSocket? */
bool http_ws_requested(const HttpRequest *req);
/*
 * Agrees to the WebSocket. NULL when none came to be: the client had gone, or
 * had not asked for one and is answered 426. The request is answered in any
 * case, and on_close() is not called then.
 */
HttpWs *http_ws_accept(HttpRequest *req, const struct http_ws_callbacks *cb, void *data);
/* As http_stream_write(); false also when it is closing. */
bool http_ws_send(HttpWs *ws, bool text, const void *buf, size_t len);
size_t http_ws_queued(const HttpWs *ws);
/* Take no more from the client (a few messages that have arrived may still come), and go on again. */
void http_ws_pause(HttpWs *ws, bool paused);
/*
 * Says goodbye, behind all that was sent before; on_close() follows, after the
 * client's own goodbye or a short wait. `reason` may be NULL.
 */
void http_ws_close(HttpWs *ws, unsigned code, const char *reason);
