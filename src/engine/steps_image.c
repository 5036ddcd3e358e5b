/* SPDX-License-Identifier: Apache-2.0 */
/* Steps about images, volumes and seeds. */
#include "base/fd.h"
#include "engine/engine-impl.h"
#include "engine/image/header_file.h"
#include "engine/image/import.h"
#include "engine/image/limited.h"
#include "engine/image/scratch.h"
#include "engine/receive.h"
#include "engine/seed.h"
#include "engine/steps-impl.h"
#include "engine/volume/volume.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

void step_qemu_ids(StepContext *ctx, uid_t *ret_uid, gid_t *ret_gid)
{
	const HostFacts *host = engine_facts(step_engine(ctx));
	SpawnUser user;

	*ret_uid = LIMITED_KEEP_USER;
	*ret_gid = (gid_t)-1;
	if (host->run_as != NULL && spawn_user_find(host->run_as, NULL, &user)) {
		*ret_uid = user.uid;
		*ret_gid = user.gid;
	}
}

/*
 * Who reads images from outside: not QEMU's user, who owns the disks of all
 * guests, but nobody.
 */
static void import_ids(StepContext *ctx, uid_t *ret_uid, gid_t *ret_gid)
{
	SpawnUser user;

	if (geteuid() != 0 || !spawn_user_find("nobody", NULL, &user)) {
		step_qemu_ids(ctx, ret_uid, ret_gid);
		return;
	}
	*ret_uid = user.uid;
	*ret_gid = user.gid;
}

static bool is_cancelled(void *data)
{
	return step_cancelled(data);
}

static void on_progress(uint64_t done, uint64_t total, void *data)
{
	if (total > 0)
		step_progress(data, (unsigned)(done * 100 / total));
}

struct hooks step_hooks(StepContext *ctx)
{
	return (struct hooks){ .cancelled = is_cancelled, .progress = on_progress, .data = ctx };
}

/* ---- images ---- */

typedef bool (*ImportFunc)(const struct image_import *im, Json **ret_facts, GError **err);
typedef bool (*ImportUndo)(const struct image_import *im, GError **err);

static bool take_args(StepContext *ctx, const Json *args, const struct hooks *hooks, struct image_import *im,
		      GError **err)
{
	if (!image_import_of_args(args, im, err))
		return false;
	import_ids(ctx, &im->uid, &im->gid);
	im->hooks = hooks;
	return true;
}

static bool import_step(StepContext *ctx, const Json *args, ImportFunc func, GError **err)
{
	struct hooks hooks = step_hooks(ctx);
	_cleanup_json_ Json *facts = NULL;
	struct image_import im;
	const char *key;
	Json *v;

	if (!take_args(ctx, args, &hooks, &im, err) || !func(&im, &facts, err))
		return false;
	json_object_foreach(facts, key, v) step_fact(ctx, key, json_deep_copy(v));
	return true;
}

static bool import_undo(StepContext *ctx, const Json *args, ImportUndo func, GError **err)
{
	struct image_import im;

	return take_args(ctx, args, NULL, &im, err) && func(&im, err);
}

bool step_IMAGE_FETCH_run(StepContext *ctx, const Json *args, GError **err)
{
	return import_step(ctx, args, image_fetch, err);
}

bool step_IMAGE_FETCH_undo(StepContext *ctx, const Json *args, GError **err)
{
	return import_undo(ctx, args, image_fetch_undo, err);
}

bool step_IMAGE_INSPECT_run(StepContext *ctx, const Json *args, GError **err)
{
	return import_step(ctx, args, image_inspect, err);
}

bool step_IMAGE_CONVERT_run(StepContext *ctx, const Json *args, GError **err)
{
	return import_step(ctx, args, image_convert, err);
}

bool step_IMAGE_CONVERT_undo(StepContext *ctx, const Json *args, GError **err)
{
	return import_undo(ctx, args, image_convert_undo, err);
}

bool step_IMAGE_PUBLISH_run(StepContext *ctx, const Json *args, GError **err)
{
	return import_undo(ctx, args, image_publish, err);
}

bool step_IMAGE_PUBLISH_undo(StepContext *ctx, const Json *args, GError **err)
{
	return import_undo(ctx, args, image_publish_undo, err);
}

bool step_IMAGE_VERIFY_run(StepContext *ctx, const Json *args, GError **err)
{
	struct hooks hooks = step_hooks(ctx);

	return image_verify(json_str(args, "target"), json_str(args, "sha512"), &hooks, err);
}

bool step_IMAGE_REMOVE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return image_remove(json_str(args, "target"), json_str(args, "work"), err);
}

/* ---- volumes ---- */

typedef bool (*VolumeFunc)(const struct volume_make *v, uint64_t *ret_size, GError **err);

static bool volume_step(StepContext *ctx, const Json *args, VolumeFunc func, GError **err)
{
	struct hooks hooks = step_hooks(ctx);
	struct volume_make v;

	if (!volume_make_of_args(args, &v, err))
		return false;
	step_qemu_ids(ctx, &v.uid, &v.gid);
	v.hooks = &hooks;
	return func(&v, NULL, err);
}

bool step_VOLUME_CREATE_run(StepContext *ctx, const Json *args, GError **err)
{
	return volume_step(ctx, args, volume_create, err);
}

bool step_VOLUME_CLONE_run(StepContext *ctx, const Json *args, GError **err)
{
	return volume_step(ctx, args, volume_clone, err);
}

/* A guest that came, and whose QEMU then failed, is this host's with all its disks. */
static bool keeps_disks(StepContext *ctx)
{
	return json_bool(step_operation(ctx)->facts, RECEPTION_KEEPS, false);
}

bool step_VOLUME_CREATE_undo(StepContext *ctx, const Json *args, GError **err)
{
	return keeps_disks(ctx) || volume_delete(json_str(args, "path"), err);
}

/*
 * DISK_MAKE: an empty disk {disk, path, format, size} where a user has his own files. It is made under
 * another name beside its place, which nothing else can have; which file that is stands in the operation
 * before it gets its own name. So nothing that was there is ever replaced, nor removed by the undo.
 */

static char *made_fact(const Json *args)
{
	return g_strconcat("made-", json_str(args, "disk"), NULL);
}

static char *spare_path(StepContext *ctx, const Json *args)
{
	g_autofree char *dir = g_path_get_dirname(json_str(args, "path"));

	return g_strdup_printf("%s/.plimsoll-%s-%s", dir, step_operation(ctx)->id, json_str(args, "disk"));
}

static bool is_made_by(StepContext *ctx, const Json *args)
{
	g_autofree char *name = made_fact(args);
	const Json *made = json_obj(step_operation(ctx)->facts, name);
	struct stat st;

	return made != NULL && lstat(json_str(args, "path"), &st) == 0 &&
	       json_int(made, "dev", -1) == (int64_t)st.st_dev &&
	       json_int(made, "ino", -1) == (int64_t)st.st_ino;
}

static bool note_made(StepContext *ctx, const Json *args, const char *spare, GError **err)
{
	g_autofree char *name = made_fact(args);
	Json *made;
	struct stat st;

	if (lstat(spare, &st) < 0)
		return fail_errno(err, errno, "can't look at '%s'", spare);
	made = json_object();
	json_put_int(made, "dev", (int64_t)st.st_dev);
	json_put_int(made, "ino", (int64_t)st.st_ino);
	step_fact(ctx, name, made);
	step_say(ctx, "making disks");
	return true;
}

static bool give_name(const char *spare, const char *path, GError **err)
{
	if (link(spare, path) == 0)
		return unlink(spare) == 0 || fail_errno(err, errno, "can't remove '%s'", spare);
	if (errno == EEXIST)
		return fail_advice(err, ERR_CONFLICT, "Move it away first.", "there is a file '%s' already",
				   path);
	return fail_errno(err, errno, "can't make '%s'", path);
}

/*
 * In a folder of an ordinary user it is that user's, as if they had made it: root's files in such folders are
 * not given to guests (grant.h).
 */
static bool give_to_owner_of_folder(const char *spare, GError **err)
{
	g_autofree char *dir = g_path_get_dirname(spare), *name = g_path_get_basename(spare);
	_cleanup_close_ int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	_cleanup_close_ int fd =
	    dir_fd >= 0 ? openat(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC) : -EBADF;
	struct stat folder, file;

	if (fd < 0 || fstat(dir_fd, &folder) < 0 || fstat(fd, &file) < 0)
		return fail_errno(err, errno, "can't look at '%s'", spare);
	if (geteuid() != 0 || folder.st_uid == 0)
		return true;
	/* It is the folder's owner's already when a daemon died behind this. */
	if (!S_ISREG(file.st_mode) || (file.st_uid != 0 && file.st_uid != folder.st_uid) ||
	    file.st_nlink != 1)
		return fail_advice(err, ERR_DENIED,
				   "Somebody else changes files there: look who, and try again.",
				   "'%s' is not the file that was made", spare);
	return fchown(fd, folder.st_uid, folder.st_gid) == 0 ||
	       fail_errno(err, errno, "can't give '%s' to the owner of its folder", spare);
}

bool step_DISK_MAKE_run(StepContext *ctx, const Json *args, GError **err)
{
	g_autofree char *spare = spare_path(ctx, args);
	struct hooks hooks = step_hooks(ctx);
	struct volume_make v;

	if (is_made_by(ctx, args))
		return volume_delete(spare, err);
	if (!volume_make_of_args(args, &v, err))
		return false;
	v.path = spare;
	v.hooks = &hooks;
	return volume_create(&v, NULL, err) && note_made(ctx, args, spare, err) &&
	       give_to_owner_of_folder(spare, err) && give_name(spare, json_str(args, "path"), err) &&
	       sync_dir_of(spare, err);
}

bool step_DISK_MAKE_undo(StepContext *ctx, const Json *args, GError **err)
{
	g_autofree char *spare = spare_path(ctx, args);

	if (keeps_disks(ctx))
		return true;
	if (is_made_by(ctx, args) && unlink(json_str(args, "path")) < 0)
		return fail_errno(err, errno, "can't remove '%s'", json_str(args, "path"));
	return volume_delete(spare, err);
}

bool step_VOLUME_CLONE_undo(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return volume_delete(json_str(args, "path"), err);
}

bool step_VOLUME_DELETE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return volume_delete(json_str(args, "path"), err);
}

bool step_DISK_CHECK_run(StepContext *ctx, const Json *args, GError **err)
{
	const char *path = json_str(args, "path");
	uint64_t size;

	(void)ctx;
	if (!json_bool(args, "volume", false))
		return disk_file_check(path, err);
	if (volume_file_check(path, IMAGE_FORMAT_QCOW2, json_str(args, "backing"), false, &size, NULL, err))
		return true;
	g_prefix_error(err, "the disk '%s' is not what it was: ", path);
	return false;
}

static bool grow(const struct volume_make *v, uint64_t *ret_size, GError **err)
{
	(void)ret_size;
	return volume_grow(v, err);
}

bool step_VOLUME_GROW_run(StepContext *ctx, const Json *args, GError **err)
{
	return volume_step(ctx, args, grow, err);
}

/* ---- seeds ---- */

bool step_SEED_WRITE_run(StepContext *ctx, const Json *args, GError **err)
{
	const char *vm = json_str(args, "vm");
	g_autoptr(CloudInit) c = cloud_init_of(json_obj(args, "cloud_init"), json_str(args, "name"), vm, err);
	uid_t uid;
	gid_t gid;

	if (c == NULL)
		return false;
	step_qemu_ids(ctx, &uid, &gid);
	return seed_write(json_str(args, "path"), c, gid, err);
}
