/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the disks of a vm that is off say of themselves, where QEMU can't be
 * asked. Blocking; worker threads.
 */
#pragma once

#include "core/plan/plan_vm.h"

/*
 * In the form of query-block, as core/backup/follow.h reads it: of each disk that
 * is written to its size, and the dirty bitmaps that its file keeps. What a file
 * is and what it rests on is looked at first, as before each start. New reference.
 */
Json *backup_blocks_off(const VmSeen *seen, const Folders *folders, GError **err);
