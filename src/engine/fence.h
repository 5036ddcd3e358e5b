/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The fence: no guest of this host runs when others may believe it dead.
 *
 * A file below the run folder, mapped by the daemon and by a guard, a small
 * process of its own that outlives the daemon, says until when this host holds
 * its lease and which processes are its QEMUs. When that time passes, whatever
 * the reason, the guard stops them all (SIGSTOP): they keep their memory and
 * touch no disk. When the lease is held again the daemon lets those go on that
 * the records still give to this host, and ends the others.
 *
 * The time is CLOCK_BOOTTIME, which also counts while the host sleeps. The
 * guard has QEMU's user: it may signal those processes and can do nothing else.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

typedef struct Fence Fence;

/* So many QEMUs a host may have. */
#define FENCE_PLACES 4096u

/* Opens the file, and starts a guard where none watches it. `user` is whom QEMU runs as, or NULL. */
Fence *fence_open(const char *run, const char *user, GError **err);
/* The guard goes on. NULL is fine; returns NULL. */
Fence *fence_close(Fence *f);

/*
 * A QEMU that runs, or ran, here; one that is in already is fine. It is stopped at once when the others are.
 * False when there is no place left: nobody watches over it then. From any thread.
 */
bool fence_add(Fence *f, pid_t pid);
/* The lease holds until then, on the clock of fence_now(); 0: there is none to watch, and the guard ends. */
void fence_set(Fence *f, uint64_t until);
/* The clock of all this, in us: CLOCK_BOOTTIME. */
uint64_t fence_now(void);
/* Since when the guests are stopped (of fence_now()), or 0. */
uint64_t fence_shut_at(const Fence *f);
/*
 * Stops them all now, whatever the time is: others may run what runs here.
 * Returns how many there are; when there is none, or no lease was watched so far, nothing is shut.
 */
unsigned fence_hold(Fence *f);
struct fence_ends {
	unsigned go_on, ended;
};
/* The lease is held again: `may_go` says of each process whether it goes on; else it is killed. */
struct fence_ends fence_release(Fence *f, bool (*may_go)(pid_t pid, void *data), void *data);
/* Is there a guard? Starts another one if not. */
bool fence_check_guard(Fence *f, GError **err);

/* The guard's whole life; the file is open as `fd`. Its exit status. */
int fence_guard(int fd);

/*
 * This host is in no pool any more: there is no fence below `run`. `may_go` says of each process whether it
 * is the host's own, and goes on; else it is killed. Nobody may set a fence meanwhile. Waits for the guard's
 * end, seconds at most.
 */
void fence_drop(const char *run, bool (*may_go)(pid_t pid, void *data), void *data);

/*
 * SIGKILL for every QEMU below `run`: those of the file, and those whose process id is in the folder of their
 * vm. The guard has nothing to do any more.
 */
void fence_kill_all(const char *run);
