/* SPDX-License-Identifier: Apache-2.0 */
#include "power.h"

#include "apic.h"
#include "clock.h"
#include "trap.h"
#include "x86.h"

/* PM1 registers, ACPI 6.4 section 4.8.3; sleep control register of hardware-reduced ACPI, 4.8.3.7. */
#define PM1_ENABLE 2 /* behind the status register */
#define PM1_POWER_BUTTON 0x100u
#define PM1_SCI_ENABLE 0x1u
#define PM1_SLEEP 0x2000u /* with type 0, which is S5 on all machines of QEMU that have PM1 */
#define SLEEP_TYPE_5 (5u << 2)
#define SLEEP_ENABLE 0x20u

/* QEMU's generic event device of microvm: the selector lies in front of the sleep control register. */
#define GED_SELECTOR_BEFORE_SLEEP 0x200u
#define GED_LINE 9
#define GED_POWER_DOWN 0x2u

#define PM1_CONTROL_QEMU 0x604 /* where SeaBIOS puts it on pc and q35, for a machine without tables */
#define RESET_CONTROL 0xcf9
#define KEYBOARD_COMMAND 0x64
#define KEYBOARD_RESET 0xfe
#define DEBUG_EXIT 0xf4
#define TAKE_EFFECT_NS 300000000u
#define PVPANIC 0x505
#define PVPANIC_PANICKED 0x1u

_Noreturn void power_idle(void)
{
	for (;;) {
		trap_nmi_report();
		trap_nmi_wait();
	}
}

static void sci_wait(void)
{
	uint64_t seen = trap_sci_count();

	while (trap_sci_count() == seen) {
		wait_for_interrupt();
		trap_nmi_report();
	}
}

static bool has_pm1(const struct acpi *a)
{
	return a->pm1_event != 0 && a->pm1_control != 0;
}

void power_button_arm(const struct acpi *a)
{
	if (!has_pm1(a))
		return;
	outw(a->pm1_control, (uint16_t)(inw(a->pm1_control) | PM1_SCI_ENABLE));
	outw((uint16_t)(a->pm1_event + PM1_ENABLE), PM1_POWER_BUTTON);
}

static void pm1_button_wait(const struct acpi *a)
{
	ioapic_route(a->sci, TRAP_SCI);
	while ((inw(a->pm1_event) & PM1_POWER_BUTTON) == 0)
		sci_wait();
}

static void ged_button_wait(const struct acpi *a)
{
	uint64_t selector = a->sleep_control.at - GED_SELECTOR_BEFORE_SLEEP;

	ioapic_route(GED_LINE, TRAP_SCI);
	while ((mmio_read32(selector) & GED_POWER_DOWN) == 0)
		sci_wait();
}

bool power_button_wait(const struct acpi *a)
{
	if (!apic_present())
		return false;
	if (has_pm1(a))
		pm1_button_wait(a);
	else if (a->sleep_control.memory && a->sleep_control.at > GED_SELECTOR_BEFORE_SLEEP)
		ged_button_wait(a);
	else
		return false;
	return true;
}

/* QEMU acts on a power register a moment after the write: what comes behind it must not run yet. */
static void take_effect(void)
{
	(void)clock_sleep(TAKE_EFFECT_NS);
}

void power_off(const struct acpi *a)
{
	if (a->sleep_control.at != 0)
		acpi_register_write(&a->sleep_control, SLEEP_TYPE_5 | SLEEP_ENABLE);
	else
		outw(a->pm1_control != 0 ? a->pm1_control : PM1_CONTROL_QEMU, PM1_SLEEP);
	take_effect();
}

_Noreturn void power_reset(const struct acpi *a)
{
	static const struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) no_idt = { 0 };

	if (a->reset.at != 0) {
		acpi_register_write(&a->reset, a->reset_value);
		take_effect();
	}
	outb(RESET_CONTROL, 0x2);
	outb(RESET_CONTROL, 0x6);
	take_effect();
	outb(KEYBOARD_COMMAND, KEYBOARD_RESET);
	take_effect();
	/* Where none of these exists: a fault that nobody can handle shuts the CPU down, which resets it. */
	__asm__ volatile("lidt %0; ud2" : : "m"(no_idt));
	__builtin_unreachable();
}

void power_debug_exit(uint8_t code)
{
	outb(DEBUG_EXIT, code);
}

bool power_panic(void)
{
	uint8_t known = inb(PVPANIC);

	if (known == 0xff || (known & PVPANIC_PANICKED) == 0)
		return false;
	outb(PVPANIC, PVPANIC_PANICKED);
	return true;
}
