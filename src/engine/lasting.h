/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that lasts longer than the daemon, and how it is found again.
 *
 * Its process id stands in a file since before the program began (spawn.h,
 * pid_path); a process is taken for it only if its command line also holds an
 * argument that no other has: the name of a folder of its own. So a daemon that
 * was killed at any time finds it again, and never another process.
 *
 * Blocks; for worker threads. Any thread, one at a time for each process.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct lasting {
	const char *program;  /* "swtpm": the name that the kernel keeps, at most 15 characters */
	const char *pid_path; /* the file */
	const char *mark;     /* the argument */
};

/* The process, or 0. */
pid_t lasting_running(const struct lasting *l);
/*
 * End it: SIGTERM, and SIGKILL after `patience` microseconds. One that has ended is
 * waited for if it is our child; one that never began is fine. Removes the file.
 */
bool lasting_end(const struct lasting *l, uint64_t patience, GError **err);
