/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan_image.h"
#include "core/model/keys.h"
#include "core/model/paths.h"

static Operation *image_operation(const PlanRequest *req, const char *kind, const Image *img)
{
	Operation *op = operation_new(req->op_id, kind, req->now);

	operation_set_target(op, "image", image_id(img), image_name(img));
	op->user = g_strdup(req->user);
	json_put_str(op->result, "id", image_id(img));
	return op;
}

static Json *image_args(const PlanRequest *req, const Image *img)
{
	g_autofree char *path = path_image(&req->host->folders, image_id(img));
	g_autofree char *fetched = path_image_fetched(&req->host->folders, image_id(img));
	Json *args = json_object();

	json_put_str(args, "image", image_id(img));
	json_put_str(args, "target", path);
	json_put_str(args, "work", fetched);
	return args;
}

static Json *source_args(const PlanRequest *req, const Image *img, const ImageSource *source)
{
	Json *args = image_args(req, img);

	json_put_str(args, "source", source->location);
	json_put_str(args, "format", source->format);
	json_put_str(args, "checksum", source->checksum);
	return args;
}

/* What the steps find out of the content; the names are those of the facts and of the record. */
static Json *active_members(const PlanRequest *req, const Image *img)
{
	static const char *const found[] = { "disk_format",  "container_format",  "size",
					     "virtual_size", "os_hash_algo",      "os_hash_value",
					     "checksum",     "stored_hash_value", "source_format",
					     "source_size" };
	g_autofree char *path = path_image(&req->host->folders, image_id(img)),
			*escaped = g_uri_escape_string(path, "/", TRUE),
			*url = g_strconcat("file://", escaped, NULL);
	Json *m = json_object();

	json_put_str(m, "status", "active");
	json_put_str(m, "updated_at", req->now);
	json_put_str(m, "direct_url", url);
	for (size_t i = 0; i < G_N_ELEMENTS(found); i++)
		json_put(m, found[i], operation_fact(found[i]));
	return m;
}

Operation *plan_image_import(const PlanRequest *req, const Image *img, const ImageSource *source)
{
	static const StepKind steps[] = { STEP_IMAGE_FETCH, STEP_IMAGE_INSPECT, STEP_IMAGE_CONVERT,
					  STEP_IMAGE_PUBLISH };
	g_autofree char *key = key_image(image_id(img)), *name = key_name("images", image_name(img));
	Operation *op = image_operation(req, "image.import", img);
	Json *saving = image_to_json(img);

	op->may_cancel = true;
	json_put_str(saving, "status", "saving");
	operation_on_begin(op, key, 0, saving);
	operation_on_begin(op, name, 0, json_string(image_id(img)));
	for (size_t i = 0; i < G_N_ELEMENTS(steps); i++)
		plan_add(op->plan, steps[i], image_name(img), source_args(req, img, source));
	operation_merge_on_done(op, key, active_members(req, img));
	operation_on_failed(op, key, NULL);
	operation_on_failed(op, name, NULL);
	return op;
}

Operation *plan_image_delete(const PlanRequest *req, const Image *img, int64_t rev, const char *const *users,
			     GError **err)
{
	g_autofree char *key = key_image(image_id(img)), *name = key_name("images", image_name(img));
	Operation *op;
	Json *deleting;

	if (!image_check_delete(img, users, err))
		return NULL;
	if (!image_is_active(img)) {
		fail_advice(err, ERR_BUSY, "Wait for its import to end, or cancel that.", "image '%s' is %s",
			    image_name(img), image_get(img, "status"));
		return NULL;
	}
	op = image_operation(req, "image.delete", img);
	deleting = image_to_json(img);
	json_put_str(deleting, "status", "deleting");
	operation_on_begin(op, key, rev, deleting);
	plan_add(op->plan, STEP_IMAGE_REMOVE, image_name(img), image_args(req, img));
	operation_on_done(op, key, NULL);
	operation_on_done(op, name, NULL);
	operation_on_failed(op, key, image_to_json(img));
	return op;
}

Operation *plan_image_verify(const PlanRequest *req, const Image *img, int64_t rev, GError **err)
{
	g_autofree char *key = key_image(image_id(img));
	const char *sha512 = image_get(img, "stored_hash_value");
	Operation *op;
	Json *args;

	if (!image_check_usable(img, err))
		return NULL;
	if (sha512 == NULL) {
		fail_advice(err, ERR_UNSUPPORTED, "Import it again.",
			    "nobody wrote down what the file of image '%s' must hash to", image_name(img));
		return NULL;
	}
	op = image_operation(req, "image.verify", img);
	op->may_cancel = true;
	operation_expect(op, key, rev);
	args = image_args(req, img);
	json_put_str(args, "sha512", sha512);
	plan_add(op->plan, STEP_IMAGE_VERIFY, image_name(img), args);
	return op;
}
