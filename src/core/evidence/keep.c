/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/keep.h"

#include <glib.h>
#include <string.h>

#define NAME_MAX_LENGTH 200

/* How many of the same vm come before it. */
static size_t newer_of_vm(const struct evidence_kept *list, size_t at)
{
	size_t n = 0;

	for (size_t i = 0; i < at; i++)
		n += g_str_equal(list[i].vm, list[at].vm);
	return n;
}

void evidence_choose(const struct evidence_kept *list, size_t n, uint64_t quota, size_t per_vm,
		     bool *ret_goes)
{
	uint64_t sum = 0;

	g_assert(per_vm > 0);
	for (size_t i = 0; i < n; i++) {
		ret_goes[i] = newer_of_vm(list, i) >= per_vm;
		sum += ret_goes[i] ? 0 : list[i].bytes;
	}
	for (int newest_too = 0; newest_too <= 1; newest_too++)
		for (size_t i = n; i-- > 1 && sum > quota;) {
			if (ret_goes[i] || (!newest_too && newer_of_vm(list, i) == 0))
				continue;
			ret_goes[i] = true;
			sum -= list[i].bytes;
		}
}

char *evidence_id(const char *vm_name, const char *stamp)
{
	GString *id = g_string_new(vm_name);

	g_string_append_c(id, '-');
	for (const char *p = stamp; *p != '\0'; p++)
		if (g_ascii_isalnum(*p) || *p == '.')
			g_string_append_c(id, *p);
	return g_string_free(id, FALSE);
}

bool evidence_name_ok(const char *name)
{
	if (name[0] == '\0' || name[0] == '.' || strlen(name) > NAME_MAX_LENGTH)
		return false;
	for (const char *p = name; *p != '\0'; p++)
		if (!g_ascii_isalnum(*p) && strchr("-_.", *p) == NULL)
			return false;
	return true;
}
