/* SPDX-License-Identifier: Apache-2.0 */
#include "shim.h"

#include <sqlite3.h>
#include <string.h>

#define SECTOR 512

typedef struct Event {
	ShimOp op;
	const char *path; /* interned */
	int64_t offset;
	GBytes *data; /* of a write */
} Event;

typedef struct ShimFile {
	sqlite3_file base;
	const char *path;
	sqlite3_file *real;
} ShimFile;

static struct {
	sqlite3_vfs vfs, *real;
	GPtrArray *event;
	guint after, times, failed;
	int rc;
} shim;

static void drop_event(gpointer p)
{
	Event *e = p;

	g_bytes_unref(e->data);
	g_free(e);
}

static void record(ShimOp op, const char *path, int64_t offset, const void *data, int len)
{
	Event *e = g_new(Event, 1);

	*e = (Event){ .op = op, .path = path, .offset = offset, .data = g_bytes_new(data, (gsize)len) };
	g_ptr_array_add(shim.event, e);
}

/* SQLITE_OK when the call may pass. */
static int fate(void)
{
	if (shim.times == 0)
		return SQLITE_OK;
	if (shim.after > 0) {
		shim.after--;
		return SQLITE_OK;
	}
	shim.times--;
	shim.failed++;
	return shim.rc;
}

static sqlite3_file *real_of(sqlite3_file *f)
{
	return ((ShimFile *)f)->real;
}

static int shim_close(sqlite3_file *f)
{
	return real_of(f)->pMethods->xClose(real_of(f));
}

static int shim_read(sqlite3_file *f, void *buf, int n, sqlite3_int64 at)
{
	return real_of(f)->pMethods->xRead(real_of(f), buf, n, at);
}

static int shim_write(sqlite3_file *f, const void *buf, int n, sqlite3_int64 at)
{
	int bad = fate();

	if (bad != SQLITE_OK)
		n /= 2;
	if (n > 0) {
		int r = real_of(f)->pMethods->xWrite(real_of(f), buf, n, at);

		g_assert_cmpint(r, ==, SQLITE_OK);
		record(SHIM_WRITE, ((ShimFile *)f)->path, at, buf, n);
	}
	return bad;
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int bad = fate();

	if (bad != SQLITE_OK)
		return bad;
	record(SHIM_TRUNCATE, ((ShimFile *)f)->path, size, "", 0);
	return real_of(f)->pMethods->xTruncate(real_of(f), size);
}

static int shim_sync(sqlite3_file *f, int flags)
{
	int bad = fate();

	if (bad != SQLITE_OK)
		return bad;
	record(SHIM_SYNC, ((ShimFile *)f)->path, 0, "", 0);
	return real_of(f)->pMethods->xSync(real_of(f), flags);
}

static int shim_file_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	return real_of(f)->pMethods->xFileSize(real_of(f), ret);
}

static int shim_lock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xLock(real_of(f), level);
}

static int shim_unlock(sqlite3_file *f, int level)
{
	return real_of(f)->pMethods->xUnlock(real_of(f), level);
}

static int shim_check_reserved(sqlite3_file *f, int *ret)
{
	return real_of(f)->pMethods->xCheckReservedLock(real_of(f), ret);
}

/* The real file would write by other ways (size hints, memory maps) that are not recorded. */
static int shim_control(sqlite3_file *f, int op, void *arg)
{
	if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE || op == SQLITE_FCNTL_MMAP_SIZE)
		return SQLITE_NOTFOUND;
	return real_of(f)->pMethods->xFileControl(real_of(f), op, arg);
}

static int shim_sector_size(sqlite3_file *f)
{
	return real_of(f)->pMethods->xSectorSize(real_of(f));
}

static int shim_characteristics(sqlite3_file *f)
{
	return real_of(f)->pMethods->xDeviceCharacteristics(real_of(f));
}

static const sqlite3_io_methods methods = {
	.iVersion = 1, /* no shared memory: the store holds its file exclusively */
	.xClose = shim_close,
	.xRead = shim_read,
	.xWrite = shim_write,
	.xTruncate = shim_truncate,
	.xSync = shim_sync,
	.xFileSize = shim_file_size,
	.xLock = shim_lock,
	.xUnlock = shim_unlock,
	.xCheckReservedLock = shim_check_reserved,
	.xFileControl = shim_control,
	.xSectorSize = shim_sector_size,
	.xDeviceCharacteristics = shim_characteristics,
};

static int shim_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *f, int flags, int *ret_flags)
{
	ShimFile *s = (ShimFile *)f;
	int r;

	(void)vfs;
	s->path = g_intern_string(path != NULL ? path : "");
	s->real = (sqlite3_file *)(s + 1);
	r = shim.real->xOpen(shim.real, path, s->real, flags, ret_flags);
	f->pMethods = s->real->pMethods != NULL ? &methods : NULL;
	return r;
}

static int shim_delete(sqlite3_vfs *vfs, const char *path, int sync_dir)
{
	(void)vfs;
	record(SHIM_DELETE, g_intern_string(path), 0, "", 0);
	return shim.real->xDelete(shim.real, path, sync_dir);
}

void shim_install(void)
{
	if (shim.real == NULL) {
		shim.real = sqlite3_vfs_find(NULL);
		shim.vfs = *shim.real;
		shim.vfs.zName = "shim";
		shim.vfs.szOsFile = (int)sizeof(ShimFile) + shim.real->szOsFile;
		shim.vfs.xOpen = shim_open;
		shim.vfs.xDelete = shim_delete;
		shim.event = g_ptr_array_new_with_free_func(drop_event);
	}
	g_ptr_array_set_size(shim.event, 0);
	shim_fail(0, 0, SQLITE_OK);
	sqlite3_vfs_register(&shim.vfs, 1);
}

void shim_remove(void)
{
	sqlite3_vfs_register(shim.real, 1);
}

guint shim_now(void)
{
	return shim.event->len;
}

guint shim_count(ShimOp op, const char *suffix, guint from, guint to)
{
	guint n = 0;

	for (guint i = from; i < to; i++) {
		const Event *e = shim.event->pdata[i];

		if (e->op == op && g_str_has_suffix(e->path, suffix))
			n++;
	}
	return n;
}

void shim_fail(guint after, guint times, int rc)
{
	shim.after = after;
	shim.times = times;
	shim.rc = rc;
	shim.failed = 0;
}

guint shim_failed(void)
{
	return shim.failed;
}

static void put(GByteArray *file, int64_t at, const uint8_t *data, size_t len)
{
	guint end = (guint)at + (guint)len, old = file->len;

	if (end > old) {
		g_byte_array_set_size(file, end);
		memset(file->data + old, 0, end - old);
	}
	memcpy(file->data + at, data, len);
}

/* Sector by sector; `all` for what was synced afterwards. */
static void apply_write(GByteArray *file, const Event *e, bool all, GRand *rand)
{
	gsize len;
	const uint8_t *data = g_bytes_get_data(e->data, &len);

	for (gsize done = 0; done < len;) {
		int64_t at = e->offset + (int64_t)done;
		gsize n = MIN(len - done, (gsize)(SECTOR - at % SECTOR));

		if (all || g_rand_boolean(rand))
			put(file, at, data + done, n);
		done += n;
	}
}

static void apply(GByteArray *file, bool *exists, const Event *e, bool all, GRand *rand)
{
	switch (e->op) {
	case SHIM_WRITE:
		*exists = true;
		apply_write(file, e, all, rand);
		break;
	case SHIM_TRUNCATE:
		if (file->len > e->offset && (all || g_rand_boolean(rand)))
			g_byte_array_set_size(file, (guint)e->offset);
		break;
	case SHIM_DELETE:
		if (all || g_rand_boolean(rand)) {
			g_byte_array_set_size(file, 0);
			*exists = false;
		}
		break;
	case SHIM_SYNC:
		break;
	}
}

/* The last sync of the file before the cut, or 0. */
static guint last_sync(const char *suffix, guint at)
{
	for (guint i = at; i > 0; i--) {
		const Event *e = shim.event->pdata[i - 1];

		if (e->op == SHIM_SYNC && g_str_has_suffix(e->path, suffix))
			return i;
	}
	return 0;
}

static void cut_file(const char *dir, const char *name, GByteArray *file, bool exists, guint at, GRand *rand)
{
	g_autofree char *path = g_build_filename(dir, name, NULL), *suffix = g_strconcat("/", name, NULL);
	guint synced = last_sync(suffix, at);
	/* Some disks lose much, some little, some write all at once. */
	guint upto =
	    g_rand_boolean(rand) ? at : synced + (guint)g_rand_int_range(rand, 0, (gint)(at - synced) + 1);

	for (guint i = 0; i < upto; i++) {
		const Event *e = shim.event->pdata[i];

		if (g_str_has_suffix(e->path, suffix))
			apply(file, &exists, e, i < synced, rand);
	}
	if (exists)
		g_assert_true(g_file_set_contents_full(path, (const char *)file->data, file->len,
						       G_FILE_SET_CONTENTS_NONE, 0600, NULL));
}

void shim_power_cut(const char *dir, const char *name, const GByteArray *base, guint at, GRand *rand)
{
	g_autoptr(GByteArray) db = g_byte_array_new(), wal = g_byte_array_new();
	g_autofree char *wal_name = g_strconcat(name, "-wal", NULL);

	g_byte_array_append(db, base->data, base->len);
	cut_file(dir, name, db, true, at, rand);
	cut_file(dir, wal_name, wal, false, at, rand);
}
