/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/move_survey.h"
#include "core/guest/host_facts.h"
#include "core/model/keys.h"
#include "core/plan/plan_migrate.h"
#include "engine/engine-impl.h"
#include "engine/move.h"

#include <string.h>

#define ASK_TIMEOUT UINT64_C(30000000)
#define CHECK_PATH RECEPTIONS "/check"

/* ---- one host ---- */

static Json *host_record(Engine *e, const char *id, GError **err)
{
	g_autofree char *key = key_host(id);
	g_autoptr(GError) e2 = NULL;
	Json *j = record_get(e->store, key, NULL, &e2);

	if (j == NULL && e2 == NULL)
		fail_advice(&e2, ERR_NOT_FOUND, "`plim host list` shows the hosts.", "there is no host '%s'",
			    id);
	if (j == NULL)
		g_propagate_error(err, g_steal_pointer(&e2));
	return j;
}

/* Where its QEMU would be reached. Caller frees. */
static char *address_of(const Json *host, GError **err)
{
	const char *url = json_str(host, "url");

	if (url != NULL && g_str_has_prefix(url, "https://"))
		return pool_address_host(url + strlen("https://"));
	fail_advice(err, ERR_UNSUPPORTED, "Have both hosts in one pool: `plim pool join`.",
		    "it is not known how host '%s' is reached", json_str(host, "name"));
	return NULL;
}

Operation *move_plan(Engine *e, const PlanRequest *req, const VmSeen *seen, const char *host_id,
		     const struct migrate_settings *settings, GError **err)
{
	_cleanup_json_ Json *host = host_record(e, host_id, err);
	g_autofree char *address = host != NULL ? address_of(host, err) : NULL;
	struct plan_migrate to = { .host_id = host_id,
				   .host_name = json_str(host, "name"),
				   .address = address,
				   .settings = settings };

	return address != NULL ? plan_vm_migrate(req, seen, &to, err) : NULL;
}

static void block(Json *blockers, GError *take)
{
	json_array_append_new(blockers, err_to_json(take));
	g_error_free(take);
}

/* What its record says already. */
static void look_at_record(const VmRecords *r, const Json *host, Json *blockers)
{
	const char *machine = json_str(r->runtime, "machine"), *accel = json_str(r->runtime, "accel");
	g_autoptr(HostFacts) facts = host_facts_of_json(host, NULL);
	GError *e = NULL;
	Accel a;

	if (facts == NULL)
		return;
	if (machine != NULL && host_machine_find(facts, machine) == NULL) {
		fail_advice(&e, ERR_UNSUPPORTED,
			    "Install the QEMU there that the guest's host has, or start the guest anew with "
			    "a machine that both know.",
			    "QEMU %s of %s does not know the machine %s", facts->qemu_version, facts->name,
			    machine);
		block(blockers, e);
		e = NULL;
	}
	if (accel != NULL && accel_of_name(accel, &a) && !facts->accel[a].works) {
		fail_advice(&e, ERR_UNSUPPORTED, "`plim host show` says why it does not work there.",
			    "the guest runs under %s, which does not work on %s", accel, facts->name);
		block(blockers, e);
	}
}

/* What the host itself says. */
static void ask(Engine *e, const VmRecords *r, const char *id, const Operation *op, Json *entry,
		Json *blockers)
{
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *body = move_request(e, plan_step(op->plan, 0)->args, &err), *answer = NULL;
	const Json *theirs, *b;
	size_t i;

	(void)r;
	if (body != NULL) {
		answer = peer_call(e, id, "POST", CHECK_PATH, body, ASK_TIMEOUT, &err);
		move_request_done(body);
	}
	if (answer == NULL) {
		block(blockers, g_steal_pointer(&err));
		return;
	}
	theirs = json_arr(answer, "blockers");
	json_array_foreach(theirs, i, b) json_array_append(blockers, (Json *)b);
	json_put_uint(entry, "free_memory", json_uint(answer, "free_memory", 0));
	if (json_arr(answer, "copied") != NULL)
		json_put(entry, "copied", json_incref(json_arr(answer, "copied")));
}

static Json *entry_of(Engine *e, const VmRecords *r, const Json *host, bool disks)
{
	g_autoptr(EngineRequest) req = engine_request_new(e, "plimsolld");
	const char *id = json_str(host, "id");
	bool current = g_strcmp0(id, json_str(r->runtime, "host")) == 0;
	Json *j = json_object(), *ref = json_object(), *blockers = json_array();
	g_autoptr(Operation) op = NULL;
	struct migrate_settings settings;
	GError *err = NULL;

	json_put_str(ref, "id", id);
	json_put_str(ref, "name", json_str(host, "name"));
	json_put(j, "host", ref);
	json_put_bool(j, "current", current);
	migrate_settings_init(&settings);
	settings.disks = disks;
	if (!current) {
		look_at_record(r, host, blockers);
		op = move_plan(e, &req->plan, &r->seen, id, &settings, &err);
		if (op != NULL)
			ask(e, r, id, op, j, blockers);
		else
			block(blockers, err);
	}
	json_put_bool(j, "possible", !current && json_array_size(blockers) == 0);
	json_put(j, "blockers", blockers);
	return j;
}

/* ---- all of them ---- */

Json *move_survey(Engine *e, const VmRecords *r, const char *host_id, bool disks, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(e->store, KEYS_HOSTS, NULL, err);
	_cleanup_json_ Json *list = json_array();

	if (items == NULL)
		return NULL;
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *host = json_parse(item->value, strlen(item->value), NULL);

		if (host == NULL || json_str(host, "id") == NULL ||
		    (host_id != NULL && g_strcmp0(json_str(host, "id"), host_id) != 0))
			continue;
		json_array_append_new(list, entry_of(e, r, host, disks));
	}
	return json_ref(list);
}

static bool fail_nowhere(const VmRecords *r, Json *survey, GError **err)
{
	fail_advice(err, ERR_CONFLICT, "`plim vm explain-move` says what is in the way.",
		    "there is no host that '%s' could move to", r->vm->name);
	return err_detail(err, "hosts", json_ref(survey));
}

char *move_choose(Engine *e, const VmRecords *r, bool disks, GError **err)
{
	_cleanup_json_ Json *survey = NULL;
	const Json *entry, *best = NULL;
	size_t i;

	if (!vm_allows(r->vm->name, r->runtime, VM_ACTION_migrate, err))
		return NULL;
	survey = move_survey(e, r, NULL, disks, err);
	json_array_foreach(survey, i, entry)
	{
		if (json_bool(entry, "possible", false) &&
		    (best == NULL || json_uint(entry, "free_memory", 0) > json_uint(best, "free_memory", 0)))
			best = entry;
	}
	if (best == NULL && survey != NULL)
		fail_nowhere(r, survey, err);
	return best != NULL ? g_strdup(json_str(json_obj(best, "host"), "id")) : NULL;
}
