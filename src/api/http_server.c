/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http-impl.h"
#include "base/time.h"

#include <time.h>

#define SCRATCH_SIZE (64 * 1024)
#define SECOND UINT64_C(1000000)

static void set_defaults(struct http_config *cfg)
{
	static const struct http_config dflt = {
		.max_connections = 1024,
		.head_max = 16 * 1024,
		.body_max = 1024 * 1024,
		.queue_max = 1024 * 1024,
		.head_timeout = 10 * SECOND,
		.idle_timeout = 60 * SECOND,
		.write_timeout = 30 * SECOND,
	};

#define SET_DEFAULT(field) cfg->field = cfg->field != 0 ? cfg->field : dflt.field
	SET_DEFAULT(max_connections);
	SET_DEFAULT(head_max);
	SET_DEFAULT(body_max);
	SET_DEFAULT(queue_max);
	SET_DEFAULT(head_timeout);
	SET_DEFAULT(idle_timeout);
	SET_DEFAULT(write_timeout);
#undef SET_DEFAULT
}

HttpServer *http_server_new(Loop *l, const struct http_config *cfg, GError **err)
{
	g_autoptr(HttpServer) s = g_new0(HttpServer, 1);

	s->loop = l;
	s->cfg = *cfg;
	set_defaults(&s->cfg);
	s->cfg.unix_path = s->cfg.unix_group = s->cfg.tls_address = NULL;
	s->cfg.tls_cert = s->cfg.tls_key = s->cfg.tls_client_ca = NULL;
	s->conns = g_hash_table_new(NULL, NULL);
	s->scratch = g_malloc(SCRATCH_SIZE);
	s->scratch_size = SCRATCH_SIZE;
	g_queue_init(&s->deferred);
	if (!listener_open_unix(s, cfg, &s->unix_listener, err) ||
	    !listener_open_tls(s, cfg, &s->tls_listener, err))
		return NULL;
	return g_steal_pointer(&s);
}

static void run_deferred(void *data)
{
	HttpServer *s = data;
	struct deferred *d;

	while ((d = g_queue_pop_head(&s->deferred)) != NULL) {
		d->func(d->object);
		g_free(d);
	}
}

void server_defer(HttpServer *s, void (*func)(void *object), void *object)
{
	struct deferred *d = g_new(struct deferred, 1);

	*d = (struct deferred){ .func = func, .object = object };
	g_queue_push_tail(&s->deferred, d);
	if (s->defer_timer == NULL)
		s->defer_timer = loop_add_timer(s->loop, 0, run_deferred, s);
	else
		loop_timer_set(s->defer_timer, 0);
}

void server_undefer(HttpServer *s, void *object)
{
	for (GList *i = s->deferred.head, *next; i != NULL; i = next) {
		struct deferred *d = i->data;

		next = i->next;
		if (d->object == object) {
			g_free(d);
			g_queue_delete_link(&s->deferred, i);
		}
	}
}

static void kill_all(HttpServer *s)
{
	GHashTableIter iter;
	void *c;

	/* Each one takes itself out of the table, and its callbacks may take out others. */
	while (g_hash_table_size(s->conns) > 0) {
		g_hash_table_iter_init(&iter, s->conns);
		g_hash_table_iter_next(&iter, &c, NULL);
		conn_enter(c);
		conn_die(c);
		conn_leave(c);
	}
}

HttpServer *http_server_free(HttpServer *s)
{
	if (s == NULL)
		return NULL;
	kill_all(s);
	run_deferred(s);
	loop_source_free(s->defer_timer);
	listener_free(s->unix_listener);
	listener_free(s->tls_listener);
	g_hash_table_unref(s->conns);
	g_free(s->scratch);
	g_free(s);
	return NULL;
}

void http_server_rest(HttpServer *s)
{
	listener_rest(s->unix_listener);
	listener_rest(s->tls_listener);
}

static bool conn_is_busy(const HttpConn *c)
{
	switch (c->state) {
	case CONN_HANDSHAKE:
	case CONN_BODY:
	case CONN_FLUSH:
		return true;
	case CONN_HEAD:
		return c->served == 0 || c->in->len > 0 || c->out_len > 0;
	case CONN_ANSWER:
		return c->stream == NULL;
	case CONN_WS:
	case CONN_LINGER:
	case CONN_DEAD:
		break;
	}
	return false;
}

bool http_server_is_busy(const HttpServer *s)
{
	GHashTableIter iter;
	void *c;

	g_hash_table_iter_init(&iter, s->conns);
	while (g_hash_table_iter_next(&iter, &c, NULL))
		if (conn_is_busy(c))
			return true;
	return false;
}

void http_server_hand_over(HttpServer *s, int *ret_unix, int *ret_tls)
{
	*ret_unix = listener_hand_over(s->unix_listener);
	*ret_tls = listener_hand_over(s->tls_listener);
}

unsigned http_server_tls_port(const HttpServer *s)
{
	return s->tls_listener != NULL ? listener_port(s->tls_listener) : 0;
}

unsigned http_server_connections(const HttpServer *s)
{
	return g_hash_table_size(s->conns);
}

const char *server_date(HttpServer *s)
{
	time_t now = (time_t)(time_real() / SECOND);
	struct tm tm;

	if ((uint64_t)now != s->date_at) {
		gmtime_r(&now, &tm);
		/* The C locale's names, which strftime() does not promise. */
		g_snprintf(s->date, sizeof s->date, "%.3s, %02d %.3s %04d %02d:%02d:%02d GMT",
			   &"SunMonTueWedThuFriSat"[3 * tm.tm_wday], tm.tm_mday,
			   &"JanFebMarAprMayJunJulAugSepOctNovDec"[3 * tm.tm_mon], 1900 + tm.tm_year,
			   tm.tm_hour, tm.tm_min, tm.tm_sec);
		s->date_at = (uint64_t)now;
	}
	return s->date;
}
