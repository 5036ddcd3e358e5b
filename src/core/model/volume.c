/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/volume.h"
#include "base/str.h"
#include "core/image/header.h"

#include <inttypes.h>

Volume *volume_new(void)
{
	return g_new0(Volume, 1);
}

Volume *volume_free(Volume *v)
{
	if (v != NULL) {
		g_free(v->id);
		g_free(v->name);
		g_free(v->created_at);
		g_free(v->format);
		g_free(v->path);
		g_free(v->image_id);
		g_free(v->vm_id);
		g_free(v->status);
		g_free(v->host_id);
		g_free(v);
	}
	return NULL;
}

Volume *volume_of_json(const Json *j, GError **err)
{
	g_autoptr(Volume) v = volume_new();

	v->id = g_strdup(json_str(j, "id"));
	v->name = g_strdup(json_str(j, "name"));
	v->created_at = g_strdup(json_str(j, "created_at"));
	v->size = json_uint(j, "size", 0);
	v->format = g_strdup(json_str(j, "format"));
	v->path = g_strdup(json_str(j, "path"));
	v->image_id = g_strdup(json_str(j, "image"));
	v->vm_id = g_strdup(json_str(j, "vm"));
	v->status = g_strdup(json_str(j, "status"));
	v->host_id = g_strdup(json_str(j, "host"));
	if (v->id == NULL || !uuid_valid(v->id) || v->name == NULL || v->format == NULL || v->path == NULL ||
	    v->status == NULL) {
		fail(err, ERR_INVALID, "a volume's record lacks its id, name, format, path or status");
		return NULL;
	}
	return g_steal_pointer(&v);
}

Json *volume_to_json(const Volume *v)
{
	Json *j = json_object();

	json_put_str(j, "id", v->id);
	json_put_str(j, "name", v->name);
	json_put_str(j, "created_at", v->created_at);
	json_put_uint(j, "size", v->size);
	json_put_str(j, "format", v->format);
	json_put_str(j, "path", v->path);
	json_put_str(j, "image", v->image_id);
	json_put_str(j, "vm", v->vm_id);
	json_put_str(j, "status", v->status);
	json_put_str(j, "host", v->host_id);
	return j;
}

bool volume_check_size(const char *what, uint64_t size, GError **err)
{
	if (size == 0)
		return fail_advice(err, ERR_INVALID, "Give a size like 10GiB, or an image.",
				   "%s needs a size", what);
	if (size > IMAGE_VIRTUAL_SIZE_MAX)
		return fail_advice(err, ERR_INVALID, "Choose a smaller size.",
				   "%s can't have %" PRIu64 " bytes: %" PRIu64 " TiB is the most", what, size,
				   IMAGE_VIRTUAL_SIZE_MAX >> 40);
	return true;
}
