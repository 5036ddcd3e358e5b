/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http-impl.h"

#include <inttypes.h>
#include <string.h>

/* Up to this size head and body are sent in one piece. */
#define ONE_PIECE (16 * 1024)

// clang-format off
#define STATUS_TABLE(X)                      \
	X(101, "Switching Protocols")        \
	X(200, "OK")                         \
	X(201, "Created")                    \
	X(202, "Accepted")                   \
	X(204, "No Content")                 \
	X(206, "Partial Content")            \
	X(301, "Moved Permanently")          \
	X(302, "Found")                      \
	X(303, "See Other")                  \
	X(304, "Not Modified")               \
	X(307, "Temporary Redirect")         \
	X(308, "Permanent Redirect")         \
	X(400, "Bad Request")                \
	X(401, "Unauthorized")               \
	X(403, "Forbidden")                  \
	X(404, "Not Found")                  \
	X(405, "Method Not Allowed")         \
	X(406, "Not Acceptable")             \
	X(408, "Request Timeout")            \
	X(409, "Conflict")                   \
	X(410, "Gone")                       \
	X(411, "Length Required")            \
	X(412, "Precondition Failed")        \
	X(413, "Content Too Large")          \
	X(414, "URI Too Long")               \
	X(415, "Unsupported Media Type")     \
	X(416, "Range Not Satisfiable")      \
	X(417, "Expectation Failed")         \
	X(422, "Unprocessable Content")      \
	X(426, "Upgrade Required")           \
	X(428, "Precondition Required")      \
	X(429, "Too Many Requests")          \
	X(431, "Request Header Fields Too Large") \
	X(500, "Internal Server Error")      \
	X(501, "Not Implemented")            \
	X(502, "Bad Gateway")                \
	X(503, "Service Unavailable")        \
	X(504, "Gateway Timeout")            \
	X(505, "HTTP Version Not Supported") \
	X(507, "Insufficient Storage")
// clang-format on

static const char *reason(unsigned status)
{
	static const struct {
		unsigned status;
		const char *text;
	} table[] = {
#define X(s, t) { s, t },
		STATUS_TABLE(X)
#undef X
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++)
		if (table[i].status == status)
			return table[i].text;
	return "";
}

static bool bodyless(unsigned status)
{
	return status < 200 || status == 204 || status == 304;
}

/* ---- heads ---- */

GByteArray *respond_head(HttpConn *c, unsigned status, const char *content_type, uint64_t length,
			 const GString *extra)
{
	GString *s = g_string_sized_new(256);
	GByteArray *ret = g_byte_array_new();

	g_string_append_printf(s, "HTTP/1.1 %u %s\r\nDate: %s\r\n", status, reason(status),
			       server_date(c->server));
	if (content_type != NULL)
		g_string_append_printf(s, "Content-Type: %s\r\n", content_type);
	if (length != HTTP_LENGTH_UNKNOWN && !bodyless(status))
		g_string_append_printf(s, "Content-Length: %" PRIu64 "\r\n", length);
	if (extra != NULL)
		g_string_append_len(s, extra->str, (gssize)extra->len);
	if (!c->keep_alive && status >= 200)
		g_string_append(s, "Connection: close\r\n");
	g_string_append(s, "\r\n");
	g_byte_array_append(ret, (const uint8_t *)s->str, (guint)s->len);
	g_string_free(s, TRUE);
	return ret;
}

void http_respond_header(HttpRequest *req, const char *name, const char *value)
{
	g_autofree char *clean = g_strdup(value);

	for (char *p = clean; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = ' ';
	if (req->headers == NULL)
		req->headers = g_string_new(NULL);
	g_string_append_printf(req->headers, "%s: %s\r\n", name, clean);
}

/* ---- answers in one piece ---- */

bool request_claim(HttpRequest *req)
{
	HttpConn *c = req->conn;
	bool unread;

	if (c == NULL || !g_atomic_int_compare_and_exchange(&req->answered, 0, 1))
		return false;
	if (c->state == CONN_BODY) {
		unread = req->head.chunked ? c->chunks.state != CHUNKS_DONE : c->body_left > 0;
		if (unread)
			c->keep_alive = false; /* or the rest of the body would be taken for a request */
		conn_set_state(c, CONN_ANSWER);
	}
	return true;
}

static void send_answer(HttpConn *c, GByteArray *head, GBytes *body)
{
	size_t len = g_bytes_get_size(body);

	if (head->len + len <= ONE_PIECE) {
		g_byte_array_append(head, g_bytes_get_data(body, NULL), (guint)len);
		g_clear_pointer(&body, g_bytes_unref);
	}
	conn_queue(c, g_byte_array_free_to_bytes(head));
	if (body != NULL)
		conn_queue(c, body);
}

/* Takes `body`. */
static void respond_take(HttpRequest *req, unsigned status, const char *content_type, GBytes *body)
{
	HttpConn *c = req->conn;
	GByteArray *head;

	if (!request_claim(req)) {
		g_bytes_unref(body);
		return;
	}
	conn_enter(c);
	head = respond_head(c, status, content_type, g_bytes_get_size(body), req->headers);
	if (req->head_only || bodyless(status)) {
		g_bytes_unref(body);
		body = g_bytes_new(NULL, 0);
	}
	send_answer(c, head, body);
	c->answered = true;
	conn_leave(c);
}

void http_respond(HttpRequest *req, unsigned status, const char *content_type, const void *buf, size_t len)
{
	respond_take(req, status, content_type, g_bytes_new(buf, len));
}

static GBytes *bytes_of_json(Json *body)
{
	char *text = json_print(body);

	json_unref(body);
	return g_bytes_new_take(text, strlen(text));
}

void http_respond_json(HttpRequest *req, unsigned status, Json *body)
{
	respond_take(req, status, "application/json", bytes_of_json(body));
}

void http_respond_error(HttpRequest *req, const GError *e)
{
	http_respond_json(req, err_http_status(err_code(e)), err_to_json(e));
}

void respond_refusal(HttpConn *c, unsigned status, const GError *e)
{
	GBytes *body = bytes_of_json(err_to_json(e));

	c->keep_alive = false;
	send_answer(c, respond_head(c, status, "application/json", g_bytes_get_size(body), NULL), body);
	conn_set_state(c, CONN_FLUSH);
}

/* ---- from other threads ---- */

struct post {
	HttpRequest *req;
	unsigned status;
	Json *body;
};

static void run_post(void *data)
{
	struct post *p = data;

	http_respond_json(p->req, p->status, p->body);
	http_request_unref(p->req);
	g_free(p);
}

void http_post_json(HttpRequest *req, unsigned status, Json *body)
{
	struct post *p = g_new(struct post, 1);

	*p = (struct post){ .req = req, .status = status, .body = body };
	loop_post(req->loop, run_post, p);
}

void http_post_error(HttpRequest *req, const GError *e)
{
	http_post_json(req, err_http_status(err_code(e)), err_to_json(e));
}
