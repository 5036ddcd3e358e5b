/* SPDX-License-Identifier: Apache-2.0 */
#include "core/place/whatif.h"
#include "core/cpu/check.h"
#include "core/cpu/feature.h"
#include "core/cpu/level.h"

#include <string.h>

/* A host before or after: what it can take, and what it offers. */
typedef struct Side {
	const char *name;
	struct guest_sets guest[GUEST_TYPES];
} Side;

bool whatif_kind_of_name(const char *name, WhatIfKind *ret)
{
	static const char *const names[] = {
#define X(kind, text) [WHATIF_##kind] = text,
		WHATIF_TABLE(X)
#undef X
	};

	for (size_t i = 0; name != NULL && i < G_N_ELEMENTS(names); i++)
		if (g_str_equal(names[i], name)) {
			*ret = (WhatIfKind)i;
			return true;
		}
	return false;
}

static void add_side(GArray *sides, const struct host_record *r)
{
	Side s = { .name = r->host };

	memcpy(s.guest, r->guest, sizeof s.guest);
	g_array_append_val(sides, s);
}

static Side *find_side(const GArray *sides, const char *name)
{
	for (guint i = 0; i < sides->len; i++)
		if (g_strcmp0(g_array_index(sides, Side, i).name, name) == 0)
			return &g_array_index(sides, Side, i);
	return NULL;
}

static bool fail_no_host(const char *name, GError **err)
{
	return fail_advice(err, ERR_NOT_FOUND,
			   "`plim pool status` shows the hosts; one without a CPU record was "
			   "not probed yet.",
			   "the pool has no CPU record of a host '%s'", name != NULL ? name : "");
}

static bool leave(GArray *after, const char *host, GError **err)
{
	for (guint i = 0; i < after->len; i++)
		if (g_strcmp0(g_array_index(after, Side, i).name, host) == 0) {
			g_array_remove_index(after, i);
			return true;
		}
	return fail_no_host(host, err);
}

static bool disable(GArray *after, const char *name, GError **err)
{
	const struct feature *f = NULL;
	struct cpu_bits gone = { 0 };

	if (!feature_parse(name, &f, err))
		return false;
	cpu_bits_set(&gone, f->id);
	for (guint i = 0; i < after->len; i++)
		for (int t = 0; t < GUEST_TYPES; t++) {
			struct guest_sets *g = &g_array_index(after, Side, i).guest[t];

			featureset_remove(&g->max, &gone, CLOSE_HARD);
			featureset_remove(&g->dflt, &gone, CLOSE_HARD);
		}
	return true;
}

static bool apply(GArray *after, const struct whatif_change *c, GError **err)
{
	Side *s;

	switch (c->kind) {
	case WHATIF_JOIN:
		if (find_side(after, c->record->host) != NULL)
			return fail_advice(err, ERR_CONFLICT,
					   "`plim pool what-if upgrade` compares it with what it is.",
					   "the pool has a host '%s' already", c->record->host);
		add_side(after, c->record);
		return true;
	case WHATIF_LEAVE:
		return leave(after, c->host, err);
	case WHATIF_DISABLE:
		return disable(after, c->feature, err);
	case WHATIF_UPGRADE:
		s = find_side(after, c->record->host);
		if (s == NULL)
			return fail_no_host(c->record->host, err);
		memcpy(s->guest, c->record->guest, sizeof s->guest);
		return true;
	}
	g_assert_not_reached();
}

static Level *level_of(const GArray *sides, GuestType type, GError **err)
{
	g_autoptr(Level) l = level_new(type);

	for (guint i = 0; i < sides->len; i++) {
		const Side *s = &g_array_index(sides, Side, i);

		if (s->guest[type].there && !level_add(l, s->name, &s->guest[type].dflt, err))
			return NULL;
	}
	return g_steal_pointer(&l);
}

static const struct cpu_bits *bits_of(const Level *l)
{
	static const struct cpu_bits none;
	const struct featureset *s = level_get(l);

	return s != NULL ? &s->has : &none;
}

static Json *level_change(const GArray *before, const GArray *after, GuestType type, GError **err)
{
	g_autoptr(Level) a = level_of(before, type, err), b = a != NULL ? level_of(after, type, err) : NULL;
	struct cpu_bits lost, gained;
	Json *j;

	if (b == NULL)
		return NULL;
	cpu_bits_minus(&lost, bits_of(a), bits_of(b));
	cpu_bits_minus(&gained, bits_of(b), bits_of(a));
	j = json_object();
	json_put(j, "lost", cpu_bits_names_json(&lost));
	json_put(j, "gained", cpu_bits_names_json(&gained));
	return j;
}

static bool can_go(const struct whatif_vm *vm, const GArray *sides, const char *host)
{
	const Side *s = find_side(sides, host);
	struct cpu_verdict v;

	if (s == NULL || !vm->pinned || !s->guest[vm->type].there || g_strcmp0(vm->host, host) == 0)
		return false;
	cpu_check(&vm->pin, vm->type, &s->guest[vm->type].max, &v);
	return v.can;
}

/* Hosts of `from` where it can go, and of `other` not. */
static Json *only_in(const struct whatif_vm *vm, const GArray *from, const GArray *other)
{
	Json *list = json_array();

	for (guint i = 0; i < from->len; i++) {
		const char *name = g_array_index(from, Side, i).name;

		if (can_go(vm, from, name) && !can_go(vm, other, name))
			json_array_append_new(list, json_string(name));
	}
	return list;
}

static void tell_vm(const struct whatif_vm *vm, const GArray *before, const GArray *after, Json *out)
{
	Json *lost = only_in(vm, before, after), *gained = only_in(vm, after, before), *j;
	bool must_move = find_side(before, vm->host) != NULL && find_side(after, vm->host) == NULL;

	if (json_array_size(lost) + json_array_size(gained) == 0 && !must_move) {
		json_unref(lost);
		json_unref(gained);
		return;
	}
	j = json_object();
	json_put_str(j, "id", vm->id);
	json_put_str(j, "name", vm->name);
	json_put_str(j, "host", vm->host);
	json_put(j, "lost", lost);
	json_put(j, "gained", gained);
	json_put_bool(j, "must_move", must_move);
	json_array_append_new(out, j);
}

static Json *compare(const GArray *before, const GArray *after, const struct whatif_vm *vms, size_t n_vms,
		     GError **err)
{
	_cleanup_json_ Json *j = json_object();
	Json *told = json_array();

	json_put(j, "vms", told);
	for (GuestType t = 0; t < GUEST_TYPES; t++) {
		Json *change = level_change(before, after, t, err);

		if (change == NULL)
			return NULL;
		json_put(j, guest_type_name(t), change);
	}
	for (size_t i = 0; i < n_vms; i++)
		tell_vm(&vms[i], before, after, told);
	return g_steal_pointer(&j);
}

Json *whatif(const struct host_record *const *hosts, size_t n, const struct whatif_change *change,
	     const struct whatif_vm *vms, size_t n_vms, GError **err)
{
	g_autoptr(GArray) before = g_array_new(FALSE, FALSE, sizeof(Side));
	g_autoptr(GArray) after = g_array_new(FALSE, FALSE, sizeof(Side));

	for (size_t i = 0; i < n; i++) {
		add_side(before, hosts[i]);
		add_side(after, hosts[i]);
	}
	return apply(after, change, err) ? compare(before, after, vms, n_vms, err) : NULL;
}
