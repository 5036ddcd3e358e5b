/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which process is the QEMU of a vm, as its run folder says: the file qemu.pid,
 * which the process writes itself before it becomes QEMU. The file outlives the
 * process, and a number may be given again; so QEMU is known by its argument
 * `-uuid`, too. Any thread.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

/*
 * The process that was begun last on the folder `dir`, whatever became of it;
 * false when there is none, with *err set only if that can't be read.
 */
bool qemu_pid_read(const char *dir, pid_t *ret, GError **err);
/* One whose command line has the uuid, as a word of its own. */
bool qemu_pid_is(pid_t pid, const char *uuid);
/* Of the vm with this id, whose folder is below `run`; 0: none lives. */
pid_t qemu_pid_of(const char *run, const char *vm_id);
