/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of steps, for steps.c, which puts them into one table. Each is a StepFunc. */
#pragma once

#include "engine/exec.h"

#define X(name, undoes, no_return, lasting, told, stage)                                                     \
	bool step_##name##_run(StepContext *ctx, const Json *args, GError **err);                            \
	bool step_##name##_undo(StepContext *ctx, const Json *args, GError **err);
STEP_TABLE(X)
#undef X
