/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the back ends of one host promise beyond the contract: the file of the
 * SQLite store (whose it is, its mode, its versions, one process at a time), the
 * bounds of the history, and what the trace tells.
 */
#include "base/fd.h"
#include "store/store-local.h"
#include "store/store-schema.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

typedef struct Fixture {
	char *dir, *file, *url;
} Fixture;

static void set_up(Fixture *f, gconstpointer unused)
{
	(void)unused;
	f->dir = g_dir_make_tmp("plimsoll-sqlite-XXXXXX", NULL);
	g_assert_nonnull(f->dir);
	f->file = g_build_filename(f->dir, "state.db", NULL);
	f->url = g_strconcat("sqlite:", f->file, NULL);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
	(void)unused;
	g_assert_true(dir_remove(f->dir, NULL));
	g_free(f->url);
	g_free(f->file);
	g_free(f->dir);
}

static Store *open_store(const char *url)
{
	g_autoptr(GError) err = NULL;
	Store *s = store_open(url, &err);

	g_assert_no_error(err);
	g_assert_nonnull(s);
	return s;
}

static void assert_refused(const char *url, ErrCode code)
{
	g_autoptr(GError) err = NULL;

	g_assert_null(store_open(url, &err));
	g_assert_error(err, ERR, (gint)code);
}

static bool put(Store *s, const char *key, const char *value, StoreFlags flags, GError **err)
{
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, value);
	return store_commit(s, tx, flags, NULL, err);
}

/* ---- whose file it is ---- */

static void test_files_are_private(Fixture *f, gconstpointer unused)
{
	g_autoptr(Store) s = NULL;
	g_autoptr(GDir) dir = NULL;
	mode_t old = umask(0);
	const char *name;
	guint n = 0;

	(void)unused;
	s = open_store(f->url);
	g_assert_true(put(s, "/a", "secret", STORE_DURABLE, NULL));
	umask(old);
	dir = g_dir_open(f->dir, 0, NULL);
	while ((name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *path = g_build_filename(f->dir, name, NULL);
		struct stat st;

		g_assert_cmpint(stat(path, &st), ==, 0);
		g_assert_cmphex(st.st_mode, ==, S_IFREG | 0600);
		n++;
	}
	g_assert_cmpuint(n, ==, 2); /* the file and its log: nothing is left of making it */
}

static gint compare_lines(gconstpointer a, gconstpointer b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Everything in the folder: names, bytes and times of change. */
static char *print_folder(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	g_autoptr(GPtrArray) line = g_ptr_array_new_with_free_func(g_free);
	const char *name;

	while ((name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *file = g_build_filename(path, name, NULL), *bytes = NULL, *sum = NULL;
		struct stat st;
		gsize len = 0;

		g_assert_cmpint(stat(file, &st), ==, 0);
		if (S_ISREG(st.st_mode))
			g_assert_true(g_file_get_contents(file, &bytes, &len, NULL));
		sum = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (guchar *)(bytes ? bytes : ""), len);
		g_ptr_array_add(line, g_strdup_printf("%s %o %ld.%09ld %s", name, st.st_mode,
						      st.st_mtim.tv_sec, st.st_mtim.tv_nsec, sum));
	}
	g_ptr_array_sort(line, compare_lines);
	g_ptr_array_add(line, NULL);
	return g_strjoinv("\n", (char **)line->pdata);
}

static void assert_left_alone(Fixture *f, ErrCode code)
{
	g_autofree char *before = print_folder(f->dir), *after = NULL;
	g_autoptr(GError) err = NULL;

	g_assert_null(store_open(f->url, &err));
	g_assert_error(err, ERR, (gint)code);
	g_assert_nonnull(err_advice(err));
	g_assert_nonnull(strstr(err->message, f->file));
	after = print_folder(f->dir);
	g_assert_cmpstr(after, ==, before);
}

static void test_what_is_no_database_is_left_alone(Fixture *f, gconstpointer unused)
{
	static const char *const contents[] = { "", "hello\n", "SQLite format 3" };
	g_autofree char *long_text = g_strnfill(10000, 'x');

	(void)unused;
	for (size_t i = 0; i < G_N_ELEMENTS(contents); i++) {
		g_assert_true(g_file_set_contents(f->file, contents[i], -1, NULL));
		assert_left_alone(f, ERR_INVALID);
	}
	g_assert_true(g_file_set_contents(f->file, long_text, -1, NULL));
	assert_left_alone(f, ERR_INVALID);
}

static void test_what_is_no_file_is_left_alone(Fixture *f, gconstpointer unused)
{
	(void)unused;
	g_assert_cmpint(mkdir(f->file, 0700), ==, 0);
	assert_left_alone(f, ERR_INVALID);
	g_assert_cmpint(rmdir(f->file), ==, 0);
	g_assert_cmpint(mkfifo(f->file, 0600), ==, 0);
	assert_left_alone(f, ERR_INVALID);
}

/* Runs SQL on a file that is not ours and dies without closing it, so that its log has to be recovered. */
static void leave_foreign(const char *file, const char *sql)
{
	pid_t pid = fork();
	int status;

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		sqlite3 *db;

		_exit(sqlite3_open(file, &db) == SQLITE_OK &&
			      sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK
			  ? 0
			  : 1);
	}
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_cmpint(status, ==, 0);
}

static void test_database_of_another_program_is_left_alone(Fixture *f, gconstpointer unused)
{
	static const char *const sql[] = {
		"CREATE TABLE t(x)",
		"PRAGMA application_id = 42; CREATE TABLE t(x)",
		"PRAGMA journal_mode = WAL; CREATE TABLE t(x); INSERT INTO t VALUES(1)",
		/* a hot journal: to read it is to roll it back */
		"PRAGMA cache_size = 1; CREATE TABLE t(x); BEGIN; INSERT INTO t VALUES(zeroblob(100000))",
	};

	(void)unused;
	for (size_t i = 0; i < G_N_ELEMENTS(sql); i++) {
		leave_foreign(f->file, sql[i]);
		assert_left_alone(f, ERR_INVALID);
		g_assert_true(dir_remove(f->dir, NULL));
		g_assert_cmpint(mkdir(f->dir, 0700), ==, 0);
	}
}

static void run_sql(Fixture *f, const char *sql)
{
	sqlite3 *db;

	g_assert_cmpint(sqlite3_open(f->file, &db), ==, SQLITE_OK);
	g_assert_cmpint(sqlite3_exec(db, sql, NULL, NULL, NULL), ==, SQLITE_OK);
	g_assert_cmpint(sqlite3_close(db), ==, SQLITE_OK);
}

static void test_newer_schema_is_refused_and_left_alone(Fixture *f, gconstpointer unused)
{
	(void)unused;
	store_close(open_store(f->url));
	run_sql(f, "PRAGMA user_version = 1000");
	assert_left_alone(f, ERR_UNSUPPORTED);
	run_sql(f, "PRAGMA user_version = 1");
	store_close(open_store(f->url));
}

static void test_damage_is_found_at_open(Fixture *f, gconstpointer unused)
{
	_cleanup_close_ int fd = -EBADF;
	char garbage[2048];
	g_autoptr(Store) s = open_store(f->url);

	(void)unused;
	for (int i = 0; i < 300; i++) {
		g_autofree char *key = g_strdup_printf("/k/%d", i), *value = g_strnfill(200, 'v');

		g_assert_true(put(s, key, value, STORE_RELAXED, NULL));
	}
	s = store_close(s);
	memset(garbage, 0xa5, sizeof garbage);
	fd = open(f->file, O_WRONLY | O_CLOEXEC);
	g_assert_cmpint(pwrite(fd, garbage, sizeof garbage, 5 * 4096), ==, sizeof garbage);
	assert_refused(f->url, ERR_STORE);
}

static int try_open(const char *url)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(Store) s = store_open(url, &err);

	return s != NULL ? -1 : (int)err_code(err);
}

/* In a process of its own: what it opens and closes is not ours. */
static int try_open_elsewhere(const char *url, uid_t uid)
{
	int status;
	pid_t pid = fork();

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0)
		_exit((uid != 0 && setuid(uid) < 0) ? 126 : try_open(url) & 0x7f);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static void test_second_process_is_refused(Fixture *f, gconstpointer unused)
{
	g_autoptr(Store) s = open_store(f->url);

	(void)unused;
	g_assert_cmpint(try_open_elsewhere(f->url, 0), ==, ERR_CONFLICT);
	/* Trying it here must not give the lock away: POSIX locks fall with any descriptor of the file. */
	g_assert_cmpint(try_open(f->url), ==, ERR_CONFLICT);
	g_assert_cmpint(try_open_elsewhere(f->url, 0), ==, ERR_CONFLICT);
	g_assert_true(put(s, "/a", "1", STORE_DURABLE, NULL));
	s = store_close(s);
	g_assert_cmpint(try_open_elsewhere(f->url, 0), ==, 0x7f); /* -1: it was opened */
}

static void test_file_of_another_user_is_refused(Fixture *f, gconstpointer unused)
{
	(void)unused;
	if (geteuid() != 0) {
		g_test_skip("only root can become another user");
		return;
	}
	store_close(open_store(f->url));
	g_assert_cmpint(chmod(f->dir, 0777), ==, 0);
	g_assert_cmpint(try_open_elsewhere(f->url, 65534), ==, ERR_DENIED);
	g_assert_cmpint(chmod(f->file, 0644), ==, 0); /* may read, but not write */
	g_assert_cmpint(try_open_elsewhere(f->url, 65534), ==, ERR_DENIED);
}

static void test_bad_urls_are_refused(Fixture *f, gconstpointer unused)
{
	static const char *const bad[] = { "",      "mem",     "nosuch:x",      "sqlite:",
					   "mem:x", "SQLITE:", "trace:nosuch:", "trace:trace:mem:" };
	g_autofree char *no_folder = g_strconcat(f->url, ".d/state.db", NULL);
	g_autoptr(GError) err = NULL;

	(void)unused;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		assert_refused(bad[i], ERR_INVALID);
	assert_refused(no_folder, ERR_NOT_FOUND);
	g_assert_null(store_open("nosuch:http://user:hunter2@host", &err));
	g_assert_null(strstr(err->message, "hunter2"));
	g_assert_nonnull(strstr(err_advice(err), "sqlite:PATH"));
}

/* ---- versions ---- */

static int64_t one_number(sqlite3 *db, const char *sql)
{
	sqlite3_stmt *q = NULL;
	int64_t n;

	g_assert_cmpint(sqlite3_prepare_v2(db, sql, -1, &q, NULL), ==, SQLITE_OK);
	g_assert_cmpint(sqlite3_step(q), ==, SQLITE_ROW);
	n = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	return n;
}

static void test_each_older_version_is_led_to_the_newest(void)
{
	static const SchemaStep three[] = {
		{ "CREATE TABLE a(x TEXT) STRICT" },
		{ "ALTER TABLE a ADD COLUMN y INTEGER NOT NULL DEFAULT 7; INSERT INTO a(x) VALUES('two')" },
		{ "UPDATE a SET y = y + 1" },
	};

	for (int from = 0; from <= 3; from++) {
		g_autoptr(GError) err = NULL;
		sqlite3 *db;

		g_assert_cmpint(sqlite3_open(":memory:", &db), ==, SQLITE_OK);
		g_assert_true(schema_upgrade(db, "x", three, from, &err));
		g_assert_cmpint(one_number(db, "PRAGMA user_version"), ==, from);
		g_assert_true(schema_upgrade(db, "x", three, 3, &err));
		g_assert_true(schema_upgrade(db, "x", three, 3, &err)); /* again: nothing to do */
		g_assert_no_error(err);
		g_assert_cmpint(one_number(db, "PRAGMA user_version"), ==, 3);
		g_assert_cmpint(one_number(db, "SELECT y FROM a"), ==, 8);
		sqlite3_close(db);
	}
}

static void test_failed_step_leaves_the_version_before_it(void)
{
	static const SchemaStep bad[] = {
		{ "CREATE TABLE a(x TEXT) STRICT" },
		{ "INSERT INTO a VALUES('half'); INSERT INTO nosuch VALUES(1)" },
	};
	g_autoptr(GError) err = NULL;
	sqlite3 *db;

	g_assert_cmpint(sqlite3_open(":memory:", &db), ==, SQLITE_OK);
	g_assert_false(schema_upgrade(db, "x", bad, 2, &err));
	g_assert_error(err, ERR, ERR_STORE);
	g_assert_cmpint(one_number(db, "PRAGMA user_version"), ==, 1);
	g_assert_cmpint(one_number(db, "SELECT count(*) FROM a"), ==, 0);
	sqlite3_close(db);
}

/* ---- the bounds of the history ---- */

static void assert_gone(Store *s, int64_t after)
{
	g_autoptr(GError) err = NULL;

	g_assert_null(store_watch_open(s, "", after, &err));
	g_assert_error(err, ERR, ERR_GONE);
}

static guint count_changes(Store *s, int64_t after)
{
	g_autoptr(StoreWatch) w = store_watch_open(s, "", after, NULL);
	bool more = true;
	guint n = 0;

	g_assert_nonnull(w);
	while (more) {
		g_autoptr(GPtrArray) some = NULL;

		g_assert_true(store_watch_next(w, &some, NULL));
		more = some->len > 0;
		n += some->len;
	}
	return n;
}

/* The oldest revision from which a watch can still resume. */
static int64_t oldest(Store *s)
{
	int64_t low = 0, high = store_revision(s, NULL);

	while (low < high) {
		int64_t mid = (low + high) / 2;
		g_autoptr(StoreWatch) w = store_watch_open(s, "", mid, NULL);

		if (w != NULL)
			high = mid;
		else
			low = mid + 1;
	}
	return low;
}

static void commit_keys(Store *s, guint n)
{
	StoreTx *tx = store_tx_new();

	for (guint i = 0; i < n; i++) {
		g_autofree char *key = g_strdup_printf("/k/%u", i);

		store_tx_set(tx, key, STORE_ANY, "1");
	}
	g_assert_true(store_commit(s, tx, STORE_RELAXED, NULL, NULL));
}

static void check_count_bound(Store *s)
{
	enum { KEYS = 100 };
	guint n;

	for (guint i = 0; i < LOCAL_HISTORY_CHANGES / KEYS; i++)
		commit_keys(s, KEYS);
	g_assert_cmpint(oldest(s), ==, 0);
	commit_keys(s, KEYS);
	assert_gone(s, 0);
	n = count_changes(s, oldest(s));
	g_assert_cmpuint(n, <=, LOCAL_HISTORY_CHANGES);
	g_assert_cmpuint(n, >=, LOCAL_HISTORY_KEEP(LOCAL_HISTORY_CHANGES) - KEYS);
	g_assert_cmpuint(n % KEYS, ==, 0); /* no commit is forgotten by half */
}

static void check_byte_bound(Store *s)
{
	g_autofree char *value = g_strnfill(STORE_VALUE_MAX, 'v');
	guint n = (guint)(LOCAL_HISTORY_BYTES / (int64_t)STORE_VALUE_MAX);

	for (guint i = 0; i <= n; i++)
		g_assert_true(put(s, "/big", value, STORE_RELAXED, NULL));
	assert_gone(s, 0);
	g_assert_cmpuint(count_changes(s, oldest(s)), <=, n);
	g_assert_cmpuint(count_changes(s, oldest(s)), >=, n / 8 * 7 - 1);
}

static void test_history_is_bounded_by_count(Fixture *f, gconstpointer unused)
{
	g_autoptr(Store) mem = open_store("mem:"), sqlite = open_store(f->url);
	int64_t begin;

	(void)unused;
	check_count_bound(mem);
	check_count_bound(sqlite);
	begin = oldest(sqlite);
	sqlite = store_close(sqlite);
	sqlite = open_store(f->url);
	g_assert_cmpint(oldest(sqlite), ==, begin);
	/* It goes on counting from where it was. */
	for (int i = 0; i < 30; i++)
		commit_keys(sqlite, 100);
	g_assert_cmpuint(count_changes(sqlite, oldest(sqlite)), <=, LOCAL_HISTORY_CHANGES);
	g_assert_cmpint(oldest(sqlite), >, begin);
}

static void test_history_is_bounded_by_bytes(Fixture *f, gconstpointer unused)
{
	g_autoptr(Store) mem = open_store("mem:"), sqlite = open_store(f->url);

	(void)unused;
	check_byte_bound(mem);
	check_byte_bound(sqlite);
}

static void test_watch_that_fell_behind_is_gone(Fixture *f, gconstpointer unused)
{
	const char *const urls[] = { "mem:", f->url };

	(void)unused;
	for (size_t u = 0; u < G_N_ELEMENTS(urls); u++) {
		g_autoptr(Store) s = open_store(urls[u]);
		StoreWatch *w = store_watch_open(s, "", 0, NULL);

		g_assert_true(put(s, "/a", "1", STORE_RELAXED, NULL));
		g_assert_true(store_compact(s, 1, NULL));
		for (int again = 0; again < 2; again++) {
			g_autoptr(GError) err = NULL;
			GPtrArray *some = NULL;

			g_assert_false(store_watch_next(w, &some, &err));
			g_assert_error(err, ERR, ERR_GONE);
			g_assert_null(some);
		}
		store_watch_close(w);
	}
}

/* ---- the trace ---- */

static void test_trace_tells_calls_and_no_values(Fixture *f, gconstpointer unused)
{
	g_autofree char *log = g_build_filename(f->dir, "log", NULL), *text = NULL;
	_cleanup_close_ int keep = dup(STDERR_FILENO), fd = open(log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	g_autoptr(Store) s = open_store("trace:mem:");
	g_autoptr(GError) err = NULL;
	StoreTx *tx = store_tx_new();

	(void)unused;
	dup2(fd, STDERR_FILENO);
	g_assert_true(put(s, "/a", "hunter2", STORE_RELAXED, NULL));
	store_item_free(store_get(s, "/a", NULL));
	store_tx_expect(tx, "/b", 0);
	store_tx_set(tx, "/a", 5, NULL);
	g_assert_false(store_commit(s, tx, STORE_DURABLE, NULL, &err));
	dup2(keep, STDERR_FILENO);

	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_true(g_file_get_contents(log, &text, NULL, NULL));
	g_assert_nonnull(strstr(text, "store commit relaxed set /a (7 bytes) -> 1"));
	g_assert_nonnull(strstr(text, "store get /a -> 1"));
	g_assert_nonnull(strstr(text, "store commit expect /b@0 delete /a@5"));
	g_assert_nonnull(strstr(text, "conflict"));
	g_assert_null(strstr(text, "hunter2"));
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		void (*func)(Fixture *f, gconstpointer unused);
	} tests[] = {
		{ "/sqlite/files_are_private", test_files_are_private },
		{ "/sqlite/what_is_no_database_is_left_alone", test_what_is_no_database_is_left_alone },
		{ "/sqlite/what_is_no_file_is_left_alone", test_what_is_no_file_is_left_alone },
		{ "/sqlite/database_of_another_program_is_left_alone",
		  test_database_of_another_program_is_left_alone },
		{ "/sqlite/newer_schema_is_refused_and_left_alone",
		  test_newer_schema_is_refused_and_left_alone },
		{ "/sqlite/damage_is_found_at_open", test_damage_is_found_at_open },
		{ "/sqlite/second_process_is_refused", test_second_process_is_refused },
		{ "/sqlite/file_of_another_user_is_refused", test_file_of_another_user_is_refused },
		{ "/sqlite/bad_urls_are_refused", test_bad_urls_are_refused },
		{ "/local/history_is_bounded_by_count", test_history_is_bounded_by_count },
		{ "/local/history_is_bounded_by_bytes", test_history_is_bounded_by_bytes },
		{ "/local/watch_that_fell_behind_is_gone", test_watch_that_fell_behind_is_gone },
		{ "/trace/tells_calls_and_no_values", test_trace_tells_calls_and_no_values },
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].func, tear_down);
	g_test_add_func("/schema/each_older_version_is_led_to_the_newest",
			test_each_older_version_is_led_to_the_newest);
	g_test_add_func("/schema/failed_step_leaves_the_version_before_it",
			test_failed_step_leaves_the_version_before_it);
	return g_test_run();
}
