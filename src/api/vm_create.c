/* SPDX-License-Identifier: Apache-2.0 */
/* New vms: from an image, from disks that exist, around a kernel, as a clone. */
#include "api/handlers.h"
#include "api/image_choice.h"
#include "base/str.h"
#include "base/time.h"
#include "core/guest/profile.h"
#include "core/model/keys.h"
#include "core/model/settings.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define GIB (UINT64_C(1) << 30)
#define MIB (UINT64_C(1) << 20)

typedef struct Creation {
	ApiCall *call;
	Store *store;
	EngineRequest *req;
	Vm *vm;
	GPtrArray *wish; /* VolumeWish, owned with what it points to */
} Creation;

static void wish_free(gpointer p)
{
	VolumeWish *w = p;

	volume_free(w->volume);
	g_free((char *)w->image_path);
	g_free((char *)w->clone_of);
	g_free((char *)w->clone_backing);
	g_free((char *)w->image_key);
	g_free(w);
}

static Creation *creation_new(ApiCall *c)
{
	Creation *n = g_new0(Creation, 1);

	n->call = c;
	n->store = engine_store(c->engine);
	n->req = engine_request_new(c->engine, c->user);
	n->wish = g_ptr_array_new_with_free_func(wish_free);
	return n;
}

static Creation *creation_free(Creation *n)
{
	if (n != NULL) {
		engine_request_free(n->req);
		vm_free(n->vm);
		g_ptr_array_unref(n->wish);
		g_free(n);
	}
	return NULL;
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Creation, creation_free)

static bool name_is_free(Store *s, const char *collection, const char *name, GError **err)
{
	g_autofree char *key = key_name(collection, name);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *id = record_get(s, key, NULL, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	return id == NULL;
}

static bool check_vm_name(Store *s, const char *name, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (name_is_free(s, "vms", name, &e))
		return true;
	if (e == NULL)
		fail_advice(&e, ERR_CONFLICT, "Choose another name, or delete that vm first.",
			    "there is a vm called '%s' already", name);
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* "web1-root"; with a piece of its id when a volume that was kept has that name. */
static char *volume_name(Store *s, const char *vm, const char *disk, const char *id)
{
	g_autofree char *plain = g_strdup_printf("%.30s-%.24s", vm, disk);

	return name_is_free(s, "volumes", plain, NULL) ? g_steal_pointer(&plain)
						       : g_strdup_printf("%s-%.6s", plain, id);
}

static VolumeWish *wish_new(Creation *n, const char *disk, uint64_t size, const char *format)
{
	VolumeWish *w = g_new0(VolumeWish, 1);
	Volume *v = volume_new();

	v->id = uuid_new();
	v->name = volume_name(n->store, n->vm->name, disk, v->id);
	v->created_at = g_strdup(n->req->now);
	v->size = size;
	v->format = g_strdup(format);
	v->path = path_volume(&n->req->plan.host->folders, v->id, format);
	v->vm_id = g_strdup(n->vm->id);
	v->status = g_strdup("ready");
	w->volume = v;
	g_ptr_array_add(n->wish, w);
	return w;
}

static void wish_overlay(VolumeWish *w, const Creation *n, const Image *img, int64_t rev)
{
	w->volume->image_id = g_strdup(image_id(img));
	w->image_path = path_image(&n->req->plan.host->folders, image_id(img));
	w->image_key = key_image(image_id(img));
	w->image_rev = rev;
}

static VmDisk *disk_new(const char *name, const char *format, const char *bus)
{
	VmDisk *d = vm_disk_new();

	d->name = g_strdup(name);
	d->format = g_strdup(format);
	d->bus = g_strdup(bus);
	return d;
}

static void add_disk(Creation *n, VmDisk *d)
{
	d->slot = vm_disk_free_slot(n->vm);
	g_ptr_array_add(n->vm->disk, d);
}

static uint64_t memory_of(const Vm *vm)
{
	_cleanup_json_ Json *bytes = setting_effective(vm->settings, "memory.start");

	return (uint64_t)json_integer_value(bytes);
}

/* What the image asks for is the least of what the owner left open. */
static void fit_memory(Creation *n, const Image *img)
{
	uint64_t min = image_uint(img, "min_ram") * MIB;

	if (vm_setting(n->vm, "memory.start") == NULL && min > memory_of(n->vm))
		json_put_uint(n->vm->settings, "memory.start", min);
}

static uint64_t disk_size_for(const Image *img, uint64_t asked)
{
	uint64_t least = MAX(image_uint(img, "virtual_size"), image_uint(img, "min_disk") * GIB);

	return asked > 0 ? asked : least;
}

static void inherit_properties(Creation *n, const Image *img)
{
	Json *all = image_properties(img);

	json_object_update(all, n->vm->properties);
	json_unref(n->vm->properties);
	n->vm->properties = all;
	n->vm->image_id = g_strdup(image_id(img));
	n->vm->image_name = g_strdup(image_name(img));
}

static bool add_root_disk(Creation *n, const char *ref, uint64_t asked, GError **err)
{
	int64_t rev;
	g_autoptr(Image) img = image_choose(n->store, ref, &rev, err);
	uint64_t size;

	if (img == NULL || !image_check_usable(img, err))
		return false;
	fit_memory(n, img);
	size = disk_size_for(img, asked);
	if (!volume_check_size("the root disk", size, err) ||
	    !image_check_fit(img, size, memory_of(n->vm), err))
		return false;
	inherit_properties(n, img);
	wish_overlay(wish_new(n, "root", size, "qcow2"), n, img, rev);
	add_disk(n, disk_new("root", "qcow2", "auto"));
	((VmDisk *)n->vm->disk->pdata[0])->volume = g_strdup(((VolumeWish *)n->wish->pdata[0])->volume->id);
	return true;
}

static bool check_path(const char *path, GError **err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return fail_errno(err, errno, "can't use '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail_advice(err, ERR_INVALID, "Name a disk image or a block device.",
				   "'%s' is neither a file nor a block device", path);
	return true;
}

static bool attach_existing(Creation *n, VmDisk *d, const char *ref, GError **err)
{
	g_autofree char *id = record_resolve(n->store, "volumes", ref, err);
	g_autoptr(Volume) v = NULL;
	VolumeWish *w;
	int64_t rev;

	v = id != NULL ? volume_load(n->store, id, &rev, err) : NULL;
	if (v == NULL)
		return false;
	if (v->vm_id != NULL || !g_str_equal(v->status, "ready")) {
		fail_advice(err, ERR_CONFLICT, "`plim volume list` shows which volumes are free.",
			    "volume '%s' is %s", v->name,
			    v->vm_id != NULL ? "a disk of another vm" : v->status);
		return false;
	}
	g_free(d->format);
	d->format = g_strdup(v->format);
	d->volume = g_strdup(v->id);
	w = g_new0(VolumeWish, 1);
	w->volume = g_steal_pointer(&v);
	w->attach_rev = rev;
	g_ptr_array_add(n->wish, w);
	return true;
}

static bool make_volume(Creation *n, VmDisk *d, const Json *wish, GError **err)
{
	const char *ref = json_str(wish, "image");
	g_autoptr(Image) img = NULL;
	uint64_t size = json_uint(wish, "size", 0);
	int64_t rev = 0;
	VolumeWish *w;

	if (ref != NULL) {
		img = image_choose(n->store, ref, &rev, err);
		if (img == NULL || !image_check_usable(img, err))
			return false;
		size = disk_size_for(img, size);
		if (!image_check_fit(img, size, UINT64_MAX, err))
			return false;
	}
	if (size == 0)
		return fail_advice(err, ERR_INVALID, "Give a size, an image, a volume or a path.",
				   "disk '%s' has no content", d->name);
	if (!volume_check_size("a disk", size, err))
		return false;
	w = wish_new(n, d->name, size, d->format);
	if (img != NULL)
		wish_overlay(w, n, img, rev);
	d->volume = g_strdup(w->volume->id);
	return true;
}

/* Checked by vm_of_json() in the end; here only what it is made of. */
static bool add_wished_disk(Creation *n, const Json *wish, size_t i, GError **err)
{
	static const char *const known[] = { "name",   "volume", "path",     "size", "image",
					     "format", "bus",    "readonly", NULL };
	const char *path = json_str(wish, "path"), *volume = json_str(wish, "volume"),
		   *format = json_str(wish, "format");
	g_autofree char *name = g_strdup_printf("data%zu", i);
	g_autoptr(VmDisk) d = NULL;
	bool ok;

	if (!json_is_object(wish))
		return fail(err, ERR_INVALID, "a disk must be an object");
	if (!call_known(wish, known, err))
		return false;
	if (json_str(wish, "name") == NULL && n->vm->disk->len == 0) {
		g_free(name);
		name = g_strdup("root");
	}
	if (format == NULL)
		format = path != NULL && !g_str_has_suffix(path, ".qcow2") ? "raw" : "qcow2";
	d = disk_new(json_str(wish, "name") != NULL ? json_str(wish, "name") : name, format,
		     json_str(wish, "bus") != NULL ? json_str(wish, "bus") : "auto");
	d->readonly = json_bool(wish, "readonly", false);
	d->path = g_strdup(path);
	if (path != NULL)
		ok = check_path(path, err);
	else
		ok = volume != NULL ? attach_existing(n, d, volume, err) : make_volume(n, d, wish, err);
	if (ok)
		add_disk(n, g_steal_pointer(&d));
	return ok;
}

static bool add_wished_disks(Creation *n, const Json *body, GError **err)
{
	const Json *disks = json_object_get(body, "disks"), *wish;
	size_t i;

	if (disks != NULL && !json_is_array(disks))
		return fail(err, ERR_INVALID, "'disks' must be a list");
	json_array_foreach((Json *)disks, i, wish) if (!add_wished_disk(n, wish, i, err)) return false;
	return true;
}

void vm_draw_macs(Vm *vm)
{
	for (guint i = 0; i < vm->nic->len; i++) {
		VmNic *nic = vm->nic->pdata[i];
		uint8_t bytes[3];

		if (nic->mac != NULL)
			continue;
		random_bytes(bytes, sizeof bytes);
		nic->mac = mac_of_bytes(bytes);
	}
}

static const char *const passed_on[] = { "name",     "description", "tags",      "properties",
					 "settings", "nics",        "cloud_init" };

/* The vm without disks, as vm_of_json() checks it. */
static Vm *vm_of_body(const Creation *n, const Json *body, GError **err)
{
	g_autofree char *id = uuid_new();
	_cleanup_json_ Json *j = json_object();
	Vm *vm;

	for (size_t i = 0; i < G_N_ELEMENTS(passed_on); i++)
		if (json_object_get(body, passed_on[i]) != NULL)
			json_object_set(j, passed_on[i], json_object_get(body, passed_on[i]));
	json_put_str(j, "id", id);
	json_put_str(j, "created_at", n->req->now);
	if (json_object_get(j, "nics") == NULL)
		json_put(j, "nics", json_pack("[{s:s}]", "network", "user"));
	vm = vm_of_json(j, err);
	if (vm != NULL)
		vm_draw_macs(vm);
	return vm;
}

bool vm_check_files(const Vm *vm, GError **err)
{
	static const char *const files[] = { "boot.kernel", "boot.initrd", "platform.cdrom" };

	for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
		const char *path = json_string_value(vm_setting(vm, files[i]));

		if (path != NULL && !check_path(path, err))
			return err_advise(err, "Correct the setting %s.", files[i]);
	}
	return true;
}

/* What a start would refuse is better refused now. */
bool vm_check_startable(const Vm *vm, const HostFacts *host, const char *machine, GError **err)
{
	_cleanup_json_ Json *j = vm_to_json(vm);
	g_autoptr(Vm) checked = vm_of_json(j, err);
	g_autoptr(Profile) p = checked != NULL ? profile_of(checked, host, machine, err) : NULL;

	return p != NULL && vm_check_files(vm, err);
}

bool api_vm_create(ApiCall *c, GError **err)
{
	static const char *const known[] = { "name", "description", "tags",     "image",
					     "size", "properties",  "settings", "disks",
					     "nics", "cloud_init",  NULL };
	const Json *body = call_body(c, err);
	g_autoptr(Creation) n = creation_new(c);
	const char *image = json_str(body, "image");

	if (body == NULL || !call_known(body, known, err))
		return false;
	n->vm = vm_of_body(n, body, err);
	if (n->vm == NULL || !check_vm_name(n->store, n->vm->name, err))
		return false;
	if (image != NULL && !add_root_disk(n, image, json_uint(body, "size", 0), err))
		return false;
	if (!add_wished_disks(n, body, err) || !vm_check_startable(n->vm, n->req->plan.host, NULL, err))
		return false;
	return call_submit(c, plan_vm_create(&n->req->plan, n->vm, n->wish), err);
}

/* Copies of the volumes; disks with a path can't be in two vms. */
static bool clone_disks(Creation *n, const VmSeen *src, GError **err)
{
	for (guint i = 0; i < n->vm->disk->len; i++) {
		VmDisk *d = n->vm->disk->pdata[i];
		const Volume *v = src->volume->pdata[i];
		VolumeWish *w;

		if (d->path != NULL && !d->readonly)
			return fail_advice(
			    err, ERR_UNSUPPORTED, "Import the file as an image and make both vms from it.",
			    "disk '%s' is the file '%s', which can't be in two vms", d->name, d->path);
		if (d->path != NULL)
			continue;
		if (v == NULL)
			return fail(err, ERR_NOT_FOUND, "the volume of disk '%s' is gone", d->name);
		w = wish_new(n, d->name, v->size, v->format);
		w->clone_of = g_strdup(v->path);
		if (v->image_id != NULL)
			w->clone_backing = path_image(&n->req->plan.host->folders, v->image_id);
		g_free(d->volume);
		d->volume = g_strdup(w->volume->id);
	}
	return true;
}

static void make_different(Vm *vm, const char *name, const char *now)
{
	g_free(vm->id);
	g_free(vm->name);
	g_free(vm->created_at);
	vm->id = uuid_new();
	vm->name = g_strdup(name);
	vm->created_at = g_strdup(now);
	for (guint i = 0; i < vm->nic->len; i++)
		g_clear_pointer(&((VmNic *)vm->nic->pdata[i])->mac, g_free);
	vm_draw_macs(vm);
}

bool api_vm_clone(ApiCall *c, GError **err)
{
	static const char *const known[] = { "name", NULL };
	const Json *body = call_body(c, err);
	const char *name = json_str(body, "name");
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(Creation) n = creation_new(c);

	if (body == NULL || r == NULL || !call_known(body, known, err))
		return false;
	if (name == NULL)
		return fail(err, ERR_INVALID, "the clone needs a name");
	if (!name_check("a vm", name, err) || !check_vm_name(n->store, name, err))
		return false;
	n->vm = vm_copy(r->vm);
	make_different(n->vm, name, n->req->now);
	if (!clone_disks(n, &r->seen, err))
		return false;
	return call_submit(c, plan_vm_clone(&n->req->plan, &r->seen, n->vm, n->wish, err), err);
}
