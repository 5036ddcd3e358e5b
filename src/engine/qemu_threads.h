/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the kernel counts of a process's threads: how often each was woken and
 * how long it ran. Reads /proc; asks nobody, so it wakes nobody.
 */
#pragma once

#include "core/wake/ledger.h"

#include <sys/types.h>

/* More threads than a QEMU has; what is beyond is not looked at. */
#define QEMU_THREADS_MAX 1024

/*
 * All threads now: struct wake_thread with their counts since they began. The
 * first one is called "main". ERR_GONE when the process is no more,
 * ERR_UNSUPPORTED when the kernel does not count.
 */
GArray *qemu_threads_read(pid_t pid, GError **err);
/* What came in between, by thread. New array. */
GArray *qemu_threads_between(const GArray *before, const GArray *after);

struct thread_times {
	uint64_t runs; /* how often it began to run; for an idle thread how often it was woken */
	uint64_t cpu;  /* us for which it ran */
	uint64_t wait; /* us for which it could have run, and others did */
};

/* The same of one thread with a single small file. False when it is gone. */
bool qemu_thread_times(pid_t pid, int tid, struct thread_times *ret);
