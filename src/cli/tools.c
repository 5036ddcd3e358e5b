/* SPDX-License-Identifier: Apache-2.0 */
/* plim tools status, show: what guests' agents and drivers are, and what that costs. */
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>

/* ---- all of them ---- */

static char *print_missing(const Json *value, const Json *object)
{
	GString *s = g_string_new(NULL);
	const Json *x;
	size_t i;

	(void)object;
	json_array_foreach((Json *)value, i, x)
	    g_string_append_printf(s, "%s%s", i > 0 ? ", " : "", json_str(x, "capability"));
	return s->len > 0 ? g_string_free(s, FALSE) : (g_string_free(s, TRUE), g_strdup("-"));
}

static const Column columns[] = {
	{ "NAME", "name", NULL, false },
	{ "HOST", "host", NULL, false },
	{ "STATE", "state", NULL, false },
	{ "AGENT", "agent.state", NULL, false },
	{ "VERSION", "agent.version", NULL, false },
	{ "EXPECTED", "expected", NULL, false },
	{ "DRIFT", "drift", NULL, false },
	{ "SEEN", "agent.seen_at", print_age, true },
	{ "CANNOT", "cannot", print_missing, false },
	{ 0 },
};

static bool tools_status(Cli *c, GError **err)
{
	g_autofree char *query = cli_list_query(c), *path = g_strconcat("/v1/tools", query, NULL);
	_cleanup_json_ Json *list = client_call(c->client, "GET", path, NULL, err);

	return list != NULL && output_list(c, list, columns, err);
}

/* ---- one of them ---- */

static void print_agent(const Json *t)
{
	const Json *agent = json_obj(t, "agent");
	const char *state = json_str(agent, "state"), *version = json_str(agent, "version"),
		   *system = json_str(json_obj(t, "os"), "pretty-name"), *expected = json_str(t, "expected");
	g_autofree char *age = print_age(json_object_get(agent, "seen_at"), agent);

	if (g_str_equal(state, "none")) {
		printf("%s is %s; no agent has ever answered\n", json_str(t, "name"), json_str(t, "state"));
		return;
	}
	printf("%s is %s; its agent %s %s (%s ago)\n", json_str(t, "name"), json_str(t, "state"),
	       version != NULL ? version : "of no version",
	       g_str_equal(state, "connected") ? "came" : "was heard last", age);
	printf("  system:    %s\n", system != NULL ? system : "not known");
	printf("  version:   %s; expected: %s\n", json_str(t, "drift"),
	       expected != NULL ? expected : "nothing");
}

static void print_drivers(const Json *t)
{
	const Json *list = json_arr(t, "drivers"), *x;
	size_t i;

	printf("  drivers:   %s", list == NULL ? "not known" : "");
	json_array_foreach((Json *)list, i, x)
	{
		const char *version = json_str(x, "version"), *driver = json_str(x, "driver");

		printf("%s%s: %s%s%s", i > 0 ? ", " : "", json_str(x, "device"),
		       driver != NULL ? driver : "none", version != NULL ? " " : "",
		       version != NULL ? version : "");
	}
	printf("\n");
}

static void print_names(const Json *t, const char *key, const char *title)
{
	g_autofree char *text = print_strings(json_object_get(t, key), t);

	printf("  %-10s %s\n", title, text);
}

static void print_tools(const Json *t)
{
	const Json *x;
	size_t i;

	print_agent(t);
	print_drivers(t);
	print_names(t, "can", "can:");
	if (json_array_size(json_arr(t, "unknown")) > 0)
		print_names(t, "unknown", "unknown:");
	json_array_foreach(json_arr(t, "cannot"), i, x)
	    printf("  cannot:    %s: %s, because %s\n             %s\n", json_str(x, "capability"),
		   json_str(x, "loss"), json_str(x, "because"), json_str(x, "advice"));
}

static bool tools_show(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/tools");
	_cleanup_json_ Json *t = client_call(c->client, "GET", path, NULL, err);

	if (t == NULL)
		return false;
	if (cli_text(c, "output") != NULL)
		return output_object(c, t, err);
	print_tools(t);
	return true;
}

const Command tools_commands[] = {
	{ "tools", "status", "",
	  "The agent and drivers of every guest of the pool, and what it lacks because of them",
	  "Guests are asked when their agent comes up and not again, so a guest that is off shows what was seen last. "
	  "CANNOT names what the host can do and this guest can't; `plim tools show` says why. DRIFT is its version beside the "
	  "one that its host expects (`plim host set HOST tools.version=7.2`).",
	  "plim tools status --filter drift=older --filter os_type=linux", 0, 0, NULL,
	  GROUP_OUTPUT | GROUP_LIST, NULL, tools_status },
	{ "tools", "show", "NAME", "What one guest's tools are, what they cost, and what to do", NULL, NULL,
	  1, 1, "vms", GROUP_OUTPUT, NULL, tools_show },
	{ 0 },
};
