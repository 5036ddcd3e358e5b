/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/ws.h"
#include "base/json.h"
#include "base/str.h"
#include "base/time.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
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
	CURL *curl;
	int fd;
	wslay_event_context_ptr wslay;
	GByteArray *in; /* came with the answer to the handshake */
	GByteArray *out;
	GQueue arrived; /* struct ws_message */
	size_t arrived_len;
	bool more; /* there may be more to read, of which poll() does not know */
	bool eof;
	CURLcode broken;
	char reason[REASON_MAX + 1];
};

/* ---- bytes ---- */

/* 0: nothing now. The end, and that the connection is broken, are noted. */
static size_t receive(Ws *ws, uint8_t *buf, size_t len)
{
	size_t n = 0;
	CURLcode r;

	if (ws->eof)
		return 0;
	r = curl_easy_recv(ws->curl, buf, len, &n);
	if (r == CURLE_AGAIN)
		return 0;
	ws->eof = r != CURLE_OK || n == 0;
	if (r != CURLE_OK)
		ws->broken = r;
	return n;
}

static void flush(Ws *ws)
{
	while (ws->out->len > 0 && !ws->eof) {
		size_t n = 0;
		CURLcode r = curl_easy_send(ws->curl, ws->out->data, ws->out->len, &n);

		if (r == CURLE_AGAIN || (r == CURLE_OK && n == 0))
			return;
		if (r != CURLE_OK) {
			ws->eof = true;
			ws->broken = r;
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

static bool fail_curl(CURLcode r, GError **err)
{
	return fail_advice(err, r == CURLE_OPERATION_TIMEDOUT ? ERR_TIMEOUT : ERR_UNAVAILABLE,
			   "See whether the daemon runs, and whether you may use it.",
			   "can't reach the daemon: %s", curl_easy_strerror(r));
}

static bool fail_answer(GError **err, const char *what)
{
	return fail_advice(err, ERR_UNAVAILABLE, "See whether it is Plimsoll's daemon that listens there.",
			   "%s", what);
}

/* False when the time is over. */
static bool wait_for(Ws *ws, short events, uint64_t end, GError **err)
{
	struct pollfd p = { .fd = ws->fd, .events = events };
	uint64_t now = time_monotonic();
	int r = 0;

	if (now < end)
		r = poll(&p, 1, (int)MIN((end - now) / 1000 + 1, (uint64_t)INT32_MAX));
	if (r > 0 || (r < 0 && errno == EINTR))
		return true;
	return fail_advice(err, ERR_TIMEOUT, "Try again, or look into the daemon's log.",
			   "the daemon did not answer in time");
}

static bool open_connection(Ws *ws, uint64_t timeout, GError **err)
{
	curl_socket_t fd = CURL_SOCKET_BAD;
	CURLcode r;

	curl_easy_setopt(ws->curl, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(ws->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(ws->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)MAX(timeout / 1000, 1));
	curl_easy_setopt(ws->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	r = curl_easy_perform(ws->curl);
	if (r == CURLE_OK)
		r = curl_easy_getinfo(ws->curl, CURLINFO_ACTIVESOCKET, &fd);
	if (r != CURLE_OK || fd == CURL_SOCKET_BAD)
		return fail_curl(r, err);
	ws->fd = fd;
	return true;
}

/* "host:port" as the URL has it. */
static char *host_of(CURL *curl)
{
	char *host = NULL, *port = NULL, *url = NULL, *ret;
	CURLU *u = curl_url();

	if (curl_easy_getinfo(curl, CURLINFO_EFFECTIVE_URL, &url) == CURLE_OK && url != NULL &&
	    curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK)
		curl_url_get(u, CURLUPART_HOST, &host, 0);
	if (host != NULL && curl_url_get(u, CURLUPART_PORT, &port, 0) == CURLUE_OK)
		ret = g_strdup_printf("%s:%s", host, port);
	else
		ret = g_strdup(host != NULL ? host : "localhost");
	curl_free(host);
	curl_free(port);
	curl_url_cleanup(u);
	return ret;
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

static void queue_request(Ws *ws, const char *path, const char *key, const char *const *headers)
{
	g_autofree char *host = host_of(ws->curl);
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
	if (ws->broken != CURLE_OK)
		return fail_curl(ws->broken, err);
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

/* The value of a header in a head, or NULL. Caller frees. */
static char *header_of(const char *head, const char *name)
{
	size_t len = strlen(name);

	for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
		line += 2;
		if (g_ascii_strncasecmp(line, name, len) == 0 && line[len] == ':')
			return g_strstrip(g_strndup(line + len + 1, strcspn(line + len + 1, "\r\n")));
	}
	return NULL;
}

/* The server's own words, when it gave any that can be read. */
static bool fail_refused(Ws *ws, const char *head, uint64_t end, GError **err)
{
	g_autofree char *length = header_of(head, "Content-Length"), *text = NULL;
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

static bool send_request(Ws *ws, const char *path, const char *key, const char *const *headers, uint64_t end,
			 GError **err)
{
	queue_request(ws, path, key, headers);
	for (flush(ws); ws->out->len > 0; flush(ws)) {
		if (ws->broken != CURLE_OK)
			return fail_curl(ws->broken, err);
		if (!wait_for(ws, POLLOUT, end, err))
			return false;
	}
	return true;
}

static bool handshake(Ws *ws, const char *path, const char *const *headers, uint64_t end, GError **err)
{
	g_autofree char *key = new_key(), *expected = accept_of_key(key), *head = NULL, *accepted = NULL;

	if (!send_request(ws, path, key, headers, end, err))
		return false;
	head = read_head(ws, end, err);
	if (head == NULL)
		return false;
	if (!g_str_has_prefix(head, "HTTP/1.1 101 "))
		return fail_refused(ws, head, end, err);
	accepted = header_of(head, "Sec-WebSocket-Accept");
	if (g_strcmp0(accepted, expected) != 0)
		return fail_answer(err, "the server does not understand WebSockets");
	return true;
}

Ws *ws_connect(CURL *curl, const char *path, const char *const *headers, uint64_t timeout, GError **err)
{
	static const struct wslay_event_callbacks cb = {
		.recv_callback = on_recv,
		.send_callback = on_send,
		.genmask_callback = on_mask,
		.on_msg_recv_callback = on_message,
	};
	g_autoptr(Ws) ws = g_new0(Ws, 1);
	uint64_t end = time_monotonic() + timeout;

	ws->curl = curl;
	ws->fd = -EBADF;
	ws->in = g_byte_array_new();
	ws->out = g_byte_array_new();
	g_queue_init(&ws->arrived);
	if (!open_connection(ws, timeout, err) || !handshake(ws, path, headers, end, err))
		return NULL;
	if (wslay_event_context_client_init(&ws->wslay, &cb, ws) != 0)
		g_error("out of memory for a WebSocket"); /* as GLib does */
	wslay_event_config_set_max_recv_msg_length(ws->wslay, MESSAGE_MAX);
	ws->more = ws->in->len > 0;
	return g_steal_pointer(&ws);
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
	curl_easy_cleanup(ws->curl);
	g_free(ws);
	return NULL;
}

/* ---- the conversation ---- */

int ws_fd(const Ws *ws)
{
	return ws->fd;
}

short ws_events(const Ws *ws)
{
	bool out = ws->out->len > 0 || wslay_event_want_write(ws->wslay);

	/* A socket can nearly always be written to: poll() returns at once when there is more to read here.
	 */
	return (short)(POLLIN | (out || ws->more ? POLLOUT : 0));
}

static bool write_some(Ws *ws)
{
	if (ws->out->len > 0 || ws->eof || !wslay_event_want_write(ws->wslay))
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
	if (ws->broken == CURLE_OK || wslay_event_get_close_received(ws->wslay))
		return true;
	return fail_curl(ws->broken, err);
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

	return wslay_event_queue_msg(ws->wslay, &msg) == 0;
}

size_t ws_queued(const Ws *ws)
{
	return wslay_event_get_queued_msg_length(ws->wslay) + ws->out->len;
}

void ws_close(Ws *ws, unsigned code, const char *reason)
{
	size_t len = reason != NULL ? MIN(strlen(reason), (size_t)REASON_MAX) : 0;

	wslay_event_queue_close(ws->wslay, (uint16_t)code, (const uint8_t *)reason, len);
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
