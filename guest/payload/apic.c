/* SPDX-License-Identifier: Apache-2.0 */
#include "apic.h"

#include "trap.h"
#include "x86.h"

#define LAPIC 0xfee00000u
#define LAPIC_ID (LAPIC + 0x20)
#define LAPIC_EOI (LAPIC + 0xb0)
#define LAPIC_SPURIOUS (LAPIC + 0xf0)
#define LAPIC_LVT_TIMER (LAPIC + 0x320)
#define LAPIC_LVT_LINT0 (LAPIC + 0x350)
#define LAPIC_LVT_LINT1 (LAPIC + 0x360)
#define LAPIC_TIMER_INITIAL (LAPIC + 0x380)
#define LAPIC_TIMER_CURRENT (LAPIC + 0x390)
#define LAPIC_TIMER_DIVIDE (LAPIC + 0x3e0)

#define SPURIOUS_ENABLE 0x100u
#define LVT_MASKED 0x10000u
#define LVT_PERIODIC 0x20000u
#define LVT_NMI 0x400u
#define DIVIDE_BY_16 0x3u

#define IOAPIC_SELECT 0xfec00000u
#define IOAPIC_WINDOW 0xfec00010u
#define IOAPIC_REDIRECTION 0x10u

#define CPUID_1_EDX_APIC (1u << 9)

bool apic_present(void)
{
	return (cpuid(1, 0).edx & CPUID_1_EDX_APIC) != 0;
}

bool apic_init(void)
{
	if (!apic_present())
		return false;
	mmio_write32(LAPIC_SPURIOUS, SPURIOUS_ENABLE | TRAP_SPURIOUS);
	mmio_write32(LAPIC_LVT_TIMER, LVT_MASKED);
	mmio_write32(LAPIC_LVT_LINT0, LVT_MASKED);
	mmio_write32(LAPIC_LVT_LINT1, LVT_NMI);
	return true;
}

void apic_count_start(uint32_t count)
{
	mmio_write32(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
	mmio_write32(LAPIC_LVT_TIMER, LVT_MASKED);
	mmio_write32(LAPIC_TIMER_INITIAL, count);
}

uint32_t apic_count(void)
{
	return mmio_read32(LAPIC_TIMER_CURRENT);
}

void apic_timer_start(uint32_t count)
{
	mmio_write32(LAPIC_TIMER_DIVIDE, DIVIDE_BY_16);
	mmio_write32(LAPIC_LVT_TIMER, LVT_PERIODIC | TRAP_TIMER);
	mmio_write32(LAPIC_TIMER_INITIAL, count);
}

void apic_timer_stop(void)
{
	mmio_write32(LAPIC_TIMER_INITIAL, 0);
	mmio_write32(LAPIC_LVT_TIMER, LVT_MASKED);
}

void ioapic_route(unsigned gsi, uint8_t vector)
{
	mmio_write32(IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * gsi + 1);
	mmio_write32(IOAPIC_WINDOW, mmio_read32(LAPIC_ID) & 0xff000000u);
	mmio_write32(IOAPIC_SELECT, IOAPIC_REDIRECTION + 2 * gsi);
	mmio_write32(IOAPIC_WINDOW, vector);
}

void apic_end_of_interrupt(void)
{
	mmio_write32(LAPIC_EOI, 0);
}
