/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guests of this host take of its memory, and what their QEMUs take
 * beside it (core/host/memory_use.h). The kernel walks the page tables of a
 * process for each answer: some milliseconds, more for large guests. So it is
 * read when somebody asks, and never by itself. QEMU itself is not asked, and
 * no guest is woken. Worker threads.
 */
#pragma once

#include "engine/engine.h"

/*
 * {guest: {size, resident, merged}, overhead, parts: {program, heap, devices, translated, page_tables, tpm},
 * total}: bytes. `runtime` is the running guest's record.
 * ERR_BAD_STATE when no QEMU of the vm runs here. New reference.
 */
Json *guest_memory(Engine *e, const char *vm_id, const char *name, const Json *runtime, GError **err);
