/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/steps.h"
#include "engine/engine-impl.h"
#include "engine/steps-impl.h"
#include "engine/steps_host.h"

struct grant_host step_grant_host(const StepContext *ctx)
{
	const Engine *e = step_engine(ctx);

	return (struct grant_host){ .local = e->local, .state = e->folders.state };
}

/* A step that leaves nothing behind has no body to undo it. */
#define UNDO_true(name) step_##name##_undo
#define UNDO_false(name) NULL

const struct step_impl qemu_steps[_STEP_MAX] = {
#define X(name, undoes, no_return, lasting, told, stage)                                                     \
	[STEP_##name] = { step_##name##_run, UNDO_##undoes(name) },
	STEP_TABLE(X)
#undef X
};
