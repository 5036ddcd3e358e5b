/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/host_pressure.h"
#include "base/fd.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX 65536

/* "some avg10=0.12 avg60=...": a kernel without PSI, or booted with psi=0, has no such file or refuses. */
static uint64_t look_at_psi(void)
{
	g_autofree char *text = file_read_virtual("/proc/pressure/memory", TEXT_MAX, NULL, NULL);
	unsigned whole, part;

	if (text == NULL || sscanf(text, "some avg10=%u.%2u", &whole, &part) != 2)
		return 0;
	return (uint64_t)whole * 100 + part;
}

static uint64_t look_at_swap(void)
{
	g_autofree char *text = file_read_virtual("/proc/vmstat", TEXT_MAX, NULL, NULL);
	const char *at = text != NULL ? strstr(text, "\npswpout ") : NULL;
	uint64_t n;

	return at != NULL && sscanf(at, "\npswpout %" SCNu64, &n) == 1 ? n : 0;
}

struct host_pressure host_pressure_look(void)
{
	return (struct host_pressure){ .psi = look_at_psi(), .swapped = look_at_swap() };
}
