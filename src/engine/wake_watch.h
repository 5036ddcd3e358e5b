/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What guests cost while nobody looks: each half minute the kernel's counts of
 * their threads, read from small files; no QEMU is asked, so none is woken.
 *
 * Judges idle guests by their budget (core/wake/budget.h; settings idle.wakeups
 * and idle.cpu of the vm, else of the host). When one is exceeded the ledger
 * looks at that guest for some seconds, and one event names the culprit and
 * what to change. The same counts tell whom to ask whether it hangs (hang.h).
 * From any thread; it has its own.
 */
#pragma once

#include "base/json.h"

typedef struct Engine Engine;
typedef struct WakeWatch WakeWatch;

#define WAKE_WATCH_PERIOD UINT64_C(30000000)

/* `period` 0: WAKE_WATCH_PERIOD. For an engine that is not simulated. */
WakeWatch *wake_watch_start(Engine *e, uint64_t period);
/* Waits for its thread; what it found stays. NULL is fine. */
void wake_watch_stop(WakeWatch *w);
/* Stops it if need be. NULL is fine; returns NULL. */
WakeWatch *wake_watch_free(WakeWatch *w);

/*
 * {period, cost, could_not: [{count, reason}], guests: [{id, name, pid, duration, main_wakeups, vcpu_wakeups,
 *  main_cpu, vcpu_cpu, exits, halts, idle, over, total: {...}}]}
 * The counts are of the last `duration` us, those of `total` since QEMU began;
 * null when they could not be had. `cost`: us of CPU that the last round took.
 * NULL is fine: no guests. New reference.
 */
Json *wake_watch_report(WakeWatch *w);
