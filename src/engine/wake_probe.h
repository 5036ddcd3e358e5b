/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The counters of one QEMU, switched on for a while: trace events, the lock
 * profiler, KVM's statistics, the threads.
 *
 * Between wake_probe_mark() and wake_probe_interval() QEMU is asked nothing:
 * what the probe itself costs falls outside. What a QEMU does not have is
 * noted, with the reason, and the rest is counted all the same.
 *
 * Blocks; own threads only, one at a time.
 */
#pragma once

#include "core/wake/ledger.h"
#include "engine/vmm.h"

typedef struct WakeProbe WakeProbe;

/* `could_not`: an array that gets {count, reason}, each count once; borrowed until the end. */
WakeProbe *wake_probe_begin(Vmm *v, Json *could_not);
/* An interval begins; `since`: us since the measurement began. */
void wake_probe_mark(WakeProbe *p, uint64_t since);
/* Each second: makes room in the log. Costs QEMU nothing. */
void wake_probe_tick(WakeProbe *p);
/* The interval ends. `ret_gone`: QEMU did too, and only what it had told before is there. */
WakeInterval *wake_probe_interval(WakeProbe *p, bool *ret_gone);
/* Switches all off, if QEMU still lives. NULL is fine; returns NULL. */
WakeProbe *wake_probe_end(WakeProbe *p);

/* Switch off what a daemon that died may have left on. */
bool wake_probe_switch_off(Vmm *v, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(WakeProbe, wake_probe_end)
