/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/volume/volume.h"
#include "base/fd.h"
#include "base/str.h"
#include "engine/image/header_file.h"
#include "engine/image/qemu_img.h"
#include "engine/image/scratch.h"
#include "engine/image/space.h"

#include <stdio.h>
#include <sys/stat.h>

#define SECOND UINT64_C(1000000)
/* The slowest disk that a copy is waited for: bytes a second. */
#define SLOWEST (UINT64_C(2) << 20)
#define SECTOR UINT64_C(512)
/* QEMU's own temporary name in the folder where it works. */
#define NEW_NAME "disk"

static bool format_of(const Json *args, const char *key, ImageFormat *ret, GError **err)
{
	const char *text = json_str(args, key);

	*ret = IMAGE_FORMAT_QCOW2;
	if (text == NULL)
		return true;
	if (!image_format_parse(text, ret, err))
		return false;
	return *ret == IMAGE_FORMAT_QCOW2 || *ret == IMAGE_FORMAT_RAW ||
	       fail_advice(err, ERR_INVALID, "Use qcow2 or raw.", "a volume can't be of format %s", text);
}

bool volume_make_of_args(const Json *args, struct volume_make *ret, GError **err)
{
	struct volume_make v = {
		.path = json_str(args, "path"),
		.size = json_uint(args, "size", 0),
		.backing = json_str(args, "backing"),
		.source = json_str(args, "source"),
		.source_backing = json_str(args, "source_backing"),
		.uid = LIMITED_KEEP_USER,
	};

	if (v.path == NULL || !g_path_is_absolute(v.path))
		return fail(err, ERR_INVALID, "a volume needs an absolute path");
	if (!format_of(args, "format", &v.format, err) ||
	    !format_of(args, "source_format", &v.source_format, err))
		return false;
	*ret = v;
	return true;
}

static char *partial_of(const char *path)
{
	g_autofree char *dir = g_path_get_dirname(path), *name = g_path_get_basename(path);

	return g_strdup_printf("%s/.%s.partial", dir, name);
}

static bool check_size(const struct volume_make *v, uint64_t least, uint64_t *ret_size, GError **err)
{
	uint64_t size = v->size != 0 ? v->size : least;
	g_autofree char *most = print_size(IMAGE_VIRTUAL_SIZE_MAX), *want = print_size(size),
			*min = print_size(least);

	if (size == 0 || size > IMAGE_VIRTUAL_SIZE_MAX)
		return fail_advice(err, ERR_INVALID, "Give a size up to 16 TiB.",
				   "a volume can't have a size of %s", want);
	if (size < least)
		return fail_advice(err, ERR_INVALID, "Give the vm a disk of at least that size.",
				   "a volume of %s is smaller than what goes on it: %s", want, min);
	*ret_size = (size + SECTOR - 1) / SECTOR * SECTOR;
	return true;
}

/* What an earlier run of the same step made is what is wanted, or something else has the name. */
static bool exists_already(const struct volume_make *v, const char *backing, uint64_t size, bool *ret,
			   GError **err)
{
	struct volume_info info;
	struct stat st;

	*ret = lstat(v->path, &st) == 0;
	if (!*ret)
		return errno == ENOENT || fail_errno(err, errno, "can't look at '%s'", v->path);
	if (!volume_info(v->path, v->format, backing, &info, NULL) || info.virtual_size != size)
		return fail_advice(err, ERR_CONFLICT, "Move it away, or choose another name.",
				   "'%s' is there already and is something else", v->path);
	return true;
}

/* An empty folder of the owner's, where QEMU makes the file. */
static bool begin(const struct volume_make *v, const char *partial, GError **err)
{
	return dir_remove(partial, err) && scratch_make(partial, v->uid, v->gid, err);
}

static bool end(const struct volume_make *v, const char *partial, GError **err)
{
	g_autofree char *made = g_build_filename(partial, NEW_NAME, NULL);
	uid_t uid = v->uid != LIMITED_KEEP_USER ? v->uid : geteuid();
	gid_t gid = v->uid != LIMITED_KEEP_USER ? v->gid : getegid();

	return scratch_take(made, v->path, uid, gid, 0600, err) && dir_remove(partial, err) &&
	       sync_dir_of(v->path, err);
}

static bool image_size(const char *backing, uint64_t *ret, GError **err)
{
	static const ImageFormat qcow2 = IMAGE_FORMAT_QCOW2;
	struct image_header h = { 0 };

	if (!g_path_is_absolute(backing))
		return fail(err, ERR_INVALID, "the path of an image must be absolute");
	if (!image_file_check(backing, &qcow2, UINT64_MAX, &h, err))
		return false;
	*ret = h.virtual_size;
	return true;
}

static bool create(const struct volume_make *v, uint64_t size, const char *partial, GError **err)
{
	const char *const readable[] = { v->backing, NULL };
	struct qemu_img q = {
		.dir = partial, .readable = readable, .uid = LIMITED_KEEP_USER, .hooks = v->hooks
	};

	return begin(v, partial, err) &&
	       qemu_img_create(&q, NEW_NAME, v->format, v->backing, IMAGE_FORMAT_QCOW2, size, err) &&
	       end(v, partial, err);
}

bool volume_create(const struct volume_make *v, uint64_t *ret_size, GError **err)
{
	g_autofree char *partial = partial_of(v->path);
	uint64_t least = 0, size;
	bool done;

	if (v->backing != NULL && v->format != IMAGE_FORMAT_QCOW2)
		return fail_advice(err, ERR_INVALID, "Use qcow2, or clone the image.",
				   "only qcow2 can be an overlay");
	if ((v->backing != NULL && !image_size(v->backing, &least, err)) ||
	    !check_size(v, least, &size, err) || !exists_already(v, v->backing, size, &done, err))
		return false;
	if (!done && !create(v, size, partial, err)) {
		dir_remove(partial, NULL);
		return false;
	}
	if (ret_size != NULL)
		*ret_size = size;
	return true;
}

/*
 * As the owner: whoever wrote the source's header reaches no more than QEMU did. The files of a chain are the
 * daemon's own; their headers were looked at, and the walls of limited.h stand.
 */
static bool copy(const struct volume_make *v, uint64_t source_size, uint64_t size, const char *partial,
		 GError **err)
{
	const char *const readable[] = { v->source, v->source_backing, NULL };
	struct qemu_img q = { .dir = partial,
			      .readable = v->chain != NULL ? v->chain : readable,
			      .uid = v->chain != NULL ? LIMITED_KEEP_USER : v->uid,
			      .gid = v->gid,
			      .chain = v->chain,
			      .secrets = v->secrets,
			      .hooks = v->hooks };

	if (!begin(v, partial, err) || !space_free(partial, &q.file_size_max, err))
		return false;
	if (q.file_size_max == 0)
		return space_fail(partial, "the copy", 0, err);
	if (v->format == IMAGE_FORMAT_RAW)
		q.file_size_max = MAX(q.file_size_max, size); /* sparse: its length says nothing */
	q.deadline = 600 * SECOND + source_size / SLOWEST * SECOND;
	if (!qemu_img_convert(&q, v->source, v->source_format, NEW_NAME, v->format, source_size, err))
		return false;
	return (size == source_size || qemu_img_grow(&q, NEW_NAME, v->format, size, err)) &&
	       end(v, partial, err);
}

bool volume_clone(const struct volume_make *v, uint64_t *ret_size, GError **err)
{
	g_autofree char *partial = partial_of(v->path);
	uint64_t source_size, size;
	bool done;

	if (v->source == NULL || !g_path_is_absolute(v->source))
		return fail(err, ERR_INVALID, "a clone needs the absolute path of what to copy");
	if (!volume_file_check(v->source, v->source_format, v->source_backing, v->secrets != NULL,
			       &source_size, NULL, err) ||
	    !check_size(v, source_size, &size, err) || !exists_already(v, NULL, size, &done, err))
		return false;
	if (!done && !copy(v, source_size, size, partial, err)) {
		dir_remove(partial, NULL);
		return false;
	}
	if (ret_size != NULL)
		*ret_size = size;
	return true;
}

bool volume_delete(const char *path, GError **err)
{
	g_autofree char *partial = partial_of(path);

	if (unlink(path) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", path);
	return dir_remove(partial, err) && sync_dir_of(path, err);
}

bool volume_swap(const char *path, const char *target, GError **err)
{
	if (rename(path, target) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't replace '%s'", target);
	return sync_dir_of(target, err);
}

bool volume_info(const char *path, ImageFormat f, const char *backing, struct volume_info *ret, GError **err)
{
	return volume_file_check(path, f, backing, false, &ret->virtual_size, &ret->actual_size, err);
}

bool volume_grow(const struct volume_make *v, GError **err)
{
	const char *const readable[] = { v->backing, NULL }, *const writable[] = { v->path, NULL };
	struct qemu_img q = { .readable = readable, .uid = v->uid, .gid = v->gid, .hooks = v->hooks };
	struct volume_info info;
	uint64_t size;

	if (!volume_info(v->path, v->format, v->backing, &info, err) ||
	    !check_size(v, info.virtual_size, &size, err))
		return false;
	q.writable = writable;
	if (size == info.virtual_size)
		return true;
	return (v->format != IMAGE_FORMAT_QCOW2 || qemu_img_drop_broken_bitmaps(&q, v->path, err)) &&
	       qemu_img_grow(&q, v->path, v->format, size, err);
}

#define UNIT_OF_BLOCKS 512 /* of st_blocks */

bool volume_check_room(const char *path, uint64_t size, GError **err)
{
	g_autofree char *dir = g_path_get_dirname(path);
	uint64_t has, room;
	struct stat st;

	if (stat(path, &st) < 0)
		return fail_errno(err, errno, "can't look at '%s'", path);
	has = (uint64_t)st.st_blocks * UNIT_OF_BLOCKS;
	if (!space_free(dir, &room, err))
		return false;
	return size <= has || size - has <= room || space_fail(dir, "all of that disk", size - has, err);
}
