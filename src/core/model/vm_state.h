/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a vm is doing, and what may be asked of it then. Pure.
 *
 * The runtime record of a vm is the second of its two records: the
 * configuration says what the owner wants, this one what QEMU does. Only the
 * daemon of the host that runs the vm writes it.
 *
 * Transient states (creating, starting, stopping, ...) are not stored: while
 * an operation runs the record names it, and the operation's kind says the rest.
 */
#pragma once

#include "base/err.h"

// clang-format off
#define VM_STATE_TABLE(X)                                            \
	X(STOPPED)  /* no QEMU process, nothing wrong */             \
	X(RUNNING)                                                   \
	X(PAUSED)                                                    \
	X(CRASHED)  /* no QEMU process, ended by itself or panicked */ \
	X(SUSPENDED) /* no QEMU process; what the guest was doing is in a file */

/* verb; states in which it may be asked: stopped, running, paused, crashed, suspended */
#define VM_ACTION_TABLE(X)                   \
	X(start,      1, 0, 0, 1, 1)            \
	X(stop,       0, 1, 1, 0, 0)            \
	X(kill,       0, 1, 1, 0, 1)            \
	X(pause,      0, 1, 0, 0, 0)            \
	X(suspend,    0, 1, 1, 0, 0)            \
	X(resume,     0, 0, 1, 0, 0)            \
	X(reset,      0, 1, 1, 0, 0)            \
	X(reboot,     0, 1, 0, 0, 0)            \
	X(migrate,    0, 1, 1, 0, 0)            \
	X(backup,     1, 1, 1, 1, 0)            \
	X(restore,    1, 0, 0, 1, 0)            \
	X(nmi,        0, 1, 0, 0, 0)            \
	X(dump,       0, 1, 1, 0, 0)            \
	X(inspect,    0, 1, 1, 0, 0)            \
	X(screenshot, 0, 1, 1, 0, 0)            \
	X(console,    0, 1, 1, 0, 0)            \
	X(agent,      0, 1, 0, 0, 0)            \
	X(delete,     1, 0, 0, 1, 1)            \
	X(clone,      1, 0, 0, 1, 0)            \
	X(rename,     1, 1, 1, 1, 1)            \
	X(change,     1, 1, 1, 1, 0)            \
	X(grow,       1, 0, 0, 1, 0)
// clang-format on

typedef enum VmState {
#define X(name) VM_##name,
	VM_STATE_TABLE(X)
#undef X
	    _VM_STATE_MAX,
} VmState;

typedef enum VmAction {
#define X(verb, stopped, running, paused, crashed, suspended) VM_ACTION_##verb,
	VM_ACTION_TABLE(X)
#undef X
	    _VM_ACTION_MAX,
} VmAction;

/* Lower case. */
const char *vm_state_name(VmState state);
bool vm_state_of_name(const char *name, VmState *ret);
const char *vm_action_name(VmAction action);

/*
 * May `action` be asked of a vm called `name` with this runtime record (NULL:
 * never started)? ERR_BAD_STATE with advice that names the command to type
 * first; ERR_BUSY when an operation is under way.
 */
bool vm_allows(const char *name, const Json *runtime, VmAction action, GError **err);

/* Reasons in a runtime record that say that the guest itself came to its end. */
#define VM_REASON_SHUT_DOWN "shut down on request"
#define VM_REASON_POWERED_OFF "the guest powered itself off"
/* It is off, and its guest came to its end by itself: its file systems are whole. */
bool vm_was_shut_down(const Json *runtime);

/* The state in a runtime record; VM_STOPPED when there is no record. */
VmState vm_runtime_state(const Json *runtime);

/* {state: stopped, ...}: the record of a vm that was never started. New reference. */
Json *vm_runtime_new(const char *host, const char *now);
/*
 * The record after a change of state: `since` is `now`, `reason` a sentence.
 * Leaves the rest as it was; a stop clears pid, started_at, agent and
 * addresses. New reference.
 */
Json *vm_runtime_moved(const Json *runtime, VmState state, const char *reason, const char *now);
