/* SPDX-License-Identifier: Apache-2.0 */
/* The ways in which a guest ends. Those that need a device return when the machine does not have it. */
#pragma once

#include "acpi.h"

/* Sleep for ever with interrupts off; only an NMI is still noticed. Costs the host nothing. */
_Noreturn void power_idle(void);
/* From now on a pressed power button is remembered: QEMU forgets one that no guest has asked for. */
void power_button_arm(const struct acpi *a);
/* Wait, without a wake-up, until the power button is or was pressed. False when this machine has none. */
bool power_button_wait(const struct acpi *a);
void power_off(const struct acpi *a);
_Noreturn void power_reset(const struct acpi *a);
/* QEMU's isa-debug-exit at port 0xf4: QEMU ends with status (code << 1) | 1. */
void power_debug_exit(uint8_t code);
/* QEMU's pvpanic: tell the host that the guest's kernel has given up. False when there is no such device. */
bool power_panic(void);
