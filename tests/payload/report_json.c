/* SPDX-License-Identifier: Apache-2.0 */
/* Reads a payload's report from standard input with our own parser and prints it as JSON, for
 * test_payload.py. */
#include "core/host/payload_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

static GString *input_read(void)
{
	GString *s = g_string_new(NULL);
	char buf[4096];
	ssize_t n;

	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0)
		g_string_append_len(s, buf, n);
	return s;
}

static void number_print(const char *name, uint64_t v)
{
	printf(", \"%s\": %" PRIu64, name, v);
}

static void leaves_print(const struct payload_report *r)
{
	printf("{\"cpuid\": [");
	for (size_t i = 0; i < r->n_cpuid; i++)
		printf("%s[%u, %u, %u, %u, %u, %u]", i == 0 ? "" : ", ", r->cpuid[i].leaf,
		       r->cpuid[i].subleaf, r->cpuid[i].eax, r->cpuid[i].ebx, r->cpuid[i].ecx,
		       r->cpuid[i].edx);
	printf("]");
}

int main(void)
{
	g_autoptr(GString) s = input_read();
	g_autofree struct payload_report *r = g_new0(struct payload_report, 1);
	g_autoptr(GError) err = NULL;

	if (!payload_report_parse(s->str, s->len, r, &err)) {
		fprintf(stderr, "%s\n", err->message);
		return 1;
	}
	leaves_print(r);
	number_print("starts", r->starts);
	number_print("has_xcr0", r->has_xcr0);
	number_print("xcr0", r->xcr0);
	number_print("tsc_khz", r->tsc_khz);
	number_print("memory", r->memory);
	number_print("ready", r->ready);
	number_print("burns", r->n_burn);
	number_print("rate", r->n_burn > 0 ? payload_burn_rate(&r->burn[0]) : 0);
	number_print("done", r->done);
	printf(", \"tsc_source\": \"%s\", \"error\": \"%s\"}\n", payload_tsc_name(r->tsc_source), r->error);
	return 0;
}
