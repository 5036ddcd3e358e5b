/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The step that keeps evidence of a guest. Its arguments:
 *   EVIDENCE_TAKE  vm, name, evidence (the id), cause, reason, details, formats (of a dump), must_dump
 */
#include "engine/bundle.h"
#include "engine/steps-impl.h"

static void put_result(StepContext *ctx, const Json *manifest)
{
	const char *key;
	Json *value;

	json_object_foreach((Json *)manifest, key, value) step_result(ctx, key, json_incref(value));
}

bool step_EVIDENCE_TAKE_run(StepContext *ctx, const Json *args, GError **err)
{
	g_auto(GStrv) formats = json_strv(json_arr(args, "formats"));
	const struct bundle_wish wish = {
		.id = json_str(args, "evidence"),
		.vm_id = json_str(args, "vm"),
		.cause = json_str(args, "cause"),
		.reason = json_str(args, "reason"),
		.user = step_operation(ctx)->user,
		.details = json_obj(args, "details"),
		.formats = (const char *const *)formats,
		.must_dump = json_bool(args, "must_dump", false),
		.ctx = ctx,
	};
	_cleanup_json_ Json *manifest = bundle_take(step_engine(ctx), &wish, err);

	if (manifest == NULL)
		return false;
	put_result(ctx, manifest);
	return true;
}

bool step_EVIDENCE_TAKE_undo(StepContext *ctx, const Json *args, GError **err)
{
	return bundle_drop_part(step_engine(ctx), json_str(args, "evidence"), err);
}
