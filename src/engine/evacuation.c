/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/evacuation.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "core/place/evacuate.h"
#include "engine/engine-impl.h"
#include "engine/move_survey.h"
#include "engine/peer.h"

#include <string.h>

#define ASK_TIMEOUT UINT64_C(60000000)

/* Owns what the guests and their hosts borrow. */
typedef struct Evacuation {
	Engine *engine;
	Json *host;
	bool back, disks;
	GPtrArray *entry; /* Json, as evacuation_plan() tells them */
	GPtrArray *hosts; /* GArray of struct evacuate_host */
	GArray *guest;    /* struct evacuate_guest */
} Evacuation;

static void drop_json(gpointer p)
{
	json_unref(p);
}

static void drop_array(gpointer p)
{
	g_array_unref(p);
}

static void evacuation_done(Evacuation *v)
{
	json_unref(v->host);
	g_ptr_array_unref(v->entry);
	g_ptr_array_unref(v->hosts);
	g_array_unref(v->guest);
}

static Json *ref_of(const char *id, const char *name)
{
	Json *j = json_object();

	json_put_str(j, "id", id);
	json_put_str(j, "name", name);
	return j;
}

/* Those that run there; or, to bring them back, those whose last move was away from there. */
static bool concerns(const Evacuation *v, const VmRecords *r)
{
	const char *host = json_str(v->host, "id");
	const char *from = json_str(json_obj(r->runtime, "migration"), "from");
	bool here = g_strcmp0(json_str(r->runtime, "host"), host) == 0;
	VmState state = vm_runtime_state(r->runtime);

	if (state != VM_RUNNING && state != VM_PAUSED)
		return false;
	return v->back ? !here && g_strcmp0(from, host) == 0 : here;
}

/* Only the host of a guest can tell which of its disks another one sees. */
static Json *survey(const Evacuation *v, const VmRecords *r, GError **err)
{
	const char *at = json_str(r->runtime, "host"), *to = v->back ? json_str(v->host, "id") : NULL;
	g_autofree char *path = NULL;

	if (g_strcmp0(at, v->engine->host_id) == 0)
		return move_survey(v->engine, r, to, v->disks, err);
	path = g_strdup_printf("/v1/vms/%s/moves?disks=%s%s%s", r->vm->id, v->disks ? "true" : "false",
			       to != NULL ? "&to=" : "", to != NULL ? to : "");
	return peer_call(v->engine, at, "GET", path, NULL, ASK_TIMEOUT, err);
}

static GArray *hosts_of(const Json *moves)
{
	GArray *hosts = g_array_new(FALSE, FALSE, sizeof(struct evacuate_host));
	const Json *m;
	size_t i;

	json_array_foreach((Json *)moves, i, m)
	{
		struct evacuate_host h = { .id = json_str(json_obj(m, "host"), "id"),
					   .free_memory = json_uint(m, "free_memory", 0),
					   .possible = json_bool(m, "possible", false) };

		if (h.id != NULL)
			g_array_append_val(hosts, h);
	}
	return hosts;
}

static bool add_guest(Evacuation *v, const VmRecords *r, GError **err)
{
	Json *moves = survey(v, r, err), *entry;
	struct evacuate_guest g = { .memory = json_uint(r->runtime, "memory", 0) };
	GArray *hosts;

	if (moves == NULL)
		return false;
	entry = json_object();
	json_put(entry, "vm", ref_of(r->vm->id, r->vm->name));
	json_put_uint(entry, "memory", g.memory);
	json_put(entry, "to", json_null());
	json_put(entry, "moves", moves);
	hosts = hosts_of(moves);
	g_ptr_array_add(v->entry, entry);
	g_ptr_array_add(v->hosts, hosts);
	g.name = json_str(json_obj(entry, "vm"), "name");
	g.host = (const struct evacuate_host *)(void *)hosts->data;
	g.n_hosts = hosts->len;
	g_array_append_val(v->guest, g);
	return true;
}

static bool add_guests(Evacuation *v, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(v->engine->store, KEYS_VMS, NULL, err);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		g_autofree char *c = NULL, *id = NULL, *rest = NULL;
		g_autoptr(VmRecords) r = NULL;
		g_autoptr(GError) e = NULL;

		if (!key_split(((StoreItem *)items->pdata[i])->key, &c, &id, &rest) ||
		    !g_str_equal(rest, "config"))
			continue;
		r = vm_records_load(v->engine->store, id, &e);
		/* Deleted meanwhile. */
		if (g_error_matches(e, ERR, ERR_NOT_FOUND))
			continue;
		if (r == NULL || (concerns(v, r) && !add_guest(v, r, &e))) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
	return items != NULL;
}

/* Names of vms are unique in a pool. */
static Json *entry_of(const Evacuation *v, const char *name)
{
	for (guint i = 0; i < v->entry->len; i++)
		if (g_str_equal(json_str(json_obj(v->entry->pdata[i], "vm"), "name"), name))
			return v->entry->pdata[i];
	g_assert_not_reached();
}

static Json *name_target(const Json *moves, const char *id)
{
	const Json *m;
	size_t i;

	json_array_foreach((Json *)moves, i, m)
	{
		const Json *host = json_obj(m, "host");

		if (g_strcmp0(json_str(host, "id"), id) == 0)
			return ref_of(id, json_str(host, "name"));
	}
	g_assert_not_reached();
}

static Json *plan(Evacuation *v)
{
	struct evacuate_guest *guest = (struct evacuate_guest *)(void *)v->guest->data;
	size_t stuck = evacuate(guest, v->guest->len);
	Json *j = json_object(), *list = json_array();

	for (guint i = 0; i < v->guest->len; i++) {
		Json *entry = entry_of(v, guest[i].name);

		if (guest[i].to != NULL)
			json_put(entry, "to", name_target(json_arr(entry, "moves"), guest[i].to->id));
		json_array_append(list, entry);
	}
	json_put(j, "host", ref_of(json_str(v->host, "id"), json_str(v->host, "name")));
	json_put_uint(j, "stuck", stuck);
	json_put(j, "guests", list);
	return j;
}

Json *evacuation_plan(Engine *e, const char *host_id, bool back, bool disks, GError **err)
{
	g_autofree char *key = key_host(host_id);
	Evacuation v = { .engine = e, .back = back, .disks = disks };
	Json *j = NULL;

	v.entry = g_ptr_array_new_with_free_func(drop_json);
	v.hosts = g_ptr_array_new_with_free_func(drop_array);
	v.guest = g_array_new(FALSE, FALSE, sizeof(struct evacuate_guest));
	v.host = record_get(e->store, key, NULL, err);
	if (v.host != NULL && add_guests(&v, err))
		j = plan(&v);
	evacuation_done(&v);
	return j;
}
