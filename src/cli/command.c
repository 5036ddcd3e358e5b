/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/command.h"
#include "base/str.h"
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>

#define SECOND UINT64_C(1000000)
/* The daemon holds an answer this long; then it is asked again. */
#define WAIT_PIECE 2

const Option global_options[] = {
	{ "socket", 0, OPTION_TEXT, "PATH",
	  "The daemon's socket (PLIMSOLL_SOCKET, else /run/plimsoll/api.sock)" },
	{ "debug", 0, OPTION_FLAG, NULL, "Print the exchange with the daemon on stderr" },
	{ "help", 'h', OPTION_FLAG, NULL, "Say what the command does" },
	{ 0 },
};

static const Option output_options[] = {
	{ "output", 'o', OPTION_TEXT, "FORMAT", "table, json, yaml, csv or name" },
	{ "format", 'f', OPTION_TEXT, "FORMAT", "The same as --output" },
	{ "no-headers", 0, OPTION_FLAG, NULL, "No line of titles in tables and csv" },
	{ 0 },
};

static const Option list_options[] = {
	{ "sort", 0, OPTION_TEXT, "KEY[:desc],...", "Order by these keys" },
	{ "filter", 0, OPTION_LIST, "KEY=VALUE",
	  "Only those where it holds; KEY!=VALUE, KEY=in:A,B; all of several must hold" },
	{ 0 },
};

static const Option change_options[] = {
	{ "dry-run", 'n', OPTION_FLAG, NULL, "Say what would be done and do nothing" },
	{ 0 },
};

static const Option wait_options[] = {
	{ "wait", 0, OPTION_FLAG, NULL, "Wait for the end (the default); --no-wait=false is the same" },
	{ "no-wait", 0, OPTION_FLAG, NULL, "Print the operation's id and return at once" },
	{ "timeout", 't', OPTION_TEXT, "DURATION", "Wait no longer than this; the operation goes on" },
	{ 0 },
};

static const Option many_options[] = {
	{ "all", 'a', OPTION_FLAG, NULL,
	  "All vms that the command has something to do for, instead of names" },
	{ "filter", 0, OPTION_LIST, "KEY=VALUE",
	  "With --all: only those where it holds, as in `plim vm list`" },
	{ 0 },
};

const Option *group_options(OptionGroup group)
{
	switch (group) {
	case GROUP_OUTPUT:
		return output_options;
	case GROUP_LIST:
		return list_options;
	case GROUP_CHANGE:
		return change_options;
	case GROUP_WAIT:
		return wait_options;
	case GROUP_MANY:
		return many_options;
	}
	return NULL;
}

static const Command *find(const char *noun, const char *verb)
{
	for (size_t i = 0; i < n_commands; i++)
		for (const Command *c = commands[i]; c->noun != NULL; c++)
			if (g_str_equal(c->noun, noun) && g_str_equal(c->verb, verb))
				return c;
	return NULL;
}

const Command *command_find(int n, char *const *word, int *ret_words)
{
	g_autofree char *two = n >= 3 ? g_strconcat(word[1], " ", word[2], NULL) : NULL;
	const Command *c = two != NULL ? find(word[0], two) : NULL;

	if (ret_words != NULL)
		*ret_words = c != NULL ? 3 : 2;
	return c != NULL || n < 2 ? c : find(word[0], word[1]);
}

bool cli_has(const Cli *c, const char *option)
{
	return g_hash_table_contains(c->option, option);
}

const char *const *cli_list(const Cli *c, const char *option)
{
	static const char *const none[] = { NULL };
	const char *const *v = g_hash_table_lookup(c->option, option);

	return v != NULL ? v : none;
}

const char *cli_text(const Cli *c, const char *option)
{
	const char *const *v = cli_list(c, option);

	for (; *v != NULL && v[1] != NULL; v++)
		;
	return *v;
}

const char *cli_arg(const Cli *c, unsigned i)
{
	g_assert(i < g_strv_length(c->args));
	return c->args[i];
}

char *cli_path(const char *collection, const char *name, const char *rest)
{
	g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);

	return g_strconcat("/v1/", collection, "/", escaped, rest, NULL);
}

void query_add(GString *query, const char *key, const char *value)
{
	g_autofree char *escaped = g_uri_escape_string(value, NULL, FALSE);

	g_string_append_printf(query, "%c%s=%s", query->len == 0 ? '?' : '&', key, escaped);
}

char *cli_list_query(const Cli *c)
{
	GString *q = g_string_new(NULL);

	if (cli_text(c, "sort") != NULL)
		query_add(q, "sort", cli_text(c, "sort"));
	for (const char *const *f = cli_list(c, "filter"); *f != NULL; f++)
		query_add(q, "filter", *f);
	return g_string_free(q, FALSE);
}

static bool print_plan(const Json *answer)
{
	printf("%s", json_str(answer, "text"));
	return true;
}

static bool is_ended(const Json *op)
{
	static const char *const ends[] = { "done", "failed", "cancelled", NULL };
	const char *status = json_str(op, "status");

	return status != NULL && g_strv_contains(ends, status);
}

bool cli_deadline(const Cli *c, uint64_t *ret, GError **err)
{
	const char *text = cli_text(c, "timeout");
	uint64_t us;

	*ret = UINT64_MAX;
	if (text == NULL)
		return true;
	if (!parse_duration(text, &us, err))
		return false;
	*ret = (uint64_t)g_get_monotonic_time() + us;
	return true;
}

static bool fail_late(const Json *op, GError **err)
{
	fail(err, ERR_TIMEOUT, "%s has not ended in time; it goes on", json_str(op, "kind"));
	return err_advise(err, "`plim operation wait %s` waits for it, `plim operation cancel %s` stops it.",
			  json_str(op, "id"), json_str(op, "id"));
}

/* `progress` may be NULL. The operation as it ended, or NULL. */
static Json *await_end(Cli *c, const Json *operation, uint64_t deadline, Progress *progress, GError **err)
{
	_cleanup_json_ Json *op = json_deep_copy(operation);
	g_autofree char *path = cli_path("operations", json_str(op, "id"), NULL);

	while (!is_ended(op)) {
		uint64_t now = (uint64_t)g_get_monotonic_time();
		g_autofree char *query = g_strdup_printf("%s?wait=%d", path, WAIT_PIECE);
		Json *next;

		if (progress != NULL)
			progress_show(progress, json_str(op, "stage"), (int)json_int(op, "progress", 0));
		if (now >= deadline) {
			fail_late(op, err);
			return NULL;
		}
		next = client_call(c->client, "GET", query, NULL, err);
		if (next == NULL)
			return NULL;
		json_unref(op);
		op = next;
	}
	if (g_str_equal(json_str(op, "status"), "done"))
		return json_ref(op);
	g_propagate_error(err, client_error(json_object_get(op, "error")));
	return NULL;
}

bool cli_follow(Cli *c, const Json *operation, Json **ret_op, GError **err)
{
	Progress *progress;
	uint64_t deadline;
	Json *op;

	if (!cli_deadline(c, &deadline, err))
		return false;
	progress = progress_begin();
	op = await_end(c, operation, deadline, progress, err);
	progress_end(progress);
	if (op == NULL)
		return false;
	if (ret_op != NULL)
		*ret_op = op;
	else
		json_unref(op);
	return true;
}

bool cli_follow_until(Cli *c, const Json *operation, uint64_t deadline, GError **err)
{
	_cleanup_json_ Json *op = await_end(c, operation, deadline, NULL, err);

	return op != NULL;
}

bool cli_operate(Cli *c, const char *method, const char *path, const char *query, Json *body,
		 const char *done, GError **err)
{
	g_autoptr(GString) q = g_string_new(query);
	g_autofree char *full = NULL;
	_cleanup_json_ Json *sent = body, *answer = NULL;

	if (cli_has(c, "dry-run"))
		query_add(q, "dry_run", "true");
	else if (!cli_has(c, "no-wait"))
		query_add(q, "wait", "1");
	full = g_strconcat(path, q->str, NULL);
	answer = client_call(c->client, method, full, sent, err);
	if (answer == NULL)
		return false;
	if (cli_has(c, "dry-run"))
		return print_plan(answer);
	if (cli_has(c, "no-wait")) {
		printf("%s\n", json_str(answer, "id"));
		return true;
	}
	if (!cli_follow(c, answer, NULL, err))
		return false;
	printf("%s\n", done);
	return true;
}
