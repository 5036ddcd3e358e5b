/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/vm.h"
#include "base/str.h"
#include "core/guest/cloud_init.h"
#include "core/memory/range.h"
#include "core/model/settings.h"

#include <string.h>

static void drop_disk(gpointer p)
{
	vm_disk_free(p);
}

static void drop_nic(gpointer p)
{
	vm_nic_free(p);
}

Vm *vm_new(void)
{
	Vm *vm = g_new0(Vm, 1);

	vm->tags = g_new0(char *, 1);
	vm->properties = json_object();
	vm->settings = json_object();
	vm->disk = g_ptr_array_new_with_free_func(drop_disk);
	vm->nic = g_ptr_array_new_with_free_func(drop_nic);
	return vm;
}

Vm *vm_free(Vm *vm)
{
	if (vm == NULL)
		return NULL;
	g_free(vm->id);
	g_free(vm->name);
	g_free(vm->description);
	g_free(vm->created_at);
	g_free(vm->image_id);
	g_free(vm->image_name);
	g_strfreev(vm->tags);
	json_unref(vm->properties);
	json_unref(vm->settings);
	json_unref(vm->cloud_init);
	vm_cd_free(vm->cd);
	g_ptr_array_unref(vm->disk);
	g_ptr_array_unref(vm->nic);
	g_free(vm);
	return NULL;
}

VmDisk *vm_disk_new(void)
{
	VmDisk *d = g_new0(VmDisk, 1);

	d->slot = VM_DISKS_MAX;
	return d;
}

VmDisk *vm_disk_free(VmDisk *d)
{
	if (d != NULL) {
		g_free(d->name);
		g_free(d->volume);
		g_free(d->path);
		g_free(d->format);
		g_free(d->bus);
		g_free(d);
	}
	return NULL;
}

VmNic *vm_nic_new(void)
{
	VmNic *n = g_new0(VmNic, 1);

	n->slot = VM_NICS_MAX;
	return n;
}

VmNic *vm_nic_free(VmNic *n)
{
	if (n != NULL) {
		g_free(n->name);
		g_free(n->network);
		g_free(n->mac);
		g_free(n->model);
		g_free(n);
	}
	return NULL;
}

VmCd *vm_cd_copy(const VmCd *cd)
{
	VmCd *copy = NULL;

	if (cd != NULL) {
		copy = g_new(VmCd, 1);
		*copy = (VmCd){ g_strdup(cd->image_id), g_strdup(cd->image_name), g_strdup(cd->path) };
	}
	return copy;
}

VmCd *vm_cd_free(VmCd *cd)
{
	if (cd != NULL) {
		g_free(cd->image_id);
		g_free(cd->image_name);
		g_free(cd->path);
		g_free(cd);
	}
	return NULL;
}

Vm *vm_copy(const Vm *vm)
{
	_cleanup_json_ Json *j = vm_to_json(vm);
	Vm *copy = vm_of_json(j, NULL);

	g_assert(copy != NULL);
	return copy;
}

VmDisk *vm_disk_find(const Vm *vm, const char *name)
{
	for (guint i = 0; i < vm->disk->len; i++) {
		VmDisk *d = vm->disk->pdata[i];

		if (g_str_equal(d->name, name))
			return d;
	}
	return NULL;
}

VmNic *vm_nic_find(const Vm *vm, const char *name)
{
	for (guint i = 0; i < vm->nic->len; i++) {
		VmNic *n = vm->nic->pdata[i];

		if (g_str_equal(n->name, name))
			return n;
	}
	return NULL;
}

bool vm_nic_is_there(const VmNic *n)
{
	return !g_str_equal(n->network, "none");
}

unsigned vm_disk_free_slot(const Vm *vm)
{
	uint64_t taken = 0;
	unsigned s = 0;

	for (guint i = 0; i < vm->disk->len; i++)
		taken |= UINT64_C(1) << ((VmDisk *)vm->disk->pdata[i])->slot;
	while (s < VM_DISKS_MAX && (taken >> s & 1) != 0)
		s++;
	return s;
}

unsigned vm_nic_free_slot(const Vm *vm)
{
	uint64_t taken = 0;
	unsigned s = 0;

	for (guint i = 0; i < vm->nic->len; i++)
		taken |= UINT64_C(1) << ((VmNic *)vm->nic->pdata[i])->slot;
	while (s < VM_NICS_MAX && (taken >> s & 1) != 0)
		s++;
	return s;
}

const Json *vm_setting(const Vm *vm, const char *key)
{
	return json_object_get(vm->settings, key);
}

const char *vm_property(const Vm *vm, const char *key)
{
	const Json *v = json_object_get(vm->properties, key);

	if (json_is_boolean(v))
		return json_is_true(v) ? "true" : "false";
	return json_string_value(v);
}

char *mac_of_bytes(const uint8_t b[3])
{
	return g_strdup_printf("52:54:00:%02x:%02x:%02x", b[0], b[1], b[2]);
}

bool mac_valid(const char *text)
{
	if (strlen(text) != 17)
		return false;
	if (g_str_equal(text, "00:00:00:00:00:00")) /* to QEMU: choose one */
		return false;
	for (size_t i = 0; i < 17; i++)
		if (i % 3 == 2 ? text[i] != ':' : !g_ascii_isxdigit(text[i]) || g_ascii_isupper(text[i]))
			return false;
	/* The lowest bit of the first byte marks a group address. */
	return (g_ascii_xdigit_value(text[1]) & 1) == 0;
}

/* Members that an object may have; a table so that a typing error is refused, not ignored. */
static bool only_known(const Json *obj, const char *what, const char *const *known, GError **err)
{
	const char *key;
	Json *v;

	if (!json_is_object(obj))
		return fail(err, ERR_INVALID, "%s must be an object", what);
	json_object_foreach((Json *)obj, key, v) if (!g_strv_contains(known, key))
	{
		g_autofree char *list = g_strjoinv(", ", (char **)known);

		fail(err, ERR_INVALID, "%s has no member '%s'", what, key);
		return err_advise(err, "Known members are: %s.", list);
	}
	return true;
}

static bool has_control(const char *text)
{
	while (*text != '\0' && (!g_ascii_iscntrl(*text) || *text == '\n' || *text == '\t'))
		text++;
	return *text != '\0';
}

/* Copies a text member; absent and null leave *ret as it is. */
static bool take_text(const Json *obj, const char *what, const char *key, size_t max, char **ret,
		      GError **err)
{
	const Json *v = json_object_get(obj, key);

	if (v == NULL || json_is_null(v))
		return true;
	if (!json_is_string(v) || json_string_length(v) > max ||
	    strlen(json_string_value(v)) != json_string_length(v) || has_control(json_string_value(v)))
		return fail_advice(err, ERR_INVALID, "Correct it, or leave it out.",
				   "%s: '%s' must be text of at most %zu bytes without control characters",
				   what, key, max);
	g_free(*ret);
	*ret = g_strdup(json_string_value(v));
	return true;
}

static bool take_slot(const Json *obj, const char *what, unsigned max, unsigned *ret, GError **err)
{
	const Json *v = json_object_get(obj, "slot");

	if (v == NULL || json_is_null(v))
		return true;
	if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= max)
		return fail(err, ERR_INVALID, "%s: 'slot' must be a number from 0 to %u", what, max - 1);
	*ret = (unsigned)json_integer_value(v);
	return true;
}

static bool one_of(const char *what, const char *value, const char *const *allowed, GError **err)
{
	g_autofree char *list = NULL;

	if (g_strv_contains(allowed, value))
		return true;
	list = g_strjoinv(", ", (char **)allowed);
	fail(err, ERR_INVALID, "%s can't be '%s'", what, value);
	return err_advise(err, "Write one of: %s.", list);
}

static bool disk_check(const VmDisk *d, GError **err)
{
	static const char *const formats[] = { "qcow2", "raw", NULL };
	static const char *const buses[] = { "auto", "virtio-blk", "virtio-scsi", "sata", NULL };

	if (!name_check("a disk", d->name, err))
		return false;
	if (strlen(d->name) > VM_DISK_NAME_MAX)
		return fail_advice(err, ERR_INVALID, "Choose a shorter name: guests see it as serial number.",
				   "the disk name '%s' has more than %d characters", d->name,
				   VM_DISK_NAME_MAX);
	if (!one_of("the format of a disk", d->format, formats, err) ||
	    !one_of("the bus of a disk", d->bus, buses, err))
		return false;
	if ((d->volume != NULL) == (d->path != NULL))
		return fail_advice(err, ERR_INVALID, "Give either a volume or a path.",
				   "disk '%s' needs one source", d->name);
	if (d->volume != NULL && !uuid_valid(d->volume))
		return fail(err, ERR_INVALID, "disk '%s': '%s' is no volume id", d->name, d->volume);
	if (d->path != NULL && (d->path[0] != '/' || strpbrk(d->path, "\n\t") != NULL))
		return fail_advice(err, ERR_INVALID, "Write an absolute path on the host.",
				   "disk '%s': '%s' is no absolute path", d->name, d->path);
	return true;
}

static VmDisk *disk_of_json(const Json *j, GError **err)
{
	static const char *const known[] = { "name", "volume",   "path", "format",
					     "bus",  "readonly", "slot", NULL };
	g_autoptr(VmDisk) d = vm_disk_new();
	const Json *ro = json_object_get(j, "readonly");

	d->name = g_strdup("root");
	d->format = g_strdup("qcow2");
	d->bus = g_strdup("auto");
	if (!only_known(j, "a disk", known, err) || !take_text(j, "a disk", "name", 63, &d->name, err) ||
	    !take_text(j, "a disk", "volume", 36, &d->volume, err) ||
	    !take_text(j, "a disk", "path", 4095, &d->path, err) ||
	    !take_text(j, "a disk", "format", 16, &d->format, err) ||
	    !take_text(j, "a disk", "bus", 16, &d->bus, err) ||
	    !take_slot(j, "a disk", VM_DISKS_MAX, &d->slot, err))
		return NULL;
	if (ro != NULL && !json_is_boolean(ro) && !json_is_null(ro)) {
		fail(err, ERR_INVALID, "a disk: 'readonly' must be true or false");
		return NULL;
	}
	d->readonly = json_is_true(ro);
	return disk_check(d, err) ? g_steal_pointer(&d) : NULL;
}

static bool network_check(const char *network, GError **err)
{
	bool ok = g_str_equal(network, "user") || g_str_equal(network, "none");

	/* IFNAMSIZ is 16 with the NUL. */
	if (!ok && g_str_has_prefix(network, "bridge:"))
		ok = strlen(network) > 7 && strlen(network) <= 7 + 15 &&
		     name_check("a bridge", network + 7, NULL);
	return ok || fail_advice(err, ERR_INVALID, "Write user, none or bridge:NAME.",
				 "there is no network '%s'", network);
}

static VmNic *nic_of_json(const Json *j, GError **err)
{
	static const char *const known[] = { "name", "network", "mac", "model", "slot", NULL };
	static const char *const models[] = { "auto", "virtio-net", "e1000e", NULL };
	g_autoptr(VmNic) n = vm_nic_new();

	n->name = g_strdup("net0");
	n->network = g_strdup("user");
	n->model = g_strdup("auto");
	if (!only_known(j, "a nic", known, err) || !take_text(j, "a nic", "name", 63, &n->name, err) ||
	    !take_text(j, "a nic", "network", 63, &n->network, err) ||
	    !take_text(j, "a nic", "mac", 17, &n->mac, err) ||
	    !take_text(j, "a nic", "model", 16, &n->model, err) ||
	    !take_slot(j, "a nic", VM_NICS_MAX, &n->slot, err) || !name_check("a nic", n->name, err) ||
	    !network_check(n->network, err) || !one_of("the model of a nic", n->model, models, err))
		return NULL;
	if (n->mac != NULL && !mac_valid(n->mac)) {
		fail_advice(err, ERR_INVALID,
			    "Write six pairs of lower-case hex digits, like 52:54:00:12:34:56.",
			    "'%s' is no MAC address for a guest", n->mac);
		return NULL;
	}
	return g_steal_pointer(&n);
}

static bool add_disk(Vm *vm, const Json *j, GError **err)
{
	g_autoptr(VmDisk) d = disk_of_json(j, err);

	if (d == NULL)
		return false;
	if (vm->disk->len == VM_DISKS_MAX)
		return fail(err, ERR_INVALID, "a vm has at most %d disks", VM_DISKS_MAX);
	if (vm_disk_find(vm, d->name) != NULL)
		return fail(err, ERR_INVALID, "two disks are called '%s'", d->name);
	for (guint i = 0; i < vm->disk->len; i++)
		if (d->slot != VM_DISKS_MAX && ((VmDisk *)vm->disk->pdata[i])->slot == d->slot)
			return fail(err, ERR_INVALID, "two disks have slot %u", d->slot);
	g_ptr_array_add(vm->disk, g_steal_pointer(&d));
	return true;
}

static bool add_nic(Vm *vm, const Json *j, GError **err)
{
	g_autoptr(VmNic) n = nic_of_json(j, err);

	if (n == NULL)
		return false;
	if (vm->nic->len == VM_NICS_MAX)
		return fail(err, ERR_INVALID, "a vm has at most %d nics", VM_NICS_MAX);
	if (vm_nic_find(vm, n->name) != NULL)
		return fail(err, ERR_INVALID, "two nics are called '%s'", n->name);
	for (guint i = 0; i < vm->nic->len; i++) {
		const VmNic *other = vm->nic->pdata[i];

		if (n->slot != VM_NICS_MAX && other->slot == n->slot)
			return fail(err, ERR_INVALID, "two nics have slot %u", n->slot);
		if (n->mac != NULL && g_strcmp0(n->mac, other->mac) == 0)
			return fail(err, ERR_INVALID, "two nics have the MAC address %s", n->mac);
	}
	g_ptr_array_add(vm->nic, g_steal_pointer(&n));
	return true;
}

/* After all devices are known, so that one which names its slot keeps it whatever the order of the list. */
static void give_slots(Vm *vm)
{
	for (guint i = 0; i < vm->disk->len; i++) {
		VmDisk *d = vm->disk->pdata[i];

		if (d->slot == VM_DISKS_MAX)
			d->slot = vm_disk_free_slot(vm);
	}
	for (guint i = 0; i < vm->nic->len; i++) {
		VmNic *n = vm->nic->pdata[i];

		if (n->slot == VM_NICS_MAX)
			n->slot = vm_nic_free_slot(vm);
	}
}

static bool take_list(Vm *vm, const Json *j, const char *key, bool (*add)(Vm *, const Json *, GError **),
		      GError **err)
{
	const Json *list = json_object_get(j, key), *item;
	size_t i;

	if (list == NULL || json_is_null(list))
		return true;
	if (!json_is_array(list))
		return fail(err, ERR_INVALID, "'%s' must be a list", key);
	json_array_foreach(list, i, item) if (!add(vm, item, err)) return false;
	return true;
}

/* Member names with '@' are operation_fact()'s. Depth is bounded by the parser. */
static bool keys_ok(const char *what, const Json *j, GError **err)
{
	const char *key;
	Json *v;
	size_t i;

	json_object_foreach((Json *)j, key, v)
	{
		if (key[0] == '@')
			return fail(err, ERR_INVALID, "%s: the name '%s' is reserved", what, key);
		if (!keys_ok(what, v, err))
			return false;
	}
	json_array_foreach(j, i, v) if (!keys_ok(what, v, err)) return false;
	return true;
}

static bool take_properties(Vm *vm, const Json *p, GError **err)
{
	const char *key;
	Json *v;

	if (p == NULL || json_is_null(p))
		return true;
	if (!json_is_object(p))
		return fail(err, ERR_INVALID, "'properties' must be an object");
	if (!keys_ok("'properties'", p, err))
		return false;
	json_object_foreach((Json *)p, key, v)
	{
		if (json_is_object(v) || json_is_array(v))
			return fail(err, ERR_INVALID, "property '%s' must be text, a number or true or false",
				    key);
		if (!json_is_null(v))
			json_put(vm->properties, key, json_deep_copy(v));
	}
	return true;
}

static bool take_tags(Vm *vm, const Json *t, GError **err)
{
	Json *v;
	size_t i;

	if (t == NULL || json_is_null(t))
		return true;
	if (!json_is_array(t) || json_array_size(t) > VM_TAGS_MAX)
		return fail(err, ERR_INVALID, "'tags' must be a list of at most %d texts", VM_TAGS_MAX);
	json_array_foreach(t, i, v) if (!json_is_string(v) || json_string_length(v) > 255) return fail(
	    err, ERR_INVALID, "a tag must be text of at most 255 bytes");
	g_strfreev(vm->tags);
	vm->tags = json_strv(t);
	return true;
}

static bool take_objects(Vm *vm, const Json *j, GError **err)
{
	const Json *s = json_object_get(j, "settings"), *c = json_object_get(j, "cloud_init");
	struct memory_range range;

	if (!take_properties(vm, json_object_get(j, "properties"), err) ||
	    !take_tags(vm, json_object_get(j, "tags"), err))
		return false;
	if (s != NULL && !json_is_null(s) && !settings_merge(vm->settings, s, err))
		return false;
	if (!memory_range_of(vm->settings, &range, err))
		return false;
	if (c == NULL || json_is_null(c))
		return true;
	if (!keys_ok("'cloud_init'", c, err) || !cloud_init_check(c, err))
		return false;
	vm->cloud_init = json_deep_copy(c);
	return true;
}

static bool take_image(const Json *j, char **ret_id, char **ret_name, GError **err)
{
	static const char *const known[] = { "id", "name", NULL };
	const Json *i = json_object_get(j, "image");

	if (i == NULL || json_is_null(i))
		return true;
	return only_known(i, "'image'", known, err) && take_text(i, "'image'", "id", 36, ret_id, err) &&
	       take_text(i, "'image'", "name", 255, ret_name, err);
}

static bool cd_check(const VmCd *cd, GError **err)
{
	if (cd->image_id != NULL && cd->path != NULL)
		return fail_advice(err, ERR_INVALID, "Give either an image or a path.",
				   "a CD drive holds one medium");
	if (cd->image_id != NULL && !uuid_valid(cd->image_id))
		return fail(err, ERR_INVALID, "'cdrom': '%s' is no image id", cd->image_id);
	if (cd->path != NULL && (cd->path[0] != '/' || strpbrk(cd->path, "\n\t") != NULL))
		return fail_advice(err, ERR_INVALID, "Write an absolute path on the host.",
				   "'cdrom': '%s' is no absolute path", cd->path);
	/* It goes into a recorded command line, where that stands for a descriptor. */
	if (cd->path != NULL && strstr(cd->path, "@fd:") != NULL)
		return fail_advice(err, ERR_INVALID, "Rename the file, without '@fd:'.",
				   "a CD can't be called '%s'", cd->path);
	return true;
}

static bool take_cd(Vm *vm, const Json *j, GError **err)
{
	static const char *const known[] = { "image", "path", NULL };
	const Json *c = json_object_get(j, "cdrom");
	g_autoptr(VmCd) cd = NULL;

	if (c == NULL || json_is_null(c))
		return true;
	cd = g_new0(VmCd, 1);
	if (!only_known(c, "'cdrom'", known, err) || !take_image(c, &cd->image_id, &cd->image_name, err) ||
	    !take_text(c, "'cdrom'", "path", 4095, &cd->path, err) || !cd_check(cd, err))
		return false;
	vm->cd = g_steal_pointer(&cd);
	return true;
}

Vm *vm_of_json(const Json *j, GError **err)
{
	static const char *const known[] = { "id",    "name",       "description", "created_at", "tags",
					     "image", "cdrom",      "properties",  "settings",   "disks",
					     "nics",  "cloud_init", NULL };
	g_autoptr(Vm) vm = vm_new();

	if (!only_known(j, "a vm", known, err) || !take_text(j, "a vm", "id", 36, &vm->id, err) ||
	    !take_text(j, "a vm", "name", 255, &vm->name, err) ||
	    !take_text(j, "a vm", "description", 4096, &vm->description, err) ||
	    !take_text(j, "a vm", "created_at", 32, &vm->created_at, err) ||
	    !take_image(j, &vm->image_id, &vm->image_name, err) || !take_cd(vm, j, err) ||
	    !take_objects(vm, j, err) || !take_list(vm, j, "disks", add_disk, err) ||
	    !take_list(vm, j, "nics", add_nic, err))
		return NULL;
	if (vm->name == NULL) {
		fail_advice(err, ERR_INVALID, "Add a member 'name'.", "a vm needs a name");
		return NULL;
	}
	if (!name_check("a vm", vm->name, err))
		return NULL;
	if (vm->id != NULL && !uuid_valid(vm->id)) {
		fail(err, ERR_INVALID, "'%s' is no vm id", vm->id);
		return NULL;
	}
	give_slots(vm);
	return g_steal_pointer(&vm);
}

static Json *disk_to_json(const VmDisk *d)
{
	Json *j = json_object();

	json_put_str(j, "name", d->name);
	json_put_str(j, "volume", d->volume);
	json_put_str(j, "path", d->path);
	json_put_str(j, "format", d->format);
	json_put_str(j, "bus", d->bus);
	json_put_bool(j, "readonly", d->readonly);
	json_put_int(j, "slot", d->slot);
	return j;
}

static Json *nic_to_json(const VmNic *n)
{
	Json *j = json_object();

	json_put_str(j, "name", n->name);
	json_put_str(j, "network", n->network);
	json_put_str(j, "mac", n->mac);
	json_put_str(j, "model", n->model);
	json_put_int(j, "slot", n->slot);
	return j;
}

static Json *image_to_json(const char *id, const char *name)
{
	Json *j;

	if (id == NULL)
		return json_null();
	j = json_object();
	json_put_str(j, "id", id);
	json_put_str(j, "name", name);
	return j;
}

Json *vm_cd_to_json(const VmCd *cd)
{
	Json *j;

	if (cd == NULL)
		return json_null();
	j = json_object();
	json_put(j, "image", image_to_json(cd->image_id, cd->image_name));
	json_put_str(j, "path", cd->path);
	return j;
}

Json *vm_to_json(const Vm *vm)
{
	Json *j = json_object(), *disks = json_array(), *nics = json_array();

	for (guint i = 0; i < vm->disk->len; i++)
		json_array_append_new(disks, disk_to_json(vm->disk->pdata[i]));
	for (guint i = 0; i < vm->nic->len; i++)
		json_array_append_new(nics, nic_to_json(vm->nic->pdata[i]));
	json_put_str(j, "id", vm->id);
	json_put_str(j, "name", vm->name);
	json_put_str(j, "description", vm->description);
	json_put_str(j, "created_at", vm->created_at);
	json_put(j, "tags", json_of_strv((const char *const *)vm->tags));
	json_put(j, "image", image_to_json(vm->image_id, vm->image_name));
	json_put(j, "properties", json_deep_copy(vm->properties));
	json_put(j, "settings", json_deep_copy(vm->settings));
	json_put(j, "disks", disks);
	json_put(j, "nics", nics);
	json_put(j, "cdrom", vm_cd_to_json(vm->cd));
	json_put(j, "cloud_init", vm->cloud_init != NULL ? json_deep_copy(vm->cloud_init) : json_null());
	return j;
}
