/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http-impl.h"

#include <string.h>

/* ---- life ---- */

static void copy_peer(struct http_peer *to, const struct http_peer *from)
{
	*to = *from;
	to->groups = g_memdup2(from->groups, from->n_groups * sizeof *from->groups);
	to->address = g_strdup(from->address);
	to->cert_cn = g_strdup(from->cert_cn);
	to->cert_sha256 = g_strdup(from->cert_sha256);
}

HttpRequest *request_new(HttpConn *c, struct http_head *head)
{
	HttpRequest *req = g_new0(HttpRequest, 1);

	req->refs = 1;
	req->loop = c->server->loop;
	req->conn = c;
	req->head = *head;
	req->head_only = g_str_equal(head->method, "HEAD");
	req->body = g_byte_array_new();
	req->body_max = c->server->cfg.body_max;
	copy_peer(&req->peer, &c->peer);
	return req;
}

static void request_free(HttpRequest *req)
{
	http_head_clear(&req->head);
	g_byte_array_unref(req->body);
	if (req->headers != NULL)
		g_string_free(req->headers, TRUE);
	g_free(req->peer.groups);
	g_free(req->peer.address);
	g_free(req->peer.cert_cn);
	g_free(req->peer.cert_sha256);
	g_free(req);
}

HttpRequest *http_request_ref(HttpRequest *req)
{
	g_atomic_int_inc(&req->refs);
	return req;
}

void request_drop(HttpRequest *req)
{
	if (g_atomic_int_dec_and_test(&req->refs))
		request_free(req);
}

void request_check_abandoned(HttpRequest *req, gint refs_left)
{
	g_autoptr(GError) e = NULL;

	if (!req->handled || http_request_closed(req) || g_atomic_int_get(&req->refs) > refs_left)
		return;
	fail_advice(&e, ERR_INTERNAL, "Report this as an error in Plimsoll.", "nobody answered the request");
	http_respond_error(req, e);
}

/* One reference is the connection's, the other is the one that is given up. */
static void give_up(void *data)
{
	HttpRequest *req = data;

	request_check_abandoned(req, 2);
	request_drop(req);
}

void http_request_unref(HttpRequest *req)
{
	if (req == NULL)
		return;
	/* It may be the last one who could answer; only the loop's thread can tell. */
	if (g_atomic_int_get(&req->answered) == 0)
		loop_post(req->loop, give_up, req);
	else
		request_drop(req);
}

void request_close(HttpRequest *req)
{
	bool open = g_atomic_int_compare_and_exchange(&req->answered, 0, 1);

	req->conn = NULL;
	if (open && req->on_close != NULL)
		req->on_close(req, req->on_close_data);
}

void http_request_set_data(HttpRequest *req, void *data)
{
	req->data = data;
}

void *http_request_data(const HttpRequest *req)
{
	return req->data;
}

bool http_request_closed(const HttpRequest *req)
{
	return g_atomic_int_get(&req->answered) != 0;
}

void http_request_on_close(HttpRequest *req, void (*func)(HttpRequest *req, void *data), void *data)
{
	req->on_close = func;
	req->on_close_data = data;
}

/* ---- what was asked ---- */

const struct http_peer *http_request_peer(const HttpRequest *req)
{
	return &req->peer;
}

bool http_peer_in_group(const struct http_peer *p, gid_t gid)
{
	if (p->kind != HTTP_PEER_UNIX)
		return false;
	for (size_t i = 0; i < p->n_groups; i++)
		if (p->groups[i] == gid)
			return true;
	return p->gid == gid;
}

const char *http_request_method(const HttpRequest *req)
{
	return req->head.method;
}

const char *http_request_path(const HttpRequest *req)
{
	return req->head.path;
}

const char *const *http_request_segments(const HttpRequest *req)
{
	return (const char *const *)req->head.segment;
}

bool http_request_query_at(const HttpRequest *req, size_t i, const char **ret_name, const char **ret_value)
{
	if (i >= req->head.n_query)
		return false;
	*ret_name = req->head.query[i].name;
	*ret_value = req->head.query[i].value;
	return true;
}

const char *http_request_query(const HttpRequest *req, const char *name)
{
	for (size_t i = 0; i < req->head.n_query; i++)
		if (g_str_equal(req->head.query[i].name, name))
			return req->head.query[i].value;
	return NULL;
}

const char *http_request_header(const HttpRequest *req, const char *name)
{
	g_autofree char *lower = g_ascii_strdown(name, -1);

	return http_head_get(&req->head, lower);
}

const char *http_request_body(const HttpRequest *req, size_t *ret_len)
{
	/* A NUL behind the end, which every text parser may rely on. */
	g_byte_array_append(req->body, (const uint8_t *)"", 1);
	g_byte_array_set_size(req->body, req->body->len - 1);
	*ret_len = req->body->len;
	return (const char *)req->body->data;
}

/* ---- the body in pieces ---- */

void http_request_set_body_max(HttpRequest *req, uint64_t max)
{
	g_assert(req->in_begin);
	req->body_max = max;
}

void http_request_body_stream(HttpRequest *req,
			      bool (*func)(HttpRequest *req, const uint8_t *buf, size_t len, void *data),
			      void *data)
{
	g_assert(req->in_begin);
	req->on_body = func;
	req->on_body_data = data;
}

void http_request_body_resume(HttpRequest *req)
{
	HttpConn *c = req->conn;

	if (c == NULL || !c->body_paused)
		return;
	conn_enter(c);
	c->body_paused = false;
	c->since = loop_now(c->server->loop); /* the wait was ours, not the client's */
	c->body_mark = c->body_got;
	conn_leave(c);
}
