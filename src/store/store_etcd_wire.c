/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store-etcd-wire.h"

#include <inttypes.h>
#include <string.h>

/* ---- requests ---- */

static void add_base64(GString *s, const char *name, const char *a, const char *b)
{
	g_autofree char *both = g_strconcat(a, b, NULL);
	g_autofree char *text = g_base64_encode((const guchar *)both, strlen(both));

	g_string_append_printf(s, "\"%s\":\"%s\"", name, text);
}

/*
 * The first key behind all that begin with root + prefix. Their bytes are below 0x7f, so the last one can
 * grow; behind all keys of all is "\0" as etcd has it.
 */
static void add_range_end(GString *s, const char *root, const char *prefix)
{
	g_autofree char *end = g_strconcat(root, prefix, NULL);
	size_t n = strlen(end);

	if (n == 0) {
		g_string_append(s, ",\"range_end\":\"AA==\"");
		return;
	}
	end[n - 1]++;
	g_string_append_c(s, ',');
	add_base64(s, "range_end", end, "");
}

/* An empty key means the first one of all: that is "\0" too. */
static void add_key(GString *s, const char *root, const char *key)
{
	if (root[0] == '\0' && key[0] == '\0')
		g_string_append(s, "\"key\":\"AA==\"");
	else
		add_base64(s, "key", root, key);
}

static void add_rev_limit(GString *s, int64_t rev, int64_t limit)
{
	if (rev != 0)
		g_string_append_printf(s, ",\"revision\":\"%" PRId64 "\"", rev);
	if (limit != 0)
		g_string_append_printf(s, ",\"limit\":\"%" PRId64 "\"", limit);
}

char *wire_range(const char *root, const char *key, unsigned flags, int64_t rev, int64_t limit)
{
	GString *s = g_string_new("{");

	add_key(s, root, key);
	if ((flags & WIRE_PREFIX) != 0)
		add_range_end(s, root, key);
	if ((flags & WIRE_KEYS_ONLY) != 0)
		g_string_append(s, ",\"keys_only\":true");
	add_rev_limit(s, rev, limit);
	g_string_append_c(s, '}');
	return g_string_free(s, FALSE);
}

char *wire_page(const char *root, const char *prefix, const char *after, int64_t rev, int64_t limit)
{
	GString *s = g_string_new("{");

	if (after != NULL) {
		/* Nothing lies between a key and the same with "\x01" behind it but the one with "\0". */
		add_base64(s, "key", after, "\x01");
	} else {
		add_key(s, root, prefix);
	}
	add_range_end(s, root, prefix);
	add_rev_limit(s, rev, limit);
	g_string_append_c(s, '}');
	return g_string_free(s, FALSE);
}

static void add_compare(GString *s, const char *root, const char *key, int64_t rev)
{
	g_string_append(s, "{\"target\":\"MOD\",\"result\":\"EQUAL\",");
	add_base64(s, "key", root, key);
	g_string_append_printf(s, ",\"mod_revision\":\"%" PRId64 "\"},", rev);
}

static void add_put(GString *s, const char *root, const char *key, const char *value, int64_t lease)
{
	g_string_append(s, "{\"request_put\":{");
	add_base64(s, "key", root, key);
	g_string_append_c(s, ',');
	add_base64(s, "value", value, "");
	if (lease != 0)
		g_string_append_printf(s, ",\"lease\":\"%" PRId64 "\"", lease);
	g_string_append(s, "}},");
}

static void add_delete(GString *s, const char *root, const char *key)
{
	g_string_append(s, "{\"request_delete_range\":{");
	add_base64(s, "key", root, key);
	g_string_append(s, "}},");
}

static void add_read(GString *s, const char *root, const char *key, bool keys_only)
{
	g_string_append(s, "{\"request_range\":{");
	add_base64(s, "key", root, key);
	g_string_append(s, keys_only ? ",\"keys_only\":true}}," : "}},");
}

/* Begin and end a list whose members each end in a comma. */
static void open_list(GString *s, const char *name)
{
	g_string_append_printf(s, "\"%s\":[", name);
}

static void close_list(GString *s, const char *next)
{
	if (s->str[s->len - 1] == ',')
		g_string_truncate(s, s->len - 1);
	g_string_append_printf(s, "]%s", next);
}

static void add_write(GString *s, const char *root, const StoreWrite *w)
{
	if (w->expect_only)
		return;
	if (w->value == NULL)
		add_delete(s, root, w->key);
	else
		add_put(s, root, w->key, w->value, w->lease);
}

char *wire_tx(const char *root, const StoreTx *tx, const struct wire_mark *mark)
{
	GString *s = g_string_new("{");

	open_list(s, "compare");
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];

		if (w->rev != STORE_ANY)
			add_compare(s, root, w->key, w->rev);
	}
	if (mark != NULL)
		add_compare(s, root, mark->key, mark->rev);
	close_list(s, ",");

	open_list(s, "success");
	for (guint i = 0; i < tx->write->len; i++)
		add_write(s, root, tx->write->pdata[i]);
	if (mark != NULL)
		add_put(s, root, mark->key, mark->value, 0);
	close_list(s, ",");

	open_list(s, "failure");
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];

		if (w->rev != STORE_ANY)
			add_read(s, root, w->key, true);
	}
	if (mark != NULL)
		add_read(s, root, mark->key, false);
	close_list(s, "}");
	return g_string_free(s, FALSE);
}

char *wire_put(const char *root, const char *key, const char *value)
{
	GString *s = g_string_new("{");

	add_base64(s, "key", root, key);
	g_string_append_c(s, ',');
	add_base64(s, "value", value, "");
	g_string_append_c(s, '}');
	return g_string_free(s, FALSE);
}

char *wire_watch(const char *root, const char *prefix, int64_t start_rev)
{
	GString *s = g_string_new("{\"create_request\":{");

	add_key(s, root, prefix);
	add_range_end(s, root, prefix);
	g_string_append_printf(s, ",\"start_revision\":\"%" PRId64 "\"", start_rev);
	g_string_append(s, ",\"fragment\":true,\"progress_notify\":true}}");
	return g_string_free(s, FALSE);
}

char *wire_lease(const char *field, int64_t number)
{
	return g_strdup_printf("{\"%s\":\"%" PRId64 "\"}", field, number);
}

char *wire_compaction(int64_t rev)
{
	return g_strdup_printf("{\"revision\":\"%" PRId64 "\"}", rev);
}

/* ---- answers ---- */

static bool fail_odd(const char *what, GError **err)
{
	return fail(err, ERR_STORE, "etcd sent something odd: %s", what);
}

/* A number that is a string, or absent and then 0; a plain number is fine too. */
static bool read_int(const Json *obj, const char *name, int64_t *ret, GError **err)
{
	const Json *j = json_object_get(obj, name);
	const char *text = json_string_value(j);
	char *end;

	if (j == NULL) {
		*ret = 0;
		return true;
	}
	if (json_is_integer(j)) {
		*ret = json_integer_value(j);
		return *ret >= 0 || fail_odd(name, err);
	}
	if (text == NULL || !g_ascii_isdigit(text[0]))
		return fail_odd(name, err);
	errno = 0;
	*ret = g_ascii_strtoll(text, &end, 10);
	return (errno == 0 && *end == '\0') || fail_odd(name, err);
}

/* Cluster ids use all 64 bits. */
static bool read_id(const Json *obj, const char *name, uint64_t *ret, GError **err)
{
	const char *text = json_str(obj, name);
	char *end;

	if (text == NULL || !g_ascii_isdigit(text[0]))
		return fail_odd(name, err);
	errno = 0;
	*ret = g_ascii_strtoull(text, &end, 10);
	return (errno == 0 && *end == '\0') || fail_odd(name, err);
}

bool wire_header_read(const Json *answer, struct wire_header *ret, GError **err)
{
	const Json *h = json_obj(answer, "header");

	return (h != NULL || fail_odd("an answer without a header", err)) &&
	       read_id(h, "cluster_id", &ret->cluster, err) && read_int(h, "revision", &ret->rev, err) &&
	       read_int(h, "raft_term", &ret->term, err);
}

bool wire_lease_read(const Json *answer, int64_t *ret_id, int64_t *ret_ttl, GError **err)
{
	return read_int(answer, "ID", ret_id, err) && read_int(answer, "TTL", ret_ttl, err) &&
	       (*ret_id != 0 || fail_odd("a lease without a number", err));
}

/* The text of a base64 member, which is NULL where it holds a NUL; absent is empty. */
static bool read_base64(const Json *obj, const char *name, char **ret, GError **err)
{
	const Json *j = json_object_get(obj, name);
	g_autofree char *text = NULL;
	gsize n = 0;

	if (j != NULL && !json_is_string(j))
		return fail_odd(name, err);
	if (j == NULL || json_string_length(j) == 0) {
		*ret = g_strdup("");
		return true;
	}
	text = (char *)g_base64_decode(json_string_value(j), &n);
	*ret = memchr(text, '\0', n) == NULL ? g_strndup(text, n) : NULL;
	return true;
}

/* The key of the store that an etcd key stands for; NULL when it is none. Points into `key`. */
static const char *key_of(const char *key, const char *root)
{
	size_t n;

	if (key == NULL || !g_str_has_prefix(key, root))
		return NULL;
	key += strlen(root);
	n = strlen(key);
	if (n == 0 || n > STORE_KEY_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!g_ascii_isgraph(key[i]))
			return NULL;
	return key;
}

static bool fail_foreign(const char *key, GError **err)
{
	return fail_advice(err, ERR_STORE,
			   "Find out who writes there, and delete the key with `etcdctl del`.",
			   "the value of '%s' in etcd is no text: another program wrote it", key);
}

/* Appends what is an item; passes over what is none of ours. `ret_key` gets the key with root, or NULL. */
static bool read_kv(const Json *kv, const char *root, bool deleted, GPtrArray *items, int64_t *ret_rev,
		    char **ret_key, GError **err)
{
	g_autofree char *full = NULL, *value = NULL;
	const char *key;

	if (!json_is_object(kv))
		return fail_odd("no key and value", err);
	if (!read_int(kv, "mod_revision", ret_rev, err) || !read_base64(kv, "key", &full, err) ||
	    !read_base64(kv, "value", &value, err))
		return false;
	key = key_of(full, root);
	if (key != NULL && !deleted && (value == NULL || !g_utf8_validate(value, -1, NULL)))
		return fail_foreign(key, err);
	if (key != NULL)
		g_ptr_array_add(items, store_item_new(key, deleted ? NULL : value, *ret_rev));
	if (ret_key != NULL)
		*ret_key = g_steal_pointer(&full);
	return true;
}

bool wire_items_read(const Json *answer, const char *root, GPtrArray *items, struct wire_page *ret_page,
		     GError **err)
{
	const Json *kvs = json_object_get(answer, "kvs");
	g_autofree char *last = NULL;
	int64_t rev;

	if (kvs != NULL && !json_is_array(kvs))
		return fail_odd("kvs", err);
	for (size_t i = 0; i < json_array_size(kvs); i++) {
		g_free(g_steal_pointer(&last));
		if (!read_kv(json_array_get(kvs, i), root, false, items, &rev, &last, err))
			return false;
	}
	if (ret_page == NULL)
		return true;
	ret_page->more = json_bool(answer, "more", false);
	if (ret_page->more && last == NULL)
		return fail_odd("a page that goes on and has no key", err);
	ret_page->last = g_steal_pointer(&last);
	return true;
}

bool wire_one_read(const Json *range, int64_t *ret_rev, char **ret_value, GError **err)
{
	const Json *kv = json_array_get(json_arr(range, "kvs"), 0);

	if (kv == NULL) {
		*ret_rev = 0;
		*ret_value = NULL;
		return json_is_object(range) || fail_odd("no range", err);
	}
	if (!json_is_object(kv))
		return fail_odd("no key and value", err);
	return read_int(kv, "mod_revision", ret_rev, err) && read_base64(kv, "value", ret_value, err);
}

/* The n-th answer of those in the failure branch. */
static bool read_found(const Json *answer, size_t n, int64_t *ret_rev, char **ret_value, GError **err)
{
	const Json *r = json_array_get(json_arr(answer, "responses"), n);

	return wire_one_read(json_obj(r, "response_range"), ret_rev, ret_value, err);
}

static bool read_refused(const Json *answer, const StoreTx *tx, const struct wire_mark *mark,
			 struct wire_outcome *o, GError **err)
{
	size_t n = 0;

	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];
		g_autofree char *value = NULL;
		int64_t found;

		if (w->rev == STORE_ANY)
			continue;
		if (!read_found(answer, n++, &found, &value, err))
			return false;
		if (found != w->rev && o->conflict == NULL) {
			o->conflict = w;
			o->found = found;
		}
	}
	if (mark == NULL)
		return o->conflict != NULL || fail_odd("a refusal without a reason", err);
	if (!read_found(answer, n, &o->mark_rev, &o->mark_value, err))
		return false;
	return o->conflict != NULL || o->mark_rev != mark->rev || fail_odd("a refusal without a reason", err);
}

bool wire_outcome_read(const Json *answer, const StoreTx *tx, const struct wire_mark *mark,
		       struct wire_outcome *ret, GError **err)
{
	struct wire_outcome o = { .succeeded = json_bool(answer, "succeeded", false) };

	if (!o.succeeded && !read_refused(answer, tx, mark, &o, err)) {
		g_free(o.mark_value);
		return false;
	}
	*ret = o;
	return true;
}

static bool read_events(const Json *result, const char *root, struct wire_event *e, GError **err)
{
	const Json *events = json_arr(result, "events");

	for (size_t i = 0; i < json_array_size(events); i++) {
		const Json *ev = json_array_get(events, i);
		bool deleted = g_strcmp0(json_str(ev, "type"), "DELETE") == 0;
		int64_t before = e->last;

		if (!read_kv(json_obj(ev, "kv"), root, deleted, e->items, &e->last, NULL, err))
			return false;
		if (e->last < before || e->last == 0)
			return fail_odd("changes out of order", err);
	}
	return true;
}

static bool read_result(const Json *result, const char *root, struct wire_event *e, GError **err)
{
	if (!wire_header_read(result, &e->header, err) ||
	    !read_int(result, "compact_revision", &e->compacted, err) || !read_events(result, root, e, err))
		return false;
	e->created = json_bool(result, "created", false);
	e->fragment = json_bool(result, "fragment", false);
	if (json_bool(result, "canceled", false) && e->compacted == 0) {
		const char *why = json_str(result, "cancel_reason");

		e->words = g_strdup(why != NULL ? why : "the watch was cancelled");
	}
	e->progress = !e->created && !e->fragment && e->last == 0 && e->compacted == 0 && e->words == NULL;
	return true;
}

bool wire_event_read(const char *line, size_t len, const char *root, struct wire_event *ret, GError **err)
{
	struct wire_event e = { .items = store_items_new() };
	_cleanup_json_ Json *j = json_parse(line, len, NULL);
	const Json *result = json_obj(j, "result"), *error = json_obj(j, "error");
	bool ok = true;

	if (result != NULL) {
		ok = read_result(result, root, &e, err);
	} else if (error != NULL) {
		const char *words = json_str(error, "message");

		e.words = g_strdup(words != NULL ? words : "no reason given");
		e.grpc_code = (int)json_int(error, "grpc_code", 2);
	} else if (json_str(j, "error") != NULL) {
		e.words = g_strdup(json_str(j, "error"));
		e.grpc_code = (int)json_int(j, "code", 2);
	} else {
		ok = fail_odd("a line of a watch", err);
	}
	if (ok)
		*ret = e;
	else
		wire_event_clear(&e);
	return ok;
}

void wire_event_clear(struct wire_event *e)
{
	g_clear_pointer(&e->items, g_ptr_array_unref);
	g_clear_pointer(&e->words, g_free);
}
