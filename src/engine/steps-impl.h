/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of steps, for steps.c, which puts them into one table. Each is a StepFunc. */
#pragma once

#include "engine/exec.h"

/* QEMU's user and group; the daemon's own when QEMU runs as the daemon. */
void step_qemu_ids(StepContext *ctx, uid_t *ret_uid, gid_t *ret_gid);

#define X(name, undoes, no_return, lasting, told, stage)                                                     \
	bool step_##name##_run(StepContext *ctx, const Json *args, GError **err);                            \
	bool step_##name##_undo(StepContext *ctx, const Json *args, GError **err);
STEP_TABLE(X)
#undef X
