/* SPDX-License-Identifier: Apache-2.0 */
#include "job.h"

#include "clock.h"
#include "cpu.h"
#include "memory.h"
#include "out.h"
#include "power.h"
#include "trap.h"
#include "x86.h"

#define CMOS_INDEX 0x70
#define CMOS_DATA 0x71
#define CMOS_REBOOTS 0x7e /* a byte that no firmware of QEMU uses; it outlives a reset */
#define CMOS_NMI_OFF 0x80

#define DURATION_MAX_S 1000000000u

static struct acpi acpi;

_Noreturn void job_fail(const char *why)
{
	out_str("error ");
	out_str(why);
	out_end();
	power_idle();
}

uint64_t job_number(struct span *args, uint64_t min, uint64_t max, uint64_t fallback)
{
	uint64_t v;

	if (args->n == 0 && fallback != JOB_REQUIRED)
		return fallback;
	if (!span_number(span_cut(args, ':'), &v) || v < min || v > max)
		job_fail("bad argument");
	return v;
}

uint64_t job_duration(struct span *args, uint64_t fallback)
{
	struct span s;
	uint64_t unit = 1000000000, v;

	if (args->n == 0 && fallback != JOB_REQUIRED)
		return fallback;
	s = span_cut(args, ':');
	if (s.n > 0 && s.at[s.n - 1] == 's') {
		s.n--;
		if (s.n > 0 && s.at[s.n - 1] == 'm') {
			s.n--;
			unit = 1000000;
		}
	}
	if (!span_number(s, &v) || v > DURATION_MAX_S)
		job_fail("bad argument");
	return v * unit;
}

static void job_idle(struct span args)
{
	(void)args;
	power_idle();
}

/* At each NMI: what CPUID says now. */
static void job_report(struct span args)
{
	uint64_t n = 0;

	(void)args;
	for (;;) {
		if (trap_nmi_report()) {
			cpu_leaves_report();
			out_dec_line("reported", ++n);
		}
		trap_nmi_wait();
	}
}

/* Says each line that is typed on the serial port. It looks for it all the time. */
static _Noreturn void job_echo(struct span args)
{
	char line[80];
	size_t n = 0;

	(void)args;
	for (;;) {
		int key = out_key();

		if (key == '\r' || key == '\n') {
			out_str("echo ");
			out_span((struct span){ line, n });
			out_end();
			n = 0;
		} else if (key >= 0 && n < sizeof(line)) {
			line[n++] = (char)key;
		}
	}
}

static void job_acpi(struct span args)
{
	(void)args;
	if (!power_button_wait(&acpi))
		job_fail("no power button");
	out_str("button");
	out_end();
	power_off(&acpi);
	job_fail("no way to power off");
}

static void job_exit(struct span args)
{
	power_debug_exit((uint8_t)job_number(&args, 0, 127, JOB_REQUIRED));
	job_fail("no isa-debug-exit at port 0xf4");
}

static void job_poweroff(struct span args)
{
	(void)args;
	power_off(&acpi);
	job_fail("no way to power off");
}

static uint8_t cmos_read(uint8_t at)
{
	outb(CMOS_INDEX, at | CMOS_NMI_OFF);
	return inb(CMOS_DATA);
}

static void cmos_write(uint8_t at, uint8_t v)
{
	outb(CMOS_INDEX, at | CMOS_NMI_OFF);
	outb(CMOS_DATA, v);
}

/* Reads an emulated device as fast as it can: a guest that has gone wild. */
static void job_flood(struct span args)
{
	(void)args;
	for (;;)
		(void)cmos_read(0);
}

/* With a number: reset so often, counted in CMOS, and go on with the next job when all have happened. */
static void job_reboot(struct span args)
{
	uint8_t times = (uint8_t)job_number(&args, 1, 100, 0), count;

	if (times == 0)
		power_reset(&acpi);
	count = cmos_read(CMOS_REBOOTS);
	if (count == 0xff)
		job_fail("no CMOS to count reboots in");
	if (count >= times)
		return;
	cmos_write(CMOS_REBOOTS, (uint8_t)(count + 1));
	power_reset(&acpi);
}

static void job_panic(struct span args)
{
	(void)args;
	if (!power_panic())
		job_fail("no pvpanic at port 0x505");
	power_idle();
}

static const struct {
	const char *name;
	void (*run)(struct span args);
} jobs[] = {
	{ "idle", job_idle },     { "acpi", job_acpi },     { "burn", job_burn },
	{ "dirty", job_dirty },   { "exit", job_exit },     { "poweroff", job_poweroff },
	{ "reboot", job_reboot }, { "panic", job_panic },   { "sleep", job_sleep },
	{ "tick", job_tick },     { "verify", job_verify }, { "report", job_report },
	{ "soak", job_soak },     { "write", job_write },   { "echo", job_echo },
	{ "flood", job_flood },
};

static void job_run(struct span job)
{
	struct span args = job, name = span_cut(&args, ':');

	out_str("job ");
	out_span(job);
	out_end();
	for (unsigned i = 0; i < sizeof(jobs) / sizeof(jobs[0]); i++) {
		if (!span_is(name, jobs[i].name))
			continue;
		jobs[i].run(args);
		return;
	}
	job_fail("unknown job");
}

void jobs_prepare(const struct start *s)
{
	if (acpi_find(s->rsdp, &acpi))
		power_button_arm(&acpi);
	memory_init(s);
}

_Noreturn void jobs_run(struct span list)
{
	while (list.n > 0)
		job_run(span_cut(&list, ','));
	out_str("done");
	out_end();
	power_idle();
}
