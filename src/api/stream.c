/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each stream has its own cursor into the store's history. That keeps the code
 * plain (no fan-out list, no special case for a stream that is behind). What is
 * shared is the store's notification, and the text of the last transactions:
 * a hundred streams that keep up have each of them made once.
 */
#include "api/stream.h"
#include "base/log.h"
#include "base/str.h"
#include "core/model/keys.h"
#include "core/model/operation.h"

#include <string.h>
#include <sys/epoll.h>

/* What may wait for a slow client before its cursor rests. */
#define QUEUE_MAX (UINT64_C(256) << 10)

/* Of texts that are kept for other streams; a transaction is told by all within moments. */
#define KEPT_MAX 256
#define KEPT_BYTES (UINT64_C(4) << 20)

struct EventStreams {
	Loop *loop;
	Store *store;
	GPtrArray *open;  /* EventStream */
	GHashTable *kept; /* revision -> GBytes: what streams tell of it */
	GQueue kept_rev;  /* as int64_t *, owned by the table; the oldest first */
	uint64_t kept_bytes;
};

typedef struct EventStream {
	EventStreams *owner;
	HttpStream *http;
	StoreWatch *watch;
	LoopSource *source; /* NULL when it does not follow */
} EventStream;

static void stream_close(EventStream *s)
{
	loop_source_free(s->source);
	store_watch_close(s->watch);
	http_stream_end(s->http);
	g_ptr_array_remove_fast(s->owner->open, s);
	g_free(s);
}

static void drop_bytes(gpointer p)
{
	g_bytes_unref(p);
}

EventStreams *event_streams_new(Loop *l, Store *store, GError **err)
{
	EventStreams *e;

	if (store_revision(store, err) < 0)
		return NULL;
	e = g_new0(EventStreams, 1);
	e->loop = l;
	e->store = store;
	e->open = g_ptr_array_new();
	e->kept = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, drop_bytes);
	return e;
}

EventStreams *event_streams_free(EventStreams *e)
{
	if (e == NULL)
		return NULL;
	while (e->open->len > 0)
		stream_close(e->open->pdata[0]);
	g_ptr_array_unref(e->open);
	g_queue_clear(&e->kept_rev);
	g_hash_table_unref(e->kept);
	g_free(e);
	return NULL;
}

/* "vms" -> "vm"; NULL for what is not told (names). */
static const char *kind_of(const char *collection)
{
	static const struct {
		const char *collection, *kind;
	} kinds[] = {
		{ "vms", "vm" },     { "images", "image" },         { "volumes", "volume" },
		{ "hosts", "host" }, { "operations", "operation" }, { "events", "event" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
		if (g_str_equal(kinds[i].collection, collection))
			return kinds[i].kind;
	return NULL;
}

/* The object as the API shows it: an operation without what is internal; of a vm the record that changed. */
static Json *object_of(const char *kind, const char *rest, const char *value)
{
	Json *j = json_parse(value, strlen(value), NULL), *outer;

	if (g_str_equal(kind, "operation"))
		return j != NULL ? operation_record_to_api(j) : json_null();
	if (!g_str_equal(rest, "runtime"))
		return j;
	outer = json_object();
	json_put(outer, "runtime", j);
	return outer;
}

static bool is_told(const char *rest)
{
	return g_str_equal(rest, "") || g_str_equal(rest, "config") || g_str_equal(rest, "runtime");
}

/* What a client hears of a change; kind NULL: nothing. */
typedef struct Told {
	const char *kind;
	char *id, *rest;
} Told;

static void told_clear(Told *t)
{
	g_free(t->id);
	g_free(t->rest);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Told, told_clear)

static void told_of(const StoreItem *change, Told *ret)
{
	g_autofree char *collection = NULL;

	if (!key_split(change->key, &collection, &ret->id, &ret->rest) || !is_told(ret->rest))
		return;
	if (change->value == NULL && g_str_equal(ret->rest, "runtime"))
		return; /* the configuration goes with it, and says it */
	ret->kind = kind_of(collection);
}

/* Is a change told behind place `i` that belongs to the same transaction? */
static bool goes_on(const GPtrArray *changes, guint i)
{
	const StoreItem *at = changes->pdata[i];

	for (guint k = i + 1; k < changes->len; k++) {
		const StoreItem *next = changes->pdata[k];
		g_auto(Told) t = { 0 };

		if (next->rev != at->rev)
			return false;
		told_of(next, &t);
		if (t.kind != NULL)
			return true;
	}
	return false;
}

static char *event_text(const GPtrArray *changes, guint i)
{
	const StoreItem *change = changes->pdata[i];
	g_autofree char *data = NULL, *cursor = NULL;
	g_auto(Told) t = { 0 };
	_cleanup_json_ Json *j = NULL;
	bool last;

	told_of(change, &t);
	if (t.kind == NULL)
		return NULL;
	last = !goes_on(changes, i);
	j = json_object();
	json_put_int(j, "revision", change->rev);
	json_put_bool(j, "last", last);
	json_put_str(j, "type", change->value != NULL ? "changed" : "deleted");
	json_put_str(j, "kind", t.kind);
	json_put_str(j, "id", t.id);
	json_put(j, "object", change->value != NULL ? object_of(t.kind, t.rest, change->value) : json_null());
	data = json_print(j);
	cursor = last ? g_strdup_printf("id: %" G_GINT64_FORMAT "\n", (gint64)change->rev) : g_strdup("");
	return g_strdup_printf("%sevent: %s\ndata: %s\n\n", cursor, t.kind, data);
}

/* Of the changes from place `from` to before `to`, which are one transaction. */
static GBytes *transaction_text(const GPtrArray *changes, guint from, guint to)
{
	GString *all = g_string_new(NULL);

	for (guint i = from; i < to; i++) {
		g_autofree char *text = event_text(changes, i);

		if (text != NULL)
			g_string_append(all, text);
	}
	return g_string_free_to_bytes(all);
}

static void forget_oldest(EventStreams *e)
{
	const int64_t *rev = g_queue_pop_head(&e->kept_rev);

	e->kept_bytes -= g_bytes_get_size(g_hash_table_lookup(e->kept, rev));
	g_hash_table_remove(e->kept, rev);
}

static void keep_text(EventStreams *e, int64_t rev, GBytes *text)
{
	int64_t *key = g_memdup2(&rev, sizeof rev);

	g_hash_table_insert(e->kept, key, g_bytes_ref(text));
	g_queue_push_tail(&e->kept_rev, key);
	e->kept_bytes += g_bytes_get_size(text);
	while (e->kept_rev.length > KEPT_MAX || (e->kept_bytes > KEPT_BYTES && e->kept_rev.length > 1))
		forget_oldest(e);
}

/* All streams see the same prefix, so what one tells of a transaction is what all tell. New reference. */
static GBytes *shared_text(EventStreams *e, const GPtrArray *changes, guint from, guint to)
{
	int64_t rev = ((const StoreItem *)changes->pdata[from])->rev;
	GBytes *text = g_hash_table_lookup(e->kept, &rev);

	if (text != NULL)
		return g_bytes_ref(text);
	text = transaction_text(changes, from, to);
	if (e->open->len > 1)
		keep_text(e, rev, text);
	return text;
}

static guint end_of_transaction(const GPtrArray *changes, guint from)
{
	const StoreItem *first = changes->pdata[from];
	guint to = from + 1;

	while (to < changes->len && ((const StoreItem *)changes->pdata[to])->rev == first->rev)
		to++;
	return to;
}

/* Whole transactions, as the store hands them out. */
static bool write_changes(EventStream *s, const GPtrArray *changes)
{
	for (guint i = 0, to; i < changes->len; i = to) {
		g_autoptr(GBytes) text = NULL;

		to = end_of_transaction(changes, i);
		text = shared_text(s->owner, changes, i, to);
		if (g_bytes_get_size(text) > 0 &&
		    !http_stream_write(s->http, g_bytes_get_data(text, NULL), g_bytes_get_size(text)))
			return false;
	}
	return true;
}

/* While the client is behind, its cursor rests: the history is in the store, not in our memory. */
static void set_waiting(EventStream *s, bool waiting)
{
	loop_fd_set_events(s->source, waiting ? 0 : EPOLLIN);
}

static void on_drain(HttpStream *st, void *data)
{
	(void)st;
	set_waiting(data, false);
}

static void on_close(HttpStream *st, void *data)
{
	(void)st;
	stream_close(data);
}

/* One piece of the history. False when the stream is no more. */
static bool pass_on(EventStream *s, guint *ret_n)
{
	g_autoptr(GPtrArray) changes = NULL;
	g_autoptr(GError) err = NULL;

	if (!store_watch_next(s->watch, &changes, &err)) {
		log_warning("a stream of events ends: %s", err->message);
		stream_close(s);
		return false;
	}
	*ret_n = changes->len;
	if (!write_changes(s, changes)) {
		if (s->source != NULL)
			set_waiting(s, true); /* it was dropped: on_close follows */
		return false;
	}
	return true;
}

/* A stream that does not follow ends with what there is; it reads on by itself until then. */
static void read_to_end(EventStream *s)
{
	guint n = 1;

	while (n > 0)
		if (!pass_on(s, &n))
			return;
	stream_close(s);
}

static void on_change(int fd, uint32_t events, void *data)
{
	EventStream *s = data;
	guint n;

	(void)fd, (void)events;
	if (http_stream_queued(s->http) > QUEUE_MAX)
		set_waiting(s, true);
	else
		pass_on(s, &n);
}

static bool parse_start(EventStreams *e, HttpRequest *req, int64_t *ret, GError **err)
{
	const char *text = http_request_query(req, "since");
	uint64_t rev;

	if (text == NULL)
		text = http_request_header(req, "Last-Event-ID");
	if (text == NULL) {
		*ret = store_revision(e->store, err);
		return *ret >= 0;
	}
	if (!parse_uint(text, 0, INT64_MAX, &rev, err))
		return err_advise(err, "since is a revision: the id of the last event you have seen.");
	*ret = (int64_t)rev;
	return true;
}

static void greet(EventStream *s, int64_t from)
{
	g_autofree char *text =
	    g_strdup_printf(": changes behind revision %" G_GINT64_FORMAT "\n\n", (gint64)from);

	http_stream_write(s->http, text, strlen(text));
}

void event_streams_open(EventStreams *e, HttpRequest *req)
{
	static const struct http_stream_callbacks callbacks = { .on_drain = on_drain, .on_close = on_close };
	g_autoptr(StoreWatch) watch = NULL;
	g_autoptr(GError) err = NULL;
	bool follow = g_strcmp0(http_request_query(req, "follow"), "false") != 0;
	EventStream *s;
	int64_t from = 0;

	if (parse_start(e, req, &from, &err))
		watch = store_watch_open(e->store, KEY_ROOT, from, &err);
	if (watch == NULL) {
		if (g_error_matches(err, ERR, ERR_GONE))
			err_advise(&err, "List the objects again, and follow from the revision of GET /v1.");
		http_respond_error(req, err);
		return;
	}
	s = g_new0(EventStream, 1);
	s->owner = e;
	http_respond_header(req, "Cache-Control", "no-cache");
	s->http = http_stream_start(req, 200, "text/event-stream", HTTP_LENGTH_UNKNOWN, &callbacks, s);
	if (s->http == NULL) {
		g_free(s);
		return;
	}
	s->watch = g_steal_pointer(&watch);
	g_ptr_array_add(e->open, s);
	greet(s, from);
	if (follow)
		s->source = loop_add_fd(e->loop, store_watch_fd(s->watch), EPOLLIN, on_change, s);
	else
		read_to_end(s);
}
