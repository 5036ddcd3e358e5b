/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server for the tests of api/http.h: one route for each promise of the
 * header. Says "ready PORT" on stdout and runs until SIGTERM.
 */
#include "api/http.h"
#include "base/str.h"
#include "base/worker.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define PIECE (64 * 1024)

typedef struct App {
	Loop *loop;
	HttpServer *server;
	WorkerPool *pool;
	GPtrArray *subscribers;  /* HttpStream */
	GPtrArray *sockets;      /* HttpWs */
	HttpStream *held;        /* of /flood, which nobody ends */
	HttpRequest *unanswered; /* of /held, until /release */
	unsigned requests_closed, late, streams_closed, uploads_closed, ws_closed, ws_code;
} App;

static uint64_t query_uint(HttpRequest *req, const char *name, uint64_t dflt)
{
	const char *text = http_request_query(req, name);
	uint64_t n = dflt;

	if (text != NULL)
		parse_uint(text, 0, UINT64_MAX, &n, NULL);
	return n;
}

/* ---- who and what ---- */

static void get_whoami(App *a, HttpRequest *req)
{
	const struct http_peer *p = http_request_peer(req);
	Json *j = json_object(), *groups = json_array();

	(void)a;
	json_put_str(j, "kind", p->kind == HTTP_PEER_UNIX ? "unix" : "tls");
	json_put_int(j, "uid", p->uid);
	json_put_int(j, "gid", p->gid);
	json_put_int(j, "pid", p->pid);
	for (size_t i = 0; i < p->n_groups; i++)
		json_array_append_new(groups, json_integer(p->groups[i]));
	json_put(j, "groups", groups);
	json_put_bool(j, "in_group", http_peer_in_group(p, (gid_t)query_uint(req, "group", 0)));
	json_put_str(j, "address", p->address);
	json_put_str(j, "cn", p->cert_cn);
	json_put_str(j, "sha256", p->cert_sha256);
	http_respond_json(req, 200, j);
}

static void get_root_only(App *a, HttpRequest *req)
{
	g_autoptr(GError) e = NULL;

	(void)a;
	if (http_request_peer(req)->uid == 0) {
		http_respond_json(req, 200, json_object());
		return;
	}
	fail_advice(&e, ERR_DENIED, "Ask root.", "user %u may not do this",
		    (unsigned)http_request_peer(req)->uid);
	http_respond_error(req, e);
}

static void any_inspect(App *a, HttpRequest *req)
{
	Json *j = json_object(), *segments = json_array(), *query = json_array();
	const char *name, *value, *body;
	size_t len;

	(void)a;
	json_put_str(j, "method", http_request_method(req));
	json_put_str(j, "path", http_request_path(req));
	for (const char *const *s = http_request_segments(req); *s != NULL; s++)
		json_array_append_new(segments, json_string(*s));
	for (size_t i = 0; http_request_query_at(req, i, &name, &value); i++)
		json_array_append_new(query, json_pack("[ss]", name, value));
	json_put(j, "segments", segments);
	json_put(j, "query", query);
	json_put_str(j, "x", http_request_header(req, "X-Test"));
	body = http_request_body(req, &len);
	json_put_int(j, "length", (int64_t)len);
	g_assert(body[len] == '\0');
	json_put(j, "body", json_text_or_escaped(body));
	http_respond_header(req, "X-Answer", "a\r\nSet-Cookie: b");
	http_respond_json(req, 200, j);
}

/* 200 bytes: what is measured. */
static void get_fixed(App *a, HttpRequest *req)
{
	static char body[200];

	(void)a;
	memset(body, 'x', sizeof body);
	body[0] = body[199] = '"';
	http_respond(req, 200, "application/json", body, sizeof body);
}

static void get_stats(App *a, HttpRequest *req)
{
	http_respond_json(req, 200,
			  json_pack("{s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i,s:i}", "late", (int)a->late, "held",
				    (int)(a->unanswered != NULL), "connections",
				    (int)http_server_connections(a->server), "subscribers",
				    (int)a->subscribers->len, "requests_closed", (int)a->requests_closed,
				    "streams_closed", (int)a->streams_closed, "uploads_closed",
				    (int)a->uploads_closed, "ws", (int)a->sockets->len, "ws_closed",
				    (int)a->ws_closed, "ws_code", (int)a->ws_code));
}

/* ---- later ---- */

typedef struct Later {
	App *app;
	HttpRequest *req;
	LoopSource *timer;
} Later;

static void on_request_close(HttpRequest *req, void *data)
{
	App *a = data;

	g_assert(http_request_closed(req));
	a->requests_closed++;
}

static void on_later(void *data)
{
	Later *l = data;

	l->app->late += http_request_closed(l->req);
	http_respond_json(l->req, 200, json_pack("{s:s}", "answer", "later"));
	http_respond_json(l->req, 200, json_pack("{s:s}", "answer", "twice"));
	http_request_unref(l->req);
	loop_source_free(l->timer);
	g_free(l);
}

/* Answered when another request says so: whoever asked may be gone by then. */
static void get_held(App *a, HttpRequest *req)
{
	if (a->unanswered != NULL)
		http_request_unref(a->unanswered);
	a->unanswered = http_request_ref(req);
	http_request_on_close(req, on_request_close, a);
}

static void get_release(App *a, HttpRequest *req)
{
	if (a->unanswered != NULL) {
		a->late += http_request_closed(a->unanswered);
		http_respond_json(a->unanswered, 200, json_pack("{s:s}", "answer", "late"));
		http_respond_json(a->unanswered, 200, json_pack("{s:s}", "answer", "twice"));
		http_request_unref(g_steal_pointer(&a->unanswered));
	}
	http_respond_json(req, 200, json_object());
}

static void get_later(App *a, HttpRequest *req)
{
	Later *l = g_new0(Later, 1);

	l->app = a;
	l->req = http_request_ref(req);
	http_request_on_close(req, on_request_close, a);
	l->timer = loop_add_timer(a->loop, query_uint(req, "us", 1000), on_later, l);
}

static void work(void *data)
{
	http_post_json(data, 200, json_pack("{s:s}", "answer", "worker"));
}

static void get_worker(App *a, HttpRequest *req)
{
	worker_pool_push(a->pool, work, http_request_ref(req));
}

static void work_fail(void *data)
{
	g_autoptr(GError) e = NULL;

	fail_advice(&e, ERR_QEMU, "Look into the log.", "QEMU died");
	http_post_error(data, e);
}

static void get_worker_error(App *a, HttpRequest *req)
{
	worker_pool_push(a->pool, work_fail, http_request_ref(req));
}

static void work_forget(void *data)
{
	http_request_unref(data);
}

static void get_forgotten(App *a, HttpRequest *req)
{
	if (http_request_query(req, "worker") != NULL)
		worker_pool_push(a->pool, work_forget, http_request_ref(req));
}

/* ---- streams ---- */

static void on_subscriber_close(HttpStream *st, void *data)
{
	App *a = data;

	a->streams_closed++;
	g_ptr_array_remove_fast(a->subscribers, st);
	http_stream_end(st);
}

static void get_events(App *a, HttpRequest *req)
{
	static const struct http_stream_callbacks cb = { .on_close = on_subscriber_close };
	HttpStream *st = http_stream_start(req, 200, "text/event-stream", HTTP_LENGTH_UNKNOWN, &cb, a);

	if (st != NULL)
		g_ptr_array_add(a->subscribers, st);
}

static void post_publish(App *a, HttpRequest *req)
{
	g_autofree char *event = NULL;
	const char *body;
	unsigned sent = 0;
	size_t len;

	body = http_request_body(req, &len);
	event = g_strdup_printf("data: %s\n\n", body);
	for (guint i = 0; i < a->subscribers->len; i++)
		sent += http_stream_write(a->subscribers->pdata[i], event, strlen(event));
	http_respond_json(req, 200, json_pack("{s:i}", "sent", (int)sent));
}

typedef struct Download {
	uint64_t left;
	uint8_t next;
	bool abort;
} Download;

static void download_more(HttpStream *st, void *data)
{
	Download *d = data;
	uint8_t piece[PIECE];
	size_t n = (size_t)MIN(d->left, sizeof piece);

	for (size_t i = 0; i < n; i++)
		piece[i] = d->next++;
	d->left -= n;
	if (!http_stream_write(st, piece, n) || d->left > 0)
		return;
	if (d->abort)
		http_stream_abort(st);
	else
		http_stream_end(st);
	g_free(d);
}

static void download_lost(HttpStream *st, void *data)
{
	g_free(data);
	http_stream_end(st);
}

static void get_download(App *a, HttpRequest *req)
{
	static const struct http_stream_callbacks cb = { .on_drain = download_more,
							 .on_close = download_lost };
	uint64_t length = query_uint(req, "length", HTTP_LENGTH_UNKNOWN);
	Download *d = g_new0(Download, 1);
	HttpStream *st;

	(void)a;
	d->left = query_uint(req, "n", 0);
	d->abort = http_request_query(req, "abort") != NULL;
	st = http_stream_start(req, 200, "application/octet-stream", length, &cb, d);
	if (st == NULL)
		g_free(d);
	else
		download_more(st, d);
}

/* Writes more than a slow client takes: the answer says when it was dropped. */
static void on_flood_close(HttpStream *st, void *data)
{
	App *a = data;

	a->streams_closed++;
	a->held = NULL;
	http_stream_end(st);
}

static void get_flood(App *a, HttpRequest *req)
{
	static const struct http_stream_callbacks cb = { .on_close = on_flood_close };
	uint8_t piece[PIECE] = { 0 };

	a->held = http_stream_start(req, 200, "application/octet-stream", HTTP_LENGTH_UNKNOWN, &cb, a);
	while (a->held != NULL && http_stream_write(a->held, piece, sizeof piece))
		;
}

/* ---- uploads ---- */

typedef struct Upload {
	App *app;
	GChecksum *sum;
	uint64_t len;
	HttpRequest *req; /* while paused */
	LoopSource *timer;
} Upload;

static void upload_free(Upload *u)
{
	g_checksum_free(u->sum);
	loop_source_free(u->timer);
	g_free(u);
}

static void upload_resume(void *data)
{
	Upload *u = data;

	http_request_body_resume(u->req);
}

static bool upload_piece(HttpRequest *req, const uint8_t *buf, size_t len, void *data)
{
	Upload *u = data;

	g_checksum_update(u->sum, buf, (gssize)len);
	u->len += len;
	if (http_request_query(req, "pause") == NULL)
		return true;
	if (u->timer == NULL)
		u->timer = loop_add_timer(u->app->loop, 1000, upload_resume, u);
	else
		loop_timer_set(u->timer, 1000);
	return false;
}

static void upload_lost(HttpRequest *req, void *data)
{
	Upload *u = data;

	(void)req;
	u->app->uploads_closed++;
	upload_free(u);
}

static void begin_upload(App *a, HttpRequest *req)
{
	Upload *u = g_new0(Upload, 1);

	u->app = a;
	u->sum = g_checksum_new(G_CHECKSUM_SHA256);
	u->req = req;
	http_request_set_body_max(req, query_uint(req, "max", UINT64_C(1) << 30));
	http_request_body_stream(req, upload_piece, u);
	http_request_on_close(req, upload_lost, u);
	http_request_set_data(req, u);
}

static void post_upload(App *a, HttpRequest *req)
{
	Upload *u = http_request_data(req);

	(void)a;
	http_respond_json(
	    req, 200,
	    json_pack("{s:s,s:I}", "sha256", g_checksum_get_string(u->sum), "length", (json_int_t)u->len));
	upload_free(u);
}

/* Refused before anything of the body is sent. */
static void begin_forbidden(App *a, HttpRequest *req)
{
	g_autoptr(GError) e = NULL;

	(void)a;
	fail_advice(&e, ERR_DENIED, "Ask someone else.", "not here");
	http_respond_error(req, e);
}

/* ---- WebSockets ---- */

static void on_ws_message(HttpWs *ws, bool text, const uint8_t *buf, size_t len, void *data)
{
	(void)data;
	if (text && len == 5 && memcmp(buf, "close", 5) == 0)
		http_ws_close(ws, 4000, "as you said");
	else
		http_ws_send(ws, text, buf, len);
}

static void on_ws_close(HttpWs *ws, unsigned code, void *data)
{
	App *a = data;

	a->ws_closed++;
	a->ws_code = code;
	g_ptr_array_remove_fast(a->sockets, ws);
}

static void get_ws(App *a, HttpRequest *req)
{
	const struct http_ws_callbacks cb = { .on_message = on_ws_message,
					      .on_close = on_ws_close,
					      .protocol = "echo",
					      .message_max = (size_t)query_uint(req, "max", 0),
					      .ping_interval = query_uint(req, "ping_us", 0) };
	HttpWs *ws = http_ws_accept(req, &cb, a);

	if (ws != NULL)
		g_ptr_array_add(a->sockets, ws);
}

static void ws_more(HttpWs *ws, void *data)
{
	static const uint8_t piece[PIECE];

	(void)data;
	http_ws_send(ws, false, piece, sizeof piece);
}

/* Sends as fast as the client takes it. */
static void get_ws_pour(App *a, HttpRequest *req)
{
	static const struct http_ws_callbacks cb = { .on_message = on_ws_message,
						     .on_drain = ws_more,
						     .on_close = on_ws_close };
	HttpWs *ws = http_ws_accept(req, &cb, a);

	if (ws == NULL)
		return;
	g_ptr_array_add(a->sockets, ws);
	ws_more(ws, a);
}

static void get_ws_flood(App *a, HttpRequest *req)
{
	static const struct http_ws_callbacks cb = { .on_message = on_ws_message, .on_close = on_ws_close };
	static const uint8_t piece[PIECE];
	HttpWs *ws = http_ws_accept(req, &cb, a);

	if (ws == NULL)
		return;
	g_ptr_array_add(a->sockets, ws);
	while (http_ws_send(ws, false, piece, sizeof piece))
		;
}

/* ---- routes ---- */

static const struct {
	const char *path;
	void (*handle)(App *a, HttpRequest *req);
	void (*begin)(App *a, HttpRequest *req);
} routes[] = {
	{ "whoami", get_whoami, NULL },
	{ "root-only", get_root_only, NULL },
	{ "inspect", any_inspect, NULL },
	{ "fixed", get_fixed, NULL },
	{ "stats", get_stats, NULL },
	{ "later", get_later, NULL },
	{ "held", get_held, NULL },
	{ "release", get_release, NULL },
	{ "worker", get_worker, NULL },
	{ "worker-error", get_worker_error, NULL },
	{ "forgotten", get_forgotten, NULL },
	{ "events", get_events, NULL },
	{ "publish", post_publish, NULL },
	{ "download", get_download, NULL },
	{ "flood", get_flood, NULL },
	{ "upload", post_upload, begin_upload },
	{ "forbidden", NULL, begin_forbidden },
	{ "ws", get_ws, NULL },
	{ "ws-pour", get_ws_pour, NULL },
	{ "ws-flood", get_ws_flood, NULL },
};

static int find_route(HttpRequest *req)
{
	const char *first = http_request_segments(req)[0];

	for (size_t i = 0; i < G_N_ELEMENTS(routes); i++)
		if (g_str_equal(routes[i].path, first))
			return (int)i;
	return -1;
}

static void begin(HttpRequest *req, void *data)
{
	int i = find_route(req);

	if (i >= 0 && routes[i].begin != NULL)
		routes[i].begin(data, req);
}

static void handle(HttpRequest *req, void *data)
{
	g_autoptr(GError) e = NULL;
	int i = find_route(req);

	if (i >= 0) {
		routes[i].handle(data, req);
		return;
	}
	fail(&e, ERR_NOT_FOUND, "no '%s'", http_request_path(req));
	http_respond_error(req, e);
}

static void on_term(int signo, void *data)
{
	(void)signo;
	loop_quit(data, 0);
}

/* ---- main ---- */

static gint64 opt_connections, opt_head_us, opt_idle_us, opt_write_us, opt_queue;
static char *opt_unix, *opt_group, *opt_tls, *opt_cert, *opt_key, *opt_ca, *opt_client;

static const GOptionEntry options[] = {
	{ "unix", 0, 0, G_OPTION_ARG_FILENAME, &opt_unix, "path of the unix socket", NULL },
	{ "group", 0, 0, G_OPTION_ARG_STRING, &opt_group, "its group", NULL },
	{ "tls", 0, 0, G_OPTION_ARG_STRING, &opt_tls, "ADDRESS:PORT", NULL },
	{ "cert", 0, 0, G_OPTION_ARG_FILENAME, &opt_cert, "server certificate", NULL },
	{ "key", 0, 0, G_OPTION_ARG_FILENAME, &opt_key, "server key", NULL },
	{ "ca", 0, 0, G_OPTION_ARG_FILENAME, &opt_ca, "client CA", NULL },
	{ "client-cert", 0, 0, G_OPTION_ARG_STRING, &opt_client, "none, optional or required", NULL },
	{ "connections", 0, 0, G_OPTION_ARG_INT64, &opt_connections, "limit", NULL },
	{ "queue", 0, 0, G_OPTION_ARG_INT64, &opt_queue, "limit", NULL },
	{ "head-us", 0, 0, G_OPTION_ARG_INT64, &opt_head_us, "timeout", NULL },
	{ "idle-us", 0, 0, G_OPTION_ARG_INT64, &opt_idle_us, "timeout", NULL },
	{ "write-us", 0, 0, G_OPTION_ARG_INT64, &opt_write_us, "timeout", NULL },
	G_OPTION_ENTRY_NULL,
};

static HttpClientCert client_cert(void)
{
	if (opt_client == NULL || g_str_equal(opt_client, "none"))
		return HTTP_CLIENT_CERT_NONE;
	return g_str_equal(opt_client, "required") ? HTTP_CLIENT_CERT_REQUIRED : HTTP_CLIENT_CERT_OPTIONAL;
}

static bool serve(App *a, GError **err)
{
	const struct http_config cfg = {
		.unix_path = opt_unix,
		.unix_group = opt_group,
		.tls_address = opt_tls,
		.tls_cert = opt_cert,
		.tls_key = opt_key,
		.tls_client_ca = opt_ca,
		.tls_client_cert = client_cert(),
		.max_connections = (unsigned)opt_connections,
		.queue_max = (size_t)opt_queue,
		.head_timeout = (uint64_t)opt_head_us,
		.idle_timeout = (uint64_t)opt_idle_us,
		.write_timeout = (uint64_t)opt_write_us,
		.begin = begin,
		.handle = handle,
		.data = a,
	};
	g_autoptr(LoopSource) term = NULL;

	term = loop_add_signal(a->loop, SIGTERM, on_term, a->loop, err);
	if (term == NULL)
		return false;
	a->server = http_server_new(a->loop, &cfg, err);
	if (a->server == NULL)
		return false;
	printf("ready %u\n", http_server_tls_port(a->server));
	fflush(stdout);
	loop_run(a->loop);
	return true;
}

static void free_options(void)
{
	char **all[] = { &opt_unix, &opt_group, &opt_tls, &opt_cert, &opt_key, &opt_ca, &opt_client };

	for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
		g_clear_pointer(all[i], g_free);
}

int main(int argc, char **argv)
{
	g_autoptr(GOptionContext) oc = g_option_context_new(NULL);
	g_autoptr(GError) err = NULL;
	App a = { 0 };
	bool ok;

	g_option_context_add_main_entries(oc, options, NULL);
	if (!g_option_context_parse(oc, &argc, &argv, &err) || (a.loop = loop_new(&err)) == NULL) {
		fprintf(stderr, "%s\n", err->message);
		return 2;
	}
	a.pool = worker_pool_new(2);
	a.subscribers = g_ptr_array_new();
	a.sockets = g_ptr_array_new();
	ok = serve(&a, &err);
	if (!ok)
		fprintf(stderr, "%s: %s\n", err_name(err_code(err)), err->message);
	worker_pool_free(a.pool);
	http_server_free(a.server);
	g_ptr_array_unref(a.subscribers);
	g_ptr_array_unref(a.sockets);
	http_request_unref(a.unanswered);
	loop_free(a.loop);
	free_options();
	return ok ? 0 : 1;
}
