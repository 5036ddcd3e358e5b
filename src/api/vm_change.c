/* SPDX-License-Identifier: Apache-2.0 */
/* Changes of a vm's configuration: a JSON merge patch (RFC 7396) that is checked as a whole. */
#include "api/creation.h"
#include "api/handlers.h"
#include "api/vm_view.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/model/vm_state.h"

#include <string.h>

static const char *const changeable[] = { "name",  "description", "tags",       "properties", "settings",
					  "disks", "nics",        "cloud_init", NULL };

/* Objects are merged member by member, everything else is replaced. */
static Json *patched(const Json *config, const Json *patch)
{
	Json *out = json_deep_copy(config), *v;
	const char *key;

	json_object_foreach((Json *)patch, key, v)
	{
		Json *old = json_object_get(out, key);

		if (json_is_object(v) && json_is_object(old))
			json_merge(old, v);
		else
			json_object_set(out, key, v);
	}
	return out;
}

static bool is_new_file(const VmDisk *old, const VmDisk *d)
{
	return old == NULL || g_strcmp0(old->path, d->path) != 0 || !g_str_equal(old->format, d->format);
}

static bool disks_kept(const VmSeen *seen, const Vm *is, GError **err)
{
	const Vm *was = seen->vm;

	for (guint i = 0; i < is->disk->len; i++) {
		const VmDisk *d = is->disk->pdata[i], *old = vm_disk_find(was, d->name);

		if (d->volume != NULL && (old == NULL || g_strcmp0(old->volume, d->volume) != 0))
			return fail_advice(err, ERR_UNSUPPORTED,
					   "`plim vm disk add` gives a vm a further volume.",
					   "disk '%s' would get a volume that is not this vm's", d->name);
		if (d->path != NULL && is_new_file(old, d) && !check_disk_file(d, err))
			return false;
	}
	for (guint i = 0; i < was->disk->len; i++) {
		const VmDisk *d = was->disk->pdata[i];

		if (vm_disk_find(is, d->name) == NULL && vm_disk_in_use(seen, d))
			return fail_advice(err, ERR_BAD_STATE, "Stop the vm first.", "disk '%s' is in use",
					   d->name);
	}
	return true;
}

/* A volume that is no longer named becomes free. */
static void free_volumes(StoreTx *tx, const VmSeen *seen, const Vm *is)
{
	for (guint i = 0; i < seen->vm->disk->len; i++) {
		const VmDisk *d = seen->vm->disk->pdata[i];
		const Volume *v = seen->volume->pdata[i];
		g_autofree char *key = NULL, *text = NULL;
		_cleanup_json_ Json *j = NULL;

		if (v == NULL || vm_disk_find(is, d->name) != NULL)
			continue;
		key = key_volume(v->id);
		j = volume_to_json(v);
		json_put(j, "vm", json_null());
		text = json_print(j);
		store_tx_set(tx, key, STORE_ANY, text);
	}
}

static void rename_in(StoreTx *tx, const Vm *was, const Vm *is)
{
	g_autofree char *old = key_name("vms", was->name), *new = key_name("vms", is->name), *id = NULL;

	if (g_str_equal(was->name, is->name))
		return;
	id = g_strdup_printf("\"%s\"", is->id);
	store_tx_set(tx, old, STORE_ANY, NULL);
	store_tx_set(tx, new, 0, id);
}

static bool store_change(Store *s, const VmSeen *seen, const Vm *is, bool with_disks, int64_t *ret_rev,
			 GError **err)
{
	g_autofree char *key = key_vm_config(is->id), *runtime = key_vm_runtime(is->id), *text = NULL;
	_cleanup_json_ Json *j = vm_to_json(is);
	g_autoptr(GError) e = NULL;
	StoreTx *tx = store_tx_new();

	text = json_print(j);
	store_tx_set(tx, key, seen->config_rev, text);
	if (with_disks)
		store_tx_expect(tx, runtime, seen->runtime_rev);
	rename_in(tx, seen->vm, is);
	free_volumes(tx, seen, is);
	if (store_commit(s, tx, STORE_DURABLE, ret_rev, &e))
		return true;
	/* What else fails, a store that is full or went back, has advice of its own. */
	if (store_is_conflict(e))
		err_advise(
		    &e,
		    "Somebody changed it at the same moment, or the new name is taken: look, and repeat.");
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static bool is_pending(const Json *pending, const char *name)
{
	const Json *p;
	size_t i;

	json_array_foreach((Json *)pending, i, p) if (g_str_equal(json_string_value(p), name)) return true;
	return false;
}

/* Which of the changed things act now, and which at the next start. */
static Json *change_report(const Json *was, const Json *is, const VmSeen *seen, Json *view)
{
	VmState state = vm_runtime_state(seen->runtime);
	/* A suspended one goes on with the QEMU that it had. */
	bool runs = state == VM_RUNNING || state == VM_PAUSED || state == VM_SUSPENDED;
	_cleanup_json_ Json *waiting = vm_differences(was, is);
	Json *now = json_array(), *later = json_array(), *j = json_object(), *v;
	const char *key;
	size_t i;

	json_array_foreach(waiting, i, v) json_array_append(runs ? later : now, v);
	json_object_foreach(json_object_get(is, "settings"), key,
			    v) if (!json_equal(v, json_object_get(json_object_get(was, "settings"), key)) &&
				   !is_pending(waiting, key)) json_array_append_new(now, json_string(key));
	json_object_foreach(json_object_get(was, "settings"), key,
			    v) if (json_object_get(json_object_get(is, "settings"), key) == NULL &&
				   !is_pending(waiting, key)) json_array_append_new(now, json_string(key));
	if (g_strcmp0(json_str(was, "name"), json_str(is, "name")) != 0)
		json_array_append_new(now, json_string("name"));
	json_put(j, "vm", view);
	json_put(j, "applied_now", now);
	json_put(j, "at_next_start", later);
	return j;
}

static void tell(ApiCall *c, const Vm *was, const Vm *is, const Json *patch)
{
	if (!g_str_equal(was->name, is->name))
		events_emit(engine_events(c->engine), EVENT_VM_RENAMED, "vm", is->id, is->name, NULL,
			    "%s is called %s now", was->name, is->name);
	else
		events_emit(engine_events(c->engine), EVENT_VM_CHANGED, "vm", is->id, is->name,
			    json_deep_copy(patch), "%s was changed by %s", is->name, c->user);
}

static Vm *changed_vm(ApiCall *c, const VmRecords *r, const Json *was, const Json *patch, GError **err)
{
	_cleanup_json_ Json *merged = patched(was, patch);
	g_autoptr(Vm) is = vm_of_json(merged, err);

	/* Whoever names a file for the drive wants that one, and not what was inserted or ejected before. */
	if (is != NULL && json_object_get(json_object_get(patch, "settings"), "platform.cdrom") != NULL)
		g_clear_pointer(&is->cd, vm_cd_free);

	/* Operations change the list of disks when they end: nobody else may meanwhile. */
	if (json_object_get(patch, "disks") != NULL &&
	    !vm_allows(r->vm->name, r->runtime, VM_ACTION_change, err))
		return NULL;
	if (is == NULL || !disks_kept(&r->seen, is, err) ||
	    !vm_check_startable(c, is, json_str(r->runtime, "machine"), err))
		return NULL;
	vm_draw_macs(is);
	return g_steal_pointer(&is);
}

static bool change(ApiCall *c, const VmRecords *r, const Json *patch, GError **err)
{
	_cleanup_json_ Json *was = NULL, *is_json = NULL;
	g_autoptr(Vm) is = NULL;
	int64_t rev = r->seen.config_rev;
	Json *report;
	bool dry;

	if (!call_check_match(c, rev, err) || !call_flag(c, "dry_run", false, &dry, err))
		return false;
	was = vm_to_json(r->vm);
	is = changed_vm(c, r, was, patch, err);
	if (is == NULL)
		return false;
	if (!dry && !store_change(engine_store(c->engine), &r->seen, is,
				  json_object_get(patch, "disks") != NULL, &rev, err))
		return false;
	if (!dry)
		tell(c, r->vm, is, patch);
	is_json = vm_to_json(is);
	report = change_report(was, is_json, &r->seen, vm_view(is_json, r->runtime, r->applied, rev));
	json_put_bool(report, "dry_run", dry);
	c->etag = rev;
	return call_answer(c, 200, report);
}

bool api_vm_update(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	const Json *patch = call_body(c, err);

	return r != NULL && patch != NULL && call_known(patch, changeable, err) && change(c, r, patch, err);
}

/* {"nics": [...]} as they are, to be changed. */
static Json *nics_patch(const VmRecords *r, Json **ret_list)
{
	_cleanup_json_ Json *was = vm_to_json(r->vm);
	Json *patch = json_object();

	*ret_list = json_incref(json_object_get(was, "nics"));
	json_put(patch, "nics", *ret_list);
	return patch;
}

static char *free_nic_name(const Vm *vm)
{
	char *name = g_strdup("net0");

	for (unsigned i = 1; vm_nic_find(vm, name) != NULL; i++) {
		g_free(name);
		name = g_strdup_printf("net%u", i);
	}
	return name;
}

bool api_vm_nic_add(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	const Json *body = call_body(c, err);
	_cleanup_json_ Json *patch = NULL, *nic = NULL;
	g_autofree char *name = NULL;
	Json *list;

	if (r == NULL || body == NULL)
		return false;
	name = free_nic_name(r->vm);
	nic = json_deep_copy(body);
	if (json_object_get(nic, "name") == NULL)
		json_put_str(nic, "name", name);
	patch = nics_patch(r, &list);
	json_array_append(list, nic);
	return change(c, r, patch, err);
}

bool api_vm_nic_remove(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	_cleanup_json_ Json *patch = NULL;
	const char *name = call_path(c, "nic");
	Json *list;
	guint at;

	if (r == NULL)
		return false;
	if (vm_nic_find(r->vm, name) == NULL) {
		fail(err, ERR_NOT_FOUND, "vm '%s' has no nic '%s'", r->vm->name, name);
		return err_advise(err, "`plim vm nic list %s` shows its cards.", r->vm->name);
	}
	patch = nics_patch(r, &list);
	g_ptr_array_find(r->vm->nic, vm_nic_find(r->vm, name), &at);
	json_array_remove(list, at);
	return change(c, r, patch, err);
}
