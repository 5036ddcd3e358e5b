/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api-impl.h"
#include "api/forward.h"
#include "api/named.h"
#include "api/route.h"
#include "api/web.h"
#include "base/fd.h"
#include "base/log.h"
#include "core/model/keys.h"
#include "engine/peer.h"
#include "engine/pki.h"
#include "engine/records.h"

#include <grp.h>
#include <inttypes.h>
#include <pwd.h>
#include <string.h>

/* Handlers may wait for disks and other hosts, so there are more threads than cores. */
#define API_THREADS 32
#define NO_GROUP ((gid_t)-1)

/* A call on its way through a worker. */
typedef struct Job {
	Api *api;
	HttpRequest *req;
	const Route *route;
	ApiCall call;
	GError *error;
	ConsoleTarget *console; /* of a WebSocket, or */
	int screen;             /* of another one, or -EBADF, or */
	Ws *far;                /* the same at another host's daemon */
	bool from_pool;         /* came to the pool's address: who it is must still be found out */
	char *as_role;          /* of whom a peer passes it on for, or NULL */
	int64_t revision;       /* of the records that a peer is answered from; 0: it is no peer */
} Job;

static void job_free(Job *j)
{
	j->api->jobs--;
	http_request_unref(j->req);
	g_clear_error(&j->error);
	console_target_free(j->console);
	fd_closep(&j->screen);
	ws_free(j->far);
	g_free(j->call.user);
	g_free(j->call.peer);
	g_free(j->as_role);
	g_hash_table_unref(j->call.path);
	g_hash_table_unref(j->call.query);
	g_free(j->call.if_match);
	json_unref(j->call.body);
	json_unref(j->call.answer);
	if (j->call.bytes != NULL)
		g_bytes_unref(j->call.bytes);
	g_free(j->call.location);
	g_free(j);
}

static Role role_of(const Api *a, const struct http_peer *p)
{
	if (p->kind == HTTP_PEER_TLS)
		return p->cert_cn != NULL ? ROLE_ADMIN : ROLE_NONE;
	if (p->uid == 0 || p->uid == getuid() || (a->group != NO_GROUP && http_peer_in_group(p, a->group)))
		return ROLE_ADMIN;
	return ROLE_NONE;
}

static Role role_of_name(const char *name)
{
	for (Role r = ROLE_VIEWER; r <= ROLE_ADMIN; r++)
		if (g_strcmp0(role_name(r), name) == 0)
			return r;
	return ROLE_NONE;
}

static char *user_of(const struct http_peer *p)
{
	char buf[4096];
	struct passwd pw, *found = NULL;

	if (p->kind == HTTP_PEER_TLS)
		return g_strdup(p->cert_cn);
	if (getpwuid_r(p->uid, &pw, buf, sizeof buf, &found) == 0 && found != NULL)
		return g_strdup(found->pw_name);
	return g_strdup_printf("uid %u", (unsigned)p->uid);
}

static void free_strv(gpointer p)
{
	g_strfreev(p);
}

static GHashTable *copy_query(const HttpRequest *req)
{
	GHashTable *q = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, free_strv);
	const char *name, *value;

	for (size_t i = 0; http_request_query_at(req, i, &name, &value); i++) {
		char **old = g_hash_table_lookup(q, name);
		guint n = old != NULL ? g_strv_length(old) : 0;
		char **all = g_new0(char *, n + 2);

		for (guint k = 0; k < n; k++)
			all[k] = g_strdup(old[k]);
		all[n] = g_strdup(value);
		g_hash_table_insert(q, g_strdup(name), all);
	}
	return q;
}

/* If-Match: "17" or 17 */
static char *copy_match(const HttpRequest *req)
{
	const char *text = http_request_header(req, "If-Match");
	char *match;

	if (text == NULL)
		return NULL;
	match = g_strdup(text);
	g_strdelimit(match, "\"", ' ');
	return g_strstrip(match);
}

static void send_answer(void *data)
{
	Job *j = data;
	ApiCall *c = &j->call;
	g_autofree char *revision = j->revision > 0 ? g_strdup_printf("%" PRId64, j->revision) : NULL;

	if (revision != NULL)
		http_respond_header(j->req, PEER_REVISION, revision);
	if (j->error != NULL) {
		http_respond_error(j->req, j->error);
	} else {
		g_autofree char *etag =
		    c->etag >= 0 ? g_strdup_printf("\"%" G_GINT64_FORMAT "\"", (gint64)c->etag) : NULL;

		if (etag != NULL)
			http_respond_header(j->req, "ETag", etag);
		if (c->location != NULL)
			http_respond_header(j->req, "Location", c->location);
		if (c->bytes != NULL)
			http_respond(j->req, c->status, c->content_type, g_bytes_get_data(c->bytes, NULL),
				     g_bytes_get_size(c->bytes));
		else
			http_respond(j->req, c->status, NULL, NULL, 0);
	}
	job_free(j);
}

static bool authorise(const Route *route, Role role, GError **err)
{
	if (route->role == ROLE_NONE)
		return true;
	if (role == ROLE_NONE)
		return fail_advice(err, ERR_DENIED,
				   "Become root, or have yourself put into the group plimsoll.",
				   "you may not use this daemon");
	if (role < route->role)
		return fail(err, ERR_DENIED, "this takes the role %s; you are %s", role_name(route->role),
			    role_name(role));
	return true;
}

/*
 * Its certificate says that this pool's authority once took it in; that it is
 * still a member is said by the records. For this the store is read, so it is
 * found out here and not on the loop.
 */
static bool admit_peer(Job *j, GError **err)
{
	ApiCall *c = &j->call;
	g_autofree char *key = c->peer != NULL ? key_host(c->peer) : NULL;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *host = key != NULL ? record_get(engine_store(c->engine), key, NULL, &e) : NULL;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (host == NULL && j->route->role == ROLE_NONE)
		return true;
	if (host == NULL)
		return fail_advice(err, ERR_DENIED, "Join the pool with a new token: `plim pool join`.",
				   "host '%s' is not a member of this pool",
				   c->peer != NULL ? c->peer : "without a certificate");
	c->role = j->as_role != NULL ? role_of_name(j->as_role) : ROLE_PEER;
	if (c->user == NULL)
		c->user = g_strdup_printf("host %s", json_str(host, "name"));
	return authorise(j->route, c->role, err);
}

/* Here and not on the loop, which others wait for: the list of some hundred vms takes milliseconds. */
static void print_answer(ApiCall *c)
{
	char *text;

	if (c->answer == NULL)
		return;
	text = json_print(c->answer);
	json_unref(c->answer);
	c->answer = NULL;
	c->bytes = g_bytes_new_take(text, strlen(text));
	c->content_type = "application/json";
}

static bool forward_job(ApiCall *c, const void *data, bool *ret_done, GError **err)
{
	const Job *j = data;

	return forward_call(c, j->route, ret_done, err);
}

static void run_job(void *data)
{
	Job *j = data;
	bool ok = !j->from_pool || admit_peer(j, &j->error);

	if (ok) {
		call_await_seen(&j->call);
		call_await_named(&j->call);
		ok = call_run(&j->call, j->route->handler, forward_job, j, &j->error);
	}

	g_assert(ok == (j->error == NULL));
	if (ok)
		print_answer(&j->call);
	if (j->call.peer != NULL && j->call.role != ROLE_NONE)
		j->revision = store_revision(engine_store(j->call.engine), NULL);
	loop_post(j->api->loop, send_answer, j);
}

/* On the loop: what find_socket() found. */
static void open_socket(void *data)
{
	Job *j = data;

	if (j->far != NULL)
		relay_open(j->api, j->req, g_steal_pointer(&j->far));
	else if (j->console != NULL)
		console_link_open(j->api, j->req, j->console, &j->error);
	else if (j->screen >= 0)
		display_link_open(j->api, j->req, fd_take(&j->screen));
	if (j->error != NULL)
		http_respond_error(j->req, j->error);
	job_free(j);
}

static void find_socket(void *data)
{
	Job *j = data;
	bool ok = !j->from_pool || admit_peer(j, &j->error);

	if (ok) {
		call_await_seen(&j->call);
		call_await_named(&j->call);
	}
	if (ok && forward_socket(&j->call, j->route, &j->far, &j->error) && j->far == NULL) {
		if (g_str_has_suffix(j->route->path, "/display"))
			j->screen = display_find(&j->call, &j->error);
		else
			j->console = console_target_find(&j->call, &j->error);
	}
	loop_post(j->api->loop, open_socket, j);
}

static bool take_body(HttpRequest *req, ApiCall *c, GError **err)
{
	size_t len;
	const char *body = http_request_body(req, &len);

	if (len == 0)
		return true;
	c->body = json_parse(body, len, err);
	return c->body != NULL || err_advise(err, "Send a JSON object.");
}

static bool wants_stream(const HttpRequest *req)
{
	const char *accept = http_request_header(req, "Accept");

	return accept != NULL && strstr(accept, "text/event-stream") != NULL;
}

static Job *job_new(Api *a, HttpRequest *req, const Route *route, GHashTable *path, Role role)
{
	Job *j = g_new0(Job, 1);

	j->api = a;
	a->jobs++;
	j->req = http_request_ref(req);
	j->route = route;
	j->screen = -EBADF;
	j->call = (ApiCall){
		.engine = a->engine,
		.pool = a->pool,
		.role = role,
		.path = g_hash_table_ref(path),
		.query = copy_query(req),
		.if_match = copy_match(req),
		.status = 204,
		.etag = -1,
	};
	return j;
}

static void start_job(Job *j)
{
	HttpRequest *req = j->req;

	if (j->route->kind == ROUTE_WEBSOCKET)
		worker_pool_push(j->api->pool, find_socket, j);
	else if (take_body(req, &j->call, &j->error))
		worker_pool_push(j->api->pool, run_job, j);
	else
		send_answer(j);
}

static void start_local(Api *a, HttpRequest *req, const Route *route, GHashTable *path, Role role)
{
	Job *j = job_new(a, req, route, path, role);

	j->call.user = user_of(http_request_peer(req));
	start_job(j);
}

static void on_request(HttpRequest *req, void *data)
{
	Api *a = data;
	g_autoptr(GHashTable) path = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	Role role = role_of(a, http_request_peer(req));
	g_autoptr(GError) err = NULL;
	const Route *route;

	if (web_answer(req))
		return;
	route = route_find(http_request_method(req), http_request_segments(req), path, &err);
	if (route == NULL || !authorise(route, role, &err))
		http_respond_error(req, err);
	else if (route->kind == ROUTE_STREAM && wants_stream(req))
		event_streams_open(a->streams, req);
	else
		start_local(a, req, route, path, role);
}

/* On the pool's address: other hosts, and those who want to become one. Streams of events are local. */
static void on_pool_request(HttpRequest *req, void *data)
{
	Api *a = data;
	g_autoptr(GHashTable) path = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	g_autoptr(GError) err = NULL;
	const Route *route = route_find(http_request_method(req), http_request_segments(req), path, &err);
	const char *seen = http_request_header(req, PEER_REVISION);
	Job *j;

	if (route == NULL) {
		http_respond_error(req, err);
		return;
	}
	j = job_new(a, req, route, path, ROLE_NONE);
	j->from_pool = true;
	j->call.peer = g_strdup(http_request_peer(req)->cert_cn);
	j->call.user = g_strdup(http_request_header(req, "Plimsoll-User"));
	j->call.seen = seen != NULL ? g_ascii_strtoll(seen, NULL, 10) : 0;
	j->as_role = g_strdup(http_request_header(req, "Plimsoll-Role"));
	start_job(j);
}

static gid_t find_group(void)
{
	char buf[4096];
	struct group gr, *found = NULL;

	return getgrnam_r("plimsoll", &gr, buf, sizeof buf, &found) == 0 && found != NULL ? found->gr_gid
											  : NO_GROUP;
}

/* What a host of the pool listens on for the others. A stranger shows no certificate yet: it brings a token.
 */
static bool open_pool_server(Api *a, const Membership *m, int fd, GError **err)
{
	g_autofree char *ca = g_build_filename(m->folder, PKI_CA, NULL);
	g_autofree char *cert = g_build_filename(m->folder, PKI_CERT, NULL);
	g_autofree char *key = g_build_filename(m->folder, PKI_KEY, NULL);
	const struct http_config http = {
		.tls_address = m->address,
		.tls_cert = cert,
		.tls_key = key,
		.tls_client_ca = ca,
		.tls_client_cert = HTTP_CLIENT_CERT_OPTIONAL,
		.tls_fd = fd,
		.handle = on_pool_request,
		.data = a,
	};

	a->pool_server = http_server_new(a->loop, &http, err);
	return a->pool_server != NULL;
}

Api *api_new(const struct api_config *config, GError **err)
{
	_cleanup_close_ int pool_fd = config->sockets.pool > 0 ? config->sockets.pool : -EBADF;
	g_autoptr(Api) a = g_new0(Api, 1);
	struct http_config http = {
		.unix_path = config->socket,
		.unix_group = "plimsoll",
		.tls_address = config->tls_address,
		.tls_cert = config->tls_cert,
		.tls_key = config->tls_key,
		.tls_client_ca = config->tls_client_ca,
		.tls_client_cert = HTTP_CLIENT_CERT_REQUIRED,
		.unix_fd = config->sockets.local,
		.tls_fd = config->sockets.tls,
		.handle = on_request,
		.data = a,
	};

	a->engine = config->engine;
	a->loop = config->loop;
	a->group = find_group();
	a->console = g_ptr_array_new();
	a->display = g_ptr_array_new();
	a->relay = g_ptr_array_new();
	a->pool = worker_pool_new(API_THREADS);
	a->streams = event_streams_new(config->loop, engine_store(config->engine), err);
	if (a->streams == NULL)
		return NULL;
	if (config->member != NULL && !open_pool_server(a, config->member, fd_take(&pool_fd), err))
		return NULL;
	a->server = http_server_new(config->loop, &http, err);
	return a->server != NULL ? g_steal_pointer(&a) : NULL;
}

void api_rest(Api *a)
{
	if (a == NULL)
		return;
	http_server_rest(a->server);
	if (a->pool_server != NULL)
		http_server_rest(a->pool_server);
}

bool api_is_busy(const Api *a)
{
	return a != NULL && (a->jobs > 0 || http_server_is_busy(a->server) ||
			     (a->pool_server != NULL && http_server_is_busy(a->pool_server)));
}

bool api_give_up(Api *a)
{
	if (a == NULL || a->jobs == 0)
		return false;
	worker_pool_end(a->pool);
	return true;
}

struct api_sockets api_hand_over(Api *a)
{
	struct api_sockets s = { -EBADF, -EBADF, -EBADF };
	int none;

	if (a == NULL)
		return s;
	http_server_hand_over(a->server, &s.local, &s.tls);
	if (a->pool_server != NULL)
		http_server_hand_over(a->pool_server, &none, &s.pool);
	return s;
}

void api_say_goodbye(Api *a)
{
	if (a == NULL)
		return;
	console_links_close(a);
	display_links_close(a);
}

Api *api_free(Api *a)
{
	if (a == NULL)
		return NULL;
	a->pool = worker_pool_free(a->pool);
	event_streams_free(a->streams);
	http_server_free(a->pool_server);
	http_server_free(a->server);
	while (a->relay->len > 0)
		relay_free(a->relay->pdata[0]);
	g_ptr_array_unref(a->relay);
	g_ptr_array_unref(a->console);
	g_ptr_array_unref(a->display);
	g_free(a);
	return NULL;
}
