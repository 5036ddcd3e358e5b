/* SPDX-License-Identifier: Apache-2.0 */
/* What the records say of the pool and its hosts. */
#include "core/cpu/feature.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/pool-impl.h"

#include <string.h>

/* {host id: number of vms that run there} */
static GHashTable *count_vms(Store *s, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s, KEYS_VMS, NULL, err);
	GHashTable *n;

	if (items == NULL)
		return NULL;
	n = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = NULL;
		const char *host;
		VmState state;

		if (!g_str_has_suffix(item->key, "/runtime"))
			continue;
		j = json_parse(item->value, strlen(item->value), NULL);
		host = json_str(j, "host");
		state = vm_runtime_state(j);
		if (host != NULL && (state == VM_RUNNING || state == VM_PAUSED))
			g_hash_table_replace(
			    n, g_strdup(host),
			    GUINT_TO_POINTER(GPOINTER_TO_UINT(g_hash_table_lookup(n, host)) + 1));
	}
	return n;
}

static Json *accelerators_of(const Json *host)
{
	Json *list = json_array(), *v;
	const char *name;

	json_object_foreach(json_obj(host, "accelerators"), name, v) if (json_bool(v, "works", false))
	    json_array_append_new(list, json_string(name));
	return list;
}

/* {kvm: [NAME], tcg: [NAME]}: what the level would regain without this host. */
static Json *cost_of(Engine *e, const char *id)
{
	Json *j = json_object();

	for (GuestType t = 0; t < GUEST_TYPES; t++) {
		struct cpu_bits sole = { 0 };

		level_keeper_sole(e->level, t, id, &sole);
		json_put(j, guest_type_name(t), cpu_bits_names_json(&sole));
	}
	return j;
}

static Json *host_view(Engine *e, const Json *host, const char *id, GHashTable *vms, GError **err)
{
	g_autofree char *key = key_lease(id);
	g_autoptr(GError) e2 = NULL;
	_cleanup_json_ Json *lease = record_get(e->store, key, NULL, &e2);
	bool joining = g_strcmp0(json_str(host, "state"), HOST_JOINING) == 0;
	Json *j;

	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return NULL;
	}
	j = json_object();
	json_put_str(j, "id", id);
	json_put_str(j, "name", json_str(host, "name"));
	json_put_str(j, "state", joining ? "joining" : lease != NULL ? "online" : "offline");
	json_put_str(j, "url", json_str(host, "url"));
	json_put_str(j, "etcd", NULL);
	json_put(j, "sole", cost_of(e, id));
	json_put_str(j, "version", json_str(host, "version"));
	json_put_str(j, "joined_at", json_str(host, "joined_at"));
	json_put_str(j, "lease_since", json_str(lease, "since"));
	json_put_int(j, "vms", GPOINTER_TO_UINT(g_hash_table_lookup(vms, id)));
	json_put(j, "accelerators", accelerators_of(host));
	json_put(j, "cpu", json_deep_copy(json_object_get(host, "cpu")));
	return j;
}

static bool add_hosts(Engine *e, Json *out, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(e->store, KEYS_HOSTS, NULL, err);
	g_autoptr(GHashTable) vms = items != NULL ? count_vms(e->store, err) : NULL;

	for (guint i = 0; vms != NULL && i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *host = json_parse(item->value, strlen(item->value), NULL);
		Json *view = host_view(e, host, item->key + strlen(KEYS_HOSTS), vms, err);

		if (view == NULL)
			return false;
		json_array_append_new(out, view);
	}
	return vms != NULL;
}

Json *pool_status(Engine *e, GError **err)
{
	_cleanup_json_ Json *j = json_object(), *pool = NULL, *hosts = json_array(), *level = NULL;
	g_autoptr(GError) e2 = NULL;

	if (!pool_need_member(e, err))
		return NULL;
	pool = record_get(e->store, KEY_POOL, NULL, &e2);
	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return NULL;
	}
	if (!add_hosts(e, hosts, err))
		return NULL;
	level = record_get(e->store, KEY_LEVEL, NULL, NULL);
	pool_etcd_put_status(e, hosts);
	json_put_str(j, "id", e->member->pool_id);
	json_put_str(j, "name", e->member->pool_name);
	json_put_str(j, "created_at", json_str(pool, "created_at"));
	json_put_str(j, "host", e->host_id);
	json_put(j, "level", level != NULL ? json_incref(level) : json_null());
	json_put(j, "hosts", json_incref(hosts));
	return g_steal_pointer(&j);
}
