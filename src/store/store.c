/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store-impl.h"

#include <inttypes.h>
#include <string.h>

static const StoreBackend *const backends[] = { &store_sqlite, &store_mem, &store_etcd, &store_cache,
						&store_trace };

static const StoreBackend *find_backend(const char *url, const char **ret_where)
{
	for (size_t i = 0; i < G_N_ELEMENTS(backends); i++) {
		size_t n = strlen(backends[i]->scheme);

		if (strncmp(url, backends[i]->scheme, n) == 0 && url[n] == ':') {
			*ret_where = url + n + 1;
			return backends[i];
		}
	}
	return NULL;
}

/* The URL itself is not repeated: that of a remote store may hold a password. */
static bool fail_unknown(GError **err)
{
	g_autoptr(GString) known = g_string_new(NULL);

	for (size_t i = 0; i < G_N_ELEMENTS(backends); i++)
		g_string_append_printf(known, "%s%s", i == 0 ? "" : ", ", backends[i]->usage);
	fail(err, ERR_INVALID, "this is not the URL of a store");
	return err_advise(err, "Use one of %s.", known->str);
}

Store *store_open(const char *url, GError **err)
{
	const StoreBackend *be;
	const char *where;
	Store *s;

	be = find_backend(url, &where);
	if (be == NULL) {
		fail_unknown(err);
		return NULL;
	}
	s = g_malloc0(be->size);
	s->be = be;
	return be->open(s, where, err) ? s : store_close(s);
}

Store *store_close(Store *s)
{
	if (s != NULL) {
		s->be->close(s);
		g_free(s);
	}
	return NULL;
}

/* What names a key to a person who sent something else. */
static char *shown(const char *key)
{
	g_autofree char *escaped = g_strescape(key, NULL);

	if (strlen(escaped) > 80)
		memcpy(escaped + 77, "...", 4);
	return g_steal_pointer(&escaped);
}

static bool prefix_check(const char *prefix, GError **err)
{
	size_t n = strnlen(prefix, STORE_KEY_MAX + 1);
	bool ok = n <= STORE_KEY_MAX;

	for (size_t i = 0; ok && i < n; i++)
		ok = g_ascii_isgraph(prefix[i]);
	if (!ok) {
		g_autofree char *text = shown(prefix);

		return fail(
		    err, ERR_INVALID,
		    "'%s' can't be a key of the store: at most %d printable characters without spaces", text,
		    STORE_KEY_MAX);
	}
	return true;
}

static bool key_check(const char *key, GError **err)
{
	if (key[0] == '\0')
		return fail(err, ERR_INVALID, "a key of the store can't be empty");
	return prefix_check(key, err);
}

StoreItem *store_get(Store *s, const char *key, GError **err)
{
	return key_check(key, err) ? s->be->get(s, key, err) : NULL;
}

GPtrArray *store_list(Store *s, const char *prefix, int64_t *ret_rev, GError **err)
{
	int64_t rev;

	return prefix_check(prefix, err) ? s->be->list(s, prefix, ret_rev != NULL ? ret_rev : &rev, err)
					 : NULL;
}

int64_t store_revision(Store *s, GError **err)
{
	return s->be->revision(s, err);
}

bool store_sync(Store *s, GError **err)
{
	return s->be->sync == NULL || s->be->sync(s, err);
}

uint64_t store_age(Store *s)
{
	return s->be->age != NULL ? s->be->age(s) : 0;
}

bool store_catch_up(Store *s, GError **err)
{
	return s->be->catch_up == NULL || s->be->catch_up(s, err);
}

bool store_catch_up_to(Store *s, int64_t rev, GError **err)
{
	return s->be->catch_up == NULL || store_revision(s, NULL) >= rev || store_catch_up(s, err);
}

bool store_compact(Store *s, int64_t upto, GError **err)
{
	if (upto < 0)
		return fail(err, ERR_INVALID, "%" PRId64 " is not a revision", upto);
	return s->be->compact(s, upto, err);
}

StoreItem *store_item_new(const char *key, const char *value, int64_t rev)
{
	StoreItem *i = g_new(StoreItem, 1);

	*i = (StoreItem){ .key = g_strdup(key), .value = g_strdup(value), .rev = rev };
	return i;
}

StoreItem *store_item_free(StoreItem *i)
{
	if (i != NULL) {
		g_free(i->key);
		g_free(i->value);
		g_free(i);
	}
	return NULL;
}

static void drop_item(gpointer p)
{
	store_item_free(p);
}

GPtrArray *store_items_new(void)
{
	return g_ptr_array_new_with_free_func(drop_item);
}

static void drop_write(gpointer p)
{
	StoreWrite *w = p;

	g_free(w->key);
	g_free(w->value);
	g_free(w);
}

StoreTx *store_tx_new(void)
{
	StoreTx *tx = g_new(StoreTx, 1);

	tx->write = g_ptr_array_new_with_free_func(drop_write);
	return tx;
}

StoreTx *store_tx_free(StoreTx *tx)
{
	if (tx != NULL) {
		g_ptr_array_unref(tx->write);
		g_free(tx);
	}
	return NULL;
}

static StoreWrite *tx_add(StoreTx *tx, const char *key, int64_t rev, const char *value)
{
	StoreWrite *w = g_new0(StoreWrite, 1);

	w->key = g_strdup(key);
	w->value = g_strdup(value);
	w->rev = rev;
	g_ptr_array_add(tx->write, w);
	return w;
}

void store_tx_set(StoreTx *tx, const char *key, int64_t rev, const char *value)
{
	tx_add(tx, key, rev, value);
}

void store_tx_bind(StoreTx *tx, const char *key, int64_t rev, const char *value, const StoreLease *lease)
{
	g_assert(value != NULL);
	tx_add(tx, key, rev, value)->lease = lease->id;
}

void store_tx_expect(StoreTx *tx, const char *key, int64_t rev)
{
	tx_add(tx, key, rev, NULL)->expect_only = true;
}

static bool write_check(const StoreWrite *w, size_t *values, GError **err)
{
	if (!key_check(w->key, err))
		return false;
	if (w->rev < STORE_ANY)
		return fail(err, ERR_INVALID, "%" PRId64 " is not a revision of '%s'", w->rev, w->key);
	if (w->value == NULL)
		return true;
	*values += strlen(w->value);
	if (*values > STORE_VALUE_MAX)
		return fail_advice(err, ERR_INVALID, "Make the record smaller, or write it in several steps.",
				   "'%s' is too large: a change may hold %zu bytes", w->key, STORE_VALUE_MAX);
	if (!g_utf8_validate(w->value, -1, NULL))
		return fail(err, ERR_INVALID, "the value of '%s' is not UTF-8", w->key);
	return true;
}

static bool tx_check(const StoreTx *tx, GError **err)
{
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
	size_t values = 0;

	if (tx->write->len == 0 || tx->write->len > STORE_TX_MAX)
		return fail(err, ERR_INVALID, "a change of %u keys: it must have 1 to %d", tx->write->len,
			    STORE_TX_MAX);
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];

		if (!write_check(w, &values, err))
			return false;
		if (!g_hash_table_add(seen, w->key))
			return fail(err, ERR_INVALID, "a change names '%s' twice", w->key);
	}
	return true;
}

bool store_fail_conflict(const StoreWrite *w, int64_t found, GError **err)
{
	fail_advice(err, ERR_CONFLICT, "Read it again, and repeat the change on what is there now.",
		    "'%s' was changed by someone else", w->key);
	err_detail(err, "key", json_string(w->key));
	return err_detail(err, "revision", json_integer(found));
}

bool store_is_conflict(const GError *e)
{
	return g_error_matches(e, ERR, ERR_CONFLICT) && json_str(err_details(e), "key") != NULL &&
	       json_is_integer(json_object_get(err_details(e), "revision"));
}

bool store_came_to_nothing(const GError *e)
{
	return g_error_matches(e, ERR, ERR_CONFLICT) || g_error_matches(e, ERR, ERR_INVALID) ||
	       g_error_matches(e, ERR, ERR_NO_SPACE) || g_error_matches(e, ERR, ERR_DENIED);
}

bool store_retry(StoreTry try, void *data, GError **err)
{
	for (;;) {
		g_autoptr(GError) e = NULL;

		if (try(data, &e))
			return true;
		if (!store_is_conflict(e)) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}

bool store_commit(Store *s, StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	g_autoptr(StoreTx) own = tx;
	int64_t rev;

	if (!tx_check(own, err) || !s->be->commit(s, own, flags, &rev, err))
		return false;
	if (ret_rev != NULL)
		*ret_rev = rev;
	return true;
}

StoreWatch *store_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err)
{
	StoreWatch *w;

	if (!prefix_check(prefix, err))
		return NULL;
	if (after_rev < 0) {
		fail(err, ERR_INVALID, "%" PRId64 " is not a revision", after_rev);
		return NULL;
	}
	w = s->be->watch_open(s, prefix, after_rev, err);
	if (w != NULL)
		w->store = s;
	return w;
}

int store_watch_fd(const StoreWatch *w)
{
	return w->store->be->watch_fd(w);
}

bool store_watch_next(StoreWatch *w, GPtrArray **ret_changes, GError **err)
{
	return w->store->be->watch_next(w, ret_changes, err);
}

StoreWatch *store_watch_close(StoreWatch *w)
{
	if (w != NULL)
		w->store->be->watch_close(w);
	return NULL;
}

static bool fail_no_leases(GError **err)
{
	return fail_advice(err, ERR_UNSUPPORTED, "Make the host a pool first: `plim pool init`.",
			   "the store of a single host has no leases");
}

StoreLease *store_lease_grant(Store *s, uint64_t ttl, GError **err)
{
	StoreLease *l;

	if (s->be->lease_grant == NULL) {
		fail_no_leases(err);
		return NULL;
	}
	if (ttl < STORE_LEASE_MIN || ttl > STORE_LEASE_MAX) {
		fail(err, ERR_INVALID, "a lease lasts from a second to a day, not %" PRIu64 " us", ttl);
		return NULL;
	}
	l = g_new0(StoreLease, 1);
	l->store = s;
	return s->be->lease_grant(s, l, ttl, err) ? l : store_lease_free(l);
}

bool store_lease_wrap(Store *inner, StoreLease *l, uint64_t ttl, GError **err)
{
	g_autoptr(StoreLease) own = store_lease_grant(inner, ttl, err);

	if (own == NULL)
		return false;
	l->store = own->store;
	l->id = own->id;
	l->until = own->until;
	return true;
}

bool store_lease_renew(StoreLease *l, uint64_t timeout, GError **err)
{
	return l->store->be->lease_renew(l->store, l, timeout, err);
}

uint64_t store_lease_until(const StoreLease *l)
{
	return l->until;
}

int64_t store_lease_id(const StoreLease *l)
{
	return l->id;
}

bool store_lease_revoke(StoreLease *l, GError **err)
{
	return l->store->be->lease_revoke(l->store, l, err);
}

StoreLease *store_lease_free(StoreLease *l)
{
	g_free(l);
	return NULL;
}
