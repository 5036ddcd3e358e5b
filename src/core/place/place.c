/* SPDX-License-Identifier: Apache-2.0 */
#include "core/place/place.h"
#include "base/str.h"
#include "core/guest/host_facts.h"

#include <string.h>

char *place_reason(const PlaceVm *vm, const PlaceHost *h)
{
	g_autofree char *need = NULL, *have = NULL;

	if (vm->wanted != NULL && !g_str_equal(vm->wanted, h->id))
		return g_strdup("is not the host that was asked for");
	if (vm->files != NULL && !g_str_equal(vm->files, h->id))
		return g_strdup("does not have the files of its disks");
	if (!h->online)
		return g_strdup("is not online");
	if (vm->accel >= 0 && !h->accel[vm->accel])
		return g_strdup_printf("can't run guests under %s", accel_name((Accel)vm->accel));
	if (vm->memory <= h->memory)
		return NULL;
	need = print_size(vm->memory);
	have = print_size(h->memory);
	return g_strdup_printf("has %s of free memory, %s are needed", have, need);
}

static bool is_better(const PlaceHost *a, const PlaceHost *b)
{
	return b == NULL || a->memory > b->memory || (a->memory == b->memory && strcmp(a->name, b->name) < 0);
}

static Json *told(const PlaceHost *h, const char *reason)
{
	Json *j = json_object();

	json_put_str(j, "id", h->id);
	json_put_str(j, "name", h->name);
	json_put_str(j, "reason", reason);
	return j;
}

static bool fail_none(const PlaceVm *vm, Json *reasons, GError **err)
{
	g_autoptr(GString) text = g_string_new(NULL);
	Json *r;
	size_t i;

	json_array_foreach(reasons, i, r) g_string_append_printf(text, "%s%s %s", i > 0 ? "; " : "",
								 json_str(r, "name"), json_str(r, "reason"));
	fail_advice(err, ERR_CONFLICT,
		    "Bring the host that has its disks back, free memory, or name another host "
		    "with --host.",
		    "no host of the pool can start vm '%s': %s", vm->name, text->str);
	err_detail(err, "hosts", json_incref(reasons));
	return false;
}

const PlaceHost *place_choose(const PlaceVm *vm, const PlaceHost *hosts, size_t n, GError **err)
{
	_cleanup_json_ Json *reasons = json_array();
	const PlaceHost *best = NULL;

	for (size_t i = 0; i < n; i++) {
		g_autofree char *reason = place_reason(vm, &hosts[i]);

		if (reason != NULL)
			json_array_append_new(reasons, told(&hosts[i], reason));
		else if (is_better(&hosts[i], best))
			best = &hosts[i];
	}
	if (best == NULL)
		fail_none(vm, reasons, err);
	return best;
}

bool place_check_vendor(const PlaceCpu *joins, const PlaceCpu *members, size_t n, GError **err)
{
	for (size_t i = 0; joins->kvm && i < n; i++) {
		if (!members[i].kvm || g_strcmp0(members[i].vendor, joins->vendor) == 0)
			continue;
		return fail_advice(
		    err, ERR_UNSUPPORTED,
		    "Put it into a pool of hosts of its own vendor, or let it run guests without KVM: `plim host "
		    "set accel=tcg` on it.",
		    "host '%s' has a CPU of %s, host '%s' of the pool one of %s: no guest under KVM could move "
		    "between them",
		    joins->name, joins->vendor != NULL ? joins->vendor : "an unknown vendor", members[i].name,
		    members[i].vendor != NULL ? members[i].vendor : "an unknown vendor");
	}
	return true;
}
