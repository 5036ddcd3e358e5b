/* SPDX-License-Identifier: Apache-2.0 */
/* The CPUs of hosts, and the level that they make. */
#include "api/handlers.h"
#include "core/cpu/record.h"
#include "core/model/keys.h"

#include <string.h>

/* The record of a host that is known; ERR_BAD_STATE while nothing was found. */
static bool load_record(ApiCall *c, const Json *host, struct host_record *ret, Json **ret_json, GError **err)
{
	g_autofree char *key = key_cpu(json_str(host, "id"));
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = record_get(engine_store(c->engine), key, NULL, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (j == NULL)
		return fail_advice(err, ERR_BAD_STATE,
				   "It is probed when its daemon starts: ask again in a second, or run "
				   "`plim host probe`.",
				   "the CPU features of host '%s' are not known yet", json_str(host, "name"));
	if (!host_record_of_json(j, ret, err))
		return false;
	*ret_json = json_ref(j);
	return true;
}

/* [{feature, kind, why}]: what a guest that arrives may have and one that boots does not get. */
static Json *hidden_to_json(const struct guest_sets *g)
{
	struct cpu_bits hidden;
	Json *list = json_array();

	cpu_bits_minus(&hidden, &g->max.has, &g->dflt.has);
	for (unsigned b = cpu_bits_next(&hidden, 0); b < CPU_BITS; b = cpu_bits_next(&hidden, b + 1)) {
		const struct feature *f = feature_at(b);
		Json *j = json_object();

		json_put_str(j, "feature", f->name);
		json_put_str(j, "kind", feature_kind_name((FeatureKind)f->kind));
		json_put_str(j, "why", f->why);
		json_array_append_new(list, j);
	}
	return list;
}

static Json *sets_to_json(ApiCall *c, const char *host_id, GuestType t, const struct guest_sets *g)
{
	struct cpu_bits sole;
	Json *j;

	if (!g->there)
		return json_null();
	level_keeper_sole(engine_level(c->engine), t, host_id, &sole);
	j = json_object();
	json_put_str(j, "vendor", g->max.vendor);
	json_put_uint(j, "family", g->max.family);
	json_put_uint(j, "model", g->max.model);
	json_put_uint(j, "stepping", g->max.stepping);
	json_put_uint(j, "level", g->max.level);
	json_put_uint(j, "xlevel", g->max.xlevel);
	json_put_uint(j, "phys_bits", g->max.phys_bits);
	json_put(j, "default", cpu_bits_names_json(&g->dflt.has));
	json_put(j, "max", cpu_bits_names_json(&g->max.has));
	json_put(j, "hidden", hidden_to_json(g));
	json_put(j, "sole", cpu_bits_names_json(&sole));
	return j;
}

/* Takes both. What only the daemon of the host itself knows is left out for others. */
static Json *cpu_view(ApiCall *c, const Json *host, const struct host_record *r, Json *record)
{
	const char *id = json_str(host, "id");
	g_autofree char *mask_key = key_cpu_mask(id);
	_cleanup_json_ Json *mask = record_get(engine_store(c->engine), mask_key, NULL, NULL), *notes = NULL;
	bool here = g_str_equal(id, engine_facts(c->engine)->id);
	Json *j = json_object(), *guests = json_object();

	for (int t = 0; t < GUEST_TYPES; t++)
		json_put(guests, guest_type_name((GuestType)t),
			 sets_to_json(c, id, (GuestType)t, &r->guest[t]));
	notes = here ? host_cpu_notes(engine_cpu(c->engine)) : json_object();
	json_put_str(j, "host", id);
	json_put_str(j, "name", json_str(host, "name"));
	json_put_str(j, "date", r->date);
	json_put_str(j, "qemu_version", r->qemu_version);
	json_put(j, "guests", guests);
	json_put(j, "mask", mask != NULL ? json_ref(mask) : json_null());
	json_put(j, "reasons", here ? json_ref(json_obj(notes, "reasons")) : json_null());
	json_put(j, "dropped", here ? json_ref(json_obj(notes, "dropped")) : json_null());
	json_put(j, "record", record);
	return j;
}

static Json *view_of(ApiCall *c, const Json *host, GError **err)
{
	_cleanup_host_record_ struct host_record r = { 0 };
	Json *record = NULL;

	return load_record(c, host, &r, &record, err) ? cpu_view(c, host, &r, record) : NULL;
}

bool api_host_cpu_show(ApiCall *c, GError **err)
{
	_cleanup_json_ Json *host = call_host(c, NULL, err);
	Json *j = host != NULL ? view_of(c, host, err) : NULL;

	return j != NULL && call_answer(c, 200, j);
}

static bool wished_features(ApiCall *c, struct cpu_bits *ret, GError **err)
{
	static const char *const known[] = { "features", NULL };
	const Json *body = call_body(c, err), *list;

	if (body == NULL || !call_known(body, known, err))
		return false;
	list = json_arr(body, "features");
	if (json_array_size(list) == 0)
		return fail_advice(err, ERR_INVALID, "Write {\"features\": [\"avx2\"]}.",
				   "the body names no features");
	return cpu_bits_of_json(list, ret, err);
}

static bool change_mask(ApiCall *c, bool add, GError **err)
{
	static const struct cpu_bits none;
	_cleanup_json_ Json *host = call_host(c, NULL, err);
	struct cpu_bits asked, also;
	bool dry_run;
	Json *j;

	if (host == NULL || !call_is_this_host(c, host, err) || !wished_features(c, &asked, err) ||
	    !call_flag(c, "dry_run", false, &dry_run, err) ||
	    !host_cpu_mask(engine_cpu(c->engine), add ? &asked : &none, add ? &none : &asked, c->user,
			   dry_run, &also, err))
		return false;
	j = view_of(c, host, err);
	if (j == NULL)
		return false;
	json_put(j, "also", cpu_bits_names_json(&also));
	return call_answer(c, 200, j);
}

bool api_host_cpu_mask(ApiCall *c, GError **err)
{
	return change_mask(c, true, err);
}

bool api_host_cpu_unmask(ApiCall *c, GError **err)
{
	return change_mask(c, false, err);
}

/* {kvm: how many features guests that boot can get, or null, tcg}; null while nothing is known. */
Json *host_cpu_brief(ApiCall *c, const Json *host)
{
	_cleanup_host_record_ struct host_record r = { 0 };
	_cleanup_json_ Json *record = NULL;
	Json *j;

	if (!load_record(c, host, &r, &record, NULL))
		return json_null();
	j = json_object();
	for (int t = 0; t < GUEST_TYPES; t++)
		json_put(j, guest_type_name((GuestType)t),
			 r.guest[t].there ? json_integer(cpu_bits_count(&r.guest[t].dflt.has)) : json_null());
	return j;
}

bool api_level_show(ApiCall *c, GError **err)
{
	g_autoptr(GError) e = NULL;
	Json *j = record_get(engine_store(c->engine), KEY_LEVEL, NULL, &e);

	if (j != NULL)
		return call_answer(c, 200, j);
	if (e == NULL)
		fail_advice(&e, ERR_BAD_STATE, "Ask again in a second.", "no host was probed yet");
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}
