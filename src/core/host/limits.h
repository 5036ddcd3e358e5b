/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of an operating system that many guests run into, and whether one
 * more start would. Pure: the engine looks (engine/limits.h), this decides.
 *
 * What a guest takes was counted with QEMU 7.2: of the daemon its monitor, its
 * agent, its console and its process's end (4 descriptors), of the system the
 * descriptors of QEMU itself, tasks for its threads. The figures of the table
 * are rounded up, so that a start that is let through does not fail half way.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* name; as people call it; what each guest takes; what must stay free beside; the unit; what to do */
// clang-format off
#define LIMIT_TABLE(X)                                                                                       \
	X(FILES, "open-files", "open files of the daemon", 6, 40, "files",                                     \
	  "Raise LimitNOFILE= of plimsolld.service (`systemctl edit plimsolld`) and restart the daemon; guests run on. " \
	  "For the one that runs: `prlimit --pid $(pidof plimsolld) --nofile=N`.")                             \
	X(SYSTEM_FILES, "system-files", "open files of the whole host", 48, 1024, "files",                     \
	  "Raise it: `sysctl fs.file-max=N`.")                                                                 \
	X(TASKS, "tasks", "threads of the whole host", 8, 128, "threads",                                      \
	  "Raise it: `sysctl kernel.pid_max=4194304 kernel.threads-max=N`.")                                   \
	X(GROUP_TASKS, "group-tasks", "threads of the daemon's control group", 8, 64, "threads",               \
	  "Raise TasksMax= of plimsolld.service, or pids.max of the control group it is in.")                  \
	X(WATCHES, "log-watches", "inotify watches of a user", 1, 16, "watches",                               \
	  "Raise it: `sysctl fs.inotify.max_user_watches=N`.")                                                 \
	X(AIO, "aio", "requests of asynchronous I/O of the whole host", 1024, 0, "requests",                   \
	  "Raise it: `sysctl fs.aio-max-nr=1048576`; or set disk.cache=writeback for some guests.")
// clang-format on

typedef enum Limit {
#define X(key, name, what, each, spare, unit, advice) LIMIT_##key,
	LIMIT_TABLE(X)
#undef X
	    _LIMIT_MAX,
} Limit;

struct limit_seen {
	uint64_t used, max; /* max 0: there is none, or it can't be seen */
};

struct limits_seen {
	struct limit_seen limit[_LIMIT_MAX];
};

const char *limit_name(Limit l);
/*
 * ERR_LIMIT when `guests` guests more (the one that asks and those that are
 * being started) would run into a limit, with the one that is nearest. The last
 * of them is `name`. `direct`: it has disks with native asynchronous I/O.
 */
bool limits_admit(const struct limits_seen *seen, unsigned guests, const char *name, bool direct,
		  GError **err);
/* How many guests more have room; UINT64_MAX where there is no limit. */
uint64_t limit_room(const struct limits_seen *seen, Limit l);
/* [{name, what, used, max, each, room, advice}]; max and room are null where there is no limit. */
Json *limits_to_json(const struct limits_seen *seen);
