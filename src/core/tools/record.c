/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tools/record.h"

#include <string.h>

/* Of a text of the guest: valid, without control characters, not too long. Caller frees. */
static char *plain(const char *text)
{
	g_autofree char *cut = g_strndup(text, 4 * TOOLS_TEXT_MAX), *valid = g_utf8_make_valid(cut, -1);
	char *s = g_utf8_substring(valid, 0, MIN(g_utf8_strlen(valid, -1), TOOLS_TEXT_MAX));

	for (char *p = s; *p != '\0'; p++)
		if (g_ascii_iscntrl(*p))
			*p = ' ';
	return s;
}

static void put_plain(Json *obj, const char *key, const char *text)
{
	g_autofree char *s = text != NULL ? plain(text) : NULL;

	json_put_str(obj, key, s);
}

/* "guest-exec": what a command of an agent looks like. */
static bool is_command(const char *name)
{
	size_t n = strlen(name);

	return n > 0 && n <= TOOLS_NAME_MAX && strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.") == n;
}

static Json *commands_of(const Json *names)
{
	Json *list = json_array();
	const Json *x;
	size_t i;

	json_array_foreach(names, i, x) if (json_is_string(x) && is_command(json_string_value(x)) &&
					    json_array_size(list) < TOOLS_COMMANDS_MAX)
	    json_array_append_new(list, json_string(json_string_value(x)));
	return list;
}

static Json *agent_of(const Json *info)
{
	Json *j = json_object();

	put_plain(j, "version", json_str(info, "version"));
	json_put(j, "commands", commands_of(json_arr(info, "commands")));
	json_put(j, "disabled", commands_of(json_arr(info, "disabled")));
	return j;
}

static Json *os_of(const Json *os)
{
	static const char *const keys[] = { "id", "name", "pretty-name", "version-id", "kernel-release" };
	Json *j;

	if (os == NULL)
		return json_null();
	j = json_object();
	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		if (json_str(os, keys[i]) != NULL)
			put_plain(j, keys[i], json_str(os, keys[i]));
	return j;
}

static Json *drivers_of(const Json *drivers)
{
	Json *list;
	const Json *x;
	size_t i;

	if (drivers == NULL)
		return json_null();
	list = json_array();
	json_array_foreach(drivers, i, x)
	{
		Json *j;

		if (i == TOOLS_DRIVERS_MAX)
			break;
		j = json_object();
		json_put_str(j, "device", json_str(x, "device"));
		put_plain(j, "driver", json_str(x, "driver"));
		put_plain(j, "version", json_str(x, "version"));
		json_array_append_new(list, j);
	}
	return list;
}

Json *tools_record_new(const struct tools_heard *h, const Json *before)
{
	const Json *told = json_arr(before, "told");
	Json *j = json_object();

	json_put_str(j, "seen_at", h->now);
	json_put_str(j, "host", h->host);
	json_put(j, "agent", agent_of(h->info));
	json_put(j, "os", os_of(h->os));
	json_put(j, "drivers", drivers_of(h->drivers));
	json_put(j, "told", told != NULL ? json_deep_copy(told) : json_array());
	return j;
}

bool tools_record_is_windows(const Json *record)
{
	return g_strcmp0(json_str(json_obj(record, "os"), "id"), "mswindows") == 0;
}

/* "7.2.17<7.2.22" */
static char *pair_of(const Json *record, const char *expected)
{
	const char *version = json_str(json_obj(record, "agent"), "version");

	return g_strdup_printf("%s<%s", version != NULL ? version : "", expected);
}

bool tools_record_was_told(const Json *record, const char *expected)
{
	g_autofree char *pair = pair_of(record, expected);
	const Json *x;
	size_t i;

	json_array_foreach(json_arr(record, "told"), i,
			   x) if (g_strcmp0(json_string_value(x), pair) == 0) return true;
	return false;
}

void tools_record_tell(Json *record, const char *expected)
{
	g_autofree char *pair = pair_of(record, expected);
	Json *told = json_arr(record, "told");

	if (told == NULL) {
		told = json_array();
		json_put(record, "told", told);
	}
	json_array_append_new(told, json_string(pair));
	while (json_array_size(told) > TOOLS_TOLD_MAX)
		json_array_remove(told, 0);
}
