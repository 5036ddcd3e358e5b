/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bundle.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/evidence/dump.h"
#include "core/evidence/keep.h"
#include "core/model/paths.h"
#include "core/model/settings.h"
#include "engine/bundle_parts.h"
#include "engine/dump.h"
#include "engine/engine-impl.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define MANIFEST "manifest.json"
#define MANIFEST_MAX (UINT64_C(1) << 20)

static const Folders *folders_of(Engine *e)
{
	return &engine_facts(e)->folders;
}

/* ---- the manifest ---- */

static Json *manifest_new(Engine *e, const struct bundle_wish *w, const Vm *vm)
{
	g_autofree char *stamp = time_stamp(), *path = path_evidence_bundle(folders_of(e), w->id);
	Json *j = json_object(), *of = json_object();

	json_put_str(of, "id", vm->id);
	json_put_str(of, "name", vm->name);
	json_put_str(j, "id", w->id);
	json_put_str(j, "path", path);
	json_put_str(j, "created_at", stamp);
	json_put_str(j, "host", engine_facts(e)->name);
	json_put(j, "vm", of);
	json_put_str(j, "cause", w->cause);
	json_put_str(j, "reason", w->reason);
	json_put_str(j, "user", w->user);
	json_put(j, "details", w->details != NULL ? json_deep_copy(w->details) : json_null());
	json_put_uint(j, "bytes", 0);
	json_put(j, "files", json_array());
	json_put(j, "missing", json_array());
	json_put(j, "dump", json_null());
	return j;
}

static void list_missing(Json *manifest, const char *name, const GError *e)
{
	Json *j = json_object();

	json_put_str(j, "name", name);
	json_put_str(j, "reason", e->message);
	json_array_append_new(json_arr(manifest, "missing"), j);
}

static void list_file(Json *manifest, const char *name, uint64_t size)
{
	Json *j = json_object();

	json_put_str(j, "name", name);
	json_put_uint(j, "size", size);
	json_array_append_new(json_arr(manifest, "files"), j);
	json_put_uint(manifest, "bytes", json_uint(manifest, "bytes", 0) + size);
}

/* ---- taking ---- */

static void take_part(Scene *s, const EvidencePart *part, const char *dir, Json *manifest)
{
	g_autofree char *path = g_build_filename(dir, part->file, NULL);
	g_autoptr(GError) e = NULL;
	g_autoptr(GBytes) bytes = part->take(s, &e);
	gsize len = 0;
	const void *data = bytes != NULL ? g_bytes_get_data(bytes, &len) : NULL;

	if (bytes != NULL && file_write_atomic(path, data != NULL ? data : "", len, 0600, &e))
		list_file(manifest, part->file, len);
	else
		list_missing(manifest, part->file, e);
}

static void put_dump(Json *manifest, const struct dump_form *form, const struct dump_told *told)
{
	Json *j = json_object();

	json_put_str(j, "format", form->name);
	json_put_str(j, "file", form->file);
	json_put_uint(j, "bytes", told->bytes);
	json_put_uint(j, "took", told->took);
	json_put_uint(j, "still", told->still);
	json_put(manifest, "dump", j);
}

static bool try_dump(const Scene *s, const struct bundle_wish *w, const char *format, const char *dir,
		     Json *manifest, GError **err)
{
	const struct dump_form *form = dump_form_find(format);
	g_autofree char *path = form != NULL ? g_build_filename(dir, form->file, NULL) : NULL;
	g_autofree char *all = path_evidence(folders_of(s->engine));
	struct dump_told told;

	if (form == NULL)
		return fail(err, ERR_INVALID, "there is no format '%s' of a dump", format);
	if (s->vmm == NULL)
		return fail(err, ERR_GONE, "QEMU has ended");
	if (!dump_write(s->engine, s->vmm, all, path, format, !w->must_dump, w->ctx, &told, err))
		return false;
	list_file(manifest, form->file, told.bytes);
	put_dump(manifest, form, &told);
	return true;
}

/* The first format that works; a failure is an error of all only where a dump must be. */
static bool take_dump(const Scene *s, const struct bundle_wish *w, const char *dir, Json *manifest,
		      GError **err)
{
	for (const char *const *f = w->formats; f != NULL && *f != NULL; f++) {
		g_autoptr(GError) e = NULL;
		bool last = f[1] == NULL;

		if (try_dump(s, w, *f, dir, manifest, &e))
			return true;
		if (g_error_matches(e, ERR, ERR_CANCELLED) || (w->must_dump && last)) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		list_missing(manifest, dump_form_find(*f) != NULL ? dump_form_find(*f)->file : "memory", e);
	}
	return true;
}

static bool write_manifest(const char *dir, const Json *manifest, GError **err)
{
	g_autofree char *path = g_build_filename(dir, MANIFEST, NULL), *text = json_print_pretty(manifest);

	return file_write_atomic(path, text, strlen(text), 0600, err);
}

static bool fill(Scene *s, const struct bundle_wish *w, const char *dir, Json *manifest, GError **err)
{
	if (!dir_make(dir, 0700, err))
		return false;
	for (size_t i = 0; i < n_evidence_parts; i++)
		take_part(s, &evidence_parts[i], dir, manifest);
	return take_dump(s, w, dir, manifest, err) && write_manifest(dir, manifest, err);
}

/* The last moment at which it can be cancelled. */
static bool is_wanted(const struct bundle_wish *w, GError **err)
{
	return w->ctx == NULL || step_forbid_cancel(w->ctx) ||
	       fail(err, ERR_CANCELLED, "the evidence was not wanted any more");
}

/* From now on it is one. */
static bool publish(Engine *e, const char *id, GError **err)
{
	g_autofree char *part = path_evidence_part(folders_of(e), id),
			*path = path_evidence_bundle(folders_of(e), id), *all = path_evidence(folders_of(e));

	if (rename(part, path) < 0)
		return fail_errno(err, errno, "can't rename '%s'", part);
	return dir_sync(all, err);
}

static void tell(Engine *e, const Json *manifest)
{
	const Json *vm = json_obj(manifest, "vm"), *dump = json_obj(manifest, "dump");
	const char *name = json_str(vm, "name"), *id = json_str(manifest, "id");
	Json *details = json_object();

	json_put_str(details, "evidence", id);
	json_put_str(details, "cause", json_str(manifest, "cause"));
	json_put_str(details, "host", json_str(manifest, "host"));
	events_emit(engine_events(e), EVENT_VM_EVIDENCE, "vm", json_str(vm, "id"), name, details,
		    "%s: %s; evidence is kept%s: `plim evidence show %s`", name, json_str(manifest, "reason"),
		    dump != NULL ? ", with its memory" : "", id);
}

static void forget_old(Engine *e);

Json *bundle_take(Engine *e, const struct bundle_wish *w, GError **err)
{
	g_autoptr(VmRecords) r = vm_records_load(engine_store(e), w->vm_id, err);
	g_autoptr(Vmm) v = fleet_vmm(engine_fleet(e), w->vm_id);
	Scene s = { .engine = e, .records = r, .vmm = v };
	g_autofree char *part = path_evidence_part(folders_of(e), w->id);
	_cleanup_json_ Json *manifest = NULL;

	if (r == NULL)
		return NULL;
	manifest = manifest_new(e, w, r->vm);
	if (!dir_remove(part, err))
		return NULL;
	if (!fill(&s, w, part, manifest, err) || !is_wanted(w, err) || !publish(e, w->id, err)) {
		dir_remove(part, NULL);
		return NULL;
	}
	tell(e, manifest);
	forget_old(e);
	return json_ref(manifest);
}

bool bundle_drop_part(Engine *e, const char *id, GError **err)
{
	g_autofree char *part = path_evidence_part(folders_of(e), id);

	return dir_remove(part, err);
}

void bundle_sweep(const Folders *f)
{
	g_autofree char *all = path_evidence(f);
	g_autoptr(GDir) dir = g_dir_open(all, 0, NULL);
	const char *name;

	while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
		g_autofree char *path = g_build_filename(all, name, NULL);
		g_autoptr(GError) e = NULL;

		if (name[0] == '.' && !dir_remove(path, &e))
			log_warning("evidence that was not finished stays: %s", e->message);
	}
}

/* ---- what is there ---- */

static Json *read_manifest(Engine *e, const char *id, GError **err)
{
	g_autofree char *dir = path_evidence_bundle(folders_of(e), id), *path = NULL, *text = NULL;
	size_t len;

	path = g_build_filename(dir, MANIFEST, NULL);
	text = file_read(path, MANIFEST_MAX, &len, err);
	return text != NULL ? json_parse(text, len, err) : NULL;
}

/* Newest first. */
static int by_time(gconstpointer a, gconstpointer b)
{
	const Json *const *x = a, *const *y = b;

	return -g_strcmp0(json_str(*x, "created_at"), json_str(*y, "created_at"));
}

static void drop_json(gpointer p)
{
	json_unref(p);
}

static GPtrArray *manifests(Engine *e)
{
	g_autofree char *all = path_evidence(folders_of(e));
	g_autoptr(GDir) dir = g_dir_open(all, 0, NULL);
	GPtrArray *list = g_ptr_array_new_with_free_func(drop_json);
	const char *name;

	while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
		Json *j = evidence_name_ok(name) ? read_manifest(e, name, NULL) : NULL;

		/* What somebody changed by hand must not lead elsewhere. */
		if (j != NULL && g_strcmp0(json_str(j, "id"), name) == 0)
			g_ptr_array_add(list, j);
		else
			json_unref(j);
	}
	g_ptr_array_sort(list, by_time);
	return list;
}

static uint64_t host_number(Engine *e, const char *key)
{
	_cleanup_json_ Json *n = host_setting_effective(engine_facts(e)->settings, key);

	return (uint64_t)json_integer_value(n);
}

Json *bundle_list(Engine *e)
{
	g_autoptr(GPtrArray) list = manifests(e);
	Json *j = json_array();

	for (guint i = 0; i < list->len; i++)
		json_array_append(j, list->pdata[i]);
	return j;
}

Json *bundle_show(Engine *e, const char *id, GError **err)
{
	Json *j = evidence_name_ok(id) ? read_manifest(e, id, NULL) : NULL;

	if (j != NULL && g_strcmp0(json_str(j, "id"), id) == 0)
		return j;
	json_unref(j);
	fail_advice(err, ERR_NOT_FOUND, "`plim evidence list` shows what there is.",
		    "there is no evidence '%s' on host '%s'", id, engine_facts(e)->name);
	return NULL;
}

/* Locked. Under its other name first: what is listed is whole at any moment. */
static bool delete_one(Engine *e, const char *id, GError **err)
{
	_cleanup_json_ Json *j = bundle_show(e, id, err);
	g_autofree char *path = path_evidence_bundle(folders_of(e), id),
			*part = path_evidence_part(folders_of(e), id);

	if (j == NULL)
		return false;
	if (rename(path, part) < 0)
		return fail_errno(err, errno, "can't remove '%s'", path);
	return dir_remove(part, err);
}

bool bundle_delete(Engine *e, const char *id, GError **err)
{
	bool ok;

	g_mutex_lock(&e->forgetting);
	ok = delete_one(e, id, err);
	g_mutex_unlock(&e->forgetting);
	return ok;
}

/* Locked: of two that keep evidence at the same time each would choose the same. */
static void forget_chosen(Engine *e)
{
	g_autoptr(GPtrArray) list = manifests(e);
	g_autofree struct evidence_kept *kept = g_new0(struct evidence_kept, list->len);
	g_autofree bool *goes = g_new0(bool, list->len);

	for (guint i = 0; i < list->len; i++) {
		const char *vm = json_str(json_obj(list->pdata[i], "vm"), "id");

		kept[i] =
		    (struct evidence_kept){ vm != NULL ? vm : "", json_uint(list->pdata[i], "bytes", 0) };
	}
	evidence_choose(kept, list->len, host_number(e, "evidence.quota"), host_number(e, "evidence.keep"),
			goes);
	for (guint i = 0; i < list->len; i++) {
		const char *id = json_str(list->pdata[i], "id");
		g_autoptr(GError) err = NULL;

		if (goes[i] && !delete_one(e, id, &err))
			log_warning("old evidence was not removed: %s", err->message);
	}
}

static void forget_old(Engine *e)
{
	g_mutex_lock(&e->forgetting);
	forget_chosen(e);
	g_mutex_unlock(&e->forgetting);
}

/* ---- reading ---- */

static bool is_listed(const Json *manifest, const char *name)
{
	const Json *f;
	size_t i;

	json_array_foreach(json_arr(manifest, "files"), i, f)
	{
		if (g_strcmp0(json_str(f, "name"), name) == 0)
			return true;
	}
	return false;
}

static GBytes *read_piece(const char *path, uint64_t offset, uint64_t length, GError **err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	g_autofree char *buf = g_malloc(length + 1);
	uint64_t got = 0;
	ssize_t n = fd < 0 ? -1 : 1;

	while (n > 0 && got < length) {
		n = pread(fd, buf + got, length - got, (off_t)(offset + got));
		got += n > 0 ? (uint64_t)n : 0;
	}
	if (n < 0) {
		fail_errno(err, errno, "can't read '%s'", path);
		return NULL;
	}
	return g_bytes_new_take(g_steal_pointer(&buf), got);
}

GBytes *bundle_read(Engine *e, const char *id, const char *file, uint64_t offset, uint64_t length,
		    GError **err)
{
	_cleanup_json_ Json *manifest = bundle_show(e, id, err);
	g_autofree char *dir = path_evidence_bundle(folders_of(e), id), *path = NULL;

	g_assert(length <= BUNDLE_PIECE);
	if (manifest == NULL)
		return NULL;
	if (!evidence_name_ok(file) || !is_listed(manifest, file)) {
		fail_advice(err, ERR_NOT_FOUND, "`plim evidence show` lists its files.",
			    "the evidence '%s' has no file '%s'", id, file);
		return NULL;
	}
	path = g_build_filename(dir, file, NULL);
	return read_piece(path, offset, length, err);
}
