/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC and its timer, and one line of the I/O APIC. xAPIC mode at the architectural addresses,
 * which no firmware of QEMU changes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Switch the local APIC on, timer off, LINT1 delivering NMIs (what the BIOS sets up, and qboot does not).
 * False when this CPU has none; the other functions must not be called then.
 */
bool apic_init(void);
bool apic_present(void);

/* Count down freely from `count` in steps of 16 bus cycles, without interrupting; apic_count() is what is
 * left. */
void apic_count_start(uint32_t count);
uint32_t apic_count(void);
#define APIC_DIVIDER 16

/* Interrupt with TRAP_TIMER every `count` steps until apic_timer_stop(). */
void apic_timer_start(uint32_t count);
void apic_timer_stop(void);

/* Route the I/O APIC's line `gsi` to `vector`: edge triggered, active high, so that a line that stays up does
 * not storm. */
void ioapic_route(unsigned gsi, uint8_t vector);

void apic_end_of_interrupt(void);
