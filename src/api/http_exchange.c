/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One request on a connection, in the order in which it happens: its head, its
 * body, its handler, and what comes after its answer.
 */
#include "api/http-impl.h"

#include <string.h>

/* What is kept in memory is bounded, whatever a route says. */
#define BODY_KEPT_MAX (UINT64_C(256) << 20)

/* Answers the client with an error and closes. A handler that took part of the body hears that it ends here.
 */
static void refuse(HttpConn *c, unsigned status, GError *e)
{
	HttpRequest *req = g_steal_pointer(&c->req);

	respond_refusal(c, status, e);
	g_error_free(e);
	if (req != NULL) {
		request_close(req);
		http_request_unref(req);
	}
}

static void refuse_advice(HttpConn *c, unsigned status, ErrCode code, const char *advice, const char *message)
{
	GError *e = NULL;

	fail_advice(&e, code, advice, "%s", message);
	refuse(c, status, e);
}

void exchange_timeout(HttpConn *c)
{
	refuse_advice(c, 408, ERR_TIMEOUT, "Send the request without long breaks.",
		      "the request did not arrive in time");
}

/* ---- the handler ---- */

static bool dispatch(HttpConn *c)
{
	HttpRequest *req = http_request_ref(c->req);

	conn_set_state(c, CONN_ANSWER);
	req->handled = true;
	c->server->cfg.handle(req, c->server->cfg.data);
	request_check_abandoned(req, 2);
	request_drop(req);
	return true;
}

/* ---- the body ---- */

/* False when the body is refused, or nobody wants more of it now. */
static bool deliver(HttpConn *c, const uint8_t *buf, size_t len)
{
	HttpRequest *req = c->req;

	c->body_got += len;
	if (c->body_got > req->body_max) {
		refuse_advice(c, 413, ERR_LIMIT, "Send less.",
			      "the body is larger than what is accepted here");
		return false;
	}
	if (req->on_body == NULL) {
		g_byte_array_append(req->body, buf, (guint)len);
		return true;
	}
	c->body_paused = !req->on_body(req, buf, len, req->on_body_data);
	return !c->body_paused;
}

static bool step_plain_body(HttpConn *c)
{
	size_t n = (size_t)MIN((uint64_t)c->in->len, c->body_left);

	if (c->body_left == 0)
		return dispatch(c);
	if (n == 0)
		return false;
	c->body_left -= n;
	deliver(c, c->in->data, n);
	conn_used(c, n);
	return c->state != CONN_BODY || !c->body_paused;
}

static bool step_chunked_body(HttpConn *c)
{
	const uint8_t *data;
	size_t used, len;

	switch (http_chunks_step(&c->chunks, c->in->data, c->in->len, &used, &data, &len)) {
	case HTTP_CHUNK_DATA:
		deliver(c, data, len);
		conn_used(c, used);
		return c->state != CONN_BODY || !c->body_paused;
	case HTTP_CHUNK_END:
		conn_used(c, used);
		return dispatch(c);
	case HTTP_CHUNK_MORE:
		conn_used(c, used);
		return false;
	case HTTP_CHUNK_BAD:
		refuse_advice(c, 400, ERR_INVALID, "Send chunks that follow HTTP/1.1 (RFC 9112).",
			      "the chunks of the body are malformed");
		return true;
	}
	g_assert_not_reached();
}

static bool step_body(HttpConn *c)
{
	if (c->body_paused)
		return false;
	return c->req->head.chunked ? step_chunked_body(c) : step_plain_body(c);
}

static bool has_body(const HttpRequest *req)
{
	return req->head.chunked || req->head.length > 0;
}

/* ---- the head ---- */

static bool begin(HttpConn *c, struct http_head *head)
{
	static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	HttpRequest *req = c->req = request_new(c, head);

	c->served++;
	c->keep_alive = req->head.keep_alive;
	c->body_left = req->head.length;
	c->body_got = c->body_mark = 0;
	c->body_paused = false;
	c->chunks = (struct http_chunks){ 0 };
	conn_set_state(c, CONN_BODY);
	if (req->head.foreign) {
		refuse_advice(c, 403, ERR_DENIED, "Use the page that this server itself serves.",
			      "the request comes from a web page of another origin");
		return true;
	}
	if (c->server->cfg.begin != NULL) {
		req->in_begin = true;
		c->server->cfg.begin(req, c->server->cfg.data);
		if (c->state != CONN_BODY)
			return true;
		req->in_begin = false;
	}
	if (req->on_body == NULL)
		req->body_max = MIN(req->body_max, BODY_KEPT_MAX);
	if (req->head.length > req->body_max)
		refuse_advice(c, 413, ERR_LIMIT, "Send less.",
			      "the body is larger than what is accepted here");
	else if (req->head.expect_continue && has_body(req) && c->in->len == 0)
		conn_queue(c, g_bytes_new_static(go_on, sizeof go_on - 1));
	return true;
}

static bool incomplete_head(HttpConn *c)
{
	if (c->in->len >= c->server->cfg.head_max) {
		refuse_advice(c, 431, ERR_LIMIT, "Send fewer or shorter headers.",
			      "the head of the request is too long");
		return true;
	}
	c->searched = c->in->len;
	return false;
}

static bool step_head(HttpConn *c)
{
	struct http_head head;
	GError *e = NULL;
	unsigned status;
	ssize_t n;

	/* RFC 9112, 2.2: an empty line before a request is forgiven. */
	while (c->in->len >= 2 && memcmp(c->in->data, "\r\n", 2) == 0)
		conn_used(c, 2);
	n = http_head_end(c->in->data, c->in->len, c->searched);
	if (n == 0)
		return incomplete_head(c);
	if (n < 0) {
		refuse_advice(c, 400, ERR_INVALID, "Send a request that follows HTTP/1.1 (RFC 9112).",
			      "a line does not end in CRLF");
		return true;
	}
	status = http_head_parse(c->in->data, (size_t)n, &head, &e);
	conn_used(c, (size_t)n);
	if (status == 0)
		return begin(c, &head);
	refuse(c, status, e);
	return true;
}

bool exchange_step(HttpConn *c)
{
	return c->state == CONN_HEAD ? step_head(c) : step_body(c);
}

/* ---- afterwards ---- */

void exchange_release(HttpConn *c)
{
	HttpRequest *req = g_steal_pointer(&c->req);

	c->answered = false;
	if (req != NULL) {
		request_close(req);
		http_request_unref(req);
	}
}

void exchange_next(HttpConn *c)
{
	exchange_release(c);
	conn_set_state(c, c->keep_alive ? CONN_HEAD : CONN_FLUSH);
	listener_look(c->listener);
}
