/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/vmm_argv.h"

#include <string.h>

#define MARK "@fd:"

/*
 * The next placeholder of `arg`: where it begins, its name, and *ret_end behind
 * it. NULL when there is none; *ret_end NULL when it is malformed.
 */
static const char *next(const char *arg, const char **ret_end, char **ret_name)
{
	const char *begin = strstr(arg, MARK), *name;
	size_t n;

	*ret_end = NULL;
	*ret_name = NULL;
	if (begin == NULL)
		return NULL;
	name = begin + strlen(MARK);
	n = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");
	if (n == 0 || name[n] != '@')
		return begin;
	*ret_end = name + n + 1;
	*ret_name = g_strndup(name, n);
	return begin;
}

static bool collect(const char *arg, GPtrArray *names, GError **err)
{
	const char *end;
	char *name;

	for (const char *at = arg; next(at, &end, &name) != NULL; at = end) {
		if (end == NULL)
			return fail(err, ERR_INVALID, "'%s' is no descriptor that QEMU can be given", arg);
		if (g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
			g_free(name);
		else
			g_ptr_array_add(names, name);
	}
	return true;
}

GPtrArray *vmm_argv_names(const char *const *argv, GError **err)
{
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

	for (; *argv != NULL; argv++)
		if (!collect(*argv, names, err))
			return NULL;
	return g_steal_pointer(&names);
}

static char *expand(const char *arg, VmmArgvFunc func, void *data)
{
	GString *s = g_string_new(NULL);
	const char *begin, *end;
	char *name;

	while ((begin = next(arg, &end, &name)) != NULL) {
		g_assert(end != NULL);
		g_string_append_len(s, arg, begin - arg);
		g_string_append_printf(s, "%d", func(name, data));
		g_free(name);
		arg = end;
	}
	g_string_append(s, arg);
	return g_string_free(s, FALSE);
}

char **vmm_argv_expand(const char *const *argv, VmmArgvFunc func, void *data)
{
	GPtrArray *v = g_ptr_array_new();

	for (; *argv != NULL; argv++)
		g_ptr_array_add(v, expand(*argv, func, data));
	g_ptr_array_add(v, NULL);
	return (char **)g_ptr_array_free(v, FALSE);
}
