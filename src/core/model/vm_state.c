/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/vm_state.h"

static const char *const state_names[_VM_STATE_MAX] = {
	[VM_STOPPED] = "stopped", [VM_RUNNING] = "running",     [VM_PAUSED] = "paused",
	[VM_CRASHED] = "crashed", [VM_SUSPENDED] = "suspended",
};

static const struct {
	const char *name;
	bool in[_VM_STATE_MAX];
} actions[_VM_ACTION_MAX] = {
#define X(verb, stopped, running, paused, crashed, suspended)                                                \
	[VM_ACTION_##verb] = { .name = #verb,                                                                \
			       .in = { [VM_STOPPED] = stopped,                                               \
				       [VM_RUNNING] = running,                                               \
				       [VM_PAUSED] = paused,                                                 \
				       [VM_CRASHED] = crashed,                                               \
				       [VM_SUSPENDED] = suspended } },
	VM_ACTION_TABLE(X)
#undef X
};

/* The verb to type first when a vm in this state does not allow what was asked. */
static const char *const way_out[_VM_STATE_MAX] = {
	[VM_STOPPED] = "start", [VM_RUNNING] = "stop",    [VM_PAUSED] = "resume",
	[VM_CRASHED] = "start", [VM_SUSPENDED] = "start",
};

const char *vm_state_name(VmState state)
{
	g_assert(state < _VM_STATE_MAX);
	return state_names[state];
}

bool vm_state_of_name(const char *name, VmState *ret)
{
	for (VmState s = 0; s < _VM_STATE_MAX; s++)
		if (g_str_equal(state_names[s], name)) {
			*ret = s;
			return true;
		}
	return false;
}

const char *vm_action_name(VmAction action)
{
	g_assert(action < _VM_ACTION_MAX);
	return actions[action].name;
}

VmState vm_runtime_state(const Json *runtime)
{
	const char *name = json_str(runtime, "state");
	VmState s = VM_STOPPED;

	if (name != NULL)
		vm_state_of_name(name, &s);
	return s;
}

/* The first word of the advice follows from the state; some pairs need another. */
static bool advise(GError **err, const char *name, VmState state, VmAction action)
{
	if (state == VM_RUNNING && action == VM_ACTION_resume)
		return err_advise(err, "It runs already.");
	if (state == VM_RUNNING && action == VM_ACTION_start)
		return err_advise(err, "It runs already; `plim vm reboot %s` starts the guest again.", name);
	if ((state == VM_RUNNING || state == VM_PAUSED) && action == VM_ACTION_grow)
		return err_advise(err, "`plim vm disk grow %s DISK SIZE` grows a disk while the guest runs.",
				  name);
	if (state == VM_PAUSED && action == VM_ACTION_pause)
		return err_advise(err, "It is paused already.");
	if (state == VM_PAUSED && action == VM_ACTION_start)
		return err_advise(err, "It is started; `plim vm resume %s` lets the guest go on.", name);
	if (state == VM_PAUSED && (action == VM_ACTION_delete || action == VM_ACTION_clone))
		return err_advise(err, "Run `plim vm kill %s` first.", name);
	if (state == VM_SUSPENDED && action == VM_ACTION_resume)
		return err_advise(err, "`plim vm start %s` takes up what it was doing.", name);
	if ((state == VM_STOPPED || state == VM_CRASHED) &&
	    (action == VM_ACTION_stop || action == VM_ACTION_kill))
		return err_advise(err, "It does not run.");
	return false;
}

bool vm_allows(const char *name, const Json *runtime, VmAction action, GError **err)
{
	VmState state = vm_runtime_state(runtime);
	const char *operation = json_str(runtime, "operation");

	g_assert(action < _VM_ACTION_MAX);
	if (operation != NULL) {
		fail(err, ERR_BUSY, "another operation of vm '%s' is under way", name);
		err_detail(err, "operation", json_string(operation));
		return err_advise(err, "Wait for it with `plim operation wait %s`.", operation);
	}
	if (actions[action].in[state])
		return true;
	fail(err, ERR_BAD_STATE, "vm '%s' is %s: can't %s it", name, state_names[state],
	     actions[action].name);
	err_detail(err, "state", json_string(state_names[state]));
	err_advise(err, "Run `plim vm %s %s` first.", way_out[state], name);
	return advise(err, name, state, action);
}

bool vm_was_shut_down(const Json *runtime)
{
	const char *reason = json_str(runtime, "reason");

	return vm_runtime_state(runtime) == VM_STOPPED &&
	       (g_strcmp0(reason, VM_REASON_SHUT_DOWN) == 0 || g_strcmp0(reason, VM_REASON_POWERED_OFF) == 0);
}

Json *vm_runtime_new(const char *host, const char *now)
{
	Json *j = json_object();

	json_put_str(j, "state", vm_state_name(VM_STOPPED));
	json_put_str(j, "reason", "never started");
	json_put_str(j, "since", now);
	json_put_str(j, "host", host);
	json_put(j, "operation", json_null());
	json_put_int(j, "restarts", 0);
	return j;
}

Json *vm_runtime_moved(const Json *runtime, VmState state, const char *reason, const char *now)
{
	static const char *const of_a_process[] = { "pid",   "vcpus",     "memory", "started_at",
						    "agent", "addresses", "dynamic" };
	Json *j = json_deep_copy(runtime);

	json_put_str(j, "state", vm_state_name(state));
	json_put_str(j, "reason", reason);
	json_put_str(j, "since", now);
	if (state == VM_STOPPED || state == VM_CRASHED || state == VM_SUSPENDED)
		for (size_t i = 0; i < G_N_ELEMENTS(of_a_process); i++)
			json_object_del(j, of_a_process[i]);
	return j;
}
