/* SPDX-License-Identifier: Apache-2.0 */
/* peer_http.c's exchange with what the store knows of the hosts. */
#include "engine/peer.h"
#include "core/model/keys.h"
#include "engine/engine-impl.h"
#include "engine/records.h"

/* Owns what `target` borrows. */
typedef struct Known {
	Json *host;
	struct peer_target target;
} Known;

static bool look_up(Engine *e, const char *host_id, Known *k, GError **err)
{
	g_autofree char *key = key_host(host_id);
	g_autoptr(GError) e2 = NULL;

	if (e->member == NULL)
		return fail_advice(err, ERR_UNSUPPORTED, "`plim pool init` makes a pool.",
				   "this host is not in a pool");
	k->host = record_get(e->store, key, NULL, &e2);
	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	if (k->host == NULL)
		return fail_advice(err, ERR_NOT_FOUND, "`plim pool status` shows the hosts of the pool.",
				   "the pool has no host '%s'", host_id);
	if (json_str(k->host, "url") == NULL)
		return fail(err, ERR_UNAVAILABLE, "it is not known at which address host '%s' is",
			    json_str(k->host, "name"));
	k->target = (struct peer_target){
		.url = json_str(k->host, "url"),
		.host_id = host_id,
		.name = json_str(k->host, "name"),
		.folder = e->member->folder,
	};
	return true;
}

PeerAnswer *peer_exchange_host(Engine *e, const char *host_id, const struct peer_request *r, GError **err)
{
	struct peer_request known = *r;
	Known k = { 0 };
	PeerAnswer *a;

	known.revision = store_revision(e->store, NULL);
	a = look_up(e, host_id, &k, err) ? peer_exchange(&k.target, &known, err) : NULL;
	json_unref(k.host);
	return a;
}

Json *peer_call(Engine *e, const char *host_id, const char *method, const char *path, const Json *body,
		uint64_t timeout, GError **err)
{
	g_autofree char *text = body != NULL ? json_print(body) : NULL;
	const struct peer_request r = { .method = method,
					.path = path,
					.body = text,
					.revision = store_revision(e->store, NULL),
					.timeout = timeout };
	Known k = { 0 };
	Json *j = look_up(e, host_id, &k, err) ? peer_json(&k.target, &r, err) : NULL;

	json_unref(k.host);
	return j;
}

bool peer_connect(Engine *e, const char *host_id, uint64_t timeout, struct ws_connection *ret, GError **err)
{
	Known k = { 0 };
	bool ok = look_up(e, host_id, &k, err) && peer_connect_to(&k.target, timeout, ret, err);

	json_unref(k.host);
	return ok;
}

PeerLink *peer_link_open(Engine *e, const char *host_id, GError **err)
{
	Known k = { 0 };
	PeerLink *l = look_up(e, host_id, &k, err) ? peer_link_new(&k.target) : NULL;

	json_unref(k.host);
	return l;
}
