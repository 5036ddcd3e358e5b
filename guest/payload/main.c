/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The payload guest: tells what guest code sees, then does the jobs of its command line. docs/payload.md
 * describes its output, which src/core/host/payload_report.[ch] parses: a change of the format changes all
 * three and the number in the first line.
 */
#include "apic.h"
#include "clock.h"
#include "cpu.h"
#include "job.h"
#include "out.h"
#include "start.h"
#include "trap.h"

#define FORMAT 1

_Noreturn void payload_main(uint32_t start_info);

static struct start start;

/* The value of `key` (which ends with '=') on the command line; empty without it, the last one wins. */
static struct span option(const char *key)
{
	struct span line = { .at = start.cmdline, .n = start.cmdline_len }, value = { 0 };

	while (line.n > 0) {
		struct span word = span_cut(&line, ' '), name = word;
		size_t i = 0;

		while (i < word.n && key[i] != '\0' && word.at[i] == key[i])
			i++;
		if (key[i] != '\0')
			continue;
		(void)span_cut(&name, '=');
		value = name;
	}
	return value;
}

static void console_choose(void)
{
	struct span to = option("out=");

	if (span_is(to, "serial"))
		out_to(OUT_SERIAL);
	else if (span_is(to, "both"))
		out_to(OUT_BOTH);
}

static void cmdline_report(void)
{
	out_str("cmdline ");
	out_span((struct span){ .at = start.cmdline, .n = start.cmdline_len });
	out_end();
}

/* `xsave=off` is for a KVM that emulates every instruction and knows no XGETBV: it would kill the guest. */
static void cpu_report(void)
{
	bool xsave = !span_is(option("xsave="), "off");

	if (xsave)
		cpu_xsave_enable();
	cpu_leaves_report();
	if (xsave)
		cpu_xcr0_report();
}

_Noreturn void payload_main(uint32_t start_info)
{
	bool started = start_read(start_info, &start);

	console_choose();
	out_dec_line("payload", FORMAT);
	trap_init();
	apic_init();
	if (!started)
		job_fail("no PVH start info");
	cpu_report();
	clock_init();
	out_dec_line("tsc_khz", clock_tsc_khz());
	out_str("tsc_source ");
	out_str(clock_source());
	out_end();
	out_dec_line("memory", start.memory);
	cmdline_report();
	jobs_prepare(&start);
	out_str("ready");
	out_end();
	jobs_run(option("job="));
}
