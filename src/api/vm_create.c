/* SPDX-License-Identifier: Apache-2.0 */
/* New vms: from an image, from disks that exist, around a kernel, as a clone. */
#include "api/creation.h"
#include "api/handlers.h"
#include "api/image_choice.h"
#include "base/str.h"
#include "base/time.h"
#include "core/guest/profile.h"
#include "core/model/keys.h"
#include "core/model/settings.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)

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
	creation_wish_overlay(creation_wish(n, "root", size, "qcow2"), n, img, rev);
	creation_add_disk(n, disk_new("root", "qcow2", "auto"));
	((VmDisk *)n->vm->disk->pdata[0])->volume = g_strdup(((VolumeWish *)n->wish->pdata[0])->volume->id);
	return true;
}

static bool add_wished_disks(Creation *n, const Json *body, GError **err)
{
	const Json *disks = json_object_get(body, "disks"), *wish;
	size_t i;

	if (disks != NULL && !json_is_array(disks))
		return fail(err, ERR_INVALID, "'disks' must be a list");
	json_array_foreach((Json *)disks, i, wish)
	{
		g_autofree char *name =
		    n->vm->disk->len > 0 ? g_strdup_printf("data%zu", i) : g_strdup("root");

		if (!creation_add_wished_disk(n, wish, name, err))
			return false;
	}
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
bool vm_check_startable(ApiCall *c, const Vm *vm, const char *machine, GError **err)
{
	_cleanup_json_ Json *j = vm_to_json(vm);
	g_autoptr(Vm) checked = vm_of_json(j, err);
	g_autofree char *wish = checked != NULL ? pin_wish(checked) : NULL;
	g_autoptr(CpuOffer) cpu = NULL;
	g_autoptr(Profile) p = NULL;

	/* Only what is asked of the CPU must wait for what the CPU is. */
	if (wish != NULL)
		engine_await_cpu(c->engine, checked);
	cpu = host_cpu_offer(engine_cpu(c->engine));
	if (checked != NULL)
		p = profile_of(checked, engine_facts(c->engine), cpu, machine, err);
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
	if (!add_wished_disks(n, body, err) || !vm_check_startable(c, n->vm, NULL, err))
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
		w = creation_wish(n, d->name, v->size, v->format);
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
