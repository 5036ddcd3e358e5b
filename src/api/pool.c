/* SPDX-License-Identifier: Apache-2.0 */
/* The pool: made, joined, left, shown. */
#include "engine/pool.h"
#include "api/handlers.h"
#include "engine/pool_whatif.h"

#define TOKEN_LIFE (UINT64_C(3600) * 1000000)
#define TOKEN_LIFE_MAX (UINT64_C(7) * 86400 * 1000000)

static bool answer(ApiCall *c, Json *j)
{
	return j != NULL && call_answer(c, 200, j);
}

/* Members of `body` that must be text or absent. */
static bool check_texts(const Json *body, const char *const *known, GError **err)
{
	if (!call_known(body, known, err))
		return false;
	for (; *known != NULL; known++) {
		const Json *v = json_object_get(body, *known);

		if (v != NULL && !json_is_string(v) && !json_is_null(v) && !json_is_object(v))
			return fail(err, ERR_INVALID, "'%s' is not text", *known);
	}
	return true;
}

bool api_pool_show(ApiCall *c, GError **err)
{
	return answer(c, pool_status(c->engine, err));
}

bool api_pool_ca(ApiCall *c, GError **err)
{
	return answer(c, pool_authority(c->engine, err));
}

bool api_pool_admit(ApiCall *c, GError **err)
{
	const Json *body = call_body(c, err);

	return body != NULL && answer(c, pool_admit(c->engine, body, err));
}

bool api_pool_init(ApiCall *c, GError **err)
{
	static const char *const known[] = { "name", "address", "etcd", NULL };
	static const char *const known_etcd[] = { "url", "ca", "cert", "key", "user", "password_file", NULL };
	const Json *body = call_body(c, err), *etcd;
	struct pool_init r = { 0 };
	bool dry_run;

	if (body == NULL || !check_texts(body, known, err) || !call_flag(c, "dry_run", false, &dry_run, err))
		return false;
	etcd = json_obj(body, "etcd");
	if (etcd != NULL && !check_texts(etcd, known_etcd, err))
		return false;
	r.name = json_str(body, "name") != NULL ? json_str(body, "name") : "pool";
	r.address = json_str(body, "address");
	r.etcd = json_str(etcd, "url");
	r.etcd_ca = json_str(etcd, "ca");
	r.etcd_cert = json_str(etcd, "cert");
	r.etcd_key = json_str(etcd, "key");
	r.etcd_user = json_str(etcd, "user");
	r.etcd_password_file = json_str(etcd, "password_file");
	return answer(c, pool_init(c->engine, &r, dry_run, err));
}

bool api_pool_token(ApiCall *c, GError **err)
{
	static const char *const known[] = { "life", NULL };
	const Json *body = call_body(c, err), *life;
	uint64_t us = TOKEN_LIFE;

	if (body == NULL || !call_known(body, known, err))
		return false;
	life = json_object_get(body, "life");
	if (life != NULL) {
		us = json_uint(body, "life", 0);
		if (us == 0 || us > TOKEN_LIFE_MAX)
			return fail_advice(err, ERR_INVALID, "Give microseconds, a week at most.",
					   "a token can't live that long");
	}
	return answer(c, pool_token_make(c->engine, c->user, us, err));
}

bool api_pool_join(ApiCall *c, GError **err)
{
	static const char *const known[] = { "url", "token", "address", NULL };
	const Json *body = call_body(c, err);
	bool dry_run;

	if (body == NULL || !check_texts(body, known, err) || !call_flag(c, "dry_run", false, &dry_run, err))
		return false;
	if (json_str(body, "token") == NULL)
		return fail_advice(err, ERR_INVALID, "`plim pool token` on a member of the pool prints one.",
				   "a join needs a token");
	return answer(c, pool_join(c->engine, json_str(body, "url"), json_str(body, "token"),
				   json_str(body, "address"), dry_run, err));
}

bool api_pool_leave(ApiCall *c, GError **err)
{
	bool dry_run;

	return call_flag(c, "dry_run", false, &dry_run, err) &&
	       answer(c, pool_leave(c->engine, dry_run, err));
}

bool api_pool_whatif(ApiCall *c, GError **err)
{
	static const char *const known[] = { "kind", "host", "feature", "record", "url", "tls", NULL };
	static const char *const known_tls[] = { "ca", "cert", "key", NULL };
	const Json *body = call_body(c, err), *tls;

	if (body == NULL || !check_texts(body, known, err))
		return false;
	tls = json_obj(body, "tls");
	if (tls != NULL && !check_texts(tls, known_tls, err))
		return false;
	/* The daemon calls whom it is told to, and reads files for that. */
	if (json_str(body, "url") != NULL && c->role < ROLE_ADMIN)
		return fail_advice(err, ERR_DENIED, "Send the host's record: `plim host cpu --export`.",
				   "only an admin may have another host asked");
	return answer(c, pool_whatif(c->engine, body, err));
}

bool api_host_evict(ApiCall *c, GError **err)
{
	g_autofree char *id = record_resolve(engine_store(c->engine), "hosts", call_path(c, "host"), err);

	bool dry_run;

	return id != NULL && call_flag(c, "dry_run", false, &dry_run, err) &&
	       answer(c, pool_evict(c->engine, id, c->user, dry_run, err));
}
