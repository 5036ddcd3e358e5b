/* SPDX-License-Identifier: Apache-2.0 */
/*
 * WebSocket (RFC 6455) on a connection that asked for it. wslay reads and
 * writes the frames; bytes go through the connection, as everywhere.
 */
#include "api/http-impl.h"

#include <string.h>
#include <wslay/wslay.h>

#define SECOND UINT64_C(1000000)
#define MESSAGE_MAX (1024 * 1024)
#define CLOSE_WAIT (3 * SECOND)
/* Frames are made while less than this waits, so that big messages are not copied at once. */
#define STAGE_MAX (128 * 1024)
#define REASON_MAX 123

struct HttpWs {
	HttpServer *server;
	HttpConn *conn; /* NULL when it is gone */
	wslay_event_context_ptr wslay;
	struct http_ws_callbacks cb;
	void *data;
	size_t taken;      /* of the connection's `in` */
	GByteArray *stage; /* frames on their way to the connection */
	unsigned inside;   /* calls that use this WebSocket and have not returned */
	unsigned code;     /* for on_close() when the client said none */
	char *goodbye;     /* the reason, until it is said: behind what was sent before */
	bool paused, want_drain, ping_open;
	uint64_t ping_at, close_at; /* UINT64_MAX: none; close_at: for the client to answer the goodbye */
};

static uint64_t now_of(const HttpWs *ws)
{
	return loop_now(ws->server->loop);
}

/* ---- the end ---- */

static void ws_free(HttpWs *ws)
{
	wslay_event_context_free(ws->wslay);
	g_byte_array_unref(ws->stage);
	g_free(ws->goodbye);
	g_free(ws);
}

static void tell_close(void *object)
{
	HttpWs *ws = object;
	unsigned said = wslay_event_get_close_received(ws->wslay)
			    ? wslay_event_get_status_code_received(ws->wslay)
			    : ws->code;

	if (ws->cb.on_close != NULL)
		ws->cb.on_close(ws, said, ws->data);
	ws_free(ws);
}

void ws_lost(HttpWs *ws)
{
	ws->conn = NULL;
	if (ws->inside > 0)
		server_defer(ws->server, tell_close, ws);
	else
		tell_close(ws);
}

static void drop(HttpWs *ws, unsigned code)
{
	ws->code = code;
	conn_die(ws->conn);
}

/* ---- wslay's view of the connection ---- */

/* wslay takes 4 KiB at a time: what it has taken is cut off only when all is taken. */
static size_t unread(HttpWs *ws)
{
	HttpConn *c = ws->conn;

	if (ws->taken == c->in->len) {
		conn_used(c, ws->taken);
		ws->taken = 0;
		conn_read(c, c->server->scratch_size);
	}
	return ws->conn != NULL ? c->in->len - ws->taken : 0;
}

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *data)
{
	HttpWs *ws = data;
	size_t n = ws->conn != NULL && !ws->paused ? MIN(len, unread(ws)) : 0;

	(void)flags;
	if (n == 0) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	memcpy(buf, ws->conn->in->data + ws->taken, n);
	ws->taken += n;
	return (ssize_t)n;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *buf, size_t len, int flags, void *data)
{
	HttpWs *ws = data;

	(void)flags;
	if (ws->stage->len >= STAGE_MAX) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	g_byte_array_append(ws->stage, buf, (guint)len);
	return (ssize_t)len;
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *msg, void *data)
{
	HttpWs *ws = data;

	(void)ctx;
	if (msg->opcode == WSLAY_PONG)
		ws->ping_open = false;
	if (wslay_is_ctrl_frame(msg->opcode) || ws->conn == NULL)
		return;
	ws->cb.on_message(ws, msg->opcode == WSLAY_TEXT_FRAME, msg->msg, msg->msg_length, ws->data);
}

static void ws_init(HttpWs *ws)
{
	static const struct wslay_event_callbacks wslay_cb = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.on_msg_recv_callback = on_message,
	};

	if (wslay_event_context_server_init(&ws->wslay, &wslay_cb, ws) != 0)
		g_error("out of memory for a WebSocket"); /* as GLib does */
	wslay_event_config_set_max_recv_msg_length(ws->wslay, ws->cb.message_max != 0 ? ws->cb.message_max
										      : MESSAGE_MAX);
}

/* ---- the handshake ---- */

bool http_ws_requested(const HttpRequest *req)
{
	return req->head.ws_key != NULL;
}

static char *accept_of_key(const char *key)
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
	uint8_t digest[20];
	gsize len = sizeof digest;

	g_checksum_update(sum, (const guchar *)key, -1);
	g_checksum_update(sum, (const guchar *)guid, sizeof guid - 1);
	g_checksum_get_digest(sum, digest, &len);
	return g_base64_encode(digest, len);
}

/* 24 characters of base64: 16 bytes. */
static bool key_ok(const char *key)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	return strlen(key) == 24 && strspn(key, alphabet) == 22 && g_str_equal(key + 22, "==");
}

static bool ws_acceptable(HttpRequest *req)
{
	g_autoptr(GError) e = NULL;
	const char *version = req->head.ws_version;

	if (http_ws_requested(req) && key_ok(req->head.ws_key) && version != NULL &&
	    g_str_equal(version, "13"))
		return true;
	fail_advice(&e, ERR_INVALID, "Use a WebSocket client of version 13 (RFC 6455).",
		    "this is for WebSockets only");
	http_respond_header(req, "Upgrade", "websocket");
	http_respond_header(req, "Sec-WebSocket-Version", "13");
	http_respond_json(req, 426, err_to_json(e));
	return false;
}

HttpWs *http_ws_accept(HttpRequest *req, const struct http_ws_callbacks *cb, void *data)
{
	g_autofree char *accept = NULL;
	HttpConn *c = req->conn;
	HttpWs *ws;

	if (!ws_acceptable(req) || !request_claim(req))
		return NULL;
	accept = accept_of_key(req->head.ws_key);
	http_respond_header(req, "Upgrade", "websocket");
	http_respond_header(req, "Connection", "Upgrade");
	http_respond_header(req, "Sec-WebSocket-Accept", accept);
	if (cb->protocol != NULL && http_head_has_token(&req->head, "sec-websocket-protocol", cb->protocol))
		http_respond_header(req, "Sec-WebSocket-Protocol", cb->protocol);
	ws = g_new0(HttpWs, 1);
	*ws = (HttpWs){ .server = c->server, .conn = c, .cb = *cb, .data = data, .code = 1006 };
	ws->stage = g_byte_array_new();
	ws->close_at = UINT64_MAX;
	ws->ping_at = cb->ping_interval != 0 ? now_of(ws) + cb->ping_interval : UINT64_MAX;
	ws_init(ws);
	ws->inside++;
	conn_enter(c);
	conn_queue(c,
		   g_byte_array_free_to_bytes(respond_head(c, 101, NULL, HTTP_LENGTH_UNKNOWN, req->headers)));
	c->ws = ws;
	conn_set_state(c, CONN_WS);
	exchange_release(c);
	conn_leave(c);
	ws->inside--;
	return ws;
}

/* ---- messages ---- */

static void stage_out(HttpWs *ws)
{
	GByteArray *full = ws->stage;

	if (full->len == 0)
		return;
	ws->stage = g_byte_array_new();
	conn_queue(ws->conn, g_byte_array_free_to_bytes(full));
	conn_send(ws->conn);
}

/* wslay would put it before the messages that wait, which then would never be sent. */
static void say_goodbye(HttpWs *ws)
{
	if (ws->goodbye == NULL || wslay_event_get_queued_msg_count(ws->wslay) > 0)
		return;
	wslay_event_queue_close(ws->wslay, (uint16_t)ws->code, (const uint8_t *)ws->goodbye,
				strlen(ws->goodbye));
	g_clear_pointer(&ws->goodbye, g_free);
	ws->close_at = now_of(ws) + CLOSE_WAIT;
}

static bool ws_send_some(HttpWs *ws)
{
	if (ws->conn == NULL || ws->conn->out_len > 0)
		return false;
	say_goodbye(ws);
	if (!wslay_event_want_write(ws->wslay))
		return false;
	if (wslay_event_send(ws->wslay) != 0)
		drop(ws, 1011);
	if (ws->conn != NULL)
		stage_out(ws);
	return true;
}

size_t http_ws_queued(const HttpWs *ws)
{
	if (ws->conn == NULL)
		return 0;
	return wslay_event_get_queued_msg_length(ws->wslay) + ws->stage->len + ws->conn->out_len;
}

static bool goodbye_said(const HttpWs *ws)
{
	return ws->goodbye != NULL || ws->close_at != UINT64_MAX ||
	       wslay_event_get_close_received(ws->wslay) || wslay_event_get_close_sent(ws->wslay);
}

bool http_ws_send(HttpWs *ws, bool text, const void *buf, size_t len)
{
	const struct wslay_event_msg msg = { .opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
					     .msg = buf,
					     .msg_length = len };
	HttpConn *c = ws->conn;

	if (c == NULL || goodbye_said(ws))
		return false;
	ws->want_drain = true;
	ws->inside++;
	conn_enter(c);
	if (wslay_event_queue_msg(ws->wslay, &msg) != 0)
		drop(ws, 1011);
	while (ws_send_some(ws))
		;
	if (http_ws_queued(ws) > c->server->cfg.queue_max)
		drop(ws, 1008);
	conn_leave(c);
	ws->inside--;
	return ws->conn != NULL;
}

void http_ws_pause(HttpWs *ws, bool paused)
{
	HttpConn *c = ws->conn;

	if (c == NULL || ws->paused == paused)
		return;
	ws->paused = paused;
	ws->inside++;
	conn_enter(c);
	conn_leave(c);
	ws->inside--;
}

void http_ws_close(HttpWs *ws, unsigned code, const char *reason)
{
	HttpConn *c = ws->conn;

	if (c == NULL || ws->goodbye != NULL || ws->close_at != UINT64_MAX)
		return;
	ws->inside++;
	conn_enter(c);
	ws->code = code;
	ws->goodbye = g_strndup(reason != NULL ? reason : "", REASON_MAX);
	ws->paused = false; /* or the client's goodbye would not be seen */
	conn_leave(c);
	ws->inside--;
}

/* ---- from the connection ---- */

void ws_pump(HttpWs *ws)
{
	HttpConn *c = ws->conn;
	bool over;

	ws->inside++;
	if (wslay_event_want_read(ws->wslay) && wslay_event_recv(ws->wslay) != 0 && ws->conn != NULL)
		drop(ws, 1011);
	while (ws_send_some(ws))
		;
	ws->inside--;
	if (ws->conn == NULL)
		return; /* and told so, or to be told so */
	over = !wslay_event_want_read(ws->wslay) && !wslay_event_want_write(ws->wslay);
	if (over) {
		c->ws = NULL;
		c->keep_alive = false;
		conn_set_state(c, CONN_FLUSH);
		ws_lost(ws);
	} else if (c->eof && c->in->len == ws->taken && !ws->paused) {
		conn_die(c);
	}
}

bool ws_wants_read(const HttpWs *ws)
{
	return !ws->paused && wslay_event_want_read(ws->wslay);
}

bool ws_wants_drain(const HttpWs *ws)
{
	return ws->want_drain && ws->cb.on_drain != NULL && http_ws_queued(ws) == ws->conn->out_len &&
	       !goodbye_said(ws);
}

void ws_drained(HttpWs *ws)
{
	ws->want_drain = false;
	ws->inside++;
	ws->cb.on_drain(ws, ws->data);
	ws->inside--;
}

uint64_t ws_deadline(const HttpWs *ws)
{
	return ws->close_at != UINT64_MAX ? ws->close_at : ws->ping_at;
}

void ws_timeout(HttpWs *ws)
{
	const struct wslay_event_msg ping = { .opcode = WSLAY_PING };

	/* It has yet to take what was sent before the goodbye; write_timeout watches that it does. */
	if (ws->close_at != UINT64_MAX && ws->conn->out_len > 0) {
		ws->close_at = now_of(ws) + CLOSE_WAIT;
		return;
	}
	if (ws->close_at != UINT64_MAX || ws->ping_open) {
		conn_die(ws->conn);
		return;
	}
	ws->ping_open = true;
	ws->ping_at = now_of(ws) + ws->cb.ping_interval;
	wslay_event_queue_msg(ws->wslay, &ping);
}
