/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with a vm as it is: start, stop and their like. */
#include "api/handlers.h"
#include "core/model/settings.h"
#include "core/model/vm_state.h"

#define PAST_TIMEOUT UINT64_C(10000000)

typedef Operation *(*SimplePlan)(const PlanRequest *req, const VmSeen *seen, GError **err);

static bool act(ApiCall *c, SimplePlan plan, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(EngineRequest) req = NULL;

	if (r == NULL)
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan(&req->plan, &r->seen, err), err);
}

/*
 * A guest that moved away, and ended over there, may have left an operation here that still takes its QEMU
 * down, and removes what has the same names.
 */
static bool await_past(ApiCall *c, const VmRecords *r, GError **err)
{
	VmState state = vm_runtime_state(r->runtime);
	bool rested, ended;

	if (state == VM_RUNNING || state == VM_PAUSED || json_str(r->runtime, "operation") != NULL)
		return true;
	rested = call_rest(c);
	ended = exec_wait_target(engine_exec(c->engine), r->vm->id, PAST_TIMEOUT);
	call_wake(c, rested);
	return ended || fail_advice(err, ERR_BUSY, "`plim operation list` shows it.",
				    "an operation on '%s' goes on still on this host", r->vm->name);
}

bool api_vm_start(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	bool discard;

	if (r == NULL || !call_flag(c, "discard_state", false, &discard, err) || !await_past(c, r, err))
		return false;
	engine_await_cpu(c->engine, r->vm);
	return act(c, discard ? plan_vm_start_cold : plan_vm_start, err);
}

bool api_vm_suspend(ApiCall *c, GError **err)
{
	return act(c, plan_vm_suspend, err);
}

bool api_vm_kill(ApiCall *c, GError **err)
{
	return act(c, plan_vm_kill, err);
}

bool api_vm_pause(ApiCall *c, GError **err)
{
	return act(c, plan_vm_pause, err);
}

bool api_vm_resume(ApiCall *c, GError **err)
{
	return act(c, plan_vm_resume, err);
}

bool api_vm_reset(ApiCall *c, GError **err)
{
	return act(c, plan_vm_reset, err);
}

typedef Operation *(*PatientPlan)(const PlanRequest *req, const VmSeen *seen, uint64_t timeout, bool force,
				  GError **err);

/* The body's timeout, else the vm's own, else the default of the settings' table. */
static bool take_patience(ApiCall *c, const Vm *vm, uint64_t *ret_timeout, bool *ret_force, GError **err)
{
	static const char *const known[] = { "timeout", "force", NULL };
	const Json *body = call_body(c, err), *timeout, *force;
	_cleanup_json_ Json *own = NULL;

	if (body == NULL || !call_known(body, known, err))
		return false;
	timeout = json_object_get(body, "timeout");
	force = json_object_get(body, "force");
	if ((timeout != NULL && (!json_is_integer(timeout) || json_integer_value(timeout) < 0)) ||
	    (force != NULL && !json_is_boolean(force)))
		return fail(err, ERR_INVALID, "timeout is a number of microseconds, force true or false");
	own = setting_effective(vm->settings, "stop.timeout");
	*ret_timeout = (uint64_t)json_integer_value(timeout != NULL ? timeout : own);
	*ret_force = json_is_true(force);
	return true;
}

static bool act_patiently(ApiCall *c, PatientPlan plan, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(EngineRequest) req = NULL;
	uint64_t timeout = 0;
	bool force = false;

	if (r == NULL || !take_patience(c, r->vm, &timeout, &force, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan(&req->plan, &r->seen, timeout, force, err), err);
}

bool api_vm_stop(ApiCall *c, GError **err)
{
	return act_patiently(c, plan_vm_stop, err);
}

bool api_vm_reboot(ApiCall *c, GError **err)
{
	return act_patiently(c, plan_vm_reboot, err);
}

bool api_vm_delete(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(EngineRequest) req = NULL;
	bool keep;

	if (r == NULL || !call_flag(c, "keep_disks", false, &keep, err) ||
	    !call_check_match(c, r->seen.config_rev, err))
		return false;
	req = engine_request_new(c->engine, c->user);
	return call_submit(c, plan_vm_delete(&req->plan, &r->seen, keep, err), err);
}
