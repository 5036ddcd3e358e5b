/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limits of this host as they are now, and raising those that the daemon
 * may raise. core/host/limits.h decides what they mean.
 */
#pragma once

#include "core/host/limits.h"

/*
 * Once, early: open files and processes as far as the kernel lets this user,
 * and, `for_guests` and as root, fs.aio-max-nr, which most systems leave at
 * what 64 guests with disks take. Tells what it could not do, and fails never.
 */
void limits_raise(bool for_guests);
/* Any thread; some reads from /proc. `guests` is how many run here: each has one watch. */
struct limits_seen limits_look(unsigned guests);
/* What the kernel thinks could be had now without swapping; 0: not known. */
uint64_t host_memory_available(void);
/* What our control groups let us have altogether; UINT64_MAX: no bound. */
uint64_t host_memory_bound(void);
