/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/vm_exit.h"
#include "base/time.h"

#define FIRST_DELAY UINT64_C(1000000)
#define LAST_DELAY (UINT64_C(300) * 1000000)

uint64_t vm_restart_delay(int64_t n)
{
	if (n < 0)
		n = 0;
	return n >= 9 ? LAST_DELAY : MIN(FIRST_DELAY << n, LAST_DELAY);
}

static bool ended_by_wish(const Json *exit)
{
	static const char *const wishes[] = { "guest-shutdown", "host-qmp-quit", "host-qmp-system-reset",
					      "guest-reset", NULL };
	const char *shutdown = json_str(exit, "shutdown");

	return shutdown != NULL && g_strv_contains(wishes, shutdown);
}

static char *how_it_died(const Json *exit)
{
	int64_t signal = json_int(exit, "signal", 0), code = json_int(exit, "code", -1);

	if (json_bool(exit, "host_restarted", false))
		return g_strdup("it ended with its host");
	if (signal > 0)
		return g_strdup_printf("QEMU was killed by signal %d", (int)signal);
	if (code > 0)
		return g_strdup_printf("QEMU ended with exit status %d", (int)code);
	return g_strdup("QEMU ended by itself");
}

static void judge_state(const Json *exit, VmVerdict *v)
{
	bool died = json_int(exit, "signal", 0) > 0 || json_int(exit, "code", 0) > 0;

	if (json_bool(exit, "panicked", false)) {
		v->state = VM_CRASHED;
		v->event = EVENT_VM_PANICKED;
		v->reason = g_strdup("the guest's kernel panicked");
	} else if (ended_by_wish(exit) && !died) {
		v->state = VM_STOPPED;
		v->event = EVENT_VM_STOPPED;
		v->reason = g_str_equal(json_str(exit, "shutdown"), "guest-shutdown")
				? g_strdup(VM_REASON_POWERED_OFF)
				: g_strdup("QEMU was told to quit");
	} else {
		v->state = VM_CRASHED;
		v->event = EVENT_VM_CRASHED;
		v->reason = how_it_died(exit);
	}
}

static bool wants_restart(const Vm *vm, VmState state, const Json *exit)
{
	const char *policy = json_string_value(vm_setting(vm, "restart"));
	const char *on_panic = json_string_value(vm_setting(vm, "on_panic"));

	return g_strcmp0(policy, "always") == 0 ||
	       (g_strcmp0(policy, "on-failure") == 0 && state == VM_CRASHED) ||
	       (g_strcmp0(on_panic, "restart") == 0 && json_bool(exit, "panicked", false)) ||
	       (json_bool(exit, "host_restarted", false) && json_is_true(vm_setting(vm, "autostart")));
}

void vm_exit_judge(const Vm *vm, const Json *runtime, const Json *exit, uint64_t ran_for, VmVerdict *ret)
{
	int64_t before = ran_for >= VM_RESTART_CALM ? 0 : json_int(runtime, "restarts", 0);

	*ret = (VmVerdict){ .restarts = before };
	judge_state(exit, ret);
	ret->restart = wants_restart(vm, ret->state, exit);
	if (ret->restart) {
		ret->delay = vm_restart_delay(before);
		ret->restarts = before + 1;
	}
}

char *vm_restart_at(const VmVerdict *v, const char *now)
{
	uint64_t us;

	return v->restart && time_parse(now, &us) ? time_print(us + v->delay) : NULL;
}

bool vm_restart_is_wanted(const Vm *vm, const Json *runtime)
{
	VmState state = vm_runtime_state(runtime);

	return (state == VM_STOPPED || state == VM_CRASHED) &&
	       wants_restart(vm, state, json_obj(runtime, "exit"));
}

bool vm_restart_left(const Json *runtime, uint64_t now, uint64_t *ret)
{
	const char *at = json_str(runtime, VM_RESTART_AT), *since = json_str(runtime, "since");
	uint64_t due, ended;

	if (at == NULL || !time_parse(at, &due))
		return false;
	/* Left there by a version that starts and stops vms, but knows nothing of this member. */
	if (since != NULL && time_parse(since, &ended) && ended > due)
		return false;
	*ret = due > now ? MIN(due - now, vm_restart_delay(json_int(runtime, "restarts", 0) - 1)) : 0;
	return true;
}

void vm_verdict_done(VmVerdict *v)
{
	g_free(v->reason);
	*v = (VmVerdict){ 0 };
}
