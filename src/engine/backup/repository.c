/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/repository.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "engine/backup/key_file.h"
#include "engine/image/header_file.h"
#include "engine/image/import.h"
#include "engine/image/qemu_img.h"
#include "engine/image/scratch.h"
#include "engine/image/sink.h"

#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

/* A check reads all tables of a file, at the pace of the slowest disk that is waited for. */
#define CHECK_DEADLINE (UINT64_C(3600) * 1000000)
#define MAC_MAX 128

bool backup_place_of_args(const Json *args, struct backup_place *ret, GError **err)
{
	struct backup_place p = { json_str(args, "repository"), json_str(args, "vm"),
				  json_str(args, "backup") };

	if (p.repository == NULL || !g_path_is_absolute(p.repository) || p.vm == NULL || !uuid_valid(p.vm) ||
	    !backup_id_valid(p.id))
		return fail(err, ERR_INVALID, "that names no backup in a repository");
	*ret = p;
	return true;
}

static char *vm_folder(const struct backup_place *p)
{
	return g_build_filename(p->repository, p->vm, NULL);
}

static char *begun_folder(const struct backup_place *p)
{
	return g_strdup_printf("%s/%s/.%s", p->repository, p->vm, p->id);
}

static char *named_folder(const struct backup_place *p)
{
	return g_build_filename(p->repository, p->vm, p->id, NULL);
}

char *backup_path_begun(const struct backup_place *p, const char *disk)
{
	g_autofree char *folder = begun_folder(p), *file = backup_file(disk);

	return g_build_filename(folder, file, NULL);
}

/* ---- what is there ---- */

bool repository_check(const char *path, GError **err)
{
	struct stat st;

	if (path == NULL || !g_path_is_absolute(path))
		return fail_advice(err, ERR_INVALID, "Write the absolute path of a folder on the host.",
				   "a repository of backups is named by an absolute path");
	if (stat(path, &st) < 0 && errno == ENOENT)
		return fail_advice(err, ERR_NOT_FOUND,
				   "Make the folder, or mount what should be there, and try again.",
				   "there is no folder '%s'", path);
	if (stat(path, &st) < 0)
		return fail_errno(err, errno, "can't use '%s' as a repository", path);
	return S_ISDIR(st.st_mode) ||
	       fail_advice(err, ERR_INVALID, "Name a folder.", "'%s' is no folder", path);
}

/* What is wrong with it is said where the key is. */
static void read_mac(Backup *b, const char *folder)
{
	g_autofree char *path = g_build_filename(folder, BACKUP_MANIFEST_MAC, NULL), *text = NULL;
	g_autoptr(GError) e = NULL;

	text = file_read(path, MAC_MAX, NULL, &e);
	if (text == NULL)
		b->no_mac = g_strdup(e->message);
	else if (strlen(g_strchomp(text)) != BACKUP_MAC_LENGTH)
		b->no_mac = g_strdup_printf("'%s' has not its %d digits", path, BACKUP_MAC_LENGTH);
	else
		b->mac = g_steal_pointer(&text);
}

static Backup *backup_read(const struct backup_place *p, GError **err)
{
	g_autofree char *folder = named_folder(p), *path = g_build_filename(folder, BACKUP_MANIFEST, NULL);
	size_t len;
	g_autofree char *text = file_read(path, BACKUP_MANIFEST_MAX, &len, err);
	g_autoptr(Backup) b = text != NULL ? backup_parse(text, len, err) : NULL;

	if (b == NULL)
		return NULL;
	if (b->key_check != NULL)
		read_mac(b, folder);
	if (g_str_equal(b->id, p->id) && g_str_equal(b->vm->id, p->vm))
		return g_steal_pointer(&b);
	fail(err, ERR_INVALID, "the manifest is of another backup");
	return NULL;
}

static void drop_backup(gpointer p)
{
	backup_free(p);
}

static void add_backup(GPtrArray *list, const struct backup_place *p, Json *broken)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *folder = NULL;
	Backup *b = backup_read(p, &e);
	struct stat st;
	Json *j;

	if (b != NULL) {
		g_ptr_array_add(list, b);
		return;
	}
	folder = named_folder(p);
	/* Deleted since the list was read. */
	if (lstat(folder, &st) < 0 && errno == ENOENT)
		return;
	j = json_object();
	json_put_str(j, "path", folder);
	json_put(j, "error", err_to_json(e));
	json_array_append_new(broken, j);
}

/* A vm without a folder has no backups. */
static bool add_vm(GPtrArray *list, const char *repository, const char *vm, Json *broken, GError **err)
{
	g_autofree char *path = g_build_filename(repository, vm, NULL);
	g_autoptr(GError) e = NULL;
	g_autoptr(GDir) dir = g_dir_open(path, 0, &e);
	const char *name;

	if (dir == NULL)
		return g_error_matches(e, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
		       fail(err, ERR_DENIED, "can't look into '%s': %s", path, e->message);
	while ((name = g_dir_read_name(dir)) != NULL) {
		struct backup_place p = { repository, vm, name };

		if (backup_id_valid(name))
			add_backup(list, &p, broken);
	}
	return true;
}

static bool add_all(GPtrArray *list, const char *repository, Json *broken, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(GDir) dir = g_dir_open(repository, 0, &e);
	const char *name;

	if (dir == NULL)
		return fail(err, ERR_DENIED, "can't look into '%s': %s", repository, e->message);
	while ((name = g_dir_read_name(dir)) != NULL)
		if (uuid_valid(name) && !add_vm(list, repository, name, broken, err))
			return false;
	return true;
}

GPtrArray *repository_list(const char *path, const char *vm, Json **ret_broken, GError **err)
{
	g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(drop_backup);
	_cleanup_json_ Json *broken = json_array();

	if (!repository_check(path, err) ||
	    !(vm != NULL ? add_vm(list, path, vm, broken, err) : add_all(list, path, broken, err)))
		return NULL;
	g_ptr_array_sort(list, backup_compare);
	if (ret_broken != NULL)
		*ret_broken = json_ref(broken);
	return g_steal_pointer(&list);
}

/* ---- a new one ---- */

/* What looks like nothing is nobody's: the vm's lock is ours. */
static void remove_leftovers(const char *folder)
{
	g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
	const char *name;

	while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *path = g_build_filename(folder, name, NULL);
		g_autoptr(GError) e = NULL;

		if (name[0] == '.' && !dir_remove(path, &e))
			log_warning("'%s' was left by an interrupted backup and can't be removed: %s", path,
				    e->message);
	}
}

/* The parent's name is written down and not opened: it is opened by who restores, once it was verified. */
static bool make_disk(const char *folder, const Json *disk, const char *parent, const char *const *secrets,
		      GError **err)
{
	const char *name = json_str(disk, "name");
	g_autofree char *file = backup_file(name),
			*backing = parent != NULL ? backup_backing(parent, name) : NULL;
	struct qemu_img q = { .dir = folder, .secrets = secrets, .uid = LIMITED_KEEP_USER };

	return qemu_img_create(&q, file, IMAGE_FORMAT_QCOW2, backing, IMAGE_FORMAT_QCOW2,
			       json_uint(disk, "size", 0), err);
}

static bool advise_repository(const char *repository, GError **err)
{
	if (err != NULL && g_error_matches(*err, ERR, ERR_NO_SPACE))
		return err_advise(err, "Make room in '%s', with `plim backup prune` say, and try again.",
				  repository);
	return err_advise(err, "The daemon must be able to write in '%s'.", repository);
}

static bool prepare(const struct backup_place *p, const Json *disks, const char *parent,
		    const char *const *secrets, GError **err)
{
	g_autofree char *vm = vm_folder(p), *folder = begun_folder(p);
	const Json *d;
	size_t i;

	if (!dir_make(vm, 0700, err))
		return false;
	remove_leftovers(vm);
	if (!dir_make(folder, 0700, err))
		return false;
	json_array_foreach((Json *)disks, i, d)
	{
		if (!make_disk(folder, d, parent, secrets, err))
			return false;
	}
	return true;
}

bool backup_prepare(const struct backup_place *p, const Json *disks, const char *parent,
		    const char *const *secrets, GError **err)
{
	if (!repository_check(p->repository, err))
		return false;
	if (prepare(p, disks, parent, secrets, err))
		return true;
	backup_prepare_undo(p, NULL);
	return advise_repository(p->repository, err);
}

bool backup_prepare_undo(const struct backup_place *p, GError **err)
{
	g_autofree char *folder = begun_folder(p), *vm = vm_folder(p);

	if (!dir_remove(folder, err))
		return false;
	/* Unless there are others in it. */
	rmdir(vm);
	return true;
}

/* ---- it gets its name ---- */

/* Held until it is closed; -EBADF on failure. */
static int lock_vm(const struct backup_place *p, GError **err)
{
	g_autofree char *path = vm_folder(p);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_EX) < 0) {
		fail_errno(err, errno, "can't use '%s'", path);
		return -EBADF;
	}
	return fd_take(&fd);
}

static bool sync_file(const char *path, uint64_t *ret_size, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fchmod(fd, 0600) < 0 || fsync(fd) < 0 || fstat(fd, &st) < 0)
		return fail_errno(err, errno, "can't write '%s'", path);
	*ret_size = (uint64_t)st.st_size;
	return true;
}

static bool seal_disk(const struct backup_place *p, Json *disk, const struct hooks *hooks, uint64_t *bytes,
		      GError **err)
{
	g_autofree char *path = backup_path_begun(p, json_str(disk, "name")), *hash = NULL;
	uint64_t size = 0;

	if (!sync_file(path, &size, err))
		return false;
	hash = file_sha512(path, hooks, err);
	if (hash == NULL)
		return false;
	json_put_uint(disk, "bytes", size);
	json_put_str(disk, "sha512", hash);
	*bytes += size;
	return true;
}

static bool write_mac(const char *folder, const BackupKey *key, const char *id, const char *text,
		      GError **err)
{
	g_autofree char *path = g_build_filename(folder, BACKUP_MANIFEST_MAC, NULL),
			*digest = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1),
			*mac = backup_key_mac(key, id, digest), *line = g_strconcat(mac, "\n", NULL);

	return file_write_atomic(path, line, strlen(line), 0600, err);
}

/* Never one that could not be read again. */
static bool write_manifest(const char *folder, const Json *manifest, const BackupKey *key, GError **err)
{
	g_autofree char *path = g_build_filename(folder, BACKUP_MANIFEST, NULL), *text = NULL;
	g_autoptr(Backup) checked = backup_of_json(manifest, err);

	if (checked == NULL)
		return false;
	if ((key != NULL) != (checked->key_check != NULL))
		return fail(err, ERR_INTERNAL, "the manifest and the step disagree on the backup's key");
	text = json_print_pretty(manifest);
	return file_write_atomic(path, text, strlen(text), 0600, err) &&
	       (key == NULL || write_mac(folder, key, checked->id, text, err));
}

static bool give_name(const struct backup_place *p, const char *parent, GError **err)
{
	g_autofree char *from = begun_folder(p), *to = named_folder(p), *vm = vm_folder(p);
	_cleanup_close_ int lock = lock_vm(p, err);
	struct backup_place below = { p->repository, p->vm, parent };
	g_autoptr(Backup) b = NULL;

	if (lock < 0)
		return false;
	if (parent != NULL)
		b = backup_read(&below, NULL);
	if (parent != NULL && b == NULL)
		return fail_advice(err, ERR_CONFLICT, "Try again: the next backup will be a full one.",
				   "backup %s, on which this one rests, is gone", parent);
	if (!dir_sync(from, err))
		return false;
	if (rename(from, to) < 0)
		return fail_errno(err, errno, "can't name the backup '%s'", to);
	return dir_sync(vm, err);
}

bool backup_seal(const struct backup_place *p, Json *manifest, const BackupKey *key,
		 const struct hooks *hooks, uint64_t *ret_bytes, GError **err)
{
	g_autofree char *folder = begun_folder(p);
	g_autoptr(Backup) done = backup_read(p, NULL);
	uint64_t bytes = 0;
	Json *d;
	size_t i;

	if (done != NULL) {
		*ret_bytes = backup_bytes(done);
		return true;
	}
	json_array_foreach(json_arr(manifest, "disks"), i, d)
	{
		if (!seal_disk(p, d, hooks, &bytes, err))
			return false;
	}
	if (!write_manifest(folder, manifest, key, err) || !give_name(p, json_str(manifest, "parent"), err))
		return false;
	*ret_bytes = bytes;
	return true;
}

/* ---- it goes ---- */

static bool check_free(const struct backup_place *p, GError **err)
{
	g_autoptr(GPtrArray) all = repository_list(p->repository, p->vm, NULL, err);

	return all != NULL && backup_check_free(all, p->id, err);
}

/* It is no backup any more before the first of its files goes. */
static bool hide(const struct backup_place *p, const char *hidden, GError **err)
{
	g_autofree char *folder = named_folder(p), *vm = vm_folder(p);
	_cleanup_close_ int lock = lock_vm(p, err);

	if (lock < 0 || !check_free(p, err))
		return false;
	if (rename(folder, hidden) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't delete '%s'", folder);
	return dir_sync(vm, err);
}

bool backup_delete(const struct backup_place *p, GError **err)
{
	g_autofree char *hidden = g_strdup_printf("%s/%s/.deleted-%s", p->repository, p->vm, p->id),
			*vm = vm_folder(p);

	if (!g_file_test(vm, G_FILE_TEST_IS_DIR))
		return true;
	if (!hide(p, hidden, err) || !dir_remove(hidden, err))
		return advise_repository(p->repository, err);
	rmdir(vm);
	return true;
}

/* ---- is it what it was ---- */

static bool verify_file(const Json *source, const struct hooks *hooks, GError **err)
{
	const char *path = json_str(source, "path"), *hash = json_str(source, "sha512");
	g_autofree char *is = file_sha512(path, hooks, err);
	uint64_t size;

	if (is == NULL)
		return false;
	if (hash == NULL || !g_str_equal(is, hash)) {
		fail_advice(err, ERR_INVALID,
			    "Take another backup; those that rest on this one can't be used either.",
			    "the backup's file '%s' is not what was written", path);
		return err_detail(err, "file", json_text_or_escaped(path));
	}
	if (volume_file_check(path, IMAGE_FORMAT_QCOW2, json_str(source, "backing"),
			      json_str(source, "key_file") != NULL, &size, NULL, err))
		return true;
	g_prefix_error(err, "the backup's file '%s' can't be used: ", path);
	return false;
}

/* `secret`: NULL for a plain one. */
static bool check_tables(const Json *source, const char *secret, const struct hooks *hooks, GError **err)
{
	const char *path = json_str(source, "path"), *const readable[] = { path, NULL },
		   *const secrets[] = { secret, NULL };
	struct qemu_img q = { .readable = readable,
			      .secrets = secret != NULL ? secrets : NULL,
			      .uid = LIMITED_KEEP_USER,
			      .deadline = CHECK_DEADLINE,
			      .hooks = hooks };

	return qemu_img_check(&q, path, err);
}

bool backup_sources_verify(const Json *sources, bool check, const struct hooks *hooks, GError **err)
{
	size_t n = json_array_size(sources), i;
	_cleanup_secrets_ char **secrets = NULL;
	const Json *s;

	if (n == 0)
		return fail(err, ERR_INVALID, "the backup has no such disk");
	/* Before hours go by over what is of no use without its key. */
	if (!backup_secrets_of_sources(sources, &secrets, err))
		return false;
	json_array_foreach((Json *)sources, i, s)
	{
		if (!verify_file(s, hooks, err))
			return false;
	}
	return !check || check_tables(json_array_get(sources, n - 1), secrets != NULL ? secrets[n - 1] : NULL,
				      hooks, err);
}
