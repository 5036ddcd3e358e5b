/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route.h"

#include <string.h>

static bool is_variable(const char *segment)
{
	return segment[0] == '{';
}

/* `want` is a route's path cut at its slashes; the first piece of it is empty. */
static bool matches(char **want, const char *const *have)
{
	for (want++; *want != NULL; want++, have++)
		if (*have == NULL || (is_variable(*want) ? *have[0] == '\0' : !g_str_equal(*want, *have)))
			return false;
	return *have == NULL;
}

static void take_variables(char **want, const char *const *have, GHashTable *path)
{
	for (want++; *want != NULL; want++, have++)
		if (is_variable(*want))
			g_hash_table_insert(path, g_strndup(*want + 1, strlen(*want) - 2), g_strdup(*have));
}

const Route *route_find(const char *method, const char *const *segments, GHashTable *path, GError **err)
{
	g_autoptr(GString) others = g_string_new(NULL);

	if (g_str_equal(method, "HEAD"))
		method = "GET";
	for (size_t i = 0; i < n_routes; i++) {
		g_auto(GStrv) want = g_strsplit(routes[i].path, "/", -1);

		if (!matches(want, segments))
			continue;
		if (g_str_equal(routes[i].method, method)) {
			take_variables(want, segments, path);
			return &routes[i];
		}
		g_string_append_printf(others, "%s%s", others->len > 0 ? ", " : "", routes[i].method);
	}
	if (others->len > 0) {
		fail(err, ERR_INVALID, "this path has no method %s", method);
		err_advise(err, "It has: %s.", others->str);
	} else {
		fail_advice(err, ERR_NOT_FOUND, "GET /v1/openapi.json describes the API.",
			    "there is no such path");
	}
	return NULL;
}
