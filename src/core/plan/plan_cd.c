/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CDs that are inserted and ejected. Of a guest that runs, the record of what
 * it was started with follows: it is then what a start with that CD, or without
 * it, would have left. A move, a suspended guest and the cleanup go by it.
 */
#include "core/guest/cd.h"
#include "core/guest/profile.h"
#include "core/model/keys.h"
#include "core/plan/plan_vm-impl.h"

/* What the running guest has of it before and after; nothing for one that does not run. */
typedef struct Change {
	const PlanRequest *req;
	const VmSeen *seen;
	Vm *was, *is; /* as it runs; NULL: it does not */
	Profile *profile_was, *profile_is;
	char *path_was, *path_is;
} Change;

static void change_clear(Change *c)
{
	vm_free(c->was);
	vm_free(c->is);
	profile_free(c->profile_was);
	profile_free(c->profile_is);
	g_free(c->path_was);
	g_free(c->path_is);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Change, change_clear)

static bool runs(const VmSeen *seen)
{
	VmState s = vm_runtime_state(seen->runtime);

	return s == VM_RUNNING || s == VM_PAUSED;
}

static Profile *profile_now(const Change *c, const Vm *vm, GError **err)
{
	return profile_of(vm, c->req->host, c->req->cpu, json_str(c->seen->runtime, "machine"), err);
}

/* `cd` is what the drive holds from now on. */
static bool change_find(Change *c, const VmCd *cd, GError **err)
{
	const Folders *f = &c->req->host->folders;

	if (!runs(c->seen))
		return true;
	c->was = vm_of_json(json_obj(c->seen->applied, "config"), err);
	if (c->was == NULL)
		return false;
	c->is = vm_copy(c->was);
	vm_cd_free(c->is->cd);
	c->is->cd = vm_cd_copy(cd);
	c->path_was = cd_path(c->was, f);
	c->path_is = cd_path(c->is, f);
	c->profile_was = profile_now(c, c->was, err);
	c->profile_is = c->profile_was != NULL ? profile_now(c, c->is, err) : NULL;
	return c->profile_is != NULL;
}

static bool fail_no_drive(const Change *c, GError **err)
{
	const char *name = c->seen->vm->name;

	fail(err, ERR_UNSUPPORTED, "the guest of '%s' has no CD drive, and takes none while it runs", name);
	return err_advise(err,
			  "Run `plim vm stop %s`, insert the CD, and start it: it finds a drive then. With "
			  "platform.cdrom=FILE it has one from every start on.",
			  name);
}

/* Where the drive is, or is plugged in. */
static bool check_drive(const Change *c, GError **err)
{
	const Json *arguments = json_arr(c->seen->applied, "arguments");
	_cleanup_json_ Json *controller = NULL;

	if (c->is == NULL || cd_arguments_have(arguments, CD_SATA) || cd_arguments_have(arguments, CD_SCSI))
		return true;
	if (!profile_is(c->profile_is, PROFILE_CD_DRIVE, "scsi"))
		return fail_no_drive(c, err);
	controller = cd_controller(c->profile_is, c->is);
	if (controller == NULL || cd_arguments_have(arguments, CD_CONTROLLER) ||
	    !profile_is_q35(c->profile_is) || cd_arguments_have(arguments, CD_PORT))
		return true;
	return fail_no_drive(c, err);
}

/* {vm, name, drive, controller, device, path, format}: what the drive is, and a medium in it. */
static Json *cd_args(const Change *c, const Vm *vm, const Profile *p, const char *path)
{
	Json *args = vm_args(c->seen->vm), *controller = cd_controller(p, vm);

	json_put_str(args, "drive", profile_text(p, PROFILE_CD_DRIVE));
	json_put(args, "controller", controller != NULL ? controller : json_null());
	json_put(args, "device", cd_device(p, vm));
	json_put_str(args, "path", path);
	json_put_str(args, "format", cd_format(vm));
	return args;
}

static Json *grant_args(const Change *c, const char *path)
{
	Json *args = vm_args(c->seen->vm);

	json_put_str(args, "path", path);
	json_put_bool(args, "readonly", true);
	json_put_str(args, "user", c->req->host->run_as);
	return args;
}

static void add_steps(Operation *op, const Change *c, bool force)
{
	bool grants = c->req->host->run_as != NULL, same = g_strcmp0(c->path_was, c->path_is) == 0;
	Json *args;

	if (grants && c->path_is != NULL && !same)
		plan_add(op->plan, STEP_DISK_GRANT, CD_NAME, grant_args(c, c->path_is));
	if (c->path_was != NULL) {
		args = cd_args(c, c->was, c->profile_was, c->path_was);
		json_put_bool(args, "force", force);
		plan_add(op->plan, STEP_CD_EJECT, CD_NAME, args);
	}
	if (c->path_is != NULL)
		plan_add(op->plan, STEP_CD_INSERT, CD_NAME, cd_args(c, c->is, c->profile_is, c->path_is));
	if (grants && c->path_was != NULL && !same)
		plan_add(op->plan, STEP_DISK_REVOKE, CD_NAME, grant_args(c, c->path_was));
}

/* The cleanup that a start left, with what it says of the CD as it is now. */
static Json *cleanup_of(const Change *c)
{
	const Json *step;
	Json *list = json_array(), *revoke;
	size_t i;

	if (c->req->host->run_as != NULL && c->path_is != NULL) {
		revoke = json_object();
		json_put_str(revoke, "step", step_name(STEP_DISK_REVOKE));
		json_put_str(revoke, "target", CD_NAME);
		json_put(revoke, "args", grant_args(c, c->path_is));
		json_array_append_new(list, revoke);
	}
	json_array_foreach(json_arr(c->seen->applied, "cleanup"), i,
			   step) if (g_strcmp0(json_str(step, "target"), CD_NAME) != 0)
	    json_array_append_new(list, json_deep_copy(step));
	return list;
}

static void put_applied(Operation *op, const Change *c)
{
	g_autofree char *key = key_vm_applied(c->is->id);
	Json *j = json_deep_copy(c->seen->applied);

	json_put(j, "config", vm_to_json(c->is));
	json_put(j, "arguments",
		 cd_arguments(json_arr(c->seen->applied, "arguments"), c->profile_is, c->is, c->req->host));
	json_put(j, "cleanup", cleanup_of(c));
	operation_on_done(op, key, j);
}

static Operation *plan_change(Change *c, const char *kind, const VmCd *cd, bool force, GError **err)
{
	g_autofree char *config = key_vm_config(c->seen->vm->id);
	Operation *op = vm_operation_begin(c->req, kind, c->seen, VM_ACTION_change, err);
	Json *members;

	if (op == NULL)
		return NULL;
	operation_expect(op, config, c->seen->config_rev);
	if (c->path_was != NULL || c->path_is != NULL) {
		add_steps(op, c, force);
		put_applied(op, c);
	}
	members = json_object();
	json_put(members, "cdrom", vm_cd_to_json(cd));
	operation_merge_on_done(op, config, members);
	vm_operation_end(op, c->seen->vm, NULL);
	return op;
}

Operation *plan_vm_cd_insert(const PlanRequest *req, const VmSeen *seen, const CdWish *wish, GError **err)
{
	g_auto(Change) c = { .req = req, .seen = seen };
	Operation *op;

	if (!vm_allows(seen->vm->name, seen->runtime, VM_ACTION_change, err) ||
	    !change_find(&c, wish->cd, err) || !check_drive(&c, err))
		return NULL;
	op = plan_change(&c, "vm.cd-insert", wish->cd, wish->force, err);
	if (op != NULL && wish->image_key != NULL)
		operation_expect(op, wish->image_key, wish->image_rev);
	return op;
}

static Operation *fail_empty(const VmSeen *seen, GError **err)
{
	fail_advice(err, ERR_BAD_STATE, "`plim vm cdrom show` says what is in a drive.",
		    "no CD is inserted in '%s'", seen->vm->name);
	return NULL;
}

Operation *plan_vm_cd_eject(const PlanRequest *req, const VmSeen *seen, bool force, GError **err)
{
	static const VmCd none = { NULL, NULL, NULL };
	g_auto(Change) c = { .req = req, .seen = seen };
	g_autofree char *path = cd_path(seen->vm, &req->host->folders);
	/* Where platform.cdrom holds a medium, that nobody wants it must be said. */
	bool fixed = vm_setting(seen->vm, "platform.cdrom") != NULL;

	if (!vm_allows(seen->vm->name, seen->runtime, VM_ACTION_change, err) || !change_find(&c, &none, err))
		return NULL;
	if (path == NULL && c.path_was == NULL)
		return fail_empty(seen, err);
	return plan_change(&c, "vm.cd-eject", fixed ? &none : NULL, force, err);
}
