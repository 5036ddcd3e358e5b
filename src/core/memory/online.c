/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory/online.h"

#include <glib.h>
#include <string.h>

static const char *const names[_MEMORY_ONLINE_MAX] = {
#define X(key, name) [MEMORY_ONLINE_##key] = name,
	MEMORY_ONLINE_TABLE(X)
#undef X
};

MemoryOnline memory_online_of(const char *text, size_t len)
{
	while (len > 0 && g_ascii_isspace(text[len - 1]))
		len--;
	for (MemoryOnline o = MEMORY_ONLINE_UNKNOWN + 1; o < _MEMORY_ONLINE_MAX; o++)
		if (len == strlen(names[o]) && memcmp(text, names[o], len) == 0)
			return o;
	return MEMORY_ONLINE_UNKNOWN;
}

const char *memory_online_name(MemoryOnline o)
{
	g_assert(o < _MEMORY_ONLINE_MAX);
	return names[o];
}

/* docs/memory.md has what became of guests that grew to four times their size. */
const char *memory_online_warning(MemoryOnline o)
{
	if (o != MEMORY_ONLINE_MOVABLE)
		return NULL;
	return "its kernel keeps nothing of its own in memory that is plugged in (auto_online_blocks is "
	       "online_movable), and when it grows far above memory.start it can hang or panic; boot it with "
	       "memhp_default_state=online on its kernel's command line";
}
