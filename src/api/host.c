/* SPDX-License-Identifier: Apache-2.0 */
/* Hosts. */
#include "api/handlers.h"
#include "core/model/keys.h"
#include "engine/ksm.h"

bool api_host_list(ApiCall *c, GError **err)
{
	return call_list(c, KEYS_HOSTS, err);
}

Json *call_host(ApiCall *c, int64_t *ret_rev, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autofree char *id = record_resolve(s, "hosts", call_path(c, "host"), err), *key = NULL;
	g_autoptr(GError) e = NULL;
	Json *j;

	if (id == NULL)
		return NULL;
	key = key_host(id);
	j = record_get(s, key, ret_rev, &e);
	if (j == NULL && e == NULL)
		fail(&e, ERR_NOT_FOUND, "there is no host '%s'", id);
	if (j == NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return j;
}

bool api_host_show(ApiCall *c, GError **err)
{
	int64_t rev;
	Json *j = call_host(c, &rev, err);

	if (j == NULL)
		return false;
	json_put(j, "cpu_features", host_cpu_brief(c, j));
	if (g_strcmp0(json_str(j, "id"), engine_facts(c->engine)->id) == 0)
		json_put(j, "ksm", ksm_status(KSM_DIR));
	return call_answer_object(c, j, rev);
}

/* Only the daemon of a host writes its record; in a pool the request would be passed on. */
bool call_is_this_host(const ApiCall *c, const Json *host, GError **err)
{
	if (g_strcmp0(json_str(host, "id"), engine_facts(c->engine)->id) == 0)
		return true;
	fail_advice(err, ERR_UNSUPPORTED, "Ask the daemon of that host.", "host '%s' is not this one",
		    json_str(host, "name"));
	return false;
}

bool api_host_update(ApiCall *c, GError **err)
{
	static const char *const known[] = { "accel", "settings", NULL };
	int64_t rev;
	_cleanup_json_ Json *host = call_host(c, &rev, err);
	const Json *body = call_body(c, err);
	const char *accel = json_str(body, "accel");

	if (host == NULL || body == NULL || !call_known(body, known, err) ||
	    !call_is_this_host(c, host, err) || !call_check_match(c, rev, err))
		return false;
	if (!engine_set_host(c->engine, accel, json_object_get(body, "settings"), err))
		return false;
	return api_host_show(c, err);
}

bool api_host_limits(ApiCall *c, GError **err)
{
	struct limits_seen seen = engine_limits(c->engine);
	struct memory_host memory = engine_memory(c->engine);
	struct memory_claims claims = engine_memory_claims(c->engine);
	_cleanup_json_ Json *host = call_host(c, NULL, err);
	Json *j;

	if (host == NULL || !call_is_this_host(c, host, err))
		return false;
	j = json_object();
	json_put_str(j, "host", json_str(host, "name"));
	json_put_uint(j, "starts", engine_launches(c->engine));
	json_put(j, "memory", memory_to_json(&memory, &claims));
	json_put(j, "limits", limits_to_json(&seen));
	return call_answer(c, 200, j);
}

bool api_host_probe(ApiCall *c, GError **err)
{
	_cleanup_json_ Json *host = call_host(c, NULL, err);

	if (host == NULL || !call_is_this_host(c, host, err) || !engine_probe(c->engine, err))
		return false;
	return api_host_show(c, err);
}
