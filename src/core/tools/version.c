/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tools/version.h"

#include <glib.h>

/* The number at *p, which moves behind it. */
static bool take_number(const char **p, uint32_t *ret)
{
	uint64_t n = 0;

	if (!g_ascii_isdigit(**p))
		return false;
	for (; g_ascii_isdigit(**p); (*p)++) {
		n = n * 10 + (uint64_t)g_ascii_digit_value(**p);
		if (n > TOOLS_VERSION_MAX)
			return false;
	}
	*ret = (uint32_t)n;
	return true;
}

bool tools_version_parse(const char *text, struct tools_version *ret)
{
	struct tools_version v = { 0 };

	if (text == NULL)
		return false;
	if (text[0] == 'v')
		text++;
	while (v.n < TOOLS_VERSION_PARTS) {
		if (!take_number(&text, &v.part[v.n]))
			return false;
		v.n++;
		if (text[0] != '.' || !g_ascii_isdigit(text[1]))
			break;
		text++;
	}
	*ret = v;
	return true;
}

int tools_version_compare(const struct tools_version *v, const struct tools_version *wanted)
{
	for (unsigned i = 0; i < wanted->n; i++) {
		uint32_t part = i < v->n ? v->part[i] : 0;

		if (part != wanted->part[i])
			return part < wanted->part[i] ? -1 : 1;
	}
	return 0;
}
