/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps about the CD drive of a running guest. Their arguments: those of
 * cd_drive_of_json(), and of CD_EJECT `force`. One undoes the other; a QEMU
 * that has ended has no drive, and nothing is to be done.
 */
#include "engine/cdrom.h"
#include "engine/engine-impl.h"
#include "engine/steps-impl.h"

/* How long a guest may take to let go of a CD that it uses. */
#define PATIENCE UINT64_C(10000000)

static bool insert(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	struct cd_drive d;

	return v == NULL || (cd_drive_of_json(args, &d, err) && cd_insert(v, &d, err));
}

static bool eject(StepContext *ctx, const Json *args, uint64_t patience, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	struct cd_drive d;

	return v == NULL || (cd_drive_of_json(args, &d, err) && cd_eject(v, &d, patience, err));
}

bool step_CD_INSERT_run(StepContext *ctx, const Json *args, GError **err)
{
	return insert(ctx, args, err);
}

bool step_CD_INSERT_undo(StepContext *ctx, const Json *args, GError **err)
{
	return eject(ctx, args, 0, err);
}

bool step_CD_EJECT_run(StepContext *ctx, const Json *args, GError **err)
{
	return eject(ctx, args, json_bool(args, "force", false) ? 0 : PATIENCE, err);
}

bool step_CD_EJECT_undo(StepContext *ctx, const Json *args, GError **err)
{
	return insert(ctx, args, err);
}
