/* SPDX-License-Identifier: Apache-2.0 */
#include "api/named.h"
#include "base/str.h"
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

/* The beginning of a name is not taken for it: what is meant may be a name that is not here yet. */
static bool is_unseen(Store *s, const struct named *n, const char *ref)
{
	g_autofree char *key = uuid_valid(ref) ? n->key(ref) : key_name(n->collection, ref);
	g_autoptr(StoreItem) item = store_get(s, key, NULL);

	return item == NULL;
}

void call_await_seen(ApiCall *c)
{
	/* Nobody waits for what a stranger says. */
	if (c->peer != NULL && c->role != ROLE_NONE)
		call_await_revision(c, c->seen);
}

void call_await_named(ApiCall *c)
{
	Store *s = engine_store(c->engine);

	for (gsize i = 0; i < G_N_ELEMENTS(NAMED); i++) {
		const char *ref = g_hash_table_lookup(c->path, NAMED[i].part);

		if (ref == NULL || !is_unseen(s, &NAMED[i], ref))
			continue;
		call_await_all(c);
		return;
	}
}
