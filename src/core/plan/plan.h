/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans: what must be done to carry out one request, as a list of steps. Pure.
 *
 * A planner looks at records and at the host's facts and appends steps; the
 * engine runs them in order and undoes the begun ones backwards if one fails.
 * A step carries everything it needs in its arguments, so that a plan read
 * back from the store after a crash runs without asking anything else.
 *
 * Printed, a plan is the answer to dry_run=true and the golden text of a test.
 * Stored with the operation, with the index of the step that was begun last,
 * it tells a restarted daemon where it was: steps are idempotent, so the one
 * at the index is run, or undone, again.
 */
#pragma once

#include "base/err.h"

/*
 * name; whether there is something to undo; when the daemon died in the middle
 * of a plan, "forward" steps after which the plan is finished rather than
 * undone (the point of no return); what people read as the stage.
 */
// clang-format off
#define STEP_TABLE(X)                                                              \
	/* name             undoes  no return  stage */                            \
	X(VM_DIR_MAKE,      true,   false, "preparing")                            \
	X(VM_DIR_REMOVE,    false,  true,  "removing")                             \
	X(RUN_DIR_MAKE,     true,   false, "preparing")                            \
	X(RUN_DIR_REMOVE,   false,  false, "cleaning up")                          \
	X(VOLUME_CREATE,    true,   false, "making disks")                         \
	X(VOLUME_CLONE,     true,   false, "copying disks")                        \
	X(VOLUME_DELETE,    false,  true,  "removing disks")                       \
	X(SEED_WRITE,       false,  false, "writing the cloud-init seed")          \
	X(NVRAM_CREATE,     false,  false, "preparing firmware")                   \
	X(DISK_GRANT,       true,   false, "opening disks")                        \
	X(DISK_REVOKE,      false,  false, "closing disks")                        \
	X(TPM_START,        true,   false, "starting the TPM")                     \
	X(TPM_STOP,         false,  false, "stopping the TPM")                     \
	X(NET_TAP_ADD,      true,   false, "connecting networks")                  \
	X(NET_TAP_DEL,      false,  false, "disconnecting networks")               \
	X(QEMU_SPAWN,       true,   false, "starting QEMU")                        \
	X(QEMU_CONT,        false,  true,  "starting the guest")                   \
	X(GUEST_SHUTDOWN,   false,  false, "waiting for the guest to shut down")   \
	X(QEMU_QUIT,        false,  true,  "ending QEMU")                          \
	X(QEMU_PAUSE,       false,  false, "pausing")                              \
	X(QEMU_RESUME,      false,  false, "resuming")                             \
	X(QEMU_RESET,       false,  false, "resetting")                            \
	X(GUEST_REBOOT,     false,  false, "asking the guest to reboot")           \
	X(IMAGE_FETCH,      true,   false, "reading the source")                   \
	X(IMAGE_INSPECT,    false,  false, "checking the image")                   \
	X(IMAGE_CONVERT,    true,   false, "converting")                           \
	X(IMAGE_PUBLISH,    true,   false, "publishing")                           \
	X(IMAGE_REMOVE,     false,  true,  "removing the image")
// clang-format on

typedef enum StepKind {
#define X(name, undoes, no_return, stage) STEP_##name,
	STEP_TABLE(X)
#undef X
	    _STEP_MAX,
} StepKind;

typedef struct Step {
	StepKind kind;
	char *target; /* what it works on, for people: a disk, a NIC, the vm */
	Json *args;   /* object; never NULL */
} Step;

typedef struct Plan {
	GPtrArray *step; /* Step */
} Plan;

Plan *plan_new(void);
Plan *plan_free(Plan *p);
/* Takes `args` (NULL: none). */
void plan_add(Plan *p, StepKind kind, const char *target, Json *args);
const Step *plan_step(const Plan *p, guint i);

const char *step_name(StepKind kind);
const char *step_stage(StepKind kind);
bool step_undoes(StepKind kind);
bool step_is_point_of_no_return(StepKind kind);

/* "QEMU_SPAWN web1" a line. Caller frees. */
char *plan_print(const Plan *p);
/* [{step, target, args}] */
Json *plan_to_json(const Plan *p);
/* ERR_INVALID for what is no list, and for steps that this version does not know. */
Plan *plan_of_json(const Json *j, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)
