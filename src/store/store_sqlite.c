/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The default store: one SQLite file in WAL mode, one connection, which holds the
 * file exclusively (locking_mode=EXCLUSIVE) for as long as it is open.
 *
 * Tables and versions are described in store_schema.c. Durability is that of
 * `synchronous`: FULL syncs the write-ahead log in every commit, so one that
 * returned true is on disk; NORMAL, for STORE_RELAXED, leaves that to the next
 * FULL commit or checkpoint. The log is replayed in order, so what a power cut
 * takes is always the end of it.
 *
 * That could hand out a lost revision again. So meta.open tells whether the
 * file was closed cleanly, and if it was not, the revision leaps by more than
 * can have been lost (a checkpoint comes every 1000 pages of log).
 */
#include "store/store-local.h"
#include "store/store-schema.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define LEAP 1000000
/* Positions in a commit; the id of a change is revision * POSITIONS + position. */
#define POSITIONS 256
G_STATIC_ASSERT(STORE_TX_MAX <= POSITIONS);
/* A file up to this size is checked as a whole at open, which takes some ten milliseconds. */
#define CHECK_MAX (INT64_C(16) << 20)
/* How long open waits for the process that holds the file, which may be ending. */
#define BUSY_MS 1000

// clang-format off
#define STATEMENTS(X)                                                                                       \
	X(BEGIN,    "BEGIN IMMEDIATE")                                                                      \
	X(COMMIT,   "COMMIT")                                                                               \
	X(ROLLBACK, "ROLLBACK")                                                                             \
	X(GET,      "SELECT key, value, rev FROM item WHERE key = ?1")                                      \
	X(REV,      "SELECT rev FROM item WHERE key = ?1")                                                  \
	X(LIST,     "SELECT key, value, rev FROM item WHERE key >= ?1 AND key < ?2 ORDER BY key")           \
	X(PUT,      "INSERT INTO item VALUES(?1, ?2, ?3) ON CONFLICT(key) DO UPDATE SET value = ?2, rev = ?3") \
	X(DELETE,   "DELETE FROM item WHERE key = ?1")                                                      \
	X(LOG,      "INSERT INTO change VALUES(?1, ?2, ?3, ?4)")                                            \
	X(CHANGES,  "SELECT id, key, value FROM change WHERE id >= ?1 AND key >= ?2 AND key < ?3 ORDER BY id") \
	X(OLDEST,   "SELECT id, size FROM change ORDER BY id")                                              \
	X(FORGET,   "DELETE FROM change WHERE id < ?1")                                                     \
	X(SUMS,     "SELECT count(*), ifnull(sum(size), 0) FROM change")                                    \
	X(META,     "SELECT rev, compacted, open FROM meta")                                                \
	X(SET_META, "UPDATE meta SET rev = ?1, compacted = ?2, open = ?3")
// clang-format on

typedef enum StatementId {
#define X(id, sql) Q_##id,
	STATEMENTS(X)
#undef X
	    _Q_MAX,
} StatementId;

static const char *const sql_of[_Q_MAX] = {
#define X(id, sql) [Q_##id] = sql,
	STATEMENTS(X)
#undef X
};

/* Of the history, as the current transaction sees it. */
struct history {
	int64_t changes, bytes, compacted;
};

typedef struct SqliteStore {
	LocalStore local;
	char *path;
	sqlite3 *db;
	sqlite3_file *log; /* the write-ahead log, to sync it while others commit */
	sqlite3_stmt *stmt[_Q_MAX];
	bool ours; /* marked open: to be marked closed */
	StoreFlags flags;
	int64_t changes, bytes; /* in the history */
} SqliteStore;

static bool fail_db(SqliteStore *s, const char *doing, GError **err)
{
	schema_fail(s->db, s->path, doing, err);
	return false; /* said here, where the compiler sees it: callers' results stay unset */
}

static bool exec(SqliteStore *s, const char *sql, const char *doing, GError **err)
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK || fail_db(s, doing, err);
}

/* A statement that is bound and stepped, and reset at the end of its block. */
static void reset_stmtp(sqlite3_stmt **q)
{
	sqlite3_reset(*q);
	sqlite3_clear_bindings(*q);
}

#define _cleanup_reset_ __attribute__((cleanup(reset_stmtp)))

static bool run(SqliteStore *s, StatementId id, const char *doing, GError **err)
{
	_cleanup_reset_ sqlite3_stmt *q = s->stmt[id];

	return sqlite3_step(q) == SQLITE_DONE || fail_db(s, doing, err);
}

static void bind(sqlite3_stmt *q, int at, const char *text)
{
	sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

/* The first key behind all that begin with `prefix`. Keys are below 0x7f, so the last byte can grow. */
static char *prefix_end(const char *prefix)
{
	char *end = g_strdup(prefix[0] != '\0' ? prefix : "\x7e");

	end[strlen(end) - 1]++;
	return end;
}

static bool sqlite_changes(LocalStore *l, const char *prefix, int64_t after, GPtrArray *ret,
			   int64_t *ret_upto, GError **err);

/* ---- open and close ---- */

static bool place_file(const char *path, GError **err)
{
	struct stat st;

	if (stat(path, &st) == 0)
		return S_ISREG(st.st_mode) ||
		       fail_advice(err, ERR_INVALID, "Choose another state directory.",
				   "'%s' is no state of this program: it is not a regular file", path);
	if (errno != ENOENT)
		return fail_errno(err, errno, "can't open '%s'", path);
	return schema_create_file(path, err);
}

static bool open_file(SqliteStore *s, GError **err)
{
	if (sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK)
		return fail_db(s, "open", err);
	/* SQLite is content with reading when it may not write. */
	if (sqlite3_db_readonly(s->db, "main") != 0)
		return schema_fail_rights(s->path, err);
	return true;
}

struct expectation {
	const char *value;
	bool met;
};

static int compare_row(void *data, int n, char **value, char **name)
{
	struct expectation *e = data;

	(void)name;
	e->met = n == 1 && g_strcmp0(value[0], e->value) == 0;
	return 0;
}

static bool lock_file(SqliteStore *s, GError **err)
{
	static const char settings[] = "PRAGMA journal_size_limit = 16777216; PRAGMA synchronous = FULL";
	struct expectation wal = { .value = "wal" };

	sqlite3_busy_timeout(s->db, BUSY_MS);
	if (sqlite3_exec(s->db, "PRAGMA locking_mode = EXCLUSIVE", NULL, NULL, NULL) != SQLITE_OK ||
	    sqlite3_exec(s->db, "PRAGMA journal_mode = WAL", compare_row, &wal, NULL) != SQLITE_OK) {
		if ((sqlite3_errcode(s->db) & 0xff) != SQLITE_BUSY)
			return fail_db(s, "open", err);
		return fail_advice(err, ERR_CONFLICT,
				   "Stop the other process first, or choose another state directory.",
				   "'%s' is in use by another process", s->path);
	}
	if (!wal.met)
		return fail_advice(err, ERR_UNSUPPORTED, "Choose a state directory on a local file system.",
				   "'%s' can't have a write-ahead log", s->path);
	return exec(s, settings, "open", err);
}

static bool check_pages(SqliteStore *s, GError **err)
{
	struct stat st;
	struct expectation ok = { .value = "ok" };

	if (stat(s->path, &st) < 0 || st.st_size > CHECK_MAX)
		return true;
	if (sqlite3_exec(s->db, "PRAGMA quick_check(1)", compare_row, &ok, NULL) != SQLITE_OK)
		return fail_db(s, "check", err);
	return ok.met ||
	       fail_advice(err, ERR_STORE, "Restore the file from a backup.", "'%s' is damaged", s->path);
}

static bool prepare_all(SqliteStore *s, GError **err)
{
	for (size_t i = 0; i < _Q_MAX; i++)
		if (sqlite3_prepare_v3(s->db, sql_of[i], -1, SQLITE_PREPARE_PERSISTENT, &s->stmt[i], NULL) !=
		    SQLITE_OK)
			return fail_db(s, "read", err);
	return true;
}

static bool set_meta(SqliteStore *s, int64_t rev, int64_t compacted, bool open, GError **err)
{
	sqlite3_stmt *q = s->stmt[Q_SET_META];

	sqlite3_bind_int64(q, 1, rev);
	sqlite3_bind_int64(q, 2, compacted);
	sqlite3_bind_int(q, 3, open);
	return run(s, Q_SET_META, "write", err);
}

static bool load_meta(SqliteStore *s, bool *ret_open, GError **err)
{
	_cleanup_reset_ sqlite3_stmt *meta = s->stmt[Q_META];
	_cleanup_reset_ sqlite3_stmt *sums = s->stmt[Q_SUMS];

	if (sqlite3_step(meta) != SQLITE_ROW || sqlite3_step(sums) != SQLITE_ROW)
		return fail_db(s, "read", err);
	s->local.rev = sqlite3_column_int64(meta, 0);
	s->local.compacted = sqlite3_column_int64(meta, 1);
	*ret_open = sqlite3_column_int(meta, 2) != 0;
	s->changes = sqlite3_column_int64(sums, 0);
	s->bytes = sqlite3_column_int64(sums, 1);
	return true;
}

static bool take_over(SqliteStore *s, GError **err)
{
	bool was_open;

	if (!load_meta(s, &was_open, err))
		return false;
	if (was_open)
		s->local.rev += LEAP;
	if (!set_meta(s, s->local.rev, s->local.compacted, true, err))
		return false;
	s->ours = true;
	return true;
}

/* It was written and synced by take_over(), with its name, and stays the same file until the database is
 * closed. */
static bool find_log(SqliteStore *s, GError **err)
{
	return sqlite3_file_control(s->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &s->log) == SQLITE_OK ||
	       fail_db(s, "open", err);
}

static bool sqlite_open(Store *base, const char *where, GError **err)
{
	SqliteStore *s = (SqliteStore *)base;

	local_init(&s->local, sqlite_changes);
	if (where[0] == '\0')
		return fail(err, ERR_INVALID, "a store in SQLite needs the path of its file: 'sqlite:PATH'");
	s->path = g_canonicalize_filename(where, NULL); /* absolute, so that no name is special to SQLite */
	if (!place_file(s->path, err))
		return false;
	if (!open_file(s, err))
		return false;
	/* Until it is known to be ours, closing must not tidy it up either. */
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
	if (!schema_check_file(s->db, s->path, err) || !lock_file(s, err) ||
	    !schema_upgrade(s->db, s->path, schema_steps, schema_n_steps, err) || !check_pages(s, err) ||
	    !prepare_all(s, err) || !take_over(s, err) || !find_log(s, err))
		return false;
	sqlite3_db_config(s->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
	return true;
}

static bool sync_as(SqliteStore *s, StoreFlags flags, GError **err)
{
	if (s->flags == flags)
		return true;
	if (!exec(s, flags == STORE_RELAXED ? "PRAGMA synchronous = NORMAL" : "PRAGMA synchronous = FULL",
		  "write", err))
		return false;
	s->flags = flags;
	return true;
}

static void sqlite_close(Store *base)
{
	SqliteStore *s = (SqliteStore *)base;

	/* If this fails, the next open believes in a crash, which does no harm. */
	if (s->ours && sync_as(s, STORE_DURABLE, NULL))
		set_meta(s, s->local.rev, s->local.compacted, false, NULL);
	for (size_t i = 0; i < _Q_MAX; i++)
		sqlite3_finalize(s->stmt[i]);
	sqlite3_close(s->db);
	g_free(s->path);
	local_done(&s->local);
}

/* ---- reading ---- */

static StoreItem *item_of_row(sqlite3_stmt *q)
{
	return store_item_new((const char *)sqlite3_column_text(q, 0),
			      (const char *)sqlite3_column_text(q, 1), sqlite3_column_int64(q, 2));
}

static StoreItem *sqlite_get(Store *base, const char *key, GError **err)
{
	SqliteStore *s = (SqliteStore *)base;
	_cleanup_unlock_ LocalStore *held = local_lock(&s->local);
	_cleanup_reset_ sqlite3_stmt *q = s->stmt[Q_GET];
	int r;

	bind(q, 1, key);
	r = sqlite3_step(q);
	if (r == SQLITE_ROW)
		return item_of_row(q);
	if (r != SQLITE_DONE)
		fail_db(s, "read", err);
	return NULL;
}

static GPtrArray *sqlite_list(Store *base, const char *prefix, int64_t *ret_rev, GError **err)
{
	SqliteStore *s = (SqliteStore *)base;
	g_autoptr(GPtrArray) ret = store_items_new();
	g_autofree char *end = prefix_end(prefix);
	_cleanup_unlock_ LocalStore *held = local_lock(&s->local);
	_cleanup_reset_ sqlite3_stmt *q = s->stmt[Q_LIST];
	int r;

	bind(q, 1, prefix);
	bind(q, 2, end);
	while ((r = sqlite3_step(q)) == SQLITE_ROW)
		g_ptr_array_add(ret, item_of_row(q));
	if (r != SQLITE_DONE) {
		fail_db(s, "read", err);
		return NULL;
	}
	*ret_rev = s->local.rev;
	return g_steal_pointer(&ret);
}

static bool sqlite_changes(LocalStore *l, const char *prefix, int64_t after, GPtrArray *ret,
			   int64_t *ret_upto, GError **err)
{
	SqliteStore *s = (SqliteStore *)l;
	g_autofree char *end = prefix_end(prefix);
	_cleanup_reset_ sqlite3_stmt *q = s->stmt[Q_CHANGES];
	int64_t last = after;
	size_t bytes = 0;
	int r;

	sqlite3_bind_int64(q, 1, (after + 1) * POSITIONS);
	bind(q, 2, prefix);
	bind(q, 3, end);
	while ((r = sqlite3_step(q)) == SQLITE_ROW) {
		int64_t rev = sqlite3_column_int64(q, 0) / POSITIONS;
		const char *key = (const char *)sqlite3_column_text(q, 1),
			   *value = (const char *)sqlite3_column_text(q, 2);

		if (rev != last && local_batch_full(ret, bytes)) {
			*ret_upto = last;
			return true;
		}
		last = rev;
		bytes += local_item_size(key, value);
		g_ptr_array_add(ret, store_item_new(key, value, rev));
	}
	if (r != SQLITE_DONE)
		return fail_db(s, "read", err);
	*ret_upto = l->rev;
	return true;
}

/* ---- writing; all of it inside a transaction ---- */

static bool rev_of(SqliteStore *s, const char *key, int64_t *ret, GError **err)
{
	_cleanup_reset_ sqlite3_stmt *q = s->stmt[Q_REV];
	int r;

	bind(q, 1, key);
	r = sqlite3_step(q);
	if (r != SQLITE_ROW && r != SQLITE_DONE)
		return fail_db(s, "read", err);
	*ret = r == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
	return true;
}

static bool holds(SqliteStore *s, const StoreTx *tx, GError **err)
{
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];
		int64_t found;

		if (w->rev == STORE_ANY)
			continue;
		if (!rev_of(s, w->key, &found, err))
			return false;
		if (w->rev != found)
			return store_fail_conflict(w, found, err);
	}
	return true;
}

static bool put_item(SqliteStore *s, const StoreWrite *w, int64_t rev, GError **err)
{
	sqlite3_stmt *q = s->stmt[Q_PUT];

	bind(q, 1, w->key);
	bind(q, 2, w->value);
	sqlite3_bind_int64(q, 3, rev);
	return run(s, Q_PUT, "write", err);
}

static bool delete_item(SqliteStore *s, const StoreWrite *w, bool *ret_existed, GError **err)
{
	bind(s->stmt[Q_DELETE], 1, w->key);
	if (!run(s, Q_DELETE, "write", err))
		return false;
	*ret_existed = sqlite3_changes(s->db) > 0;
	return true;
}

static bool log_change(SqliteStore *s, const StoreWrite *w, int64_t id, struct history *h, GError **err)
{
	sqlite3_stmt *q = s->stmt[Q_LOG];
	int64_t size = (int64_t)local_item_size(w->key, w->value);

	sqlite3_bind_int64(q, 1, id);
	sqlite3_bind_int64(q, 2, size);
	bind(q, 3, w->key);
	bind(q, 4, w->value); /* NULL binds as NULL */
	if (!run(s, Q_LOG, "write", err))
		return false;
	h->changes++;
	h->bytes += size;
	return true;
}

static bool apply(SqliteStore *s, const StoreTx *tx, int64_t rev, struct history *h, GError **err)
{
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];
		bool changes = !w->expect_only;

		if (w->expect_only)
			continue;
		if (w->value != NULL ? !put_item(s, w, rev, err) : !delete_item(s, w, &changes, err))
			return false;
		if (changes && !log_change(s, w, rev * POSITIONS + i, h, err))
			return false;
	}
	return true;
}

/* Forget all revisions up to `upto`, which are `h->changes` less when it returns. */
static bool forget_upto(SqliteStore *s, int64_t upto, struct history *h, GError **err)
{
	sqlite3_stmt *forget = s->stmt[Q_FORGET];
	_cleanup_reset_ sqlite3_stmt *sums = s->stmt[Q_SUMS];

	sqlite3_bind_int64(forget, 1, (upto + 1) * POSITIONS);
	if (!run(s, Q_FORGET, "write", err))
		return false;
	if (sqlite3_step(sums) != SQLITE_ROW)
		return fail_db(s, "read", err);
	h->changes = sqlite3_column_int64(sums, 0);
	h->bytes = sqlite3_column_int64(sums, 1);
	h->compacted = upto;
	return true;
}

/* The oldest revisions that must go to keep the history within its bounds. */
static bool find_cut(SqliteStore *s, const struct history *h, int64_t *ret_upto, GError **err)
{
	_cleanup_reset_ sqlite3_stmt *q = s->stmt[Q_OLDEST];
	int64_t changes = h->changes, bytes = h->bytes;

	while (changes > LOCAL_HISTORY_KEEP(LOCAL_HISTORY_CHANGES) ||
	       bytes > LOCAL_HISTORY_KEEP(LOCAL_HISTORY_BYTES)) {
		if (sqlite3_step(q) != SQLITE_ROW)
			return fail_db(s, "read", err);
		*ret_upto = sqlite3_column_int64(q, 0) / POSITIONS;
		changes--;
		bytes -= sqlite3_column_int64(q, 1);
	}
	return true;
}

static bool bound_history(SqliteStore *s, struct history *h, GError **err)
{
	int64_t upto = h->compacted;

	if (h->changes <= LOCAL_HISTORY_CHANGES && h->bytes <= LOCAL_HISTORY_BYTES)
		return true;
	return find_cut(s, h, &upto, err) && forget_upto(s, upto, h, err);
}

static struct history history_of(const SqliteStore *s)
{
	return (struct history){ .changes = s->changes, .bytes = s->bytes, .compacted = s->local.compacted };
}

static void keep_history(SqliteStore *s, const struct history *h)
{
	s->changes = h->changes;
	s->bytes = h->bytes;
	s->local.compacted = h->compacted;
}

/* Ends a transaction that failed; SQLite may have ended it already. */
static bool roll_back(SqliteStore *s)
{
	if (!sqlite3_get_autocommit(s->db))
		run(s, Q_ROLLBACK, "roll back", NULL);
	return false;
}

/* From BEGIN to COMMIT. On success `h` tells the history after it, which is the old one if nothing changed.
 */
static bool transact(SqliteStore *s, const StoreTx *tx, StoreFlags flags, int64_t rev, struct history *h,
		     bool *ret_changed, GError **err)
{
	int64_t before = h->changes;

	if (!sync_as(s, flags, err) || !run(s, Q_BEGIN, "write", err))
		return false;
	if (!holds(s, tx, err) || !apply(s, tx, rev, h, err))
		return roll_back(s);
	*ret_changed = h->changes > before;
	if (!*ret_changed) {
		roll_back(s);
		return true;
	}
	if (!bound_history(s, h, err) || !set_meta(s, rev, h->compacted, true, err) ||
	    !run(s, Q_COMMIT, "write", err))
		return roll_back(s);
	return true;
}

static bool sqlite_commit(Store *base, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	SqliteStore *s = (SqliteStore *)base;
	_cleanup_unlock_ LocalStore *held = local_lock(&s->local);
	struct history h = history_of(s);
	bool changed;

	if (!transact(s, tx, flags, s->local.rev + 1, &h, &changed, err))
		return false;
	if (changed) {
		keep_history(s, &h);
		local_committed(&s->local, tx, s->local.rev + 1);
	}
	*ret_rev = s->local.rev;
	return true;
}

/* A commit that has returned is in the log, or in the database by a checkpoint, which syncs both. */
static bool sqlite_sync(Store *base, GError **err)
{
	const SqliteStore *s = (SqliteStore *)base;
	int r = s->log->pMethods->xSync(s->log, SQLITE_SYNC_NORMAL | SQLITE_SYNC_DATAONLY);

	return r == SQLITE_OK || fail_advice(err, ERR_STORE, "Look at the host's disk and its log.",
					     "'%s' can't be synced: %s", s->path, sqlite3_errstr(r));
}

static bool sqlite_compact(Store *base, int64_t upto, GError **err)
{
	SqliteStore *s = (SqliteStore *)base;
	_cleanup_unlock_ LocalStore *held = local_lock(&s->local);
	struct history h = history_of(s);

	upto = MIN(upto, s->local.rev);
	if (upto <= h.compacted)
		return true;
	if (!sync_as(s, STORE_DURABLE, err) || !run(s, Q_BEGIN, "write", err))
		return false;
	if (!forget_upto(s, upto, &h, err) || !set_meta(s, s->local.rev, upto, true, err) ||
	    !run(s, Q_COMMIT, "write", err))
		return roll_back(s);
	keep_history(s, &h);
	return true;
}

const StoreBackend store_sqlite = {
	.scheme = "sqlite",
	.usage = "sqlite:PATH",
	.size = sizeof(SqliteStore),
	.open = sqlite_open,
	.close = sqlite_close,
	.get = sqlite_get,
	.list = sqlite_list,
	.revision = local_revision,
	.commit = sqlite_commit,
	.sync = sqlite_sync,
	.compact = sqlite_compact,
	.watch_open = local_watch_open,
	.watch_fd = local_watch_fd,
	.watch_next = local_watch_next,
	.watch_close = local_watch_close,
	.watch_seen = local_watch_seen,
};
