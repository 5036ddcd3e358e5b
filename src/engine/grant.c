/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/grant.h"
#include "base/fd.h"
#include "engine/as_user.h"
#include "engine/way.h"

#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

/* Longer chains of backing images are none of ours. */
#define CHAIN_MAX 16
#define QCOW2_MAGIC 0x514649fbu
#define BACKING_NAME_MAX 1023u

static bool target_open(Way *t, const char *path, GError **err)
{
	if (!way_walk(path, t, err))
		return false;
	if (S_ISDIR(t->st.st_mode))
		return fail_advice(err, ERR_INVALID, "Name the image file in it.", "'%s' is a folder", path);
	if (!S_ISREG(t->st.st_mode) && !S_ISBLK(t->st.st_mode))
		return fail_advice(err, ERR_INVALID, "A disk is an image file or a block device.",
				   "'%s' is neither a file nor a block device", path);
	return true;
}

/* chmod() of an O_PATH descriptor goes through its name in /proc. */
static bool target_set(const Way *t, uid_t uid, gid_t gid, mode_t mode, GError **err)
{
	g_autofree char *self = g_strdup_printf("/proc/self/fd/%d", t->fd);

	if (fchownat(t->fd, "", uid, gid, AT_EMPTY_PATH) < 0 || chmod(self, mode & 07777) < 0)
		return fail_errno(err, errno, "can't give '%s' to the user that QEMU runs as", t->path);
	return true;
}

/* What the user needs, beside what is there. */
static bool target_give(const Way *t, const struct grant *g, GError **err)
{
	if (g->readonly)
		return target_set(t, t->st.st_uid, g->user->gid, t->st.st_mode | S_IRGRP, err);
	return target_set(t, g->user->uid, t->st.st_gid, t->st.st_mode | S_IRUSR | S_IWUSR, err);
}

static int wanted(const struct grant *g)
{
	return g->readonly ? R_OK : R_OK | W_OK;
}

/* The way must be free before anything is changed. */
static bool check_way(const struct grant *g, const char *path, GError **err)
{
	g_autofree char *dir = as_user_barrier(g->user, path);

	if (dir == NULL)
		return true;
	fail(err, ERR_DENIED,
	     "the user %s, whom QEMU runs as, may not pass the folder '%s' on the way to '%s'", g->user_name,
	     dir, path);
	err_detail(err, "folder", json_text_or_escaped(dir));
	return err_advise(err, "Let it pass with `chmod o+x %s`, or move the file to a folder that is open.",
			  dir);
}

/* ---- whose way is it? ---- */

/* For messages; caller frees. */
static char *user_name(uid_t uid)
{
	struct passwd pw, *found = NULL;
	char buf[4096];

	if (getpwuid_r(uid, &pw, buf, sizeof buf, &found) == 0 && found != NULL)
		return g_strdup(found->pw_name);
	return g_strdup_printf("%u", (unsigned)uid);
}

static bool fail_stranger(const Way *t, const struct way_part *p, uid_t owner, GError **err)
{
	g_autofree char *holder = user_name(p->owner), *owns = user_name(owner);

	fail(err, ERR_DENIED,
	     "the %s '%s' on the way to '%s' belongs to the user %s, and the file to %s: %s could have "
	     "led to it here",
	     p->is_link ? "link" : "folder", p->path, t->path, holder, owns, holder);
	err_detail(err, "part", json_text_or_escaped(p->path));
	if (p->is_link)
		return err_advise(err, "Name the file itself, or have root make the link.");
	return err_advise(err,
			  "Move the file to a folder of root, or give it to whom the folder belongs: "
			  "`chown %s %s`.",
			  holder, t->path);
}

/*
 * What is changed, or opened to QEMU alone, must be what was meant: nobody but root and its owner may have
 * had a hand in the way to it. Of a file that need not be changed the links must be theirs.
 */
static bool check_hands(const Way *t, uid_t owner, bool change, GError **err)
{
	const struct way_part *p = way_stranger(t, owner, !change);

	if (p != NULL)
		return fail_stranger(t, p, owner, err);
	p = change ? way_second_name(t) : NULL;
	if (p == NULL)
		return true;
	fail(err, ERR_DENIED, "'%s' has more than one name, and more than its owner may write to '%s'",
	     t->path, p->path);
	err_detail(err, "part", json_text_or_escaped(p->path));
	return err_advise(err,
			  "It may be a file of somebody else. Use a copy of it, or keep the others out: "
			  "`chmod go-w %s`.",
			  p->path);
}

/* Nothing is given to anybody then. */
static bool is_open_to_all(const Way *t, const struct grant *g)
{
	mode_t need = g->readonly ? S_IROTH : S_IROTH | S_IWOTH;

	return (t->st.st_mode & need) == need && as_user_access(g->user, g->path, wanted(g)) == 0;
}

static bool check_access(const struct grant *g, GError **err)
{
	int r = as_user_access(g->user, g->path, wanted(g));

	if (r == 0)
		return true;
	fail(err, ERR_DENIED, "the user %s, whom QEMU runs as, may not %s '%s': %s", g->user_name,
	     g->readonly ? "read" : "write", g->path, g_strerror(-r));
	if (r == -EROFS)
		return err_advise(err, "It lies on a read-only file system: make the disk readonly.");
	return err_advise(err, "Look at the file's ACL, and at the options of the file system it lies on.");
}

/* {path, dev, ino: the file; uid, gid, mode: before; set_uid, set_gid: as we left it; use: {"VM PATH": true}}
 */

static char *record_key(const char *path)
{
	g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, path, -1);

	return g_strconcat(GRANT_PREFIX, sum, NULL);
}

/* A path may hold any bytes, JSON may not. */
static char *escaped(const char *path)
{
	return g_uri_escape_string(path, "/", FALSE);
}

static char *use_name(const char *vm, const char *path)
{
	g_autofree char *safe = escaped(path);

	return g_strconcat(vm, " ", safe, NULL);
}

static bool record_is_of(const Json *r, const struct stat *st)
{
	return json_int(r, "dev", -1) == (int64_t)st->st_dev && json_int(r, "ino", -1) == (int64_t)st->st_ino;
}

static Json *record_new(const Way *t)
{
	g_autofree char *path = escaped(t->path);
	Json *r = json_object();

	json_put_str(r, "path", path);
	json_put_int(r, "dev", (int64_t)t->st.st_dev);
	json_put_int(r, "ino", (int64_t)t->st.st_ino);
	json_put_int(r, "uid", t->st.st_uid);
	json_put_int(r, "gid", t->st.st_gid);
	json_put_int(r, "mode", t->st.st_mode & 07777);
	json_put(r, "use", json_object());
	return r;
}

static bool record_write(Store *s, const char *key, const Json *r, GError **err)
{
	g_autofree char *text = r != NULL ? json_print(r) : NULL;
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, text);
	return store_commit(s, tx, STORE_DURABLE, NULL, err);
}

/* NULL without error when there is none. New reference. */
static Json *record_read(Store *s, const char *key, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(s, key, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	return item != NULL ? json_parse(item->value, strlen(item->value), err) : NULL;
}

/* Between the record and the change may lie a crash: what is recorded is always the state before. */
static bool record_use(Store *s, const char *key, Json *r, const Way *t, const struct grant *g, GError **err)
{
	g_autofree char *use = use_name(g->vm, g->path);

	json_put_bool(json_obj(r, "use"), use, true);
	if (g->readonly)
		json_put_int(r, "set_gid", g->user->gid);
	else
		json_put_int(r, "set_uid", g->user->uid);
	return record_write(s, key, r, err) && target_give(t, g, err);
}

/*
 * Undo our own changes only: an owner, or a group, that is not the one we set
 * was set by somebody else, who also meant the mode.
 */
static bool restore(const Json *r, const Way *t, GError **err)
{
	int64_t set_uid = json_int(r, "set_uid", json_int(r, "uid", -1));
	int64_t set_gid = json_int(r, "set_gid", json_int(r, "gid", -1));
	bool ours = (t->st.st_uid == set_uid || t->st.st_uid == json_int(r, "uid", -1)) &&
		    (t->st.st_gid == set_gid || t->st.st_gid == json_int(r, "gid", -1));

	if (!record_is_of(r, &t->st) || !ours)
		return true;
	return target_set(t, (uid_t)json_int(r, "uid", 0), (gid_t)json_int(r, "gid", 0),
			  (mode_t)json_int(r, "mode", 0), err);
}

/* Others may use it still; else the file first, so that a crash in between restores it again. */
static bool record_drop_use(Store *s, const char *key, Json *r, const char *use, GError **err)
{
	g_auto(Way) t = { .fd = -EBADF };
	g_autofree char *path = NULL;

	json_object_del(json_obj(r, "use"), use);
	if (json_object_size(json_obj(r, "use")) > 0)
		return record_write(s, key, r, err);
	path = g_uri_unescape_string(json_str(r, "path"), NULL);
	/* It was without links: with one it leads to another file. */
	if (path != NULL && target_open(&t, path, NULL) && !way_has_links(&t) && !restore(r, &t, err))
		return false;
	return record_write(s, key, NULL, err);
}

static bool is_ours(const struct grant_host *h, const char *path)
{
	char *state = realpath(h->state, NULL);
	size_t len = state != NULL ? strlen(state) : 0;
	bool ours = len > 1 && strncmp(path, state, len) == 0 && path[len] == '/';

	free(state);
	return ours;
}

/* Ours for now, it still is whose it was. */
static uid_t owner_of(const Json *r, const Way *t)
{
	if (r == NULL || !record_is_of(r, &t->st) || json_int(r, "set_uid", -1) != (int64_t)t->st.st_uid)
		return t->st.st_uid;
	return (uid_t)json_int(r, "uid", 0);
}

static bool give_foreign(const struct grant_host *h, const Way *t, const struct grant *g, GError **err)
{
	g_autofree char *key = record_key(t->path), *use = use_name(g->vm, g->path);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *r = record_read(h->local, key, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (r == NULL && as_user_access(g->user, g->path, wanted(g)) == 0)
		return is_open_to_all(t, g) || check_hands(t, t->st.st_uid, false, err);
	if (!check_hands(t, owner_of(r, t), true, err))
		return false;
	/* A file of the same name that took the other's place is a new one. */
	if (r != NULL && !record_is_of(r, &t->st)) {
		json_unref(r);
		r = NULL;
	}
	if (r == NULL)
		r = record_new(t);
	if (record_use(h->local, key, r, t, g, err) && check_access(g, err))
		return true;
	record_drop_use(h->local, key, r, use, NULL);
	return false;
}

static bool give_ours(const Way *t, const struct grant *g, GError **err)
{
	if (!check_hands(t, t->st.st_uid, false, err))
		return false;
	return as_user_access(g->user, t->path, wanted(g)) == 0 ||
	       (target_give(t, g, err) && check_access(g, err));
}

/* qcow2's header: magic, version, offset and length of the backing file's name, big-endian. Caller frees. */
static char *backing_of(const char *path)
{
	struct {
		uint32_t magic, version;
		uint64_t offset;
		uint32_t len;
	} __attribute__((packed)) head;
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char name[BACKING_NAME_MAX + 1] = { 0 };
	uint32_t len;

	if (fd < 0 || pread(fd, &head, sizeof head, 0) != sizeof head || be32toh(head.magic) != QCOW2_MAGIC)
		return NULL;
	len = be32toh(head.len);
	if (head.offset == 0 || len == 0 || len > BACKING_NAME_MAX ||
	    pread(fd, name, len, (off_t)be64toh(head.offset)) != (ssize_t)len)
		return NULL;
	return g_strdup(name);
}

/* Our volumes are named after their format, which a guest can't change by what it writes. */
static bool give_chain(const struct grant_host *h, const Way *top, const struct grant *g, GError **err)
{
	g_autofree char *at = g_strdup(top->path);

	for (int i = 0; i < CHAIN_MAX && g_str_has_suffix(at, ".qcow2"); i++) {
		g_autofree char *next = backing_of(at);
		g_auto(Way) t = { .fd = -EBADF };
		struct grant read = *g;

		if (next == NULL || next[0] != '/')
			return true;
		if (!target_open(&t, next, err))
			return false;
		read.path = t.path;
		read.readonly = true;
		if (!is_ours(h, t.path))
			return check_way(&read, t.path, err) && check_access(&read, err);
		if (!check_way(&read, t.path, err) || !give_ours(&t, &read, err))
			return false;
		g_free(at);
		at = g_strdup(t.path);
	}
	return true;
}

static int lock(const struct grant_host *h, GError **err)
{
	_cleanup_close_ int fd = open(h->state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || TEMP_FAILURE_RETRY(flock(fd, LOCK_EX)) < 0) {
		fail_errno(err, errno, "can't lock the folder '%s'", h->state);
		return -EBADF;
	}
	return fd_take(&fd);
}

bool grant_add(const struct grant_host *h, const struct grant *g, GError **err)
{
	_cleanup_close_ int held = lock(h, err);
	g_auto(Way) t = { .fd = -EBADF };

	if (held < 0 || !target_open(&t, g->path, err) || !check_way(g, g->path, err) ||
	    !check_way(g, t.path, err))
		return false;
	if (is_ours(h, t.path))
		return give_ours(&t, g, err) && give_chain(h, &t, g, err);
	return give_foreign(h, &t, g, err);
}

/* By the name of the use: the path may lead elsewhere by now, or nowhere. */
bool grant_remove(const struct grant_host *h, const char *vm, const char *path, GError **err)
{
	_cleanup_close_ int held = lock(h, err);
	g_autofree char *use = use_name(vm, path);
	g_autoptr(GPtrArray) all = held >= 0 ? store_list(h->local, GRANT_PREFIX, NULL, err) : NULL;

	if (all == NULL)
		return false;
	for (guint i = 0; i < all->len; i++) {
		const StoreItem *item = all->pdata[i];
		_cleanup_json_ Json *r = json_parse(item->value, strlen(item->value), NULL);

		if (json_bool(json_obj(r, "use"), use, false) &&
		    !record_drop_use(h->local, item->key, r, use, err))
			return false;
	}
	return true;
}
