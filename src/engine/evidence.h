/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host itself has of a guest, whatever the records say: the QEMU
 * processes that live, and what can be had of them when something went wrong.
 * Worker threads.
 */
#pragma once

#include "engine/engine.h"

/*
 * [{pid, status}]: every process that is a QEMU of the vm, found in /proc and
 * not in our own books, so that one that nobody knows is found too. `status`
 * is what QEMU says (core/model/vm_state.h has the names); null when it does
 * not answer us. New reference.
 */
Json *evidence_processes(Engine *e, const char *vm_id, GError **err);
/*
 * Write the guest's memory to a new file in the folder of logs:
 * {path, size}. ERR_NO_SPACE when the file system has not that much room,
 * ERR_BAD_STATE when no QEMU of it runs here. New reference.
 */
Json *evidence_dump(Engine *e, const char *vm_id, GError **err);

/* The formats of a dump of this guest's memory, as evidence.dump of the vm, else of the host, says. */
const char *const *evidence_formats(Engine *e, const Vm *vm);
/* What there is to see now, without its memory: bundle_take(). `details` and `user` may be NULL. New
 * reference. */
Json *evidence_take(Engine *e, const Vm *vm, const char *cause, const char *reason, const char *user,
		    const Json *details, GError **err);
/*
 * For the end of the operation that has the vm, some seconds at most: a guest that panics at once does so
 * while its start still ends. False: one has it still. Blocks so long; not in an operation.
 */
bool evidence_wait(Engine *e, const char *vm_id);
/*
 * Something went wrong with a guest whose QEMU is there: begin an operation
 * that keeps evidence, with its memory as evidence_formats() says. The vm is
 * locked until that has ended. When another operation has it for longer than
 * some seconds, what can be had without its memory is kept. Blocks so long. A failure is logged.
 */
void evidence_begin(Engine *e, const char *vm_id, const char *cause, const char *reason, const Json *details);

/* The same errors as evidence_dump(). Caller frees. */
char *evidence_registers(Engine *e, const char *vm_id, GError **err);
