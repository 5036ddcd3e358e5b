/* SPDX-License-Identifier: Apache-2.0 */
/* Exceptions and interrupts. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TRAP_NMI 2
#define TRAP_TIMER 0x30
#define TRAP_SCI 0x31
#define TRAP_SPURIOUS 0x3f
#define TRAP_VECTORS 64

/* As trap_common in boot.S and the CPU push it. */
struct trap_frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error;
	uint64_t rip, cs, rflags, rsp, ss;
};

/*
 * From now on an exception is printed as `error exception ...` and ends the work, except in the try_
 * functions of x86.h. The legacy interrupt controllers are masked and the PIT, which the BIOS leaves ticking,
 * is stopped: a ticking PIT wakes QEMU although nobody hears it.
 */
void trap_init(void);

/* How many timer interrupts, ACPI interrupts and NMIs came so far. */
uint64_t trap_timer_count(void);
uint64_t trap_sci_count(void);
uint64_t trap_nmi_count(void);

/* Print `nmi N` when NMIs came since the last call; did any? To be called between lines, after every wait. */
bool trap_nmi_report(void);
/* Sleep with interrupts off until an NMI that was not reported yet. */
void trap_nmi_wait(void);
