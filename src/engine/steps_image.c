/* SPDX-License-Identifier: Apache-2.0 */
/* Steps about images, volumes and seeds. */
#include "engine/engine-impl.h"
#include "engine/image/header_file.h"
#include "engine/image/import.h"
#include "engine/image/limited.h"
#include "engine/seed.h"
#include "engine/steps-impl.h"
#include "engine/volume/volume.h"

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

static struct hooks hooks_of(StepContext *ctx)
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
	struct hooks hooks = hooks_of(ctx);
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
	struct hooks hooks = hooks_of(ctx);

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
	struct hooks hooks = hooks_of(ctx);
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

bool step_VOLUME_CREATE_undo(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return volume_delete(json_str(args, "path"), err);
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
	if (volume_file_check(path, IMAGE_FORMAT_QCOW2, json_str(args, "backing"), &size, NULL, err))
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
