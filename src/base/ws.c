/* SPDX-License-Identifier: Apache-2.0 */
#include "base/ws.h"
#include "base/answer.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/socket.h"
#include "base/str.h"
#include "base/time.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <wslay/wslay.h>

#define HEAD_MAX (16 * 1024)
#define ERROR_MAX (1024 * 1024)
#define MESSAGE_MAX (UINT64_C(16) << 20)
#define PIECE (64 * 1024)
/* Frames are made while less than this waits. */
#define STAGE_MAX (128 * 1024)
/* So much is taken in at once before the caller gets to see it. */
#define ARRIVED_MAX (1024 * 1024)
#define REASON_MAX 123

struct Ws {
	struct ws_connection connection;
	wslay_event_context_ptr wslay;
	GByteArray *in; /* came with the answer to the handshake */
	GByteArray *out;
	GQueue arrived; /* struct ws_message */
	size_t arrived_len;
	bool more; /* there may be more to read, of which poll() does not know */
	bool eof;
	int broken;    /* 0, or an errno */
	char *goodbye; /* the reason, until it is said: behind what was sent before */
	unsigned goodbye_code;
	char reason[REASON_MAX + 1];
};

/* ---- bytes ---- */

/* 0: nothing now. The end, and that the connection is broken, are noted. */
static size_t receive(Ws *ws, uint8_t *buf, size_t len)
{
	ssize_t n;

	if (ws->eof)
		return 0;
	n = ws->connection.recv(ws->connection.data, buf, len);
	if (n == -EAGAIN || n == -EINTR)
		return 0;
	ws->eof = n <= 0;
	if (n < 0)
		ws->broken = (int)-n;
	return (size_t)MAX(n, 0);
}

static void flush(Ws *ws)
{
	while (ws->out->len > 0 && !ws->eof) {
		ssize_t n = ws->connection.send(ws->connection.data, ws->out->data, ws->out->len);

		if (n == -EAGAIN || n == -EINTR || n == 0)
			return;
		if (n < 0) {
			ws->eof = true;
			ws->broken = (int)-n;
			return;
		}
		g_byte_array_remove_range(ws->out, 0, (guint)n);
	}
}

/* ---- wslay's view of the connection ---- */

static ssize_t on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *data)
{
	Ws *ws = data;
	size_t n = 0;

	(void)flags;
	ws->more = ws->arrived_len >= ARRIVED_MAX;
	if (!ws->more && ws->in->len > 0) {
		n = MIN(len, ws->in->len);
		memcpy(buf, ws->in->data, n);
		g_byte_array_remove_range(ws->in, 0, (guint)n);
	} else if (!ws->more) {
		n = receive(ws, buf, len);
	}
	if (n > 0)
		return (ssize_t)n;
	wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
	return -1;
}

static ssize_t on_send(wslay_event_context_ptr ctx, const uint8_t *buf, size_t len, int flags, void *data)
{
	Ws *ws = data;

	(void)flags;
	if (ws->out->len >= STAGE_MAX) {
		wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
		return -1;
	}
	g_byte_array_append(ws->out, buf, (guint)len);
	return (ssize_t)len;
}

static int on_mask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *data)
{
	(void)ctx, (void)data;
	random_bytes(buf, len);
	return 0;
}

static void on_goodbye(Ws *ws, const struct wslay_event_on_msg_recv_arg *msg)
{
	/* Behind two bytes of code. */
	size_t len = msg->msg_length > 2 ? MIN(msg->msg_length - 2, (size_t)REASON_MAX) : 0;

	if (len > 0)
		memcpy(ws->reason, msg->msg + 2, len);
	ws->reason[len] = '\0';
}

static void on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *msg, void *data)
{
	Ws *ws = data;
	struct ws_message *m;

	(void)ctx;
	if (msg->opcode == WSLAY_CONNECTION_CLOSE)
		on_goodbye(ws, msg);
	if (wslay_is_ctrl_frame(msg->opcode))
		return;
	m = g_malloc(sizeof *m + msg->msg_length + 1);
	m->text = msg->opcode == WSLAY_TEXT_FRAME;
	m->len = msg->msg_length;
	if (m->len > 0)
		memcpy(m->data, msg->msg, m->len);
	m->data[m->len] = '\0';
	g_queue_push_tail(&ws->arrived, m);
	ws->arrived_len += m->len;
}

/* ---- connecting ---- */

static bool fail_broken(int errnum, GError **err)
{
	return fail_advice(err, ERR_UNAVAILABLE, "See whether the daemon runs, and whether you may use it.",
			   "can't reach the daemon: %s", g_strerror(errnum));
}

static bool fail_answer(GError **err, const char *what)
{
	return fail_advice(err, ERR_UNAVAILABLE, "See whether it is Plimsoll's daemon that listens there.",
			   "%s", what);
}

/* False when the time is over. */
static bool wait_for(Ws *ws, short events, uint64_t end, GError **err)
{
	struct pollfd p = { .fd = ws->connection.fd, .events = events };
	uint64_t now = time_monotonic();
	int r = 0;

	if (now < end)
		r = poll(&p, 1, (int)MIN((end - now) / 1000 + 1, (uint64_t)INT32_MAX));
	if (r > 0 || (r < 0 && errno == EINTR))
		return true;
	return fail_advice(err, ERR_TIMEOUT, "Try again, or look into the daemon's log.",
			   "the daemon did not answer in time");
}

static char *new_key(void)
{
	uint8_t nonce[16];

	random_bytes(nonce, sizeof nonce);
	return g_base64_encode(nonce, sizeof nonce);
}

static char *accept_of_key(const char *key)
{
	g_autofree char *text = g_strconcat(key, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", NULL);
	g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA1);
	uint8_t digest[20];
	gsize len = sizeof digest;

	g_checksum_update(sum, (const guchar *)text, -1);
	g_checksum_get_digest(sum, digest, &len);
	return g_base64_encode(digest, len);
}

static void queue_request(Ws *ws, const char *host, const char *path, const char *key,
			  const char *const *headers)
{
	GString *s = g_string_new(NULL);

	g_string_append_printf(s,
			       "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
			       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n",
			       path, host, key);
	for (; headers != NULL && *headers != NULL; headers++)
		g_string_append_printf(s, "%s\r\n", *headers);
	g_string_append(s, "\r\n");
	g_byte_array_append(ws->out, (const uint8_t *)s->str, (guint)s->len);
	g_string_free(s, TRUE);
}

/* Reads once into `in`. False at the end, when it is broken, and when the time is over. */
static bool read_more(Ws *ws, size_t max, uint64_t end, GError **err)
{
	g_autofree uint8_t *buf = g_malloc(PIECE);
	size_t n;

	if (ws->in->len >= max)
		return fail_answer(err, "the server's answer is too long");
	n = receive(ws, buf, MIN((size_t)PIECE, max - ws->in->len));
	g_byte_array_append(ws->in, buf, (guint)n);
	if (n > 0)
		return true;
	if (ws->broken != 0)
		return fail_broken(ws->broken, err);
	if (ws->eof)
		return fail_answer(err, "the server closed the connection");
	return wait_for(ws, POLLIN, end, err);
}

/* The head of the answer as a string, taken from `in`. */
static char *read_head(Ws *ws, uint64_t end, GError **err)
{
	const uint8_t *mark = NULL;
	char *head;
	size_t len;

	while (mark == NULL) {
		if (!read_more(ws, HEAD_MAX, end, err))
			return NULL;
		if (ws->in->len > 0)
			mark = memmem(ws->in->data, ws->in->len, "\r\n\r\n", 4);
	}
	len = (size_t)(mark - ws->in->data) + 4;
	head = g_strndup((const char *)ws->in->data, len);
	g_byte_array_remove_range(ws->in, 0, (guint)len);
	return head;
}

/* The server's own words, when it gave any that can be read. */
static bool fail_refused(Ws *ws, const char *head, uint64_t end, GError **err)
{
	g_autofree char *length = answer_header(head, "Content-Length"), *text = NULL;
	_cleanup_json_ Json *body = NULL;
	uint64_t len = 0;

	if (length == NULL || !parse_uint(length, 0, ERROR_MAX, &len, NULL))
		len = 0;
	while (ws->in->len < len && read_more(ws, (size_t)len, end, NULL))
		;
	if (len > 0 && ws->in->len >= len)
		body = json_parse((const char *)ws->in->data, (size_t)len, NULL);
	if (body != NULL && json_str(body, "code") != NULL) {
		g_propagate_error(err, err_of_json(body));
		return false;
	}
	text = g_strdup_printf("the server refuses a WebSocket: %.*s", (int)strcspn(head, "\r\n"), head);
	return fail_answer(err, text);
}

static bool send_request(Ws *ws, const char *host, const char *path, const char *key,
			 const char *const *headers, uint64_t end, GError **err)
{
	queue_request(ws, host, path, key, headers);
	for (flush(ws); ws->out->len > 0; flush(ws)) {
		if (ws->broken != 0)
			return fail_broken(ws->broken, err);
		if (!wait_for(ws, POLLOUT, end, err))
			return false;
	}
	return true;
}

static bool handshake(Ws *ws, const char *host, const char *path, const char *const *headers, uint64_t end,
		      GError **err)
{
	g_autofree char *key = new_key(), *expected = accept_of_key(key), *head = NULL, *accepted = NULL;

	if (!send_request(ws, host, path, key, headers, end, err))
		return false;
	head = read_head(ws, end, err);
	if (head == NULL)
		return false;
	if (!g_str_has_prefix(head, "HTTP/1.1 101 "))
		return fail_refused(ws, head, end, err);
	accepted = answer_header(head, "Sec-WebSocket-Accept");
	if (g_strcmp0(accepted, expected) != 0)
		return fail_answer(err, "the server does not understand WebSockets");
	return true;
}

Ws *ws_connect(const struct ws_connection *c, const char *host, const char *path, const char *const *headers,
	       uint64_t timeout, GError **err)
{
	static const struct wslay_event_callbacks cb = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.genmask_callback = on_mask,
		.on_msg_recv_callback = on_message,
	};
	g_autoptr(Ws) ws = g_new0(Ws, 1);
	uint64_t end = time_monotonic() + timeout;

	ws->connection = *c;
	ws->in = g_byte_array_new();
	ws->out = g_byte_array_new();
	g_queue_init(&ws->arrived);
	if (!handshake(ws, host, path, headers, end, err))
		return NULL;
	if (wslay_event_context_client_init(&ws->wslay, &cb, ws) != 0)
		g_error("out of memory for a WebSocket"); /* as GLib does */
	wslay_event_config_set_max_recv_msg_length(ws->wslay, MESSAGE_MAX);
	ws->more = ws->in->len > 0;
	return g_steal_pointer(&ws);
}

static ssize_t socket_recv(void *data, void *buf, size_t len)
{
	ssize_t n = recv(GPOINTER_TO_INT(data), buf, len, 0);

	return n < 0 ? -errno : n;
}

static ssize_t socket_send(void *data, const void *buf, size_t len)
{
	ssize_t n = send(GPOINTER_TO_INT(data), buf, len, MSG_NOSIGNAL);

	return n < 0 ? -errno : n;
}

static void socket_close(void *data)
{
	close(GPOINTER_TO_INT(data));
}

Ws *ws_connect_unix(const char *socket, const char *path, const char *const *headers, uint64_t timeout,
		    GError **err)
{
	g_autoptr(GError) e = NULL;
	int fd = socket_connect(socket, &e);
	const struct ws_connection c = {
		.fd = fd,
		.data = GINT_TO_POINTER(fd),
		.recv = socket_recv,
		.send = socket_send,
		.close = socket_close,
	};

	if (fd >= 0)
		return ws_connect(&c, "localhost", path, headers, timeout, err);
	fail_advice(err, err_code(e), "See whether the daemon runs, and whether you may use it.",
		    "can't reach the daemon: %s", e->message);
	return NULL;
}

Ws *ws_free(Ws *ws)
{
	if (ws == NULL)
		return NULL;
	if (ws->wslay != NULL)
		wslay_event_context_free(ws->wslay);
	g_queue_clear_full(&ws->arrived, g_free);
	g_byte_array_unref(ws->in);
	g_byte_array_unref(ws->out);
	ws->connection.close(ws->connection.data);
	g_free(ws->goodbye);
	g_free(ws);
	return NULL;
}

/* ---- the conversation ---- */

int ws_fd(const Ws *ws)
{
	return ws->connection.fd;
}

short ws_events(const Ws *ws)
{
	bool out = ws->out->len > 0 || ws->goodbye != NULL || wslay_event_want_write(ws->wslay);

	/* A socket can nearly always be written to: poll() returns at once when there is more to read here.
	 */
	return (short)(POLLIN | (out || ws->more ? POLLOUT : 0));
}

/* wslay would put it before the messages that wait, which then would never be sent. */
static void say_goodbye(Ws *ws)
{
	if (ws->goodbye == NULL || wslay_event_get_queued_msg_count(ws->wslay) > 0)
		return;
	wslay_event_queue_close(ws->wslay, (uint16_t)ws->goodbye_code, (const uint8_t *)ws->goodbye,
				strlen(ws->goodbye));
	g_clear_pointer(&ws->goodbye, g_free);
}

static bool write_some(Ws *ws)
{
	if (ws->out->len > 0 || ws->eof)
		return false;
	say_goodbye(ws);
	if (!wslay_event_want_write(ws->wslay))
		return false;
	if (wslay_event_send(ws->wslay) != 0)
		ws->eof = true;
	flush(ws);
	return true;
}

bool ws_service(Ws *ws, GError **err)
{
	ws->more = false;
	if (wslay_event_want_read(ws->wslay) && wslay_event_recv(ws->wslay) != 0)
		ws->eof = true;
	flush(ws);
	while (write_some(ws))
		;
	/* A server that has said goodbye may close as it likes. */
	if (ws->broken == 0 || wslay_event_get_close_received(ws->wslay))
		return true;
	return fail_broken(ws->broken, err);
}

struct ws_message *ws_next(Ws *ws)
{
	struct ws_message *m = g_queue_pop_head(&ws->arrived);

	if (m != NULL)
		ws->arrived_len -= m->len;
	return m;
}

bool ws_send(Ws *ws, bool text, const void *buf, size_t len)
{
	const struct wslay_event_msg msg = { .opcode = text ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME,
					     .msg = buf,
					     .msg_length = len };

	return ws->goodbye == NULL && wslay_event_queue_msg(ws->wslay, &msg) == 0;
}

size_t ws_queued(const Ws *ws)
{
	return wslay_event_get_queued_msg_length(ws->wslay) + ws->out->len;
}

void ws_close(Ws *ws, unsigned code, const char *reason)
{
	if (ws->goodbye != NULL)
		return;
	ws->goodbye = g_strndup(reason != NULL ? reason : "", REASON_MAX);
	ws->goodbye_code = code;
}

bool ws_closed(const Ws *ws, unsigned *ret_code, const char **ret_reason)
{
	bool said = wslay_event_get_close_received(ws->wslay);
	bool answered = said && !wslay_event_want_write(ws->wslay) && ws->out->len == 0;

	/* What was sent before the goodbye is taken first. */
	if (ws->arrived.length > 0 || !(ws->eof || answered))
		return false;
	if (ret_code != NULL)
		*ret_code = said ? wslay_event_get_status_code_received(ws->wslay) : 1006;
	if (ret_reason != NULL)
		*ret_reason = ws->reason;
	return true;
}
