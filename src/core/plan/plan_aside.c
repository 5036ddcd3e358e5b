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
