/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/nmi_count.h"
#include "base/str.h"

#include <string.h>

/* "       0          3   Non-maskable interrupts": a number for each vcpu, then words. */
static bool sum(const char *numbers, uint64_t *ret)
{
	g_auto(GStrv) word = g_strsplit_set(numbers, " \t", -1);
	uint64_t total = 0, n;
	bool any = false;

	for (size_t i = 0; word[i] != NULL; i++) {
		if (word[i][0] == '\0')
			continue;
		/* Four thousand vcpus of these stay below UINT64_MAX. */
		if (!parse_uint(word[i], 0, UINT64_MAX >> 12, &n, NULL))
			break;
		total += n;
		any = true;
	}
	if (any)
		*ret = total;
	return any;
}

bool nmi_count_of(const char *text, size_t len, uint64_t *ret)
{
	g_autofree char *copy = g_strndup(text, len);
	g_auto(GStrv) line = g_strsplit(copy, "\n", -1);

	for (size_t i = 0; line[i] != NULL; i++) {
		const char *name = line[i] + strspn(line[i], " ");

		if (g_str_has_prefix(name, "NMI:"))
			return sum(name + strlen("NMI:"), ret);
	}
	return false;
}
