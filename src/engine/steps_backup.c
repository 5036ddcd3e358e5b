/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of backups and restores. Their arguments are said in core/plan/plan_backup.c. Facts that
 * BACKUP_COPY leaves for BACKUP_SEAL: moment, consistency, note, freeze.
 */
#include "base/str.h"
#include "base/time.h"
#include "engine/backup/copy.h"
#include "engine/backup/freeze.h"
#include "engine/backup/key_file.h"
#include "engine/backup/repository.h"
#include "engine/engine-impl.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"
#include "engine/volume/volume.h"

#include <stdio.h>

bool step_BACKUP_PREPARE_run(StepContext *ctx, const Json *args, GError **err)
{
	_cleanup_secrets_ char **secrets = NULL;
	struct backup_place p;

	(void)ctx;
	return backup_place_of_args(args, &p, err) && backup_secrets_of_args(args, &secrets, err) &&
	       backup_prepare(&p, json_arr(args, "disks"), json_str(args, "parent"),
			      (const char *const *)secrets, err);
}

bool step_BACKUP_PREPARE_undo(StepContext *ctx, const Json *args, GError **err)
{
	struct backup_place p;

	(void)ctx;
	return backup_place_of_args(args, &p, err) && backup_prepare_undo(&p, err);
}

/* ---- the copy ---- */

typedef struct Copying {
	StepContext *ctx;
	const Json *args;
	Engine *engine;
	Vmm *vmm;
	struct backup_copy copy;
	struct backup_place place;
	struct hooks hooks;
} Copying;

/* The guest's QEMU, or the one that has the disks of a guest which is off; NULL: it has ended. */
static Vmm *vmm_of(Engine *e, const Json *args)
{
	const char *aside = json_str(args, "aside");

	return fleet_vmm(e->fleet, aside != NULL ? aside : json_str(args, "vm"));
}

static bool copying_init(Copying *c, StepContext *ctx, const Json *args, GError **err)
{
	*c = (Copying){ .ctx = ctx, .args = args, .engine = step_engine(ctx), .hooks = step_hooks(ctx) };
	if (!backup_place_of_args(args, &c->place, err))
		return false;
	c->vmm = vmm_of(c->engine, args);
	c->copy = (struct backup_copy){ .disks = json_arr(args, "disks"),
					.work = json_str(args, "work"),
					.bitmap = json_str(args, "bitmap"),
					.since = json_str(args, "since"),
					.off = json_str(args, "aside") != NULL,
					.bandwidth = json_uint(args, "bandwidth", 0) };
	c->copy.place = &c->place;
	c->copy.hooks = &c->hooks;
	return true;
}

/* Takes `note`; NULL: the file systems stood still. */
static void put_moment(const Copying *c, char *note, uint64_t freeze)
{
	g_autofree char *own = note, *now = time_stamp();
	const char *consistency = note == NULL ? "file-system" : "crash";

	step_fact(c->ctx, "moment", json_string(now));
	step_fact(c->ctx, "consistency", json_string(consistency));
	step_fact(c->ctx, "note", json_string_or_null(own));
	step_fact(c->ctx, "freeze", json_integer((json_int_t)freeze));
	step_result(c->ctx, "consistency", json_string(consistency));
	step_result(c->ctx, "note", json_string_or_null(own));
	step_result(c->ctx, "freeze", json_integer((json_int_t)freeze));
}

/* More than one disk: at one moment, unless nothing is written anyway. */
static bool hold_unfrozen(const Copying *c, GError **err)
{
	bool still = json_array_size(c->copy.disks) > 1 && json_bool(c->args, "runs", false);

	return backup_copy_hold(c->vmm, &c->copy, still, err);
}

static void tell_unfrozen(const Copying *c, const char *why)
{
	const char *name = json_str(c->args, "name");

	events_emit(c->engine->events, EVENT_VM_FREEZE_FAILED, "vm", json_str(c->args, "vm"), name, NULL,
		    "%s: its backup %s goes on without a freeze, as after a power cut: %s", name, c->place.id,
		    why);
}

static char *why_late(uint64_t budget)
{
	g_autofree char *text = print_duration(budget);

	return g_strdup_printf("the freeze was over after %s, before QEMU held on to the moment", text);
}

/* With all file systems at rest. False without an error: they did not come to rest, and *ret_why says why. */
static bool hold_frozen(const Copying *c, char **ret_why, uint64_t *ret_freeze, GError **err)
{
	uint64_t budget = json_uint(c->args, "budget", 0), began = time_monotonic();
	FreezeKeeper *k = c->engine->freezes;
	const char *vm = json_str(c->args, "vm");
	g_autoptr(GError) e = NULL;
	bool held, used;

	if (!freeze_begin(k, vm, json_str(c->args, "name"), budget, &e)) {
		*ret_why = g_strdup(e->message);
		return false;
	}
	held = backup_copy_hold(c->vmm, &c->copy, false, err);
	used = freeze_used(k, vm);
	/* One that does not answer is the keeper's care, and told by it. */
	freeze_end(k, vm, NULL);
	*ret_freeze = time_monotonic() - began;
	if (held && !used)
		*ret_why = why_late(budget);
	return held;
}

static bool take_moment(const Copying *c, GError **err)
{
	g_autofree char *why = g_strdup(json_str(c->args, "no_freeze"));
	bool asked = why == NULL && !c->copy.off, held = false;
	g_autoptr(GError) e = NULL;
	uint64_t freeze = 0;

	if (asked)
		held = hold_frozen(c, &why, &freeze, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (asked && why != NULL)
		tell_unfrozen(c, why);
	if (!held && !hold_unfrozen(c, err))
		return false;
	put_moment(c, g_steal_pointer(&why), freeze);
	return true;
}

static bool open_files(Copying *c, GError **err)
{
	_cleanup_secrets_ char **secrets = NULL;
	bool ok;

	if (!backup_secrets_of_args(c->args, &secrets, err))
		return false;
	c->copy.secret = secrets != NULL ? secrets[0] : NULL;
	ok = backup_copy_open(c->vmm, &c->copy, err);
	c->copy.secret = NULL;
	return ok;
}

static bool copy(Copying *c, GError **err)
{
	bool rests, ok;

	if (!open_files(c, err) || !hooks_continue(&c->hooks, err) || !take_moment(c, err))
		return false;
	rests = step_rest(c->ctx);
	ok = backup_copy_run(c->vmm, &c->copy, err);
	if (rests)
		step_wake(c->ctx);
	return ok && backup_copy_close(c->vmm, &c->copy, err);
}

/* A daemon that died while the guest stood still for it. */
static bool let_run(const Copying *c, GError **err)
{
	g_autofree char *status = NULL;

	if (!json_bool(c->args, "runs", false))
		return true;
	status = vm_status(c->vmm, err);
	return status != NULL && (!g_str_equal(status, "paused") || vm_resume(c->vmm, err));
}

static bool take_away(const Copying *c, GError **err)
{
	freeze_end(c->engine->freezes, json_str(c->args, "vm"), NULL);
	return let_run(c, err) && backup_copy_drop(c->vmm, &c->copy, err);
}

bool step_BACKUP_COPY_run(StepContext *ctx, const Json *args, GError **err)
{
	Copying c;
	bool ok;

	if (!copying_init(&c, ctx, args, err))
		return false;
	if (c.vmm == NULL)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	ok = copy(&c, err);
	/* A daemon that is being stopped undoes nothing now, but the guest need not wait for its return. */
	if (!ok)
		take_away(&c, NULL);
	vmm_unref(c.vmm);
	return ok;
}

bool step_BACKUP_COPY_undo(StepContext *ctx, const Json *args, GError **err)
{
	Copying c;
	bool ok;

	if (!copying_init(&c, ctx, args, err))
		return false;
	ok = c.vmm == NULL || take_away(&c, err);
	vmm_unref(c.vmm);
	return ok;
}

/* ---- it becomes a backup ---- */

/* What was not known when the plan was made. New reference. */
static Json *manifest_of(StepContext *ctx, const Json *args)
{
	static const char *const found[] = { "consistency", "note", "freeze" };
	const Json *facts = step_operation(ctx)->facts;
	Json *m = json_deep_copy(json_obj(args, "manifest"));

	for (size_t i = 0; i < G_N_ELEMENTS(found); i++)
		json_put(m, found[i], json_deep_copy(json_object_get(facts, found[i])));
	json_put_str(m, "created_at", json_str(facts, "moment"));
	return m;
}

static void tell_done(StepContext *ctx, const Json *args, uint64_t bytes)
{
	const Json *result = step_operation(ctx)->result;
	const char *name = json_str(args, "name"), *note = json_str(result, "note"),
		   *warning = json_str(result, "warning");
	uint64_t frozen = json_uint(result, "freeze", 0);
	g_autofree char *size = print_size(bytes), *freeze = print_duration(frozen);
	Engine *e = step_engine(ctx);

	events_emit(e->events, EVENT_VM_BACKED_UP, "vm", json_str(args, "vm"), name, json_deep_copy(result),
		    "%s: %s backup %s of %s is in %s, %s%s%s%s", name, json_str(result, "kind"),
		    json_str(result, "backup"), size, json_str(result, "repository"),
		    note != NULL  ? "as after a power cut: "
		    : frozen == 0 ? "its guest was off"
				  : "its file systems stood still for ",
		    note != NULL  ? note
		    : frozen == 0 ? ""
				  : freeze,
		    warning != NULL ? ". " : "", warning != NULL ? warning : "");
}

bool step_BACKUP_SEAL_run(StepContext *ctx, const Json *args, GError **err)
{
	_cleanup_json_ Json *manifest = manifest_of(ctx, args);
	struct hooks hooks = step_hooks(ctx);
	g_autoptr(BackupKey) key = NULL;
	struct backup_place p;
	uint64_t bytes;

	if (!backup_place_of_args(args, &p, err) || !backup_key_of_args(args, &key, err) ||
	    !backup_seal(&p, manifest, key, &hooks, &bytes, err))
		return false;
	step_result(ctx, "bytes", json_integer((json_int_t)bytes));
	tell_done(ctx, args, bytes);
	return true;
}

bool step_BACKUP_SEAL_undo(StepContext *ctx, const Json *args, GError **err)
{
	struct backup_place p;

	(void)ctx;
	return backup_place_of_args(args, &p, err) && backup_delete(&p, err);
}

/* Of a guest that is off by now they are removed with the next backup. */
bool step_BACKUP_SETTLE_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Vmm) v = vmm_of(e, args);

	(void)err;
	if (v != NULL)
		backup_bitmaps_remove(v, json_arr(args, "spare"));
	return true;
}

/* ---- those that are there ---- */

bool step_BACKUP_VERIFY_run(StepContext *ctx, const Json *args, GError **err)
{
	struct hooks hooks = step_hooks(ctx);

	return backup_sources_verify(json_arr(args, "sources"), true, &hooks, err);
}

bool step_BACKUP_DELETE_run(StepContext *ctx, const Json *args, GError **err)
{
	struct backup_place p;

	(void)ctx;
	return backup_place_of_args(args, &p, err) && backup_delete(&p, err);
}

/* ---- restores ---- */

static GPtrArray *paths_of(const Json *sources)
{
	GPtrArray *path = g_ptr_array_new();
	const Json *s;
	size_t i;

	json_array_foreach((Json *)sources, i, s) g_ptr_array_add(path, (gpointer)json_str(s, "path"));
	g_ptr_array_add(path, NULL);
	return path;
}

/* Read once to see that it is what was written, and once more to copy it. */
bool step_VOLUME_RESTORE_run(StepContext *ctx, const Json *args, GError **err)
{
	const Json *sources = json_arr(args, "sources"),
		   *last = json_array_get(sources, json_array_size(sources) - 1);
	g_autoptr(GPtrArray) path = paths_of(sources);
	_cleanup_secrets_ char **secrets = NULL;
	struct hooks hooks = step_hooks(ctx);
	struct volume_make v;

	if (!volume_make_of_args(args, &v, err) || !backup_sources_verify(sources, false, &hooks, err) ||
	    !backup_secrets_of_sources(sources, &secrets, err))
		return false;
	step_qemu_ids(ctx, &v.uid, &v.gid);
	v.hooks = &hooks;
	v.source = json_str(last, "path");
	v.source_format = IMAGE_FORMAT_QCOW2;
	v.source_backing = json_str(last, "backing");
	v.backing = NULL;
	v.chain = (const char *const *)path->pdata;
	v.secrets = (const char *const *)secrets;
	return volume_clone(&v, NULL, err);
}

bool step_VOLUME_RESTORE_undo(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return volume_delete(json_str(args, "path"), err);
}

bool step_VOLUME_SWAP_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return volume_swap(json_str(args, "path"), json_str(args, "target"), err);
}
