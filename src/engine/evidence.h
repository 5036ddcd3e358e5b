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
/* The same errors. Caller frees. */
char *evidence_registers(Engine *e, const char *vm_id, GError **err);
