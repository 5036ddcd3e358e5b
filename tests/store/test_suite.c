/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contract of the store: a back end is right when it passes this.
 *
 * Every test runs on every URL: the built-in ones and those in the environment
 * variable PLIMSOLL_STORE_URLS, separated by spaces, as in
 *
 *   PLIMSOLL_STORE_URLS="etcd:http://127.0.0.1:2379 trace:etcd:http://127.0.0.1:2379" \
 *       meson test -C build store-suite
 *
 * "%DIR%" in a URL stands for an empty folder of each test's own. A store need
 * not be empty, but while the suite runs nobody else may write to it. A test
 * works below a root that it draws at random and empties it at its end.
 */
#include "base/fd.h"
#include "base/time.h"
#include "store/store.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>

#define DEADLINE_US UINT64_C(120000000)

/* `label` names it in the output: a URL may hold a password. */
static const struct {
	const char *label, *url;
} builtin[] = {
	{ "mem", "mem:" },
	{ "sqlite", "sqlite:%DIR%/state.db" },
	{ "trace-mem", "trace:mem:" },
	{ "trace-sqlite", "trace:sqlite:%DIR%/state.db" },
};

typedef struct Fixture {
	Store *s;
	char *url, *dir, *root;
	GPtrArray *text; /* what key() made */
} Fixture;

static void fixture_open(Fixture *f)
{
	g_autoptr(GError) err = NULL;

	f->s = store_open(f->url, &err);
	g_assert_no_error(err);
	g_assert_nonnull(f->s);
}

static void set_up(Fixture *f, gconstpointer pattern)
{
	g_auto(GStrv) part = g_strsplit(pattern, "%DIR%", 2);
	g_autofree char *id = uuid_new();

	f->dir = g_dir_make_tmp("plimsoll-store-XXXXXX", NULL);
	g_assert_nonnull(f->dir);
	f->url = part[1] != NULL ? g_strconcat(part[0], f->dir, part[1], NULL) : g_strdup(pattern);
	f->root = g_strdup_printf("/suite/%s/", id);
	f->text = g_ptr_array_new_with_free_func(g_free);
	fixture_open(f);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
	g_autoptr(GPtrArray) left = store_list(f->s, f->root, NULL, NULL);

	(void)unused;
	for (guint i = 0; i < left->len; i++) {
		StoreTx *tx = store_tx_new();

		store_tx_set(tx, ((StoreItem *)left->pdata[i])->key, STORE_ANY, NULL);
		g_assert_true(store_commit(f->s, tx, STORE_RELAXED, NULL, NULL));
	}
	store_close(f->s);
	g_assert_true(dir_remove(f->dir, NULL));
	g_ptr_array_unref(f->text);
	g_free(f->root);
	g_free(f->url);
	g_free(f->dir);
}

static const char *key(Fixture *f, const char *rest)
{
	char *k = g_strconcat(f->root, rest, NULL);

	g_ptr_array_add(f->text, k);
	return k;
}

static int64_t put(Fixture *f, const char *rest, int64_t rev, const char *value)
{
	g_autoptr(GError) err = NULL;
	StoreTx *tx = store_tx_new();
	int64_t ret = -1;

	store_tx_set(tx, key(f, rest), rev, value);
	store_commit(f->s, tx, STORE_DURABLE, &ret, &err);
	g_assert_no_error(err);
	g_assert_cmpint(ret, >, 0);
	return ret;
}

static int64_t now(Fixture *f)
{
	g_autoptr(GError) err = NULL;
	int64_t rev = store_revision(f->s, &err);

	g_assert_no_error(err);
	g_assert_cmpint(rev, >=, 0);
	return rev;
}

/* "key=value@rev key=value@rev", keys without the root: compared as one text. */
static char *print_items(Fixture *f, const GPtrArray *items)
{
	GString *s = g_string_new(NULL);

	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];

		g_assert_true(g_str_has_prefix(item->key, f->root));
		g_string_append_printf(s, "%s%s=%s@%" PRId64, i == 0 ? "" : " ", item->key + strlen(f->root),
				       item->value != NULL ? item->value : "-", item->rev);
	}
	return g_string_free(s, FALSE);
}

static void assert_items(Fixture *f, const GPtrArray *items, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
static void assert_items(Fixture *f, const GPtrArray *items, const char *fmt, ...)
{
	g_autofree char *is = print_items(f, items), *should = NULL;
	va_list ap;

	va_start(ap, fmt);
	should = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	g_assert_cmpstr(is, ==, should);
}

static GPtrArray *list(Fixture *f, const char *rest, int64_t *ret_rev)
{
	g_autoptr(GError) err = NULL;
	GPtrArray *a = store_list(f->s, key(f, rest), ret_rev, &err);

	g_assert_no_error(err);
	g_assert_nonnull(a);
	return a;
}

static char *print_all(Fixture *f)
{
	g_autoptr(GPtrArray) all = list(f, "", NULL);

	return print_items(f, all);
}

/* A cache of an etcd moves the revision by itself when it has fallen behind; that changes no key. */
static void assert_at(Fixture *f, int64_t rev, int64_t should)
{
	g_assert_cmpint(rev, >=, should);
	if (!g_str_has_prefix(f->url, "cache:etcd:"))
		g_assert_cmpint(rev, ==, should);
}

static void assert_unchanged(Fixture *f, const char *was, int64_t before)
{
	g_autofree char *is = print_all(f);

	g_assert_cmpstr(is, ==, was);
	assert_at(f, now(f), before);
}

static void assert_absent(Fixture *f, const char *rest)
{
	g_autoptr(GError) err = NULL;

	g_assert_null(store_get(f->s, key(f, rest), &err));
	g_assert_no_error(err);
}

static void assert_is(Fixture *f, const char *rest, const char *value, int64_t rev)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(StoreItem) i = store_get(f->s, key(f, rest), &err);

	g_assert_no_error(err);
	g_assert_nonnull(i);
	g_assert_cmpstr(i->key, ==, key(f, rest));
	g_assert_cmpstr(i->value, ==, value);
	g_assert_cmpint(i->rev, ==, rev);
}

static StoreWatch *watch(Fixture *f, const char *rest, int64_t after)
{
	g_autoptr(GError) err = NULL;
	StoreWatch *w = store_watch_open(f->s, key(f, rest), after, &err);

	g_assert_no_error(err);
	g_assert_nonnull(w);
	return w;
}

static void drop_item(gpointer p)
{
	store_item_free(p);
}

/* Waits until the watch has told `n` changes in all; fails when it tells more. */
static GPtrArray *collect(StoreWatch *w, guint n)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(drop_item);
	uint64_t deadline = time_monotonic() + DEADLINE_US;

	while (all->len < n) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;
		g_autoptr(GError) err = NULL;

		g_assert_cmpint(poll(&p, 1, 1000), >=, 0);
		g_assert_cmpuint(time_monotonic(), <, deadline);
		g_assert_true(store_watch_next(w, &some, &err));
		g_assert_no_error(err);
		g_ptr_array_extend_and_steal(all, g_steal_pointer(&some));
	}
	g_assert_cmpuint(all->len, ==, n);
	return all;
}

/* ---- values ---- */

static void test_absent_is_no_error(Fixture *f, gconstpointer unused)
{
	g_autoptr(GPtrArray) a = list(f, "none", NULL);

	(void)unused;
	assert_absent(f, "none");
	g_assert_cmpuint(a->len, ==, 0);
}

static void test_list_is_in_byte_order_of_a_byte_prefix(Fixture *f, gconstpointer unused)
{
	int64_t b = put(f, "vm/b", 0, "{}"), a = put(f, "vm/a", 0, "[]"), upper = put(f, "vm/B", 0, "1"),
		longer = put(f, "vma", 0, "2"), host, rev;
	g_autoptr(GPtrArray) in_vm = list(f, "vm/", &rev), vm = list(f, "vm", NULL),
			     exact = list(f, "vm/b", NULL);

	(void)unused;
	host = put(f, "host", 0, "3");
	assert_items(f, in_vm, "vm/B=1@%" PRId64 " vm/a=[]@%" PRId64 " vm/b={}@%" PRId64, upper, a, b);
	assert_items(f, vm, "vm/B=1@%" PRId64 " vm/a=[]@%" PRId64 " vm/b={}@%" PRId64 " vma=2@%" PRId64,
		     upper, a, b, longer);
	assert_items(f, exact, "vm/b={}@%" PRId64, b);
	g_assert_cmpint(rev, >=, longer);
	g_assert_cmpint(rev, <, host);
}

/* Wildcards of SQL and the last byte before the end of the range mean nothing special. */
static void test_prefix_has_no_wildcards(Fixture *f, gconstpointer unused)
{
	int64_t a = put(f, "%_~*", 0, "1");
	g_autoptr(GPtrArray) all = NULL, none = NULL, tilde = NULL,
			     root = store_list(f->s, f->root, NULL, NULL);

	(void)unused;
	put(f, "xy", 0, "2");
	all = list(f, "%", NULL);
	none = list(f, "_", NULL);
	tilde = list(f, "%_~", NULL);
	assert_items(f, all, "%%_~*=1@%" PRId64, a);
	assert_items(f, tilde, "%%_~*=1@%" PRId64, a);
	g_assert_cmpuint(none->len, ==, 0);
	g_assert_cmpuint(root->len, ==, 1);
}

static void test_empty_prefix_lists_everything(Fixture *f, gconstpointer unused)
{
	g_autoptr(GPtrArray) all = NULL;
	guint mine = 0;

	(void)unused;
	put(f, "a", 0, "1");
	put(f, "~", 0, "2");
	all = store_list(f->s, "", NULL, NULL);
	g_assert_nonnull(all);
	for (guint i = 0; i < all->len; i++)
		if (g_str_has_prefix(((StoreItem *)all->pdata[i])->key, f->root))
			mine++;
	g_assert_cmpuint(mine, ==, 2);
}

static void test_a_commit_has_one_revision(Fixture *f, gconstpointer unused)
{
	int64_t before = now(f), rev = 0;
	StoreTx *tx = store_tx_new();

	(void)unused;
	store_tx_set(tx, key(f, "a"), 0, "1");
	store_tx_set(tx, key(f, "b"), STORE_ANY, "2");
	g_assert_true(store_commit(f->s, tx, STORE_DURABLE, &rev, NULL));
	g_assert_cmpint(rev, >, before);
	g_assert_cmpint(now(f), >=, rev);
	assert_is(f, "a", "1", rev);
	assert_is(f, "b", "2", rev);
	g_assert_cmpint(put(f, "a", rev, "3"), >, rev);
	assert_is(f, "b", "2", rev);
}

static void test_relaxed_commit_is_seen_at_once(Fixture *f, gconstpointer unused)
{
	int64_t rev = 0, durable;
	StoreTx *tx = store_tx_new();

	(void)unused;
	store_tx_set(tx, key(f, "a"), 0, "relaxed");
	g_assert_true(store_commit(f->s, tx, STORE_RELAXED, &rev, NULL));
	assert_is(f, "a", "relaxed", rev);
	durable = put(f, "a", rev, "durable");
	assert_is(f, "a", "durable", durable);
}

/* ---- compare and swap ---- */

static void assert_conflict(Fixture *f, StoreTx *tx, const char *rest, int64_t found)
{
	g_autoptr(GError) err = NULL;
	g_autofree char *was = print_all(f);
	int64_t before = now(f), rev = -7;

	g_assert_false(store_commit(f->s, tx, STORE_DURABLE, &rev, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_nonnull(err_advice(err));
	g_assert_cmpstr(json_str(err_details(err), "key"), ==, key(f, rest));
	g_assert_cmpint(json_int(err_details(err), "revision", -1), ==, found);
	g_assert_cmpint(rev, ==, -7);
	assert_unchanged(f, was, before);
}

static void test_conflict_changes_nothing(Fixture *f, gconstpointer unused)
{
	int64_t first = put(f, "a", 0, "1"), second = put(f, "a", first, "2"), other = put(f, "b", 0, "b");
	StoreTx *tx = store_tx_new();

	(void)unused;
	store_tx_set(tx, key(f, "new"), 0, "x");
	store_tx_set(tx, key(f, "b"), other, NULL);
	store_tx_set(tx, key(f, "a"), first, "3");
	assert_conflict(f, tx, "a", second);
	assert_absent(f, "new");
	assert_is(f, "b", "b", other);
	assert_is(f, "a", "2", second);
}

static void test_create_refuses_what_exists(Fixture *f, gconstpointer unused)
{
	int64_t rev = put(f, "a", 0, "1");
	StoreTx *tx = store_tx_new();

	(void)unused;
	store_tx_set(tx, key(f, "a"), 0, "2");
	assert_conflict(f, tx, "a", rev);
	assert_is(f, "a", "1", rev);
}

static void test_update_refuses_what_is_gone(Fixture *f, gconstpointer unused)
{
	int64_t rev = put(f, "a", 0, "1");
	StoreTx *tx = store_tx_new();

	(void)unused;
	put(f, "a", rev, NULL);
	store_tx_set(tx, key(f, "a"), rev, "2");
	assert_conflict(f, tx, "a", 0);
	assert_absent(f, "a");
}

/* Made anew, a key is another one: a revision of its former life must not match. */
static void test_a_key_made_anew_has_a_new_revision(Fixture *f, gconstpointer unused)
{
	int64_t first = put(f, "a", 0, "1"), again;
	StoreTx *tx = store_tx_new();

	(void)unused;
	put(f, "a", first, NULL);
	again = put(f, "a", 0, "1");
	g_assert_cmpint(again, >, first);
	store_tx_set(tx, key(f, "a"), first, "2");
	assert_conflict(f, tx, "a", again);
}

static void test_delete(Fixture *f, gconstpointer unused)
{
	int64_t rev = put(f, "a", 0, "1"), after;
	StoreTx *tx = store_tx_new();

	(void)unused;
	store_tx_set(tx, key(f, "a"), rev + 1, NULL);
	assert_conflict(f, tx, "a", rev);
	after = put(f, "a", rev, NULL);
	g_assert_cmpint(after, >, rev);
	assert_absent(f, "a");
}

static void test_deleting_nothing_changes_nothing(Fixture *f, gconstpointer unused)
{
	g_autofree char *was = NULL;
	int64_t before, rev = -1;
	StoreTx *tx = store_tx_new();

	(void)unused;
	put(f, "other", 0, "1");
	was = print_all(f);
	before = now(f);
	store_tx_set(tx, key(f, "a"), STORE_ANY, NULL);
	store_tx_set(tx, key(f, "b"), 0, NULL);
	g_assert_true(store_commit(f->s, tx, STORE_DURABLE, &rev, NULL));
	assert_at(f, rev, before);
	assert_unchanged(f, was, before);
}

static void test_expectation_guards_without_writing(Fixture *f, gconstpointer unused)
{
	int64_t lock = put(f, "lock", 0, "mine"), rev = 0, before;
	StoreTx *holds = store_tx_new(), *lost = store_tx_new(), *alone = store_tx_new();

	(void)unused;
	store_tx_expect(holds, key(f, "lock"), lock);
	store_tx_expect(holds, key(f, "none"), 0);
	store_tx_set(holds, key(f, "a"), 0, "1");
	g_assert_true(store_commit(f->s, holds, STORE_DURABLE, &rev, NULL));
	assert_is(f, "lock", "mine", lock);
	assert_absent(f, "none");

	store_tx_expect(lost, key(f, "lock"), lock + 1);
	store_tx_set(lost, key(f, "a"), rev, "2");
	assert_conflict(f, lost, "lock", lock);
	assert_is(f, "a", "1", rev);

	store_tx_expect(alone, key(f, "lock"), lock);
	before = now(f);
	g_assert_true(store_commit(f->s, alone, STORE_DURABLE, &rev, NULL));
	assert_at(f, rev, before);
	g_assert_cmpint(rev, <=, now(f));
}

/* ---- bounds ---- */

static char *text_of(size_t len, char c)
{
	char *s = g_malloc(len + 1);

	memset(s, c, len);
	s[len] = '\0';
	return s;
}

static void refuse(Fixture *f, StoreTx *tx)
{
	g_autoptr(GError) err = NULL;
	g_autofree char *was = print_all(f);
	int64_t before = now(f);

	g_assert_false(store_commit(f->s, tx, STORE_DURABLE, NULL, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	assert_unchanged(f, was, before);
}

static void test_bad_keys_are_refused(Fixture *f, gconstpointer unused)
{
	g_autofree char *too_long = text_of(STORE_KEY_MAX + 1, 'k');
	const char *const bad[] = { "", "a b", "a\n", "\x7f", "\xc3\xa4", "\x01", too_long };

	(void)unused;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) e1 = NULL, e2 = NULL, e3 = NULL;
		StoreTx *tx = store_tx_new();

		store_tx_set(tx, key(f, "fine"), 0, "1");
		store_tx_set(tx, bad[i], STORE_ANY, "1");
		refuse(f, tx);
		g_assert_null(store_get(f->s, bad[i], &e1));
		g_assert_error(e1, ERR, ERR_INVALID);
		if (bad[i][0] == '\0')
			continue; /* as a prefix it means everything */
		g_assert_null(store_list(f->s, bad[i], NULL, &e2));
		g_assert_error(e2, ERR, ERR_INVALID);
		g_assert_null(store_watch_open(f->s, bad[i], 0, &e3));
		g_assert_error(e3, ERR, ERR_INVALID);
	}
	assert_absent(f, "fine");
}

static void test_bad_values_are_refused(Fixture *f, gconstpointer unused)
{
	g_autofree char *half = text_of(STORE_VALUE_MAX / 2 + 1, 'v'),
			*too_long = text_of(STORE_VALUE_MAX + 1, 'v');
	StoreTx *tx;

	(void)unused;
	store_tx_set(tx = store_tx_new(), key(f, "a"), 0, too_long);
	refuse(f, tx);
	store_tx_set(tx = store_tx_new(), key(f, "a"), 0, "bad \xff UTF-8");
	refuse(f, tx);
	store_tx_set(tx = store_tx_new(), key(f, "a"), 0, half);
	store_tx_set(tx, key(f, "b"), 0, half);
	refuse(f, tx);
	assert_absent(f, "a");
}

static void test_bad_transactions_are_refused(Fixture *f, gconstpointer unused)
{
	StoreTx *twice = store_tx_new(), *both = store_tx_new(), *many = store_tx_new(),
		*past = store_tx_new();

	(void)unused;
	refuse(f, store_tx_new());
	store_tx_set(twice, key(f, "a"), 0, "1");
	store_tx_set(twice, key(f, "a"), 0, "2");
	refuse(f, twice);
	store_tx_expect(both, key(f, "a"), 0);
	store_tx_set(both, key(f, "a"), 0, "2");
	refuse(f, both);
	store_tx_set(past, key(f, "a"), -2, "1");
	refuse(f, past);
	for (int i = 0; i <= STORE_TX_MAX; i++) {
		g_autofree char *rest = g_strdup_printf("many/%d", i);

		store_tx_set(many, key(f, rest), 0, "1");
	}
	refuse(f, many);
	assert_absent(f, "a");
}

static void test_bad_revisions_are_refused(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) e1 = NULL, e2 = NULL;

	(void)unused;
	g_assert_null(store_watch_open(f->s, f->root, -1, &e1));
	g_assert_error(e1, ERR, ERR_INVALID);
	g_assert_false(store_compact(f->s, -1, &e2));
	g_assert_error(e2, ERR, ERR_INVALID);
}

static void test_the_largest_goes_through(Fixture *f, gconstpointer unused)
{
	g_autofree char *value = text_of(STORE_VALUE_MAX, 'v'),
			*rest = text_of(STORE_KEY_MAX - strlen(f->root), '~');
	StoreTx *tx = store_tx_new();
	g_autoptr(GPtrArray) all = NULL;
	int64_t rev = put(f, rest, 0, value);

	(void)unused;
	assert_is(f, rest, value, rev);
	all = list(f, rest, NULL);
	g_assert_cmpuint(all->len, ==, 1);
	for (int i = 0; i < STORE_TX_MAX; i++) {
		g_autofree char *name = g_strdup_printf("many/%03d", i);

		store_tx_set(tx, key(f, name), 0, "1");
	}
	g_assert_true(store_commit(f->s, tx, STORE_DURABLE, NULL, NULL));
	g_ptr_array_unref(all);
	all = list(f, "many/", NULL);
	g_assert_cmpuint(all->len, ==, STORE_TX_MAX);
}

static void test_values_come_back_byte_for_byte(Fixture *f, gconstpointer unused)
{
	static const char *const values[] = { "", " ", "{\"a\":\"\\u0000 'quote' \\\"\"}",
					      "\xc3\xa4 \xf0\x9f\x9a\xa2", "\n\t\x7f" };

	(void)unused;
	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		int64_t rev = put(f, "a", STORE_ANY, values[i]);

		assert_is(f, "a", values[i], rev);
	}
}

/* ---- watches ---- */

static void test_watch_tells_each_change_once_in_order(Fixture *f, gconstpointer unused)
{
	g_autoptr(StoreWatch) w = watch(f, "vm/", now(f));
	StoreTx *tx = store_tx_new();
	g_autoptr(GPtrArray) first = NULL, rest = NULL;
	int64_t a = put(f, "vm/a", 0, "1"), both = 0, gone, last;

	(void)unused;
	first = collect(w, 1);
	assert_items(f, first, "vm/a=1@%" PRId64, a);
	put(f, "host/x", 0, "1");
	store_tx_set(tx, key(f, "vm/b"), 0, "2");
	store_tx_set(tx, key(f, "host/x"), STORE_ANY, "2");
	store_tx_set(tx, key(f, "vm/a"), a, "3");
	g_assert_true(store_commit(f->s, tx, STORE_RELAXED, &both, NULL));
	gone = put(f, "vm/b", both, NULL);
	last = put(f, "vm/b", 0, "4");
	rest = collect(w, 4);
	assert_items(f, rest, "vm/b=2@%" PRId64 " vm/a=3@%" PRId64 " vm/b=-@%" PRId64 " vm/b=4@%" PRId64,
		     both, both, gone, last);
}

static bool readable(StoreWatch *w)
{
	struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void test_watch_sleeps_when_nothing_happens(Fixture *f, gconstpointer unused)
{
	g_autoptr(StoreWatch) w = watch(f, "vm/", now(f));
	g_autoptr(GPtrArray) none = NULL, one = NULL;

	(void)unused;
	put(f, "host/x", 0, "1");
	g_assert_true(store_watch_next(w, &none, NULL));
	g_assert_cmpuint(none->len, ==, 0);
	g_assert_false(readable(w));
	put(f, "vm/a", 0, "1");
	one = collect(w, 1);
	g_ptr_array_unref(none);
	g_assert_true(store_watch_next(w, &none, NULL));
	g_assert_cmpuint(none->len, ==, 0);
	g_assert_false(readable(w));
}

static void test_list_and_watch_leave_no_gap(Fixture *f, gconstpointer unused)
{
	g_autoptr(GPtrArray) items = NULL, changes = NULL;
	g_autoptr(StoreWatch) w = NULL;
	int64_t at, a = put(f, "a", 0, "1"), b;

	(void)unused;
	items = list(f, "", &at);
	b = put(f, "b", 0, "2");
	w = watch(f, "", at);
	changes = collect(w, 1);
	assert_items(f, items, "a=1@%" PRId64, a);
	assert_items(f, changes, "b=2@%" PRId64, b);
}

static void test_watch_resumes_from_any_revision(Fixture *f, gconstpointer unused)
{
	int64_t rev[5];

	(void)unused;
	for (int i = 0; i < 5; i++)
		rev[i] = put(f, "a", STORE_ANY, i == 3 ? NULL : "1");
	for (int i = 0; i < 4; i++) {
		g_autoptr(StoreWatch) w = watch(f, "", rev[i]);
		g_autoptr(GPtrArray) changes = collect(w, (guint)(4 - i));

		for (guint c = 0; c < changes->len; c++)
			g_assert_cmpint(((StoreItem *)changes->pdata[c])->rev, ==, rev[i + 1 + (int)c]);
	}
}

static void test_watches_are_independent(Fixture *f, gconstpointer unused)
{
	int64_t start = now(f), a, b;
	g_autoptr(StoreWatch) w1 = watch(f, "", start), w2 = watch(f, "b", start);
	g_autoptr(GPtrArray) c1 = NULL, c2 = NULL;

	(void)unused;
	a = put(f, "a", 0, "1");
	b = put(f, "b", 0, "2");
	c1 = collect(w1, 2);
	c2 = collect(w2, 1);
	assert_items(f, c1, "a=1@%" PRId64 " b=2@%" PRId64, a, b);
	assert_items(f, c2, "b=2@%" PRId64, b);
}

/* More than fits one piece: pieces end between transactions, and the descriptor stays readable. */
static void test_backlog_comes_in_bounded_pieces(Fixture *f, gconstpointer unused)
{
	enum { COMMITS = 20, KEYS = 100 };
	int64_t start = now(f), last = 0;
	g_autoptr(StoreWatch) w = watch(f, "", start);
	guint told = 0, pieces = 0;

	(void)unused;
	for (int c = 0; c < COMMITS; c++) {
		StoreTx *tx = store_tx_new();

		for (int k = 0; k < KEYS; k++) {
			g_autofree char *rest = g_strdup_printf("%03d", k);

			store_tx_set(tx, key(f, rest), STORE_ANY, "1");
		}
		g_assert_true(store_commit(f->s, tx, STORE_RELAXED, NULL, NULL));
	}
	for (uint64_t end = time_monotonic() + DEADLINE_US; told < COMMITS * KEYS;) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;

		g_assert_cmpuint(time_monotonic(), <, end);
		g_assert_cmpint(poll(&p, 1, DEADLINE_US / 1000), ==, 1);
		g_assert_true(store_watch_next(w, &some, NULL));
		if (some->len == 0)
			continue;
		g_assert_cmpuint(some->len % KEYS, ==, 0);
		g_assert_cmpuint(some->len, <, COMMITS * KEYS);
		g_assert_cmpint(((StoreItem *)some->pdata[0])->rev, >, last);
		last = ((StoreItem *)some->pdata[some->len - 1])->rev;
		told += some->len;
		pieces++;
	}
	g_assert_cmpuint(told, ==, COMMITS * KEYS);
	g_assert_cmpuint(pieces, >, 1);
}

static void assert_gone(Fixture *f, int64_t after)
{
	g_autoptr(GError) err = NULL;
	StoreWatch *w = store_watch_open(f->s, f->root, after, &err);
	uint64_t deadline = time_monotonic() + DEADLINE_US;

	/* A remote store may find out only when the watch runs. */
	while (w != NULL && err == NULL) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		GPtrArray *some = NULL;

		g_assert_cmpuint(time_monotonic(), <, deadline);
		poll(&p, 1, 1000);
		if (store_watch_next(w, &some, &err)) {
			g_assert_cmpuint(some->len, ==, 0);
			g_ptr_array_unref(some);
		}
	}
	g_assert_error(err, ERR, ERR_GONE);
	g_assert_nonnull(err_advice(err));
	store_watch_close(w);
}

static void test_forgotten_history_is_gone(Fixture *f, gconstpointer unused)
{
	int64_t rev[4];
	g_autoptr(StoreWatch) w = NULL;
	g_autoptr(GPtrArray) changes = NULL;

	(void)unused;
	for (int i = 0; i < 4; i++)
		rev[i] = put(f, "a", STORE_ANY, "1");
	g_assert_true(store_compact(f->s, rev[2], NULL));
	g_assert_true(store_compact(f->s, rev[1], NULL)); /* twice, and backwards, is no error */
	assert_gone(f, rev[0] - 1);
	assert_is(f, "a", "1", rev[3]);
	w = watch(f, "", rev[2]);
	changes = collect(w, 1);
	assert_items(f, changes, "a=1@%" PRId64, rev[3]);
}

/* A back end that had sent them on before they were forgotten may still tell them: all, or none. */
static void test_watch_that_fell_behind_has_no_gap(Fixture *f, gconstpointer unused)
{
	enum { N = 3 };
	int64_t start = now(f), rev[N];
	g_autoptr(StoreWatch) w = watch(f, "", start);
	g_autoptr(GError) err = NULL;
	guint told = 0;

	(void)unused;
	for (int i = 0; i < N; i++)
		rev[i] = put(f, "a", STORE_ANY, "1");
	g_assert_true(store_compact(f->s, rev[N - 1], NULL));
	for (uint64_t end = time_monotonic() + DEADLINE_US; told < N;) {
		struct pollfd p = { .fd = store_watch_fd(w), .events = POLLIN };
		g_autoptr(GPtrArray) some = NULL;

		g_assert_cmpuint(time_monotonic(), <, end);
		g_assert_cmpint(poll(&p, 1, DEADLINE_US / 1000), ==, 1);
		if (!store_watch_next(w, &some, &err))
			break;
		for (guint i = 0; i < some->len; i++)
			g_assert_cmpint(((StoreItem *)some->pdata[i])->rev, ==, rev[told++]);
	}
	if (told < N) {
		g_assert_cmpuint(told, ==, 0);
		g_assert_error(err, ERR, ERR_GONE);
	}
}

static void test_revision_that_has_not_happened_is_gone(Fixture *f, gconstpointer unused)
{
	(void)unused;
	assert_gone(f, now(f) + 1000000);
}

/* Its own prefix is silent while the history behind it is forgotten. */
static void test_quiet_watch_is_never_gone(Fixture *f, gconstpointer unused)
{
	g_autoptr(StoreWatch) w = watch(f, "quiet/", now(f));
	g_autoptr(GPtrArray) changes = NULL;
	int64_t last = 0, quiet;

	(void)unused;
	for (int i = 0; i < 5; i++)
		last = put(f, "busy", STORE_ANY, "1");
	g_assert_true(store_compact(f->s, last, NULL));
	quiet = put(f, "quiet/a", 0, "1");
	changes = collect(w, 1);
	assert_items(f, changes, "quiet/a=1@%" PRId64, quiet);
}

/* ---- threads ---- */

enum { N_THREADS = 4, N_INCREMENTS = 60 };

static bool increment(Store *s, const char *k)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(StoreItem) i = store_get(s, k, &err);
	StoreTx *tx = store_tx_new();
	g_autofree char *value = NULL;

	g_assert_no_error(err);
	value = g_strdup_printf("%" PRIu64, i != NULL ? g_ascii_strtoull(i->value, NULL, 10) + 1 : 1);
	store_tx_set(tx, k, i != NULL ? i->rev : 0, value);
	if (store_commit(s, tx, STORE_RELAXED, NULL, &err))
		return true;
	g_assert_error(err, ERR, ERR_CONFLICT);
	return false;
}

struct worker {
	Fixture *f;
	const char *key;
	int id;
};

static gpointer increment_many(gpointer data)
{
	struct worker *w = data;

	for (int done = 0; done < N_INCREMENTS;)
		done += increment(w->f->s, w->key);
	return NULL;
}

static void run_threads(Fixture *f, GThreadFunc func, const char *k,
			void (*meanwhile)(Fixture *f, void *data), void *data)
{
	struct worker w[N_THREADS];
	GThread *t[N_THREADS];

	for (int i = 0; i < N_THREADS; i++) {
		w[i] = (struct worker){ .f = f, .key = k, .id = i };
		t[i] = g_thread_new("commit", func, &w[i]);
	}
	if (meanwhile != NULL)
		meanwhile(f, data);
	for (int i = 0; i < N_THREADS; i++)
		g_thread_join(t[i]);
}

static void test_no_increment_is_lost(Fixture *f, gconstpointer unused)
{
	g_autofree char *total = g_strdup_printf("%d", N_THREADS * N_INCREMENTS);
	g_autoptr(StoreItem) i = NULL;

	(void)unused;
	run_threads(f, increment_many, key(f, "n"), NULL, NULL);
	i = store_get(f->s, key(f, "n"), NULL);
	g_assert_nonnull(i);
	g_assert_cmpstr(i->value, ==, total);
}

/* Sees 1, 2, 3, ... in rising revisions, while they are being committed. */
static void watch_count(Fixture *f, void *data)
{
	g_autoptr(GPtrArray) all = collect(data, N_THREADS * N_INCREMENTS);
	int64_t rev = 0;

	(void)f;
	for (guint i = 0; i < all->len; i++) {
		const StoreItem *item = all->pdata[i];

		g_assert_cmpuint(g_ascii_strtoull(item->value, NULL, 10), ==, i + 1);
		g_assert_cmpint(item->rev, >, rev);
		rev = item->rev;
	}
}

static void test_watcher_misses_nothing_of_many_threads(Fixture *f, gconstpointer unused)
{
	g_autoptr(StoreWatch) w = watch(f, "", now(f));

	(void)unused;
	run_threads(f, increment_many, key(f, "n"), watch_count, w);
}

static gpointer commit_and_watch(gpointer data)
{
	struct worker *w = data;
	g_autofree char *k = g_strdup_printf("%s%d/k", w->key, w->id),
			*prefix = g_strdup_printf("%s%d/", w->key, w->id);

	for (int i = 0; i < 20; i++) {
		g_autoptr(StoreWatch) watch =
		    store_watch_open(w->f->s, prefix, store_revision(w->f->s, NULL), NULL);
		g_autoptr(GPtrArray) one = NULL;

		g_assert_nonnull(watch);
		g_assert_true(increment(w->f->s, k));
		one = collect(watch, 1);
		g_assert_cmpstr(((StoreItem *)one->pdata[0])->key, ==, k);
	}
	return NULL;
}

static void test_watches_come_and_go_while_others_commit(Fixture *f, gconstpointer unused)
{
	(void)unused;
	run_threads(f, commit_and_watch, f->root, NULL, NULL);
}

/* Reads see whole transactions: two keys that are always written together are always equal. */
static gpointer write_pairs(gpointer data)
{
	struct worker *w = data;

	for (int i = 0; i < N_INCREMENTS; i++) {
		g_autofree char *value = g_strdup_printf("%d.%d", w->id, i),
				*a = g_strconcat(w->key, "a", NULL), *b = g_strconcat(w->key, "b", NULL);
		StoreTx *tx = store_tx_new();

		store_tx_set(tx, a, STORE_ANY, value);
		store_tx_set(tx, b, STORE_ANY, value);
		g_assert_true(store_commit(w->f->s, tx, STORE_RELAXED, NULL, NULL));
	}
	return NULL;
}

static void read_pairs(Fixture *f, void *data)
{
	(void)data;
	for (int i = 0; i < 200; i++) {
		g_autoptr(GPtrArray) pair = store_list(f->s, f->root, NULL, NULL);

		g_assert_nonnull(pair);
		if (pair->len == 0)
			continue;
		g_assert_cmpuint(pair->len, ==, 2);
		g_assert_cmpstr(((StoreItem *)pair->pdata[0])->value, ==,
				((StoreItem *)pair->pdata[1])->value);
	}
}

static void test_a_list_never_sees_half_a_commit(Fixture *f, gconstpointer unused)
{
	(void)unused;
	run_threads(f, write_pairs, f->root, read_pairs, NULL);
}

/* ---- a store that remembers ---- */

static void reopen(Fixture *f)
{
	store_close(f->s);
	fixture_open(f);
}

static void test_everything_is_there_after_reopening(Fixture *f, gconstpointer unused)
{
	int64_t a = put(f, "a", 0, "1"), b = put(f, "b", 0, "2"), before;
	g_autofree char *was = NULL;

	(void)unused;
	b = put(f, "b", b, NULL);
	was = print_all(f);
	before = now(f);
	reopen(f);
	assert_unchanged(f, was, before);
	assert_is(f, "a", "1", a);
	assert_absent(f, "b");
	g_assert_cmpint(put(f, "b", 0, "3"), >, b);
}

static void test_watch_resumes_after_reopening(Fixture *f, gconstpointer unused)
{
	int64_t seen = put(f, "a", 0, "1"), b = put(f, "b", 0, "2"), a = put(f, "a", seen, NULL), c;
	g_autoptr(StoreWatch) w = NULL;
	g_autoptr(GPtrArray) changes = NULL;

	(void)unused;
	reopen(f);
	c = put(f, "c", 0, "3");
	w = watch(f, "", seen);
	changes = collect(w, 3);
	assert_items(f, changes, "b=2@%" PRId64 " a=-@%" PRId64 " c=3@%" PRId64, b, a, c);
}

static void test_forgotten_history_is_gone_after_reopening(Fixture *f, gconstpointer unused)
{
	int64_t first = put(f, "a", 0, "1"), last = 0;

	(void)unused;
	for (int i = 0; i < 3; i++)
		last = put(f, "a", STORE_ANY, "2");
	g_assert_true(store_compact(f->s, last, NULL));
	reopen(f);
	assert_gone(f, first - 1);
	assert_is(f, "a", "2", last);
}

#define T(name)                                                                                              \
	{                                                                                                    \
#name, test_##name                                                                           \
	}

static const struct {
	const char *name;
	void (*func)(Fixture *f, gconstpointer unused);
} tests[] = {
	T(absent_is_no_error),
	T(list_is_in_byte_order_of_a_byte_prefix),
	T(prefix_has_no_wildcards),
	T(empty_prefix_lists_everything),
	T(a_commit_has_one_revision),
	T(relaxed_commit_is_seen_at_once),
	T(conflict_changes_nothing),
	T(create_refuses_what_exists),
	T(update_refuses_what_is_gone),
	T(a_key_made_anew_has_a_new_revision),
	T(delete),
	T(deleting_nothing_changes_nothing),
	T(expectation_guards_without_writing),
	T(bad_keys_are_refused),
	T(bad_values_are_refused),
	T(bad_transactions_are_refused),
	T(bad_revisions_are_refused),
	T(the_largest_goes_through),
	T(values_come_back_byte_for_byte),
	T(watch_tells_each_change_once_in_order),
	T(watch_sleeps_when_nothing_happens),
	T(list_and_watch_leave_no_gap),
	T(watch_resumes_from_any_revision),
	T(watches_are_independent),
	T(backlog_comes_in_bounded_pieces),
	T(forgotten_history_is_gone),
	T(watch_that_fell_behind_has_no_gap),
	T(revision_that_has_not_happened_is_gone),
	T(quiet_watch_is_never_gone),
	T(no_increment_is_lost),
	T(watcher_misses_nothing_of_many_threads),
	T(watches_come_and_go_while_others_commit),
	T(a_list_never_sees_half_a_commit),
}, lasting_tests[] = {
	T(everything_is_there_after_reopening),
	T(watch_resumes_after_reopening),
	T(forgotten_history_is_gone_after_reopening),
};

static void add_tests(const char *label, const char *url)
{
	for (size_t t = 0; t < G_N_ELEMENTS(tests); t++) {
		g_autofree char *path = g_strdup_printf("/store/%s/%s", label, tests[t].name);

		g_test_add(path, Fixture, url, set_up, tests[t].func, tear_down);
	}
	if (g_str_has_suffix(url, "mem:"))
		return;
	for (size_t t = 0; t < G_N_ELEMENTS(lasting_tests); t++) {
		g_autofree char *path = g_strdup_printf("/store/%s/%s", label, lasting_tests[t].name);

		g_test_add(path, Fixture, url, set_up, lasting_tests[t].func, tear_down);
	}
}

int main(int argc, char **argv)
{
	const char *more = g_getenv("PLIMSOLL_STORE_URLS");
	g_auto(GStrv) extra = g_strsplit(more != NULL ? more : "", " ", -1);

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(builtin); i++)
		add_tests(builtin[i].label, builtin[i].url);
	for (guint i = 0; extra[i] != NULL; i++) {
		g_autofree char *label = g_strdup_printf("url-%u", i + 1);

		if (extra[i][0] != '\0')
			add_tests(label, extra[i]);
	}
	return g_test_run();
}
