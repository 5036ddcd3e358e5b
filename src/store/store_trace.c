/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that wraps another one and logs every call: "trace:sqlite:PATH".
 * Values are never logged: they hold passwords and keys of users.
 */
#include "base/log.h"
#include "base/time.h"
#include "store/store-impl.h"

#include <inttypes.h>
#include <string.h>

typedef struct TraceStore {
	Store base;
	Store *inner;
} TraceStore;

typedef struct TraceWatch {
	StoreWatch base;
	StoreWatch *inner;
	char *prefix;
} TraceWatch;

static Store *inner_of(const Store *s)
{
	return ((const TraceStore *)s)->inner;
}

/* One line a call: what, how it ended, how long it took. `e` is the error that it ended with, or NULL. */
static void told(uint64_t began, const GError *e, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
static void told(uint64_t began, const GError *e, const char *fmt, ...)
{
	uint64_t took = time_monotonic() - began;
	g_autofree char *what = NULL;
	va_list ap;

	va_start(ap, fmt);
	what = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	if (e != NULL)
		log_info("store %s: %s: %s, %" PRIu64 " us", what, err_name(err_code(e)), e->message, took);
	else
		log_info("store %s, %" PRIu64 " us", what, took);
}

static bool trace_open(Store *s, const char *where, GError **err)
{
	TraceStore *t = (TraceStore *)s;

	if (g_str_has_prefix(where, "trace:"))
		return fail(err, ERR_INVALID, "a traced store can't be traced again");
	t->inner = store_open(where, err);
	return t->inner != NULL;
}

static void trace_close(Store *s)
{
	store_close(inner_of(s));
}

static StoreItem *trace_get(Store *s, const char *key, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	StoreItem *i = store_get(inner_of(s), key, &e);

	told(began, e, "get %s -> %" PRId64, key, i != NULL ? i->rev : 0);
	if (e != NULL)
		g_propagate_error(err, e);
	return i;
}

static GPtrArray *trace_list(Store *s, const char *prefix, int64_t *ret_rev, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	GPtrArray *a = store_list(inner_of(s), prefix, ret_rev, &e);

	told(began, e, "list %s -> %u items at %" PRId64, prefix, a != NULL ? a->len : 0,
	     a != NULL ? *ret_rev : 0);
	if (e != NULL)
		g_propagate_error(err, e);
	return a;
}

static int64_t trace_revision(Store *s, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	int64_t rev = store_revision(inner_of(s), &e);

	told(began, e, "revision -> %" PRId64, rev);
	if (e != NULL)
		g_propagate_error(err, e);
	return rev;
}

static char *print_tx(const StoreTx *tx)
{
	GString *s = g_string_new(NULL);

	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];

		g_string_append_printf(s, " %s %s",
				       w->expect_only ? "expect"
				       : w->value     ? "set"
						      : "delete",
				       w->key);
		if (w->rev != STORE_ANY)
			g_string_append_printf(s, "@%" PRId64, w->rev);
		if (w->value != NULL)
			g_string_append_printf(s, " (%zu bytes)", strlen(w->value));
	}
	return g_string_free(s, FALSE);
}

static bool trace_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	uint64_t began = time_monotonic();
	g_autofree char *text = print_tx(tx);
	Store *inner = inner_of(s);
	GError *e = NULL;
	/* Not store_commit(): the transaction was checked, and stays ours. */
	bool ok = inner->be->commit(inner, tx, flags, ret_rev, &e);

	told(began, e, "commit%s%s -> %" PRId64, flags == STORE_RELAXED ? " relaxed" : "", text,
	     ok ? *ret_rev : 0);
	if (e != NULL)
		g_propagate_error(err, e);
	return ok;
}

static bool trace_sync(Store *s, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	bool ok = store_sync(inner_of(s), &e);

	told(began, e, "sync");
	if (e != NULL)
		g_propagate_error(err, e);
	return ok;
}

static bool trace_catch_up(Store *s, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	bool ok = store_catch_up(inner_of(s), &e);

	told(began, e, "catch up");
	if (e != NULL)
		g_propagate_error(err, e);
	return ok;
}

static bool trace_compact(Store *s, int64_t upto, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	bool ok = store_compact(inner_of(s), upto, &e);

	told(began, e, "compact %" PRId64, upto);
	if (e != NULL)
		g_propagate_error(err, e);
	return ok;
}

static StoreWatch *trace_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err)
{
	uint64_t began = time_monotonic();
	GError *e = NULL;
	StoreWatch *inner = store_watch_open(inner_of(s), prefix, after_rev, &e);
	TraceWatch *w;

	told(began, e, "watch %s after %" PRId64, prefix, after_rev);
	if (inner == NULL) {
		g_propagate_error(err, e);
		return NULL;
	}
	w = g_new(TraceWatch, 1);
	*w = (TraceWatch){ .inner = inner, .prefix = g_strdup(prefix) };
	return &w->base;
}

static int trace_watch_fd(const StoreWatch *w)
{
	return store_watch_fd(((const TraceWatch *)w)->inner);
}

static bool trace_watch_next(StoreWatch *base, GPtrArray **ret_changes, GError **err)
{
	uint64_t began = time_monotonic();
	TraceWatch *w = (TraceWatch *)base;
	GError *e = NULL;
	bool ok = store_watch_next(w->inner, ret_changes, &e);

	told(began, e, "changes of %s -> %u", w->prefix, ok ? (*ret_changes)->len : 0);
	if (e != NULL)
		g_propagate_error(err, e);
	return ok;
}

static void trace_watch_close(StoreWatch *base)
{
	TraceWatch *w = (TraceWatch *)base;

	log_info("store watch of %s closed", w->prefix);
	store_watch_close(w->inner);
	g_free(w->prefix);
	g_free(w);
}

static int64_t trace_watch_seen(const StoreWatch *base)
{
	const StoreWatch *inner = ((const TraceWatch *)base)->inner;

	return inner->store->be->watch_seen(inner);
}

static uint64_t trace_age(Store *s)
{
	return store_age(inner_of(s));
}

/* Its store is the inner one from now on, so renewals are not logged. */
static bool trace_lease_grant(Store *s, StoreLease *l, uint64_t ttl, GError **err)
{
	uint64_t began = time_monotonic();
	Store *inner = inner_of(s);
	GError *e = NULL;
	bool ok = store_lease_wrap(inner, l, ttl, &e);

	told(began, e, "lease of %" PRIu64 " us -> %" PRId64, ttl, ok ? l->id : 0);
	if (!ok)
		g_propagate_error(err, e);
	return ok;
}

const StoreBackend store_trace = {
	.scheme = "trace",
	.usage = "trace:URL",
	.size = sizeof(TraceStore),
	.open = trace_open,
	.close = trace_close,
	.get = trace_get,
	.list = trace_list,
	.revision = trace_revision,
	.commit = trace_commit,
	.sync = trace_sync,
	.compact = trace_compact,
	.watch_open = trace_watch_open,
	.watch_fd = trace_watch_fd,
	.watch_next = trace_watch_next,
	.watch_close = trace_watch_close,
	.watch_seen = trace_watch_seen,
	.age = trace_age,
	.catch_up = trace_catch_up,
	.lease_grant = trace_lease_grant,
};
