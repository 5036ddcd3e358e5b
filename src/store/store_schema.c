/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "store/store-schema.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

/*
 * item    what is: one row a key.
 * change  what happened, for watches: id is revision * 256 + position in the
 *         commit, size the bytes of key and value, value NULL for a deletion.
 * meta    one row. rev: that of the last commit (exact in JSON, and times 256 in 64 bits). compacted: the
 * changes up to this revision are gone. open: 1 from open to a clean close.
 */
static const char step1[] =
    "CREATE TABLE item(key TEXT PRIMARY KEY, value TEXT NOT NULL, rev INTEGER NOT NULL) STRICT;"
    "CREATE TABLE change(id INTEGER PRIMARY KEY, size INTEGER NOT NULL, key TEXT NOT NULL, value TEXT) STRICT;"
    "CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id = 1), rev INTEGER NOT NULL CHECK(rev BETWEEN 0 AND 9007199254740991),"
    " compacted INTEGER NOT NULL, open INTEGER NOT NULL) STRICT;"
    "INSERT INTO meta VALUES(1, 0, 0, 0);";

const SchemaStep schema_steps[] = {
	{ step1 },
};
const int schema_n_steps = G_N_ELEMENTS(schema_steps);

static const char advice_foreign[] =
    "Choose another state directory, or move this file away; nothing in it was changed.";
static const char advice_space[] = "Make room on that file system and try again; nothing was changed.";
static const char advice_broken[] =
    "Stop the daemon, look for disk errors in the kernel's log, and restore the file from a backup.";
static const char advice_rights[] =
    "Start the daemon as the user that owns its state directory, on a file system that is writable.";

static const struct {
	int rc; /* primary result code */
	ErrCode code;
	const char *advice;
} meanings[] = {
	{ SQLITE_FULL, ERR_NO_SPACE, advice_space },  { SQLITE_BUSY, ERR_BUSY, "Try again." },
	{ SQLITE_LOCKED, ERR_BUSY, "Try again." },    { SQLITE_READONLY, ERR_DENIED, advice_rights },
	{ SQLITE_PERM, ERR_DENIED, advice_rights },   { SQLITE_CANTOPEN, ERR_DENIED, advice_rights },
	{ SQLITE_CORRUPT, ERR_STORE, advice_broken }, { SQLITE_NOTADB, ERR_STORE, advice_broken },
	{ SQLITE_IOERR, ERR_STORE, advice_broken },
};

bool schema_fail(sqlite3 *db, const char *path, const char *doing, GError **err)
{
	int rc = sqlite3_errcode(db) & 0xff;

	/* A quota is a full disk too, but SQLite calls it an I/O error. */
	if (sqlite3_extended_errcode(db) == SQLITE_IOERR_WRITE && sqlite3_system_errno(db) == EDQUOT)
		rc = SQLITE_FULL;
	for (size_t i = 0; i < G_N_ELEMENTS(meanings); i++)
		if (meanings[i].rc == rc)
			return fail_advice(err, meanings[i].code, meanings[i].advice, "can't %s '%s': %s",
					   doing, path, sqlite3_errmsg(db));
	return fail(err, ERR_STORE, "can't %s '%s': %s", doing, path, sqlite3_errmsg(db));
}

bool schema_fail_rights(const char *path, GError **err)
{
	return fail_advice(err, ERR_DENIED, advice_rights, "can't write to '%s'", path);
}

static bool user_version(sqlite3 *db, const char *path, int *ret, GError **err)
{
	sqlite3_stmt *q = NULL;
	bool ok = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
		  sqlite3_step(q) == SQLITE_ROW;

	if (ok)
		*ret = sqlite3_column_int(q, 0);
	else
		schema_fail(db, path, "read", err);
	sqlite3_finalize(q);
	return ok;
}

static bool run_step(sqlite3 *db, const char *path, const SchemaStep *step, int version, GError **err)
{
	g_autofree char *sql =
	    g_strdup_printf("BEGIN IMMEDIATE; %s; PRAGMA user_version = %d; COMMIT;", step->sql, version);

	if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return true;
	schema_fail(db, path, "upgrade", err);
	if (!sqlite3_get_autocommit(db))
		sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
	return false;
}

static bool fail_newer(const char *path, int have, int n, GError **err)
{
	return fail_advice(
	    err, ERR_UNSUPPORTED,
	    "Start the newer version that wrote it, or restore a backup from before its upgrade.",
	    "'%s' has schema version %d; this program knows those up to %d", path, have, n);
}

bool schema_upgrade(sqlite3 *db, const char *path, const SchemaStep *steps, int n, GError **err)
{
	int have;

	if (!user_version(db, path, &have, err))
		return false;
	if (have < 0 || have > n)
		return fail_newer(path, have, n, err);
	for (int v = have; v < n; v++)
		if (!run_step(db, path, &steps[v], v + 1, err))
			return false;
	return true;
}

static int32_t number_at(const uint8_t *p)
{
	return (int32_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
}

/* Offsets and byte order: "Database File Format", section 1.3. */
bool schema_check_file(sqlite3 *db, const char *path, GError **err)
{
	static const char magic[] = "SQLite format 3"; /* with its NUL */
	sqlite3_file *f = NULL;
	uint8_t head[100];
	int r;

	sqlite3_file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &f);
	g_assert(f != NULL && f->pMethods != NULL);
	/* Through SQLite's own descriptor: closing another one would drop the locks that this process has. */
	r = f->pMethods->xRead(f, head, sizeof head, 0);
	if (r != SQLITE_OK && r != SQLITE_IOERR_SHORT_READ)
		return fail_advice(err, ERR_STORE, advice_broken, "can't read '%s': %s", path,
				   sqlite3_errstr(r));
	if (r != SQLITE_OK || memcmp(head, magic, sizeof magic) != 0)
		return fail_advice(err, ERR_INVALID, advice_foreign,
				   "'%s' is no state of this program: it is not a database", path);
	if (number_at(head + 68) != SCHEMA_APPLICATION_ID)
		return fail_advice(err, ERR_INVALID, advice_foreign,
				   "'%s' is no state of this program: it is a database of another one", path);
	if (number_at(head + 60) > schema_n_steps)
		return fail_newer(path, number_at(head + 60), schema_n_steps, err);
	return true;
}

/* The bytes of a file with the newest schema. Free with sqlite3_free(). */
static uint8_t *empty_image(size_t *ret_len, GError **err)
{
	g_autofree char *mark =
	    g_strdup_printf("PRAGMA page_size = 4096; PRAGMA application_id = %d;", SCHEMA_APPLICATION_ID);
	sqlite3 *db = NULL;
	sqlite3_int64 len = 0;
	uint8_t *image = NULL;

	if (sqlite3_open(":memory:", &db) != SQLITE_OK ||
	    sqlite3_exec(db, mark, NULL, NULL, NULL) != SQLITE_OK)
		schema_fail(db, "memory", "make a database in", err);
	else if (schema_upgrade(db, "memory", schema_steps, schema_n_steps, err))
		image = sqlite3_serialize(db, "main", &len, 0);
	sqlite3_close(db);
	*ret_len = (size_t)len;
	return image;
}

/* link() and not rename(): it refuses to replace what another process made meanwhile. */
static bool put_in_place(const char *tmp, const char *path, GError **err)
{
	g_autofree char *dir = g_path_get_dirname(path);
	int r = link(tmp, path) == 0 || errno == EEXIST ? 0 : errno;

	unlink(tmp);
	if (r != 0)
		return fail_errno(err, r, "can't make '%s'", path);
	return dir_sync(dir, err);
}

bool schema_create_file(const char *path, GError **err)
{
	g_autofree char *tmp = g_strdup_printf("%s.new-%d", path, (int)getpid());
	size_t len;
	uint8_t *image = empty_image(&len, err);
	bool ok = image != NULL && file_write_atomic(tmp, image, len, 0600, err);

	sqlite3_free(image);
	if (!ok && image == NULL)
		fail(err, ERR_STORE, "can't make '%s'", path);
	return ok && put_in_place(tmp, path, err);
}
