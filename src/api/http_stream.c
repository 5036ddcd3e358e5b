/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http-impl.h"

#include <string.h>

struct HttpStream {
	HttpServer *server;
	HttpConn *conn; /* NULL when the client has gone */
	struct http_stream_callbacks cb;
	void *data;
	bool chunked;
	uint64_t left;   /* of the length that was said */
	unsigned inside; /* calls on this stream that have not returned */
	bool want_drain;
};

HttpStream *http_stream_start(HttpRequest *req, unsigned status, const char *content_type, uint64_t length,
			      const struct http_stream_callbacks *cb, void *data)
{
	HttpConn *c = req->conn;
	HttpStream *st = NULL;
	bool chunked = length == HTTP_LENGTH_UNKNOWN && req->head.minor > 0;

	if (!request_claim(req))
		return NULL;
	conn_enter(c);
	if (chunked)
		http_respond_header(req, "Transfer-Encoding", "chunked");
	else if (length == HTTP_LENGTH_UNKNOWN)
		c->keep_alive = false; /* HTTP/1.0: it ends where the connection ends */
	conn_queue(c,
		   g_byte_array_free_to_bytes(respond_head(c, status, content_type, length, req->headers)));
	if (req->head_only) {
		c->answered = true;
	} else {
		st = g_new0(HttpStream, 1);
		*st = (HttpStream){
			.server = c->server, .conn = c, .data = data, .chunked = chunked, .left = length
		};
		if (cb != NULL)
			st->cb = *cb;
		c->stream = st;
		st->inside++;
	}
	conn_leave(c);
	if (st != NULL)
		st->inside--;
	return st;
}

size_t http_stream_queued(const HttpStream *st)
{
	return st->conn != NULL ? st->conn->out_len : 0;
}

static GBytes *make_chunk(const HttpStream *st, const void *buf, size_t len)
{
	char size[24];
	int n = g_snprintf(size, sizeof size, "%zx\r\n", len);
	uint8_t *chunk, *p;

	if (!st->chunked)
		return g_bytes_new(buf, len);
	p = chunk = g_malloc((size_t)n + len + 2);
	p = mempcpy(p, size, (size_t)n);
	p = mempcpy(p, buf, len);
	memcpy(p, "\r\n", 2);
	return g_bytes_new_take(chunk, (size_t)n + len + 2);
}

bool http_stream_write(HttpStream *st, const void *buf, size_t len)
{
	HttpConn *c = st->conn;

	if (c == NULL)
		return false;
	if (len == 0)
		return true;
	g_assert(len <= st->left);
	st->left -= st->left != HTTP_LENGTH_UNKNOWN ? len : 0;
	st->want_drain = true;
	st->inside++;
	conn_enter(c);
	conn_queue(c, make_chunk(st, buf, len));
	conn_send(c);
	if (c->out_len > c->server->cfg.queue_max)
		conn_die(c);
	conn_leave(c);
	st->inside--;
	return st->conn != NULL;
}

static void stream_free(HttpStream *st)
{
	server_undefer(st->server, st);
	g_free(st);
}

void http_stream_end(HttpStream *st)
{
	HttpConn *c = st->conn;

	if (c != NULL && st->left > 0 && st->left != HTTP_LENGTH_UNKNOWN) {
		http_stream_abort(st);
		return;
	}
	if (c != NULL) {
		conn_enter(c);
		c->stream = NULL;
		c->answered = true;
		if (st->chunked)
			conn_queue(c, g_bytes_new_static("0\r\n\r\n", 5));
		conn_leave(c);
	}
	stream_free(st);
}

void http_stream_abort(HttpStream *st)
{
	HttpConn *c = st->conn;

	if (c != NULL) {
		conn_enter(c);
		c->stream = NULL;
		conn_die(c);
		conn_leave(c);
	}
	stream_free(st);
}

/* ---- from the connection ---- */

bool stream_wants_drain(const HttpStream *st)
{
	return st->want_drain && st->cb.on_drain != NULL;
}

void stream_drained(HttpStream *st)
{
	st->want_drain = false;
	st->cb.on_drain(st, st->data);
}

static void tell_close(void *object)
{
	HttpStream *st = object;

	if (st->cb.on_close != NULL)
		st->cb.on_close(st, st->data);
}

void stream_lost(HttpStream *st)
{
	st->conn = NULL;
	if (st->inside > 0)
		server_defer(st->server, tell_close, st);
	else
		tell_close(st);
}
