/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sees that QEMU stopped a guest for an error of its disk, and records it: the
 * vm is paused, with the reason and an event that says what to do.
 * core/model/disk_stop.h has the words. Worker threads.
 */
#pragma once

#include "engine/engine.h"

/*
 * Look at the vm's QEMU now. False when an operation has the vm: its end must
 * ask again. True when it was recorded, or there is nothing to record.
 */
bool disk_stop_record(Engine *e, const char *vm_id);

/* A write or read failed and the guest was told so; `args` are those of BLOCK_IO_ERROR. */
void disk_error_tell(Engine *e, const char *vm_id, const Json *args);
