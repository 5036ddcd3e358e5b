/* SPDX-License-Identifier: Apache-2.0 */
/* Backups that are looked into. */
#include "api/backup.h"
#include "api/handlers.h"
#include "core/plan/plan_backup.h"
#include "engine/backup/mounts.h"

/* Those whose backup's id is `ref`, or begins so when none is. New reference; empty when there is none. */
static Json *mounts_of(ApiCall *c, const char *ref, bool whole)
{
	_cleanup_json_ Json *all = backup_mounts(&engine_facts(c->engine)->folders);
	Json *mine = json_array(), *m;
	size_t i;

	json_array_foreach(all, i, m)
	{
		const char *id = json_str(m, "backup");

		if (whole ? g_str_equal(id, ref) : g_str_has_prefix(id, ref))
			json_array_append(mine, m);
	}
	return mine;
}

bool api_backup_mount_list(ApiCall *c, GError **err)
{
	(void)err;
	return call_answer(c, 200, backup_mounts(&engine_facts(c->engine)->folders));
}

static bool check_not_mounted(ApiCall *c, const char *id, GError **err)
{
	_cleanup_json_ Json *mounts = mounts_of(c, id, true);

	return json_array_size(mounts) == 0 ||
	       fail_advice(err, ERR_CONFLICT,
			   "`plim backup mounts` says where it is; `plim backup unmount` ends that.",
			   "backup %s is mounted already", id);
}

bool api_backup_mount(ApiCall *c, GError **err)
{
	static const char *const known[] = { "repository", "key_file", NULL };
	const Json *body = call_body(c, err);
	g_autoptr(EngineRequest) req = NULL;
	_cleanup_found_ struct backup_found f = { 0 };
	const char *repository, *key_file;

	if (body == NULL || !call_known(body, known, err) ||
	    !api_backup_text(body, "repository", &repository, err) ||
	    !api_backup_text(body, "key_file", &key_file, err) ||
	    !api_backup_find_chain(c, repository, key_file, &f, err) ||
	    !check_not_mounted(c, f.backup->id, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_backup_mount(&req->plan, f.repository, f.chain, f.key_file), err);
}

/* All of one backup. */
static bool is_one(const Json *mounts)
{
	const char *id = json_str(json_array_get(mounts, 0), "backup");
	const Json *m;
	size_t i;

	json_array_foreach((Json *)mounts, i, m)
	{
		if (!g_str_equal(json_str(m, "backup"), id))
			return false;
	}
	return true;
}

bool api_backup_unmount(ApiCall *c, GError **err)
{
	const char *ref = call_path(c, "backup");
	_cleanup_json_ Json *mounts = mounts_of(c, ref, false);
	g_autoptr(EngineRequest) req = NULL;

	if (json_array_size(mounts) == 0)
		return fail_advice(err, ERR_NOT_FOUND, "`plim backup mounts` shows those that are.",
				   "no backup '%s' is mounted on this host", ref);
	if (!is_one(mounts))
		return fail_advice(err, ERR_CONFLICT, "Write more of it.",
				   "several mounted backups begin with '%s'", ref);
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_backup_unmount(&req->plan, mounts), err);
}
