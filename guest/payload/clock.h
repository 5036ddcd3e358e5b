/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Time: the TSC, whose rate is found once at start, and a periodic wake-up by the local APIC's timer.
 *
 * The rate comes from the first source that answers: the hypervisor's timing leaf, the CPU's own crystal
 * leaf, KVM's clock page, Hyper-V's frequency register; else it is measured, against the PIT, or where there
 * is none against the local APIC's timer, which QEMU and KVM run at exactly 1 GHz.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* After apic_init(). */
void clock_init(void);
/* 0 when no source answered. */
uint64_t clock_tsc_khz(void);
/* Its name in the report: cpuid40000010 cpuid15 pvclock hyperv pit lapic none. */
const char *clock_source(void);

uint64_t clock_ns_of_cycles(uint64_t cycles);
/* Nanoseconds of some fixed moment; 0 always when the rate is unknown. */
uint64_t clock_ns(void);

/* Wake `hz` times a second, 1 to 10000. False without a local APIC. */
bool clock_ticks_start(uint64_t hz);
/* Sleep until the next tick; at once when one came since the last call. */
void clock_tick_wait(void);
void clock_ticks_stop(void);
/* Sleep so long, to 10 ms. False without a local APIC or a known rate. Not while ticks are running. */
bool clock_sleep(uint64_t ns);
