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
 * Stored with the operation, with the index of a step that was begun, it tells
 * a restarted daemon where it was: steps are idempotent, so the one at the
 * index, and those behind it that may have been begun, are run, or undone, again.
 */
#pragma once

#include "base/err.h"

/*
 * undoes: there is something to undo.
 * no return: when the daemon died in the middle of a plan, one in which such a
 * step was begun is finished rather than undone.
 * lasting: leaves something on the host's disks that after a power cut only the
 * record of the operation would take away, or would finish.
 * told: may take so long that people want to read its stage meanwhile.
 */
// clang-format off
#define STEP_TABLE(X)                                                                               \
	/* name             undoes  no return  lasting  told   stage */                             \
	X(VM_DIR_MAKE,      true,   false,     true,    false, "preparing")                         \
	X(VM_DIR_REMOVE,    false,  true,      true,    false, "removing")                          \
	X(RUN_DIR_MAKE,     true,   false,     false,   false, "preparing")                         \
	X(RUN_DIR_REMOVE,   false,  false,     false,   false, "cleaning up")                       \
	X(VOLUME_CREATE,    true,   false,     true,    true,  "making disks")                      \
	X(VOLUME_CLONE,     true,   false,     true,    true,  "copying disks")                     \
	X(VOLUME_DELETE,    false,  true,      true,    true,  "removing disks")                    \
	X(VOLUME_GROW,      false,  true,      true,    true,  "growing the disk")                  \
	X(DISK_MAKE,        true,   false,     true,    true,  "making disks")                      \
	X(DISK_GROW,        false,  true,      true,    false, "growing the disk")                  \
	X(GUEST_GROW,       false,  false,     false,   true,  "growing the file system")           \
	X(CD_EJECT,         true,   false,     false,   true,  "taking the CD out")                 \
	X(CD_INSERT,        true,   false,     false,   false, "putting the CD in")                 \
	X(SEED_WRITE,       false,  false,     false,   false, "writing the cloud-init seed")       \
	X(NVRAM_CREATE,     false,  false,     false,   false, "preparing firmware")                \
	X(DISK_CHECK,       false,  false,     false,   false, "checking disks")                    \
	X(DISK_GRANT,       true,   false,     true,    false, "opening disks")                     \
	X(DISK_REVOKE,      false,  false,     false,   false, "closing disks")                     \
	X(TPM_START,        true,   false,     false,   true,  "starting the TPM")                  \
	X(TPM_STOP,         false,  false,     false,   false, "stopping the TPM")                  \
	X(NET_TAP_ADD,      true,   false,     false,   false, "connecting networks")               \
	X(NET_TAP_DEL,      false,  false,     false,   false, "disconnecting networks")            \
	X(QEMU_SPAWN,       true,   false,     false,   true,  "starting QEMU")                     \
	X(CPU_CHECK,        false,  false,     false,   false, "checking the CPU")                  \
	X(QEMU_CONT,        false,  true,      false,   false, "starting the guest")                \
	X(GUEST_SHUTDOWN,   false,  false,     false,   true,  "waiting for the guest to shut down")\
	X(QEMU_QUIT,        false,  true,      false,   false, "ending QEMU")                       \
	X(QEMU_PAUSE,       false,  false,     false,   false, "pausing")                           \
	X(QEMU_RESUME,      false,  false,     false,   false, "resuming")                          \
	X(QEMU_RESET,       false,  false,     false,   false, "resetting")                         \
	X(GUEST_REBOOT,     false,  false,     false,   true,  "asking the guest to reboot")        \
	X(MIGRATE_PREPARE,  true,   false,     false,   true,  "preparing the other host")          \
	X(MIGRATE_SEND,     true,   false,     false,   true,  "moving the guest")                  \
	X(MIGRATE_LEAVE,    false,  true,      true,    false, "removing what moved")               \
	X(RECEIVE_OPEN,     false,  false,     false,   false, "waiting for the guest")             \
	X(RECEIVE_GUEST,    true,   false,     false,   true,  "receiving the guest")               \
	X(STATE_SAVE,       true,   false,     true,    true,  "saving the guest's state")          \
	X(STATE_LOAD,       false,  false,     false,   true,  "taking up the guest's state")       \
	X(STATE_RUN,        false,  true,      true,    true,  "starting the guest")                \
	X(STATE_REMOVE,     false,  true,      true,    false, "removing the saved state")          \
	X(EVIDENCE_TAKE,    true,   false,     false,   true,  "keeping evidence")                  \
	X(BACKUP_PREPARE,   true,   false,     true,    false, "preparing the backup")              \
	X(BACKUP_COPY,      true,   false,     true,    true,  "copying disks")                     \
	X(BACKUP_SEAL,      true,   false,     true,    true,  "hashing the backup")                \
	X(BACKUP_SETTLE,    false,  true,      false,   false, "tidying up")                        \
	X(BACKUP_VERIFY,    false,  false,     false,   true,  "reading the backup")                \
	X(BACKUP_SERVE,     true,   false,     false,   false, "opening the backup")                \
	X(BACKUP_OVERLAY,   false,  false,     false,   false, "preparing disks")                   \
	X(BACKUP_BOOT,      false,  false,     false,   true,  "waiting for the restored guest")    \
	X(BACKUP_UNSERVE,   false,  true,      false,   false, "closing the backup")                \
	X(BACKUP_DELETE,    false,  true,      true,    true,  "removing the backup")               \
	X(VOLUME_RESTORE,   true,   false,     true,    true,  "restoring disks")                   \
	X(VOLUME_SWAP,      false,  true,      true,    false, "putting the disks in place")        \
	X(CLOCK_RESTORE,    false,  false,     false,   true,  "setting the guest's clock")         \
	X(IMAGE_FETCH,      true,   false,     true,    true,  "reading the source")                \
	X(IMAGE_INSPECT,    false,  false,     false,   true,  "checking the image")                \
	X(IMAGE_CONVERT,    true,   false,     true,    true,  "converting")                        \
	X(IMAGE_PUBLISH,    true,   false,     true,    true,  "publishing")                        \
	X(IMAGE_VERIFY,     false,  false,     false,   true,  "reading the image")                 \
	X(IMAGE_REMOVE,     false,  true,      true,    true,  "removing the image")
// clang-format on

typedef enum StepKind {
#define X(name, undoes, no_return, lasting, told, stage) STEP_##name,
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
bool step_is_lasting(StepKind kind);
bool step_is_told(StepKind kind);
/*
 * A step in which a guest changes its owner: only it can tell, after a crash,
 * on which side of that it is. It is run again; if it succeeds the plan is
 * finished, if it fails all is undone.
 */
bool step_decides(StepKind kind);

/* "QEMU_SPAWN web1" a line. Caller frees. */
char *plan_print(const Plan *p);
/* [{step, target, args}]; the arguments are shared with the plan: not to be changed. */
Json *plan_to_json(const Plan *p);
/* ERR_INVALID for what is no list, and for steps that this version does not know. */
Plan *plan_of_json(const Json *j, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Plan, plan_free)
