/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the end of a QEMU process means for its vm, and whether the vm is
 * started again. Pure.
 *
 * The facts of an end, as the engine finds them (`exit` in the runtime record):
 *
 *   {code, signal,          how the process ended; null when nobody could see it
 *    shutdown,              reason of QEMU's SHUTDOWN event ("guest-shutdown", ...), or null
 *    panicked,              the guest's kernel reported a panic
 *    host_restarted,        nobody saw it, and the host was started anew; may be missing
 *    last_words}            the end of QEMU's log
 */
#pragma once

#include "core/model/event.h"
#include "core/model/vm.h"
#include "core/model/vm_state.h"

typedef struct VmVerdict {
	VmState state; /* VM_STOPPED or VM_CRASHED */
	EventType event;
	char *reason; /* a sentence */
	bool restart;
	uint64_t delay;   /* us to wait before the restart */
	int64_t restarts; /* what the record counts after it */
} VmVerdict;

/* `ran_for` is how long the vm ran, us. Release with vm_verdict_done(). */
void vm_exit_judge(const Vm *vm, const Json *runtime, const Json *exit, uint64_t ran_for, VmVerdict *ret);
void vm_verdict_done(VmVerdict *v);

/*
 * The pause before restart number `n` (from 0) in a row: 1 s, doubled each
 * time, 5 min at most.
 */
uint64_t vm_restart_delay(int64_t n);
/* A vm that ran this long starts counting anew. */
#define VM_RESTART_CALM (UINT64_C(600) * 1000000)

/*
 * A restart that is due stands in the runtime record, so that it outlives the daemon: this member says when.
 * It comes with the end of the guest, and goes when the vm is started, by whom ever, or will not be. Null, or
 * not there: none is due.
 */
#define VM_RESTART_AT "restart_at"
/* The stamp for it of an end that is judged `now`. NULL: it is not started again. Caller frees. */
char *vm_restart_at(const VmVerdict *v, const char *now);
/* Do the settings, as they are by now, want that the end in the record is followed by a start? */
bool vm_restart_is_wanted(const Vm *vm, const Json *runtime);
/*
 * How long from `now` (us since 1970) the restart of the record is to wait still; never more than its whole
 * pause, whatever happened to the clock. False: none is due.
 */
bool vm_restart_left(const Json *runtime, uint64_t now, uint64_t *ret);
