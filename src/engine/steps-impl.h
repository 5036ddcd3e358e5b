/* SPDX-License-Identifier: Apache-2.0 */
/* The bodies of steps, for steps.c, which puts them into one table. Each is a StepFunc. */
#pragma once

#include "engine/agent_clock.h"
#include "engine/exec.h"
#include "engine/image/hooks.h"

/* Progress and cancellation of the step. */
struct hooks step_hooks(StepContext *ctx);
/* QEMU's user and group; the daemon's own when QEMU runs as the daemon. */
void step_qemu_ids(StepContext *ctx, uid_t *ret_uid, gid_t *ret_gid);

#define X(name, undoes, no_return, lasting, told, stage)                                                     \
	bool step_##name##_run(StepContext *ctx, const Json *args, GError **err);                            \
	bool step_##name##_undo(StepContext *ctx, const Json *args, GError **err);
STEP_TABLE(X)
#undef X

/*
 * For steps behind which a guest goes on that stood still: agent_clock_restore(), told as CLOCK_SET in the
 * operation's result and in the log. What the guest refuses, or does not answer, is no failure. `since`: when
 * the operation began in which it stood, as a stamp.
 */
void step_clock_restore(StepContext *ctx, const Json *args, const struct agent_clock *was, const char *since,
			uint64_t wait);
/* A member of results: the time, in us, by which the guest's clock was late and was set; 0: it was not. */
#define CLOCK_SET "clock_set"
/* How far the guest's clock is from ours; false: it does not say. */
bool step_clock_ask(StepContext *ctx, const Json *args, struct agent_clock *ret);
