/* SPDX-License-Identifier: Apache-2.0 */
/* Volumes. */
#include "api/handlers.h"
#include "api/image_choice.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"

#include <string.h>

bool call_list(ApiCall *c, const char *prefix, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(engine_store(c->engine), prefix, NULL, err);
	Json *list;

	if (items == NULL)
		return false;
	list = json_array();
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		Json *j = json_parse(item->value, strlen(item->value), NULL);

		/* What can't be read hides itself, and nothing else. */
		if (!json_is_object(j)) {
			json_unref(j);
			continue;
		}
		json_put_int(j, "revision", item->rev);
		json_array_append_new(list, j);
	}
	list = call_arrange(c, list, err);
	return list != NULL && call_answer(c, 200, list);
}

bool api_volume_list(ApiCall *c, GError **err)
{
	return call_list(c, KEYS_VOLUMES, err);
}

static Volume *call_volume(ApiCall *c, int64_t *ret_rev, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autofree char *id = record_resolve(s, "volumes", call_path(c, "volume"), err);

	return id != NULL ? volume_load(s, id, ret_rev, err) : NULL;
}

bool api_volume_show(ApiCall *c, GError **err)
{
	int64_t rev;
	g_autoptr(Volume) v = call_volume(c, &rev, err);

	return v != NULL && call_answer_object(c, volume_to_json(v), rev);
}

static bool volume_of_body(const EngineRequest *req, const Json *body, Volume *v, GError **err)
{
	const char *format = json_str(body, "format");

	v->id = uuid_new();
	v->name = g_strdup(json_str(body, "name"));
	v->created_at = g_strdup(req->now);
	v->size = json_uint(body, "size", 0);
	v->format = g_strdup(format != NULL ? format : "qcow2");
	v->status = g_strdup("ready");
	v->host_id = g_strdup(req->plan.host->id);
	if (v->name == NULL || !name_check("a volume", v->name, err))
		return fail(err, ERR_INVALID, "a volume needs a name");
	if (!g_str_equal(v->format, "qcow2") && !g_str_equal(v->format, "raw"))
		return fail_advice(err, ERR_INVALID, "Write qcow2 or raw.", "there is no format '%s'",
				   v->format);
	v->path = path_volume(&req->plan.host->folders, v->id, v->format);
	return true;
}

static bool fit_image(const Image *img, Volume *v, GError **err)
{
	uint64_t least = image_uint(img, "virtual_size");

	if (!image_check_usable(img, err))
		return false;
	if (!g_str_equal(v->format, "qcow2"))
		return fail_advice(err, ERR_INVALID, "Leave the format out, or write qcow2.",
				   "an overlay of an image can't be raw");
	if (v->size == 0)
		v->size = least;
	return image_check_fit(img, v->size, UINT64_MAX, err);
}

bool api_volume_create(ApiCall *c, GError **err)
{
	static const char *const known[] = { "name", "size", "format", "image", NULL };
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);
	g_autoptr(Volume) v = volume_new();
	g_autoptr(Image) img = NULL;
	const Json *body = call_body(c, err);
	g_autofree char *path = NULL, *key = NULL;
	VolumeWish wish = { .volume = v };

	if (body == NULL || !call_known(body, known, err) || !volume_of_body(req, body, v, err))
		return false;
	if (json_str(body, "image") != NULL) {
		img = image_choose(engine_store(c->engine), json_str(body, "image"), &wish.image_rev, err);
		if (img == NULL || !fit_image(img, v, err))
			return false;
		v->image_id = g_strdup(image_id(img));
		wish.image_path = path = path_image(&req->plan.host->folders, image_id(img));
		wish.image_key = key = key_image(image_id(img));
	}
	if (!volume_check_size("a volume", v->size, err))
		return false;
	return call_submit(c, plan_volume_create(&req->plan, &wish), err);
}

bool api_volume_delete(ApiCall *c, GError **err)
{
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);
	int64_t rev;
	g_autoptr(Volume) v = call_volume(c, &rev, err);

	if (v == NULL || !call_check_match(c, rev, err))
		return false;
	return call_submit(c, plan_volume_delete(&req->plan, v, rev, err), err);
}

static bool size_of_body(const Json *body, uint64_t *ret, GError **err)
{
	static const char *const known[] = { "size", NULL };

	if (body == NULL || !call_known(body, known, err))
		return false;
	*ret = json_uint(body, "size", 0);
	return volume_check_size("a volume", *ret, err);
}

bool api_volume_grow(ApiCall *c, GError **err)
{
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);
	VolumeGrowth g = { 0 };
	g_autoptr(Volume) v = call_volume(c, &g.rev, err);
	g_autoptr(VmRecords) r = NULL;
	g_autofree char *backing = NULL;

	if (v == NULL || !call_check_match(c, g.rev, err) || !size_of_body(call_body(c, err), &g.size, err))
		return false;
	if (v->vm_id != NULL) {
		r = vm_records_load(engine_store(c->engine), v->vm_id, err);
		if (r == NULL)
			return false;
		g.seen = &r->seen;
	}
	if (v->image_id != NULL)
		g.backing = backing = path_image(&req->plan.host->folders, v->image_id);
	g.volume = v;
	return call_submit(c, plan_volume_grow(&req->plan, &g, err), err);
}
