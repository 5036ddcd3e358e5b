/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/records.h"
#include "base/str.h"
#include "core/model/keys.h"

#include <string.h>

#define PREFIX_MIN 4

Json *record_get(Store *s, const char *key, int64_t *ret_rev, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(s, key, &e);

	if (item == NULL) {
		if (e != NULL)
			g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	if (ret_rev != NULL)
		*ret_rev = item->rev;
	return json_parse(item->value, strlen(item->value), err);
}

/* The same, where absence is an error. */
static Json *record_need(Store *s, const char *key, const char *kind, const char *id, int64_t *ret_rev,
			 GError **err)
{
	g_autoptr(GError) e = NULL;
	Json *j = record_get(s, key, ret_rev, &e);

	if (j == NULL && e == NULL)
		fail(&e, ERR_NOT_FOUND, "there is no %s '%s'", kind, id);
	if (j == NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return j;
}

/* "vms" -> "vm": for messages and for the noun of the command line. */
static char *noun_of(const char *collection)
{
	return g_strndup(collection, strlen(collection) - 1);
}

static char *id_of_name(Store *s, const char *collection, const char *name, GError **err)
{
	g_autofree char *key = key_name(collection, name);
	_cleanup_json_ Json *id = record_get(s, key, NULL, err);

	return g_strdup(json_string_value(id));
}

static bool begins_with(const Json *record, const char *id, const char *ref)
{
	const char *name = json_str(record, "name");

	return g_str_has_prefix(id, ref) || (name != NULL && g_str_has_prefix(name, ref));
}

/* Is it the record that tells an object's name: the only one, or a vm's configuration? */
static bool is_main_record(const char *rest)
{
	return rest[0] == '\0' || g_str_equal(rest, "config");
}

/* {id: name} of the objects whose id or name begins with ref. */
static Json *candidates(Store *s, const char *collection, const char *ref, GError **err)
{
	g_autofree char *prefix = g_strconcat(KEY_ROOT, collection, "/", NULL);
	g_autoptr(GPtrArray) items = store_list(s, prefix, NULL, err);
	Json *found;

	if (items == NULL)
		return NULL;
	found = json_object();
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *record = json_parse(item->value, strlen(item->value), NULL);
		g_autofree char *c = NULL, *id = NULL, *rest = NULL;

		if (key_split(item->key, &c, &id, &rest) && is_main_record(rest) &&
		    begins_with(record, id, ref))
			json_put_str(found, id, json_str(record, "name"));
	}
	return found;
}

static char *id_of_prefix(Store *s, const char *collection, const char *ref, GError **err)
{
	g_autofree char *noun = noun_of(collection);
	_cleanup_json_ Json *found = NULL;

	if (strlen(ref) >= PREFIX_MIN) {
		found = candidates(s, collection, ref, err);
		if (found == NULL)
			return NULL;
	}
	if (json_object_size(found) == 1)
		return g_strdup(json_object_iter_key(json_object_iter(found)));
	if (json_object_size(found) == 0) {
		fail(err, ERR_NOT_FOUND, "there is no %s '%s'", noun, ref);
		err_advise(err, "`plim %s list` shows all.", noun);
		return NULL;
	}
	fail_advice(err, ERR_CONFLICT, "Write more of it.", "%zu %ss begin with '%s'",
		    json_object_size(found), noun, ref);
	err_detail(err, "candidates", json_incref(found));
	return NULL;
}

char *record_resolve(Store *s, const char *collection, const char *ref, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *id = NULL;

	if (ref[0] == '\0') {
		fail(err, ERR_INVALID, "a name is empty");
		return NULL;
	}
	if (uuid_valid(ref))
		return g_strdup(ref);
	id = id_of_name(s, collection, ref, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	return id != NULL ? g_steal_pointer(&id) : id_of_prefix(s, collection, ref, err);
}

static void drop_volume(gpointer p)
{
	volume_free(p);
}

/* In the order of the disks; NULL for disks with a path, and for volumes that are gone. */
static bool load_volumes(Store *s, VmRecords *r, GError **err)
{
	r->seen.volume = g_ptr_array_new_with_free_func(drop_volume);
	for (guint i = 0; i < r->vm->disk->len; i++) {
		const VmDisk *d = r->vm->disk->pdata[i];
		g_autoptr(GError) e = NULL;
		Volume *v = d->volume != NULL ? volume_load(s, d->volume, NULL, &e) : NULL;

		if (e != NULL && !g_error_matches(e, ERR, ERR_NOT_FOUND)) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		g_ptr_array_add(r->seen.volume, v);
	}
	return true;
}

static bool load_all(Store *s, VmRecords *r, const char *id, GError **err)
{
	g_autofree char *config = key_vm_config(id), *runtime = key_vm_runtime(id),
			*applied = key_vm_applied(id);
	_cleanup_json_ Json *j = record_need(s, config, "vm", id, &r->seen.config_rev, err);
	g_autoptr(GError) e = NULL;

	if (j == NULL)
		return false;
	r->vm = vm_of_json(j, err);
	if (r->vm == NULL)
		return false;
	r->runtime = record_need(s, runtime, "runtime of vm", id, &r->seen.runtime_rev, err);
	if (r->runtime == NULL)
		return false;
	r->applied = record_get(s, applied, NULL, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	r->seen.vm = r->vm;
	r->seen.runtime = r->runtime;
	r->seen.applied = r->applied;
	return load_volumes(s, r, err);
}

VmRecords *vm_records_load(Store *s, const char *id, GError **err)
{
	g_autoptr(VmRecords) r = g_new0(VmRecords, 1);

	return load_all(s, r, id, err) ? g_steal_pointer(&r) : NULL;
}

VmRecords *vm_records_free(VmRecords *r)
{
	if (r == NULL)
		return NULL;
	vm_free(r->vm);
	json_unref(r->runtime);
	json_unref(r->applied);
	if (r->seen.volume != NULL)
		g_ptr_array_unref(r->seen.volume);
	g_free(r);
	return NULL;
}

Image *image_load(Store *s, const char *id, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_image(id);
	_cleanup_json_ Json *j = record_need(s, key, "image", id, ret_rev, err);

	return j != NULL ? image_of_json(j, err) : NULL;
}

Volume *volume_load(Store *s, const char *id, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_volume(id);
	_cleanup_json_ Json *j = record_need(s, key, "volume", id, ret_rev, err);

	return j != NULL ? volume_of_json(j, err) : NULL;
}

/* A volume that is an overlay of it, or the configuration of a vm in whose CD drive it is. */
static bool uses_image(const Json *record, const char *image_id)
{
	const Json *cd = json_obj(json_obj(record, "cdrom"), "image");

	return g_strcmp0(json_str(record, "image"), image_id) == 0 ||
	       g_strcmp0(json_str(cd, "id"), image_id) == 0;
}

GStrv image_users(Store *s, const char *image_id, GError **err)
{
	static const char *const where[] = { KEYS_VOLUMES, KEYS_VMS };
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();

	for (size_t k = 0; k < G_N_ELEMENTS(where); k++) {
		g_autoptr(GPtrArray) items = store_list(s, where[k], NULL, err);

		if (items == NULL)
			return NULL;
		for (guint i = 0; i < items->len; i++) {
			const StoreItem *item = items->pdata[i];
			_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);

			if (uses_image(j, image_id) && json_str(j, "name") != NULL)
				g_strv_builder_add(b, json_str(j, "name"));
		}
	}
	return g_strv_builder_end(b);
}
