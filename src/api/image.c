/* SPDX-License-Identifier: Apache-2.0 */
/* Images: catalogue, import, properties. */
#include "api/handlers.h"
#include "api/image_choice.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/plan/plan_image.h"
#include "engine/image/import.h"

static Image *call_image(ApiCall *c, int64_t *ret_rev, GError **err)
{
	return image_choose(engine_store(c->engine), call_path(c, "image"), ret_rev, err);
}

static Json *to_list(const GPtrArray *images, bool hidden)
{
	Json *list = json_array();

	for (guint i = 0; i < images->len; i++)
		if (hidden || !image_bool(images->pdata[i], "os_hidden"))
			json_array_append_new(list, image_to_json(images->pdata[i]));
	return list;
}

bool api_image_list(ApiCall *c, GError **err)
{
	const char *order = call_query(c, "sort");
	g_autoptr(GPtrArray) images = images_load(engine_store(c->engine), err), filters = NULL, some = NULL;
	bool hidden;

	if (images == NULL || !call_flag(c, "hidden", false, &hidden, err))
		return false;
	filters = image_filters_parse(call_queries(c, "filter"), err);
	if (filters == NULL)
		return false;
	some = image_select(images, filters);
	if (!image_sort(some, order != NULL ? order : "name", err))
		return false;
	return call_answer(c, 200, to_list(some, hidden));
}

bool api_image_latest(ApiCall *c, GError **err)
{
	g_autoptr(GPtrArray) images = images_load(engine_store(c->engine), err), filters = NULL;
	g_autoptr(GArray) verdicts = NULL;
	const Image *latest;
	Json *answer;

	filters = images != NULL ? image_filters_parse(call_queries(c, "filter"), err) : NULL;
	if (filters == NULL)
		return false;
	latest = image_latest(images, filters, &verdicts, err);
	if (latest == NULL)
		return false;
	answer = json_object();
	json_put(answer, "image", image_to_json(latest));
	json_put(answer, "verdicts", verdicts_to_json(verdicts));
	return call_answer(c, 200, answer);
}

bool api_image_show(ApiCall *c, GError **err)
{
	int64_t rev;
	g_autoptr(Image) img = call_image(c, &rev, err);

	return img != NULL && call_answer_object(c, image_to_json(img), rev);
}

/* What is not about the source is a property of the new image. */
static Image *image_of_body(const Json *body, const EngineRequest *req, GError **err)
{
	static const char *const about_source[] = { "name", "source", "source_format", "checksum" };
	g_autofree char *id = uuid_new();
	g_autoptr(Image) img = NULL;
	_cleanup_json_ Json *properties = json_copy((Json *)body);
	const char *name = json_str(body, "name");

	if (name == NULL) {
		fail_advice(err, ERR_INVALID, "Give it a name.", "an image needs a name");
		return NULL;
	}
	for (size_t i = 0; i < G_N_ELEMENTS(about_source); i++)
		json_object_del(properties, about_source[i]);
	img = image_new(id, name, req->now, err);
	if (img == NULL || !image_patch(img, properties, err))
		return NULL;
	image_record(img, "stored_on", req->plan.host->id);
	return g_steal_pointer(&img);
}

static bool check_image_name(Store *s, const char *name, GError **err)
{
	g_autofree char *key = key_name("images", name);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *id = record_get(s, key, NULL, &e);

	if (id != NULL)
		fail_advice(&e, ERR_CONFLICT,
			    "Choose another name; older images can stay, hidden by os_hidden=true.",
			    "there is an image called '%s' already", name);
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return id == NULL && (err == NULL || *err == NULL);
}

bool api_image_import(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);
	g_autoptr(Image) img = NULL;
	struct image_import check;
	ImageSource source;

	if (body == NULL)
		return false;
	source = (ImageSource){ json_str(body, "source"), json_str(body, "source_format"),
				json_str(body, "checksum") };
	if (source.location == NULL)
		return fail_advice(err, ERR_INVALID, "Name a file of the host or a URL.",
				   "an import needs a source");
	check = (struct image_import){ .source = source.location,
				       .format = source.format,
				       .checksum = source.checksum };
	if (!image_import_check(&check, err))
		return false;
	img = image_of_body(body, req, err);
	if (img == NULL || !check_image_name(engine_store(c->engine), image_name(img), err))
		return false;
	return call_submit(c, plan_image_import(&req->plan, img, &source), err);
}

static bool put_image(Store *s, const Image *img, int64_t rev, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_image(image_id(img)), *text = NULL;
	_cleanup_json_ Json *j = image_to_json(img);
	StoreTx *tx = store_tx_new();

	text = json_print(j);
	store_tx_set(tx, key, rev, text);
	return store_commit(s, tx, STORE_DURABLE, ret_rev, err);
}

bool api_image_update(ApiCall *c, GError **err)
{
	int64_t rev;
	g_autoptr(Image) img = call_image(c, &rev, err);
	const Json *body = call_body(c, err);
	g_autofree char *now = time_stamp();
	bool dry;

	if (img == NULL || body == NULL || !call_check_match(c, rev, err) ||
	    !call_flag(c, "dry_run", false, &dry, err))
		return false;
	if (json_object_get(body, "name") != NULL)
		return fail_advice(err, ERR_UNSUPPORTED, "Import it again under the other name.",
				   "an image can't be renamed: vms and scripts know it by its name");
	if (!image_patch(img, body, err))
		return false;
	image_record(img, "updated_at", now);
	if (!dry && !put_image(engine_store(c->engine), img, rev, &rev, err))
		return false;
	if (!dry)
		events_emit(engine_events(c->engine), EVENT_IMAGE_CHANGED, "image", image_id(img),
			    image_name(img), json_deep_copy(body), "properties of image %s changed",
			    image_name(img));
	return call_answer_object(c, image_to_json(img), rev);
}

bool api_image_delete(ApiCall *c, GError **err)
{
	int64_t rev;
	g_autoptr(Image) img = call_image(c, &rev, err);
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);
	g_auto(GStrv) users = NULL;

	if (img == NULL || !call_check_match(c, rev, err))
		return false;
	users = image_users(engine_store(c->engine), image_id(img), err);
	if (users == NULL)
		return false;
	return call_submit(c, plan_image_delete(&req->plan, img, rev, (const char *const *)users, err), err);
}

bool api_image_verify(ApiCall *c, GError **err)
{
	int64_t rev;
	g_autoptr(Image) img = call_image(c, &rev, err);
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);

	return img != NULL && call_submit(c, plan_image_verify(&req->plan, img, rev, err), err);
}
