/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the SQLite store promises of disks: a durable commit is synced before it
 * is acknowledged, a power cut at any moment takes none of those and tears none,
 * and a disk that is full or fails changes nothing that was not said.
 */
#include "base/fd.h"
#include "shim.h"
#include "store/store.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <string.h>

typedef struct Fixture {
	char *dir, *url;
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

/* In memory where there is such a place: the disk here is the one that shim.c plays. */
static char *scratch_folder(void)
{
	char *dir = g_build_filename(access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir(),
				     "plimsoll-power-XXXXXX", NULL);

	g_assert_nonnull(g_mkdtemp(dir));
	return dir;
}

/* The file is made and closed before SQLite is watched: what is there is on disk. */
static void set_up(Fixture *f, gconstpointer unused)
{
	(void)unused;
	f->dir = scratch_folder();
	f->url = g_strdup_printf("sqlite:%s/state.db", f->dir);
	store_close(open_store(f->url));
	shim_install();
	f->s = open_store(f->url);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
	(void)unused;
	store_close(f->s);
	shim_remove();
	g_assert_true(dir_remove(f->dir, NULL));
	g_free(f->url);
	g_free(f->dir);
}

/* The number `n` under three keys, in one commit; every 16th is large, so that checkpoints come. */
static const char *const keys[] = { "/n/a", "/n/b", "/n/c" };

static bool commit_number(Store *s, int n, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	g_autofree char *pad = g_strnfill(n % 16 == 0 ? 100000 : 10, 'x'),
			*value = g_strdup_printf("%d %s", n, pad);
	StoreTx *tx = store_tx_new();

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		store_tx_set(tx, keys[i], STORE_ANY, value);
	return store_commit(s, tx, flags, ret_rev, err);
}

static int number_of(const StoreItem *item)
{
	return (int)g_ascii_strtoull(item->value, NULL, 10);
}

/* The number in the store, 0 before the first; fails when a commit is there by half. */
static int read_number(Store *s)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(GPtrArray) items = store_list(s, "/n/", NULL, &err);
	const StoreItem *first;

	g_assert_no_error(err);
	if (items->len == 0)
		return 0;
	g_assert_cmpuint(items->len, ==, G_N_ELEMENTS(keys));
	first = items->pdata[0];
	for (guint i = 1; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];

		g_assert_cmpstr(item->value, ==, first->value);
		g_assert_cmpint(item->rev, ==, first->rev);
	}
	return number_of(first);
}

/* ---- syncs ---- */

static void commit_counted(Fixture *f, int n, StoreFlags flags, guint *ret_from, guint *ret_to)
{
	g_autoptr(GError) err = NULL;

	*ret_from = shim_now();
	commit_number(f->s, n, flags, NULL, &err);
	g_assert_no_error(err);
	*ret_to = shim_now();
	g_assert_cmpuint(shim_count(SHIM_WRITE, "-wal", *ret_from, *ret_to), >, 0);
}

static void test_durable_commit_is_synced_before_it_returns(Fixture *f, gconstpointer unused)
{
	(void)unused;
	for (int n = 1; n <= 10; n++) {
		guint from, to;

		commit_counted(f, n, STORE_DURABLE, &from, &to);
		/* The sync is the last thing: no write of the log is left behind it. */
		g_assert_cmpuint(shim_count(SHIM_SYNC, "-wal", to - 1, to), ==, 1);
	}
}

static void test_relaxed_commit_is_not_synced(Fixture *f, gconstpointer unused)
{
	(void)unused;
	for (int n = 1; n <= 10; n++) {
		guint from, to;

		commit_counted(f, n, STORE_RELAXED, &from, &to);
		g_assert_cmpuint(shim_count(SHIM_SYNC, "", from, to), ==, 0);
	}
}

static void test_durable_after_relaxed_syncs_again(Fixture *f, gconstpointer unused)
{
	guint from, to;

	(void)unused;
	commit_counted(f, 1, STORE_RELAXED, &from, &to);
	commit_counted(f, 2, STORE_DURABLE, &from, &to);
	g_assert_cmpuint(shim_count(SHIM_SYNC, "-wal", to - 1, to), ==, 1);
	commit_counted(f, 3, STORE_RELAXED, &from, &to);
	g_assert_cmpuint(shim_count(SHIM_SYNC, "", from, to), ==, 0);
}

static void test_sync_is_one_sync_of_what_was_relaxed(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;
	guint from, to;

	(void)unused;
	for (int n = 1; n <= 3; n++)
		commit_counted(f, n, STORE_RELAXED, &from, &to);
	g_assert_true(store_sync(f->s, &err));
	g_assert_no_error(err);
	g_assert_cmpuint(shim_count(SHIM_SYNC, "-wal", to, shim_now()), ==, 1);
	g_assert_cmpuint(shim_count(SHIM_SYNC, "", to, shim_now()), ==, 1);
}

static void test_sync_that_fails_says_so(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_true(commit_number(f->s, 1, STORE_RELAXED, NULL, NULL));
	shim_fail(0, 1, SQLITE_IOERR_FSYNC);
	g_assert_false(store_sync(f->s, &err));
	g_assert_error(err, ERR, ERR_STORE);
	g_assert_true(store_sync(f->s, NULL));
}

/* ---- power cuts ---- */

enum { N_COMMITS = 300, N_CUTS = 100 };

struct acknowledged {
	guint at; /* recorded calls when it returned */
	bool durable;
	int64_t rev;
};

static struct acknowledged commit_many(Fixture *f, struct acknowledged *ack)
{
	for (int n = 1; n <= N_COMMITS; n++) {
		StoreFlags flags = g_test_rand_int_range(0, 3) == 0 ? STORE_DURABLE : STORE_RELAXED;

		bool synced = flags == STORE_RELAXED && g_test_rand_int_range(0, 4) == 0;

		g_assert_true(commit_number(f->s, n, flags, &ack[n].rev, NULL));
		g_assert_true(!synced || store_sync(f->s, NULL));
		ack[n].durable = flags == STORE_DURABLE || synced;
		ack[n].at = shim_now();
	}
	return ack[N_COMMITS];
}

static void check_after_cut(const char *dir, const struct acknowledged *ack, guint at)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/state.db", dir);
	g_autoptr(Store) s = open_store(url);
	int found = read_number(s), durable = 0, begun = 1;
	int64_t rev = 0;

	for (int n = 1; n <= N_COMMITS && ack[n].at <= at; n++) {
		if (ack[n].durable)
			durable = n;
		begun = n + 1;
	}
	g_assert_cmpint(found, >=, durable);
	g_assert_cmpint(found, <=, begun);
	/* No revision that anybody was told is given again. */
	g_assert_true(commit_number(s, 1, STORE_DURABLE, &rev, NULL));
	g_assert_cmpint(rev, >, begun > 1 ? ack[begun - 1].rev : 0);
}

static void check_history(const char *dir)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/state.db", dir);
	g_autoptr(Store) s = open_store(url);
	g_autoptr(StoreWatch) w = store_watch_open(s, "/n/a", 0, NULL);
	int n = 0, found = read_number(s);
	bool more = true;

	while (more) {
		g_autoptr(GPtrArray) some = NULL;

		g_assert_true(store_watch_next(w, &some, NULL));
		more = some->len > 0;
		for (guint i = 0; i < some->len; i++)
			g_assert_cmpint(number_of(some->pdata[i]), ==, ++n);
	}
	g_assert_cmpint(n, ==, found);
}

static void cut_once(const GByteArray *base, const struct acknowledged *ack, guint at)
{
	g_autofree char *dir = scratch_folder();
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)g_test_rand_int());

	shim_power_cut(dir, "state.db", base, at, rand);
	check_history(dir);
	check_after_cut(dir, ack, at);
	g_assert_true(dir_remove(dir, NULL));
}

static void test_power_cut_takes_no_durable_commit(void)
{
	struct acknowledged ack[N_COMMITS + 1] = { 0 };
	g_autoptr(GByteArray) base = g_byte_array_new();
	g_autofree char *file = NULL, *bytes = NULL;
	guint checkpoints, last;
	gsize len;
	Fixture f;

	set_up(&f, NULL);
	store_close(f.s);
	file = g_build_filename(f.dir, "state.db", NULL);
	g_assert_true(g_file_get_contents(file, &bytes, &len, NULL));
	g_byte_array_append(base, (guint8 *)bytes, (guint)len);
	shim_install(); /* begins to record anew */
	f.s = open_store(f.url);
	commit_many(&f, ack);
	f.s = store_close(f.s);
	last = shim_now();
	checkpoints = shim_count(SHIM_SYNC, "state.db", 0, last);
	g_assert_cmpuint(checkpoints, >, 2);
	shim_remove();
	for (int i = 0; i < N_CUTS; i++)
		cut_once(base, ack, (guint)g_test_rand_int_range(0, (gint32)last + 1));
	cut_once(base, ack, last);
	tear_down(&f, NULL);
}

/* ---- disks that are full or broken ---- */

enum { UNLUCKY = 1600 };

/* Fails the commit at its first, second, third... call to the disk, until it no longer does. */
static void fail_everywhere(Fixture *f, guint times, int rc, ErrCode code)
{
	bool passed = false;
	int n = 1;

	g_assert_true(commit_number(f->s, n, STORE_DURABLE, NULL, NULL));
	for (guint after = 0; !passed; after++) {
		g_autoptr(GError) err = NULL;
		int64_t rev = store_revision(f->s, NULL);

		shim_fail(after, times, rc);
		passed = commit_number(f->s, UNLUCKY, STORE_DURABLE, NULL, &err);
		if (passed) {
			g_assert_cmpuint(shim_failed(), ==, 0);
			g_assert_cmpuint(after, >, 10);
			break;
		}
		g_assert_error(err, ERR, (gint)code);
		g_assert_nonnull(err_advice(err));
		g_assert_cmpint(store_revision(f->s, NULL), ==, rev);
		g_assert_cmpint(read_number(f->s), ==, n);

		/* The disk has room again: the same handle goes on, and so does the next one. */
		shim_fail(0, 0, SQLITE_OK);
		g_assert_true(commit_number(f->s, ++n, STORE_DURABLE, NULL, NULL));
		f->s = store_close(f->s);
		f->s = open_store(f->url);
		g_assert_cmpint(read_number(f->s), ==, n);
	}
}

static void test_full_disk_changes_nothing(Fixture *f, gconstpointer unused)
{
	(void)unused;
	fail_everywhere(f, G_MAXUINT, SQLITE_FULL, ERR_NO_SPACE);
}

static void test_failing_disk_is_told_and_outlived(Fixture *f, gconstpointer unused)
{
	(void)unused;
	fail_everywhere(f, 1, SQLITE_IOERR_WRITE, ERR_STORE);
}

/* A disk that stays full through a close must not lose what was there. */
static void test_closing_on_a_full_disk_loses_nothing(Fixture *f, gconstpointer unused)
{
	int64_t rev = 0, next = 0;

	(void)unused;
	g_assert_true(commit_number(f->s, 7, STORE_DURABLE, &rev, NULL));
	shim_fail(0, G_MAXUINT, SQLITE_FULL);
	f->s = store_close(f->s);
	g_assert_cmpuint(shim_failed(), >, 0);
	shim_fail(0, 0, SQLITE_OK);
	f->s = open_store(f->url);
	g_assert_cmpint(read_number(f->s), ==, 7);
	g_assert_true(commit_number(f->s, 8, STORE_DURABLE, &next, NULL));
	g_assert_cmpint(next, >, rev);
}

static void test_opening_on_a_full_disk_says_so(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_true(commit_number(f->s, 7, STORE_DURABLE, NULL, NULL));
	f->s = store_close(f->s);
	shim_fail(0, G_MAXUINT, SQLITE_FULL);
	g_assert_null(store_open(f->url, &err));
	g_assert_error(err, ERR, ERR_NO_SPACE);
	shim_fail(0, 0, SQLITE_OK);
	f->s = open_store(f->url);
	g_assert_cmpint(read_number(f->s), ==, 7);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		void (*func)(Fixture *f, gconstpointer unused);
	} tests[] = {
		{ "/power/durable_commit_is_synced_before_it_returns",
		  test_durable_commit_is_synced_before_it_returns },
		{ "/power/relaxed_commit_is_not_synced", test_relaxed_commit_is_not_synced },
		{ "/power/durable_after_relaxed_syncs_again", test_durable_after_relaxed_syncs_again },
		{ "/power/sync_is_one_sync", test_sync_is_one_sync_of_what_was_relaxed },
		{ "/power/sync_that_fails_says_so", test_sync_that_fails_says_so },
		{ "/power/full_disk_changes_nothing", test_full_disk_changes_nothing },
		{ "/power/failing_disk_is_told_and_outlived", test_failing_disk_is_told_and_outlived },
		{ "/power/closing_on_a_full_disk_loses_nothing", test_closing_on_a_full_disk_loses_nothing },
		{ "/power/opening_on_a_full_disk_says_so", test_opening_on_a_full_disk_says_so },
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].func, tear_down);
	g_test_add_func("/power/power_cut_takes_no_durable_commit", test_power_cut_takes_no_durable_commit);
	return g_test_run();
}
