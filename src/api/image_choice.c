/* SPDX-License-Identifier: Apache-2.0 */
#include "api/image_choice.h"
#include "core/model/keys.h"
#include "engine/records.h"

#include <string.h>

static void drop_image(gpointer p)
{
	image_free(p);
}

GPtrArray *images_load(Store *s, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s, KEYS_IMAGES, NULL, err);
	g_autoptr(GPtrArray) images = g_ptr_array_new_with_free_func(drop_image);

	if (items == NULL)
		return NULL;
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), err);
		Image *img = j != NULL ? image_of_json(j, err) : NULL;

		if (img == NULL)
			return NULL;
		g_ptr_array_add(images, img);
	}
	return g_steal_pointer(&images);
}

static Image *choose_latest(Store *s, const char *filters, int64_t *ret_rev, GError **err)
{
	g_auto(GStrv) text = g_strsplit(filters, ",", -1);
	g_autoptr(GPtrArray) images = images_load(s, err), parsed = NULL;
	const Image *latest;

	parsed = images != NULL ? image_filters_parse((const char *const *)text, err) : NULL;
	if (parsed == NULL)
		return NULL;
	latest = image_latest(images, parsed, NULL, err);
	return latest != NULL ? image_load(s, image_id(latest), ret_rev, err) : NULL;
}

Image *image_choose(Store *s, const char *ref, int64_t *ret_rev, GError **err)
{
	g_autofree char *id = NULL;

	if (g_str_has_prefix(ref, "latest:"))
		return choose_latest(s, ref + strlen("latest:"), ret_rev, err);
	id = record_resolve(s, "images", ref, err);
	return id != NULL ? image_load(s, id, ret_rev, err) : NULL;
}
