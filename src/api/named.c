/* SPDX-License-Identifier: Apache-2.0 */
#include "api/named.h"
#include "base/log.h"
#include "core/model/keys.h"
#include "engine/records.h"

static char *key_vm(const char *id)
{
	return key_vm_config(id);
}

/* By the names that the paths of api/openapi.yaml give them. */
static const struct named {
	const char *part, *collection;
	char *(*key)(const char *id);
} NAMED[] = {
	{ "host", "hosts", key_host },
	{ "operation", "operations", key_operation },
	{ "vm", "vms", key_vm },
	{ "volume", "volumes", key_volume },
};

static bool is_unseen(Store *s, const struct named *n, const char *ref)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *id = record_resolve(s, n->collection, ref, &e), *key = NULL;
	g_autoptr(StoreItem) item = NULL;

	if (id == NULL)
		return g_error_matches(e, ERR, ERR_NOT_FOUND);
	key = n->key(id);
	item = store_get(s, key, &e);
	return item == NULL && e == NULL;
}

void call_await_named(ApiCall *c)
{
	Store *s = engine_store(c->engine);
	g_autoptr(GError) e = NULL;

	for (gsize i = 0; i < G_N_ELEMENTS(NAMED); i++) {
		const char *ref = g_hash_table_lookup(c->path, NAMED[i].part);

		if (ref == NULL || !is_unseen(s, &NAMED[i], ref))
			continue;
		if (!store_catch_up(s, &e))
			log_warning("%s", e->message);
		return;
	}
}
