/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/looks.h"

#include <glib.h>
#include <stdint.h>
#include <string.h>

#define LINES_MAX 1000000
#define USER_LEVEL 3
#define INTERRUPTS_ON (UINT64_C(1) << 9)

/* The number behind a name such as " CPL=". */
static bool number_after(const char *line, const char *name, unsigned base, uint64_t *ret)
{
	const char *at = strstr(line, name);
	char *end;

	if (at == NULL)
		return false;
	at += strlen(name);
	*ret = g_ascii_strtoull(at, &end, base);
	return end != at;
}

static bool flags_of(const char *line, uint64_t *ret)
{
	return number_after(line, " RFL=", 16, ret) || number_after(line, " EFL=", 16, ret);
}

/* "RIP=ffffffff81b5d6eb RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=1": one for each vcpu, in order. */
static bool look_at_line(const char *line, bool *ret_works)
{
	uint64_t level, flags, halted;

	if (!flags_of(line, &flags) || !number_after(line, " CPL=", 10, &level) ||
	    !number_after(line, " HLT=", 10, &halted))
		return false;
	*ret_works = level == USER_LEVEL || (halted != 0 && (flags & INTERRUPTS_ON) != 0);
	return true;
}

void hang_looks_add(struct hang_looks *l, const char *registers)
{
	g_auto(GStrv) line = g_strsplit(registers, "\n", LINES_MAX);
	unsigned vcpu = 0;
	bool works;

	for (size_t i = 0; line[i] != NULL && vcpu < LOOKS_VCPUS; i++) {
		if (!look_at_line(line[i], &works))
			continue;
		l->works[vcpu] = l->works[vcpu] || works;
		vcpu++;
	}
	l->vcpus = MAX(l->vcpus, vcpu);
}

bool hang_looks_work(const struct hang_looks *l)
{
	for (unsigned i = 0; i < l->vcpus; i++)
		if (!l->works[i])
			return false;
	return l->vcpus > 0;
}
