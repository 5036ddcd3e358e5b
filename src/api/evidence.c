/* SPDX-License-Identifier: Apache-2.0 */
/* Evidence of guests that went wrong, and dumps of their memory. */
#include "api/handlers.h"
#include "core/evidence/dump.h"
#include "core/plan/plan_evidence.h"
#include "engine/bundle.h"

static bool refuse_in_sim(const ApiCall *c, GError **err)
{
	return !engine_is_sim(c->engine) ||
	       fail(err, ERR_UNSUPPORTED, "the simulated engine has no guests to tell of");
}

static bool fail_format(GError **err)
{
	return fail_advice(err, ERR_INVALID, "Write kdump-zlib, elf or win-dmp.",
			   "there is no such format of a dump");
}

/* The member of that name, which may be absent: *ret stays NULL then. */
static bool take_format(const Json *body, const char *member, const char **ret, GError **err)
{
	const Json *j = json_object_get(body, member);

	*ret = json_string_value(j);
	if (j == NULL)
		return true;
	return (*ret != NULL && dump_form_find(*ret) != NULL) || fail_format(err);
}

static bool submit(ApiCall *c, const VmRecords *r, const struct evidence_wish *wish, GError **err)
{
	g_autoptr(EngineRequest) req = engine_request_new(c->engine, c->user);

	return call_submit(c, plan_vm_evidence(&req->plan, &r->seen, wish, err), err);
}

bool api_vm_dump(ApiCall *c, GError **err)
{
	static const char *const known[] = { "format", NULL };
	const Json *body = call_body(c, err);
	g_autoptr(VmRecords) r = NULL;
	const char *formats[] = { NULL, NULL };
	struct evidence_wish wish = { .cause = "request",
				      .reason = "a dump was asked for",
				      .must_dump = true };

	if (body == NULL || !call_known(body, known, err) || !take_format(body, "format", &formats[0], err))
		return false;
	r = call_vm(c, err);
	if (r == NULL || !refuse_in_sim(c, err))
		return false;
	if (formats[0] == NULL)
		formats[0] = dump_form_usual(vm_property(r->vm, "os_type"));
	wish.formats = formats;
	return submit(c, r, &wish, err);
}

bool api_vm_evidence(ApiCall *c, GError **err)
{
	static const char *const known[] = { "dump", NULL };
	const Json *body = call_body(c, err);
	g_autoptr(VmRecords) r = NULL;
	const char *formats[] = { NULL, NULL };
	const struct evidence_wish wish = { .cause = "request",
					    .reason = "evidence was asked for",
					    .formats = formats };

	if (body == NULL || !call_known(body, known, err) || !take_format(body, "dump", &formats[0], err))
		return false;
	r = call_vm(c, err);
	return r != NULL && refuse_in_sim(c, err) && submit(c, r, &wish, err);
}

/* The host that the path names; the call has been passed on to it. */
static bool is_here(ApiCall *c, GError **err)
{
	_cleanup_json_ Json *host = call_host(c, NULL, err);

	return host != NULL && call_is_this_host(c, host, err);
}

bool api_evidence_list(ApiCall *c, GError **err)
{
	Json *list = is_here(c, err) ? call_arrange(c, bundle_list(c->engine), err) : NULL;

	return list != NULL && call_answer(c, 200, list);
}

bool api_evidence_show(ApiCall *c, GError **err)
{
	Json *j = is_here(c, err) ? bundle_show(c->engine, call_path(c, "evidence"), err) : NULL;

	return j != NULL && call_answer(c, 200, j);
}

bool api_evidence_file(ApiCall *c, GError **err)
{
	uint64_t offset, length;
	GBytes *bytes;

	if (!is_here(c, err) || !call_number(c, "offset", 0, INT64_MAX / 2, 0, &offset, err) ||
	    !call_number(c, "length", 1, BUNDLE_PIECE, BUNDLE_PIECE, &length, err))
		return false;
	bytes = bundle_read(c->engine, call_path(c, "evidence"), call_path(c, "file"), offset, length, err);
	return bytes != NULL && call_answer_bytes(c, "application/octet-stream", bytes);
}

bool api_evidence_delete(ApiCall *c, GError **err)
{
	const char *id = call_path(c, "evidence");
	_cleanup_json_ Json *j = is_here(c, err) ? bundle_show(c->engine, id, err) : NULL;

	return j != NULL && bundle_delete(c->engine, id, err) && call_answer(c, 200, json_ref(j));
}
