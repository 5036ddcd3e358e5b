/* SPDX-License-Identifier: Apache-2.0 */
/* Steps about disks of guests that run. */
#include "engine/engine-impl.h"
#include "engine/guest_grow.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

/* Of a guest that is off by now, after a power cut say, the file is grown. */
bool step_DISK_GROW_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));

	if (v == NULL)
		return step_VOLUME_GROW_run(ctx, args, err);
	return vm_disk_grow(v, json_str(args, "disk"), json_uint(args, "size", 0), err);
}

static bool is_over(void *data)
{
	return step_cancelled(data);
}

/* The guest's part is its own: what it can't do is told, and nothing is undone for it. */
bool step_GUEST_GROW_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Agent) a = fleet_agent(e->fleet, json_str(args, "vm"));

	step_result(ctx, "guest",
		    guest_grow(a, json_str(args, "disk"), json_uint(args, "size", 0), is_over, ctx));
	/* The next daemon asks the guest again, and finds done what was done meanwhile. */
	return !step_stopping(ctx) || fail(err, ERR_CANCELLED, "the daemon ends");
}
