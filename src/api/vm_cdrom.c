/* SPDX-License-Identifier: Apache-2.0 */
/* CDs of a vm: what is in its drive, and what is put into it and taken out. */
#include "api/creation.h"
#include "api/handlers.h"
#include "api/image_choice.h"
#include "core/guest/cd.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"

#include <string.h>

/* The drive of the guest that runs, else what a start would give it. Borrowed. */
static const char *drive_of(const Profile *p, bool medium)
{
	return profile_is(p, PROFILE_CD_DRIVE, "scsi") && !medium ? "none"
								  : profile_text(p, PROFILE_CD_DRIVE);
}

/* {drive, path, image} of a configuration; NULL when this host could not run it. */
static Json *view_of(ApiCall *c, const VmRecords *r, const Vm *vm, GError **err)
{
	const HostFacts *host = engine_facts(c->engine);
	g_autoptr(CpuOffer) cpu = host_cpu_offer(engine_cpu(c->engine));
	g_autoptr(Profile) p = profile_of(vm, host, cpu, json_str(r->runtime, "machine"), err);
	g_autofree char *path = NULL;
	_cleanup_json_ Json *cd = NULL;
	Json *j;

	if (p == NULL)
		return NULL;
	path = cd_path(vm, &host->folders);
	cd = vm_cd_to_json(vm->cd);
	j = json_object();
	json_put_str(j, "drive", drive_of(p, path != NULL));
	json_put_str(j, "path", path);
	json_put(j, "image", json_obj(cd, "image") != NULL ? json_ref(json_obj(cd, "image")) : json_null());
	return j;
}

static bool runs(const VmRecords *r)
{
	VmState s = vm_runtime_state(r->runtime);

	return s == VM_RUNNING || s == VM_PAUSED;
}

bool api_vm_cdrom_show(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Vm) was = NULL;
	_cleanup_json_ Json *next = NULL, *now = NULL;
	Json *j;

	if (r == NULL)
		return false;
	next = view_of(c, r, r->vm, err);
	if (next == NULL)
		return false;
	if (runs(r) && r->applied != NULL) {
		was = vm_of_json(json_obj(r->applied, "config"), err);
		now = was != NULL ? view_of(c, r, was, err) : NULL;
		if (now == NULL)
			return false;
	}
	j = json_deep_copy(now != NULL ? now : next);
	json_put(j, "at_next_start",
		 now == NULL || json_equal(now, next) ? json_null() : json_deep_copy(next));
	return call_answer(c, 200, j);
}

static bool take_image(ApiCall *c, const char *ref, VmCd *cd, char **ret_key, int64_t *ret_rev, GError **err)
{
	g_autoptr(Image) img = image_choose(engine_store(c->engine), ref, ret_rev, err);

	if (img == NULL || !image_check_usable(img, err))
		return false;
	cd->image_id = g_strdup(image_id(img));
	cd->image_name = g_strdup(image_name(img));
	*ret_key = key_image(image_id(img));
	return true;
}

static bool take_path(ApiCall *c, const char *path, VmCd *cd, GError **err)
{
	if (path[0] != '/')
		return fail_advice(err, ERR_INVALID, "Write an absolute path on the host.",
				   "'%s' is no absolute path", path);
	if (!engine_is_sim(c->engine) && !check_path(path, err))
		return false;
	cd->path = g_strdup(path);
	return true;
}

/* The one medium that the body names; the rest of what a start checks comes with the plan. */
static bool take_medium(ApiCall *c, const Json *body, VmCd *cd, char **ret_key, int64_t *ret_rev,
			GError **err)
{
	const char *image = json_str(body, "image"), *path = json_str(body, "path");

	if ((image != NULL) == (path != NULL))
		return fail_advice(err, ERR_INVALID, "Give either an image or a path.",
				   "a CD drive takes one medium");
	return image != NULL ? take_image(c, image, cd, ret_key, ret_rev, err) : take_path(c, path, cd, err);
}

/* Checked as all of a configuration is. */
static Vm *with_cd(const Vm *vm, const VmCd *cd, GError **err)
{
	_cleanup_json_ Json *j = vm_to_json(vm);

	json_put(j, "cdrom", vm_cd_to_json(cd));
	return vm_of_json(j, err);
}

bool api_vm_cdrom_insert(ApiCall *c, GError **err)
{
	static const char *const known[] = { "image", "path", "force", NULL };
	const Json *body = call_body(c, err), *force = json_object_get(body, "force");
	g_autoptr(VmRecords) r = NULL;
	g_autoptr(EngineRequest) req = NULL;
	g_autoptr(VmCd) cd = g_new0(VmCd, 1);
	g_autofree char *key = NULL;
	g_autoptr(Vm) is = NULL;
	CdWish wish = { .cd = cd };

	if (body == NULL || !call_known(body, known, err))
		return false;
	if (force != NULL && !json_is_boolean(force))
		return fail(err, ERR_INVALID, "'force' is true or false");
	r = call_vm(c, err);
	if (r == NULL || !call_check_match(c, r->seen.config_rev, err) ||
	    !take_medium(c, body, cd, &key, &wish.image_rev, err))
		return false;
	is = with_cd(r->vm, cd, err);
	if (is == NULL || !vm_check_startable(c, is, json_str(r->runtime, "machine"), err))
		return false;
	wish.image_key = key;
	wish.force = json_is_true(force);
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_vm_cd_insert(&req->plan, &r->seen, &wish, err), err);
}

bool api_vm_cdrom_eject(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(EngineRequest) req = NULL;
	bool force;

	if (r == NULL || !call_flag(c, "force", false, &force, err) ||
	    !call_check_match(c, r->seen.config_rev, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_vm_cd_eject(&req->plan, &r->seen, force, err), err);
}
