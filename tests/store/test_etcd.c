/* SPDX-License-Identifier: Apache-2.0 */
/* What only the store in etcd does. Runs beside an etcd whose URL is in PLIMSOLL_ETCD: see with_etcd.py. */
#include "base/time.h"
#include "store/store-etcd.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#define DEADLINE_US UINT64_C(120000000)
#define SECOND UINT64_C(1000000)

typedef struct Fixture {
	char *url, *root;
	Store *s;
} Fixture;

static Store *open_store(const char *url)
{
	g_autoptr(GError) err = NULL;
	Store *s = store_open(url, &err);

	g_assert_no_error(err);
	g_assert_nonnull(s);
	return s;
}

static void set_up(Fixture *f, gconstpointer unused)
{
	g_autofree char *id = uuid_new();

	(void)unused;
	f->root = g_strconcat("/test/", id, "/", NULL);
	f->url = g_strdup_printf("etcd:%s?root=%s", g_getenv("PLIMSOLL_ETCD"), f->root);
	f->s = open_store(f->url);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
	(void)unused;
	store_close(f->s);
	g_free(f->url);
	g_free(f->root);
}

/* ---- leases ---- */

static StoreLease *grant(Fixture *f, uint64_t ttl)
{
	g_autoptr(GError) err = NULL;
	StoreLease *l = store_lease_grant(f->s, ttl, &err);

	g_assert_no_error(err);
	return l;
}

static bool try_put_bound(Fixture *f, const char *key, const StoreLease *l, int64_t *ret_rev, GError **err)
{
	StoreTx *tx = store_tx_new();

	store_tx_bind(tx, key, STORE_ANY, "alive", l);
	return store_commit(f->s, tx, STORE_DURABLE, ret_rev, err);
}

static int64_t put_bound(Fixture *f, const char *key, const StoreLease *l)
{
	g_autoptr(GError) err = NULL;
	int64_t rev = 0;

	try_put_bound(f, key, l, &rev, &err);
	g_assert_no_error(err);
	return rev;
}

/* A short lease with a key bound to it. On a busy machine one may end before that: another one then. */
static StoreLease *grant_bound(Fixture *f, uint64_t ttl, const char *key, int64_t *ret_rev)
{
	for (uint64_t end = time_monotonic() + DEADLINE_US;;) {
		StoreLease *l = grant(f, ttl);
		g_autoptr(GError) err = NULL;

		if (try_put_bound(f, key, l, ret_rev, &err))
			return l;
		g_assert_error(err, ERR, ERR_GONE);
		g_assert_cmpuint(time_monotonic(), <, end);
		store_lease_free(l);
	}
}

static bool exists(Fixture *f, const char *key)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(StoreItem) i = store_get(f->s, key, &err);

	g_assert_no_error(err);
	return i != NULL;
}

/* Until a change of `key` is told that deletes it. */
static void wait_for_deletion(StoreWatch *w, const char *key)
{
	for (uint64_t end = time_monotonic() + DEADLINE_US;;) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;

		g_assert_cmpuint(time_monotonic(), <, end);
		poll(&p, 1, 1000);
		g_assert_true(store_watch_next(w, &some, NULL));
		for (guint i = 0; i < some->len; i++) {
			const StoreItem *item = some->pdata[i];

			if (g_str_equal(item->key, key) && item->value == NULL)
				return;
		}
	}
}

static void test_a_key_goes_when_its_lease_is_not_renewed(Fixture *f, gconstpointer unused)
{
	int64_t rev = 0;
	g_autoptr(StoreLease) l = grant_bound(f, SECOND, "host", &rev);
	g_autoptr(StoreWatch) w = store_watch_open(f->s, "", rev, NULL);
	g_autoptr(GError) err = NULL;

	(void)unused;
	wait_for_deletion(w, "host");
	g_assert_cmpuint(time_monotonic(), >, store_lease_until(l)); /* the holder knew first */
	g_assert_false(exists(f, "host"));
	g_assert_false(store_lease_renew(l, SECOND, &err));
	g_assert_error(err, ERR, ERR_GONE);
}

/* Whether a lease of a second held for three. When it did not, one was not renewed in time: the machine is
 * busy. */
static bool holds_while_renewed(Fixture *f)
{
	int64_t rev = 0;
	g_autoptr(StoreLease) l = grant_bound(f, SECOND, "host", &rev);
	uint64_t end = time_monotonic() + 3 * SECOND, until = store_lease_until(l);

	while (time_monotonic() < end) {
		g_autoptr(GError) err = NULL;
		uint64_t before = time_monotonic();

		if (!store_lease_renew(l, SECOND, &err)) {
			g_assert_cmpuint(time_monotonic(), >, until);
			return false;
		}
		g_assert_no_error(err);
		until = store_lease_until(l);
		g_assert_cmpuint(until, >=, before + SECOND);
		g_assert_cmpuint(until, <=, time_monotonic() + SECOND);
		if (!exists(f, "host")) {
			g_assert_cmpuint(time_monotonic(), >, until);
			return false;
		}
		g_usleep(200000); /* not to wait for something, but to renew now and then */
	}
	return true;
}

static void test_a_renewed_lease_holds(Fixture *f, gconstpointer unused)
{
	uint64_t end = time_monotonic() + DEADLINE_US;

	(void)unused;
	while (!holds_while_renewed(f))
		g_assert_cmpuint(time_monotonic(), <, end);
}

static void test_revoking_deletes_at_once(Fixture *f, gconstpointer unused)
{
	g_autoptr(StoreLease) l = grant(f, 600 * SECOND);
	g_autoptr(GError) gone = NULL, err = NULL;
	StoreTx *tx = store_tx_new();

	(void)unused;
	put_bound(f, "a", l);
	put_bound(f, "b", l);
	g_assert_true(store_lease_revoke(l, NULL));
	g_assert_false(exists(f, "a"));
	g_assert_false(exists(f, "b"));
	g_assert_true(store_lease_revoke(l, NULL)); /* again is fine */
	g_assert_false(store_lease_renew(l, SECOND, &gone));
	g_assert_error(gone, ERR, ERR_GONE);
	store_tx_bind(tx, "a", 0, "1", l);
	store_tx_set(tx, "c", 0, "1");
	g_assert_false(store_commit(f->s, tx, STORE_DURABLE, NULL, &err));
	g_assert_error(err, ERR, ERR_GONE);
	g_assert_false(exists(f, "c"));
}

static void test_setting_a_key_unbinds_it(Fixture *f, gconstpointer unused)
{
	g_autoptr(StoreLease) l = grant(f, 600 * SECOND);
	StoreTx *tx = store_tx_new();

	(void)unused;
	put_bound(f, "a", l);
	store_tx_set(tx, "a", STORE_ANY, "kept");
	g_assert_true(store_commit(f->s, tx, STORE_DURABLE, NULL, NULL));
	g_assert_true(store_lease_revoke(l, NULL));
	g_assert_true(exists(f, "a"));
}

static void test_bad_leases_are_refused(Fixture *f, gconstpointer unused)
{
	g_autoptr(Store) alone = open_store("trace:mem:");
	g_autoptr(GError) e1 = NULL, e2 = NULL, e3 = NULL;

	(void)unused;
	g_assert_null(store_lease_grant(f->s, STORE_LEASE_MIN - 1, &e1));
	g_assert_error(e1, ERR, ERR_INVALID);
	g_assert_null(store_lease_grant(f->s, STORE_LEASE_MAX + 1, &e2));
	g_assert_error(e2, ERR, ERR_INVALID);
	g_assert_null(store_lease_grant(alone, SECOND, &e3));
	g_assert_error(e3, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(err_advice(e3));
}

/* ---- whose store is it? ---- */

/* As etcdctl would, past the store. */
static void put_raw(const char *key, const char *value)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(EtcdConfig) config = etcd_config_parse(g_getenv("PLIMSOLL_ETCD"), NULL);
	g_autoptr(EtcdClient) c = etcd_client_new(config, NULL);
	g_autofree char *k = g_base64_encode((const guchar *)key, strlen(key)),
			*v = g_base64_encode((const guchar *)value, strlen(value)),
			*body = g_strdup_printf("{\"key\":\"%s\",\"value\":\"%s\"}", k, v);
	_cleanup_json_ Json *j = etcd_client_call(c, &(EtcdCall){ .path = "kv/put", .body = body }, &err);

	g_assert_no_error(err);
	g_assert_nonnull(j);
}

static void assert_not_opened(const char *root, ErrCode code)
{
	g_autofree char *url = g_strdup_printf("etcd:%s?root=%s", g_getenv("PLIMSOLL_ETCD"), root);
	g_autoptr(GError) err = NULL;

	g_assert_null(store_open(url, &err));
	g_assert_error(err, ERR, (gint)code);
	g_assert_nonnull(err_advice(err));
}

static void test_what_others_wrote_is_left_alone(Fixture *f, gconstpointer unused)
{
	g_autofree char *root = g_strconcat(f->root, "foreign/", NULL), *key = g_strconcat(root, "x", NULL);

	(void)unused;
	put_raw(key, "theirs");
	assert_not_opened(root, ERR_INVALID);
	assert_not_opened(root, ERR_INVALID); /* the first try left nothing behind that would let it in */
}

static void test_a_newer_schema_is_refused(Fixture *f, gconstpointer unused)
{
	g_autofree char *root = g_strconcat(f->root, "new/", NULL),
			*key = g_strconcat(root, WIRE_SCHEMA_KEY, NULL),
			*other = g_strconcat(f->root, "odd/", NULL),
			*odd = g_strconcat(other, WIRE_SCHEMA_KEY, NULL);

	(void)unused;
	put_raw(key, "{\"program\":\"plimsoll\",\"schema\":99}");
	assert_not_opened(root, ERR_UNSUPPORTED);
	put_raw(odd, "hello");
	assert_not_opened(other, ERR_INVALID);
}

static void test_a_foreign_value_is_told(Fixture *f, gconstpointer unused)
{
	g_autofree char *key = g_strconcat(f->root, "x", NULL);
	g_autoptr(GError) err = NULL;

	(void)unused;
	put_raw(key, "\xff\xfe");
	g_assert_null(store_get(f->s, "x", &err));
	g_assert_error(err, ERR, ERR_STORE);
	g_assert_nonnull(err_advice(err));
}

static void test_two_roots_do_not_meet(Fixture *f, gconstpointer unused)
{
	g_autofree char *id = uuid_new(),
			*url = g_strdup_printf("etcd:%s?root=/test/%s/", g_getenv("PLIMSOLL_ETCD"), id);
	g_autoptr(Store) other = open_store(url);
	g_autoptr(GPtrArray) theirs = NULL;
	StoreTx *tx = store_tx_new();

	(void)unused;
	store_tx_set(tx, "a", 0, "1");
	g_assert_true(store_commit(f->s, tx, STORE_DURABLE, NULL, NULL));
	theirs = store_list(other, "", NULL, NULL);
	g_assert_cmpuint(theirs->len, ==, 0);
}

/* More than one page, and values that make a page too long for one answer. */
static void test_a_long_list_is_whole(Fixture *f, gconstpointer unused)
{
	enum { TX = 18, KEYS = 127 };
	g_autoptr(GPtrArray) all = NULL;

	(void)unused;
	for (int t = 0; t < TX; t++) {
		StoreTx *tx = store_tx_new();

		for (int k = 0; k < KEYS; k++) {
			g_autofree char *key = g_strdup_printf("%02d/%03d", t, k);

			store_tx_set(tx, key, 0, "1");
		}
		g_assert_true(store_commit(f->s, tx, STORE_DURABLE, NULL, NULL));
	}
	all = store_list(f->s, "", NULL, NULL);
	g_assert_cmpuint(all->len, ==, TX * KEYS);
	for (guint i = 0; i < all->len; i++) {
		g_autofree char *key = g_strdup_printf("%02d/%03d", (int)i / KEYS, (int)i % KEYS);

		g_assert_cmpstr(((StoreItem *)all->pdata[i])->key, ==, key);
	}
}

/* ---- marks ---- */

static void test_old_marks_are_swept_and_young_ones_kept(Fixture *f, gconstpointer unused)
{
	g_autofree char *old = g_strconcat(f->root, WIRE_MARK_PREFIX, "old", NULL),
			*young = g_strconcat(f->root, WIRE_MARK_PREFIX, "young", NULL),
			*now = g_strdup_printf("%" PRIu64 " x", time_real() / SECOND), *body = NULL;
	_cleanup_json_ Json *j = NULL;
	struct wire_header h;

	(void)unused;
	put_raw(old, "1000000000 x");
	put_raw(young, now);
	store_close(f->s);
	f->s = open_store(f->url);
	body = wire_range(f->root, WIRE_MARK_PREFIX, WIRE_PREFIX, 0, 0);
	j = etcd_ask((EtcdStore *)f->s, &(EtcdCall){ .path = "kv/range", .body = body }, &h, NULL);
	g_assert_cmpuint(json_array_size(json_arr(j, "kvs")), ==, 1);
}

/* A mark that is swept under a commit's feet costs another try, not a conflict. */
static void test_a_commit_outlives_the_sweep_of_its_mark(Fixture *f, gconstpointer unused)
{
	const char *const keys[] = { "a", "b" };

	(void)unused;
	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
		g_autoptr(GError) err = NULL;
		g_autofree char *body = NULL;
		_cleanup_json_ Json *j = NULL;
		StoreTx *tx = store_tx_new();
		struct wire_header h;

		store_tx_set(tx, keys[i], 0, "1");
		store_commit(f->s, tx, STORE_DURABLE, NULL, &err);
		g_assert_no_error(err);
		body = wire_range(f->root, WIRE_MARK_PREFIX, WIRE_PREFIX, 0, 0);
		j = etcd_ask((EtcdStore *)f->s, &(EtcdCall){ .path = "kv/deleterange", .body = body }, &h,
			     NULL);
		g_assert_cmpstr(json_str(j, "deleted"), ==, "1");
	}
}

/* ---- another etcd, or an older one ---- */

static void test_a_store_that_went_back_is_not_used(Fixture *f, gconstpointer unused)
{
	EtcdStore *s = (EtcdStore *)f->s;
	g_autoptr(StoreWatch) w = store_watch_open(f->s, "", 0, NULL);
	struct wire_header back = { .cluster = s->cluster, .rev = 1 };
	g_autoptr(GError) e1 = NULL, e2 = NULL, e3 = NULL;
	StoreTx *tx = store_tx_new();

	(void)unused;
	g_assert_false(etcd_header_fits(s, &back, etcd_seen(s), &e1));
	g_assert_error(e1, ERR, ERR_STORE);
	store_tx_set(tx, "a", 0, "1");
	g_assert_false(store_commit(f->s, tx, STORE_DURABLE, NULL, &e2));
	g_assert_error(e2, ERR, ERR_STORE);
	g_assert_nonnull(err_advice(e2));
	while (e3 == NULL) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;

		g_assert_cmpint(poll(&p, 1, DEADLINE_US / 1000), ==, 1);
		store_watch_next(w, &some, &e3);
	}
	g_assert_error(e3, ERR, ERR_GONE);
}

static void test_another_cluster_is_not_used(Fixture *f, gconstpointer unused)
{
	EtcdStore *s = (EtcdStore *)f->s;
	struct wire_header other = { .cluster = s->cluster + 1, .rev = INT64_MAX };
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_false(etcd_header_fits(s, &other, 0, NULL));
	g_assert_cmpint(store_revision(f->s, &err), ==, -1);
	g_assert_error(err, ERR, ERR_STORE);
}

static void put_value(Store *s, const char *key, const char *value)
{
	g_autoptr(GError) err = NULL;
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, value);
	store_commit(s, tx, STORE_RELAXED, NULL, &err);
	g_assert_no_error(err);
}

/* Also when others of the same etcd moved its revision behind that. */
static void test_a_cache_that_caught_up_shows_what_another_wrote(Fixture *f, gconstpointer unused)
{
	g_autofree char *url = g_strconcat("cache:", f->url, NULL);
	Store *cache = open_store(url);

	(void)unused;
	for (int i = 0; i < 50; i++) {
		g_autofree char *value = g_strdup_printf("\"%d\"", i),
				*foreign = g_strconcat("/else/", f->root, NULL);
		g_autoptr(GError) err = NULL;
		g_autoptr(StoreItem) item = NULL;

		put_value(f->s, "k", value);
		if (i % 10 == 0)
			put_raw(foreign, "x");
		g_assert_true(store_catch_up(cache, &err));
		g_assert_no_error(err);
		item = store_get(cache, "k", &err);
		g_assert_nonnull(item);
		g_assert_cmpstr(item->value, ==, value);
	}
	store_close(cache);
}

/* And what is not committed yet, and may never be, is not waited for. */
static void test_a_cache_comes_up_to_what_another_has_seen(Fixture *f, gconstpointer unused)
{
	g_autofree char *url = g_strconcat("cache:", f->url, NULL),
			*foreign = g_strconcat("/else/", f->root, NULL);
	Store *cache = open_store(url);

	(void)unused;
	for (int i = 0; i < 30; i++) {
		g_autoptr(GError) err = NULL;
		int64_t seen;

		put_value(f->s, "k", "1");
		if (i % 3 == 0)
			put_raw(foreign, "x");
		seen = store_revision(f->s, &err);
		g_assert_no_error(err);
		g_assert_true(store_catch_up_to(cache, i % 3 == 1 ? INT64_MAX : seen, &err));
		g_assert_no_error(err);
		g_assert_cmpint(store_revision(cache, NULL), >=, seen);
	}
	store_close(cache);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add("/etcd/" #name, Fixture, NULL, set_up, test_##name, tear_down)
	T(a_key_goes_when_its_lease_is_not_renewed);
	T(a_renewed_lease_holds);
	T(revoking_deletes_at_once);
	T(setting_a_key_unbinds_it);
	T(bad_leases_are_refused);
	T(what_others_wrote_is_left_alone);
	T(a_newer_schema_is_refused);
	T(a_foreign_value_is_told);
	T(two_roots_do_not_meet);
	T(a_long_list_is_whole);
	T(old_marks_are_swept_and_young_ones_kept);
	T(a_commit_outlives_the_sweep_of_its_mark);
	T(a_store_that_went_back_is_not_used);
	T(another_cluster_is_not_used);
	T(a_cache_that_caught_up_shows_what_another_wrote);
	T(a_cache_comes_up_to_what_another_has_seen);
	return g_test_run();
}
