/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/off.h"
#include "core/model/paths.h"
#include "engine/image/header_file.h"
#include "engine/image/import.h"
#include "engine/image/qemu_img.h"

static bool has_flag(const Json *bitmap, const char *name)
{
	const Json *flag;
	size_t i;

	json_array_foreach(json_arr(bitmap, "flags"), i, flag)
	{
		if (g_strcmp0(json_string_value(flag), name) == 0)
			return true;
	}
	return false;
}

/* A bitmap that is "in-use" in a file that nobody uses was not written back. */
static Json *bitmaps_of(const Json *info)
{
	const Json *list = json_arr(json_obj(json_obj(info, "format-specific"), "data"), "bitmaps"), *b;
	Json *found = json_array();
	size_t i;

	json_array_foreach((Json *)list, i, b)
	{
		Json *j = json_object();

		json_put_str(j, "name", json_str(b, "name"));
		json_put_bool(j, "recording", has_flag(b, "auto"));
		json_put_bool(j, "busy", false);
		json_put_bool(j, "persistent", true);
		json_put_bool(j, "inconsistent", has_flag(b, "in-use"));
		json_array_append_new(found, j);
	}
	return found;
}

/* A qcow2 file names other files: guests wrote to our volumes, and anybody to a file that lies elsewhere. */
static bool check_file(const VmDisk *d, const Volume *v, const Folders *folders, GError **err)
{
	g_autofree char *image = v != NULL && v->image_id != NULL ? path_image(folders, v->image_id) : NULL;
	uint64_t size;

	if (!g_str_equal(d->format, "qcow2"))
		return true;
	return v == NULL ? disk_file_check(d->path, err)
			 : volume_file_check(v->path, IMAGE_FORMAT_QCOW2, image, false, &size, NULL, err);
}

static Json *block_of(const VmDisk *d, const Volume *v, const Folders *folders, GError **err)
{
	const char *path = v != NULL ? v->path : d->path, *const readable[] = { path, NULL };
	bool qcow2 = g_str_equal(d->format, "qcow2");
	struct qemu_img q = { .readable = readable, .uid = LIMITED_KEEP_USER };
	_cleanup_info_ struct qemu_img_info info = { 0 };
	g_autofree char *node = g_strconcat("disk-", d->name, NULL);
	Json *inserted, *image;

	if (path == NULL) {
		fail(err, ERR_NOT_FOUND, "the volume of disk '%s' is gone", d->name);
		return NULL;
	}
	if (!check_file(d, v, folders, err) ||
	    !qemu_img_info(&q, path, qcow2 ? IMAGE_FORMAT_QCOW2 : IMAGE_FORMAT_RAW, &info, err)) {
		g_prefix_error(err, "disk '%s' can't be backed up: ", d->name);
		return NULL;
	}
	image = json_object();
	json_put_uint(image, "virtual-size", info.virtual_size);
	inserted = json_object();
	json_put_str(inserted, "node-name", node);
	json_put(inserted, "image", image);
	json_put(inserted, "dirty-bitmaps", bitmaps_of(info.raw));
	return json_pack("{s:o}", "inserted", inserted);
}

Json *backup_blocks_off(const VmSeen *seen, const Folders *folders, GError **err)
{
	_cleanup_json_ Json *blocks = json_array();

	for (guint i = 0; i < seen->vm->disk->len && i < seen->volume->len; i++) {
		const VmDisk *d = seen->vm->disk->pdata[i];
		Json *b;

		if (d->readonly)
			continue;
		b = block_of(d, seen->volume->pdata[i], folders, err);
		if (b == NULL)
			return NULL;
		json_array_append_new(blocks, b);
	}
	return json_ref(blocks);
}
