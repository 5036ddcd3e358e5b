/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan_aside.h"
#include "core/model/paths.h"
#include "core/plan/plan_start-impl.h"
#include "core/plan/plan_vm-impl.h"

static Start begin(const PlanRequest *req, const VmSeen *seen, const Vm *vm, Operation *op)
{
	return (Start){ .req = req,
			.seen = seen,
			.vm = vm,
			.folders = &req->host->folders,
			.disk_path = g_ptr_array_new(),
			.plan = op->plan,
			.cleanup = plan_new(),
			.taps = json_object() };
}

/* As it is, but with the operation's id, and alone. */
static Vm *vm_aside(const PlanRequest *req, const Vm *vm)
{
	Vm *v = vm_copy(vm);

	g_free(v->id);
	v->id = g_strdup(req->op_id);
	for (guint i = 0; i < v->nic->len; i++) {
		VmNic *n = v->nic->pdata[i];

		g_free(n->network);
		n->network = g_strdup("none");
	}
	v->cd = vm_cd_free(v->cd);
	g_clear_pointer(&v->cloud_init, json_unref);
	return v;
}

/* It goes with the folder around it: what QEMU said is in the error if it ended. */
static char *log_path(const PlanRequest *req)
{
	g_autofree char *dir = path_vm_run_dir(&req->host->folders, req->op_id);

	return g_build_filename(dir, "qemu.log", NULL);
}

/* The QEMU ends first. */
static Plan *take_down(Start *s)
{
	Step *quit = g_new(Step, 1);

	*quit = (Step){ .kind = STEP_QEMU_QUIT, .target = g_strdup(s->vm->name), .args = vm_args(s->vm) };
	g_ptr_array_insert(s->cleanup->step, 0, quit);
	return g_steal_pointer(&s->cleanup);
}

Json *plan_aside_args(const PlanRequest *req, const char *name)
{
	Json *args = json_object();

	json_put_str(args, "vm", req->op_id);
	json_put_str(args, "name", name);
	return args;
}

void plan_aside_end(Operation *op, Plan *down)
{
	for (guint i = 0; i < down->step->len; i++) {
		const Step *s = plan_step(down, i);

		plan_add(op->plan, s->kind, s->target, json_deep_copy(s->args));
	}
	plan_free(down);
}

/* ---- the disks of a vm that is off ---- */

static void add_qemu(Start *s)
{
	g_auto(GStrv) words = argv_words(s->argv), fds = argv_fds(s->argv);
	g_autofree char *run = path_vm_run_dir(s->folders, s->vm->id);
	Json *args = vm_args(s->vm);

	json_put(args, "argv", json_of_strv((const char *const *)words));
	json_put(args, "fds", json_of_strv((const char *const *)fds));
	json_put_str(args, "run_dir", run);
	json_put_str(args, "log", s->log);
	start_add(s, STEP_QEMU_SPAWN, _STEP_MAX, s->vm->name, args);
}

bool plan_aside_disks(const PlanRequest *req, const VmSeen *seen, Operation *op, Plan **ret_down,
		      GError **err)
{
	g_autoptr(Vm) vm = vm_aside(req, seen->vm);
	g_autofree char *log = log_path(req);
	Start s = begin(req, seen, vm, op);
	bool ok = start_find_disk_paths(&s, err);

	s.log = log;
	if (ok)
		s.argv = argv_aside(vm, req->host, (const char *const *)s.disk_path->pdata, err);
	ok = ok && s.argv != NULL;
	if (ok) {
		start_add_checks(&s);
		start_add_run_dir(&s);
		start_add_disk_grants(&s);
		add_qemu(&s);
		*ret_down = take_down(&s);
	}
	start_done(&s);
	return ok;
}
/* ---- a copy that boots ---- */

/* Its disks are overlays in a folder of its own; what the backup left out it does without. */
static Vm *trial_vm(const PlanRequest *req, const Backup *b)
{
	g_autofree char *dir = path_vm_dir(&req->host->folders, req->op_id);
	Vm *vm = vm_aside(req, b->vm);

	for (guint i = vm->disk->len; i > 0; i--) {
		VmDisk *d = vm->disk->pdata[i - 1];
		g_autofree char *file = backup_file(d->name);

		if (backup_disk_find(b, d->name) == NULL) {
			g_ptr_array_remove_index(vm->disk, i - 1);
			continue;
		}
		g_clear_pointer(&d->volume, g_free);
		g_free(d->path);
		d->path = g_build_filename(dir, file, NULL);
		g_free(d->format);
		d->format = g_strdup("qcow2");
	}
	return vm;
}

static Json *overlays_of(const Vm *vm, const Backup *b)
{
	Json *list = json_array();

	for (guint i = 0; i < vm->disk->len; i++) {
		const VmDisk *d = vm->disk->pdata[i];
		const BackupDisk *from = backup_disk_find(b, d->name);

		if (from != NULL)
			json_array_append_new(list, json_pack("{s:s,s:s,s:I}", "name", d->name, "path",
							      d->path, "size", (json_int_t)from->size));
	}
	return list;
}

static void add_disks(Start *s, const Backup *b, const Json *sources)
{
	g_autofree char *dir = path_vm_dir(s->folders, s->vm->id),
			*serve = path_backup_server(s->folders, s->vm->id);
	Json *args = vm_args(s->vm);

	json_put_str(args, "path", dir);
	start_add(s, STEP_VM_DIR_MAKE, STEP_VM_DIR_REMOVE, s->vm->name, args);
	args = vm_args(s->vm);
	json_put_str(args, "backup", b->id);
	json_put_str(args, "dir", serve);
	json_put(args, "sources", json_deep_copy(sources));
	start_add(s, STEP_BACKUP_SERVE, STEP_BACKUP_UNSERVE, b->id, args);
	args = vm_args(s->vm);
	json_put_str(args, "dir", serve);
	json_put(args, "overlays", overlays_of(s->vm, b));
	start_add(s, STEP_BACKUP_OVERLAY, _STEP_MAX, b->id, args);
}

static bool plan_trial(Start *s, const Backup *b, const Json *sources, Plan **ret_down, GError **err)
{
	if (!start_find_hardware(s, err))
		return err_advise(err,
				  "This host can't run it now. `plim backup restore` works all the same.");
	if (!profile_on(s->profile, PROFILE_AGENT))
		return fail_advice(err, ERR_UNSUPPORTED,
				   "Restore it under another name, and look at its console.",
				   "vm '%s' has no channel for an agent, which is waited for", b->vm->name);
	add_disks(s, b, sources);
	start_add_around(s);
	start_add(s, STEP_QEMU_RESUME, _STEP_MAX, s->vm->name, vm_args(s->vm));
	*ret_down = take_down(s);
	return true;
}

bool plan_aside_trial(const PlanRequest *req, const Backup *b, const Json *sources, Operation *op,
		      Plan **ret_down, GError **err)
{
	g_autoptr(Vm) vm = trial_vm(req, b);
	_cleanup_json_ Json *runtime = json_object();
	g_autoptr(GPtrArray) volumes = g_ptr_array_new();
	g_autofree char *log = log_path(req);
	VmSeen seen = { .vm = vm, .runtime = runtime, .volume = volumes };
	Start s = begin(req, &seen, vm, op);
	bool ok;

	json_put_str(runtime, "machine", b->machine);
	g_ptr_array_set_size(volumes, (gint)vm->disk->len);
	s.log = log;
	ok = plan_trial(&s, b, sources, ret_down, err);
	start_done(&s);
	return ok;
}
