/* SPDX-License-Identifier: Apache-2.0 */
#include "api/creation.h"
#include "api/image_choice.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/model/volume.h"
#include "engine/image/header_file.h"
#include "engine/records.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#define GIB (UINT64_C(1) << 30)

static void wish_free(gpointer p)
{
	VolumeWish *w = p;

	volume_free(w->volume);
	g_free((char *)w->image_path);
	g_free((char *)w->clone_of);
	g_free((char *)w->clone_backing);
	json_unref(w->backup);
	g_free((char *)w->image_key);
	g_free(w);
}

Creation *creation_new(ApiCall *c)
{
	Creation *n = g_new0(Creation, 1);

	n->call = c;
	n->store = engine_store(c->engine);
	n->req = engine_request_new(c->engine, c->user);
	n->wish = g_ptr_array_new_with_free_func(wish_free);
	return n;
}

Creation *creation_free(Creation *n)
{
	if (n != NULL) {
		engine_request_free(n->req);
		vm_free(n->vm);
		g_ptr_array_unref(n->wish);
		g_free(n);
	}
	return NULL;
}

bool name_is_free(Store *s, const char *collection, const char *name, GError **err)
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

/* "web1-root"; with a piece of its id when a volume that was kept has that name. */
static char *volume_name(Store *s, const char *vm, const char *disk, const char *id)
{
	g_autofree char *plain = g_strdup_printf("%.30s-%.24s", vm, disk);

	return name_is_free(s, "volumes", plain, NULL) ? g_steal_pointer(&plain)
						       : g_strdup_printf("%s-%.6s", plain, id);
}

VolumeWish *creation_wish(Creation *n, const char *disk, uint64_t size, const char *format)
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
	v->host_id = g_strdup(n->req->plan.host->id);
	w->volume = v;
	g_ptr_array_add(n->wish, w);
	return w;
}

void creation_wish_overlay(VolumeWish *w, const Creation *n, const Image *img, int64_t rev)
{
	w->volume->image_id = g_strdup(image_id(img));
	w->image_path = path_image(&n->req->plan.host->folders, image_id(img));
	w->image_key = key_image(image_id(img));
	w->image_rev = rev;
}

VmDisk *disk_new(const char *name, const char *format, const char *bus)
{
	VmDisk *d = vm_disk_new();

	d->name = g_strdup(name);
	d->format = g_strdup(format);
	d->bus = g_strdup(bus);
	return d;
}

void creation_add_disk(Creation *n, VmDisk *d)
{
	d->slot = vm_disk_free_slot(n->vm);
	g_ptr_array_add(n->vm->disk, d);
}

uint64_t disk_size_for(const Image *img, uint64_t asked)
{
	uint64_t least = MAX(image_uint(img, "virtual_size"), image_uint(img, "min_disk") * GIB);

	return asked > 0 ? asked : least;
}

bool check_path(const char *path, GError **err)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return fail_errno(err, errno, "can't use '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return fail_advice(err, ERR_INVALID, "Name a disk image or a block device.",
				   "'%s' is neither a file nor a block device", path);
	return true;
}

bool check_disk_file(const VmDisk *d, GError **err)
{
	if (!check_path(d->path, err))
		return false;
	return !g_str_equal(d->format, "qcow2") || disk_file_check(d->path, err);
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
	w = creation_wish(n, d->name, size, d->format);
	if (img != NULL)
		creation_wish_overlay(w, n, img, rev);
	d->volume = g_strdup(w->volume->id);
	return true;
}

bool creation_add_wished_disk(Creation *n, const Json *wish, const char *name, GError **err)
{
	static const char *const known[] = { "name",   "volume", "path",     "size", "image",
					     "format", "bus",    "readonly", NULL };
	const char *path = json_str(wish, "path"), *volume = json_str(wish, "volume"),
		   *format = json_str(wish, "format");
	g_autoptr(VmDisk) d = NULL;
	bool ok;

	if (!json_is_object(wish))
		return fail(err, ERR_INVALID, "a disk must be an object");
	if (!call_known(wish, known, err))
		return false;
	if (format == NULL)
		format = path != NULL && !g_str_has_suffix(path, ".qcow2") ? "raw" : "qcow2";
	d = disk_new(json_str(wish, "name") != NULL ? json_str(wish, "name") : name, format,
		     json_str(wish, "bus") != NULL ? json_str(wish, "bus") : "auto");
	d->readonly = json_bool(wish, "readonly", false);
	d->path = g_strdup(path);
	if (path != NULL)
		ok = check_disk_file(d, err);
	else
		ok = volume != NULL ? attach_existing(n, d, volume, err) : make_volume(n, d, wish, err);
	if (ok)
		creation_add_disk(n, g_steal_pointer(&d));
	return ok;
}
