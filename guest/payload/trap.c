/* SPDX-License-Identifier: Apache-2.0 */
#include "trap.h"

#include "apic.h"
#include "out.h"
#include "power.h"
#include "x86.h"

struct gate {
	uint16_t offset_lo, selector;
	uint8_t ist, type;
	uint16_t offset_mid;
	uint32_t offset_hi, zero;
};

struct fixup {
	uint64_t at, to;
};

struct idt_pointer {
	uint16_t limit;
	uint64_t base;
} __attribute__((packed));

#define STUB_SIZE 16
#define GATE_INTERRUPT 0x8e
#define CODE_SELECTOR 8

#define PIC1_MASK 0x21
#define PIC2_MASK 0xa1
#define PIT_COUNTER0 0x40
#define PIT_CONTROL 0x43
#define PIT_COUNTER0_ONCE 0x30 /* counter 0, both bytes, mode 0: one transition, then silence */

extern const char trap_stubs[];
extern const struct fixup trap_fixups[];
void trap_handle(struct trap_frame *f);

static struct gate idt[TRAP_VECTORS];
/* Written by the handler, read between two waits. */
static volatile uint64_t timer_count, sci_count, nmi_count;
static uint64_t nmi_reported;

uint64_t trap_timer_count(void)
{
	return timer_count;
}

uint64_t trap_sci_count(void)
{
	return sci_count;
}

uint64_t trap_nmi_count(void)
{
	return nmi_count;
}

bool trap_nmi_report(void)
{
	uint64_t n = nmi_count;

	if (n == nmi_reported)
		return false;
	nmi_reported = n;
	out_dec_line("nmi", n);
	return true;
}

void trap_nmi_wait(void)
{
	halt_unless(&nmi_count, nmi_reported);
}

static void exception(struct trap_frame *f)
{
	for (const struct fixup *x = trap_fixups; x->at != 0; x++) {
		if (x->at == f->rip) {
			f->rip = x->to;
			return;
		}
	}
	out_drop();
	out_str("error exception ");
	out_dec(f->vector);
	out_str(" code ");
	out_hex(f->error, 8);
	out_str(" at ");
	out_hex(f->rip, 16);
	out_end();
	power_idle();
}

void trap_handle(struct trap_frame *f)
{
	switch (f->vector) {
	case TRAP_TIMER:
		timer_count = timer_count + 1;
		apic_end_of_interrupt();
		return;
	case TRAP_SCI:
		sci_count = sci_count + 1;
		apic_end_of_interrupt();
		return;
	case TRAP_NMI:
		nmi_count = nmi_count + 1;
		if (f->rip >= (uint64_t)halt_window && f->rip < (uint64_t)halt_end)
			f->rip = (uint64_t)halt_end;
		return;
	case TRAP_SPURIOUS:
		return;
	default:
		exception(f);
	}
}

static struct gate gate_of(uint64_t handler)
{
	return (struct gate){
		.offset_lo = (uint16_t)handler,
		.selector = CODE_SELECTOR,
		.type = GATE_INTERRUPT,
		.offset_mid = (uint16_t)(handler >> 16),
		.offset_hi = (uint32_t)(handler >> 32),
	};
}

void trap_init(void)
{
	const struct idt_pointer p = { .limit = sizeof(idt) - 1, .base = (uint64_t)idt };

	for (unsigned i = 0; i < TRAP_VECTORS; i++)
		idt[i] = gate_of((uint64_t)trap_stubs + (uint64_t)i * STUB_SIZE);
	__asm__ volatile("lidt %0" : : "m"(p));

	outb(PIC1_MASK, 0xff);
	outb(PIC2_MASK, 0xff);
	outb(PIT_CONTROL, PIT_COUNTER0_ONCE);
	outb(PIT_COUNTER0, 1);
	outb(PIT_COUNTER0, 0);
}
