/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One verb on many vms: all are asked for first, so that they run side by side
 * as far as their hosts let them, and then each one's end is waited for.
 */
#include "base/str.h"
#include "cli/nouns.h"

#include <stdio.h>
#include <string.h>

/* One vm that was asked about. */
typedef struct Asked {
	char *name;
	Json *operation;
} Asked;

static void asked_free(gpointer p)
{
	Asked *a = p;

	g_free(a->name);
	json_unref(a->operation);
	g_free(a);
}

/* The first is kept for the end, where it is told with its advice: one bad name does not hold up the rest. */
static void note_failure(GError *failure, GError **first)
{
	if (*first == NULL) {
		*first = failure;
		return;
	}
	fprintf(stderr, "plim: %s\n", failure->message);
	g_error_free(failure);
}

static char *list_path(Cli *c, const char *states)
{
	g_autofree char *state = states != NULL ? g_strconcat("runtime.state=in:", states, NULL) : NULL,
			*query = NULL;
	GString *q = g_string_new(NULL);

	if (state != NULL)
		query_add(q, "filter", state);
	for (const char *const *f = cli_list(c, "filter"); *f != NULL; f++)
		query_add(q, "filter", *f);
	query = g_string_free(q, FALSE);
	return g_strconcat("/v1/vms", query, NULL);
}

GStrv vm_names_of_all(Cli *c, const char *states, GError **err)
{
	g_autofree char *path = list_path(c, states);
	_cleanup_json_ Json *list = client_call(c->client, "GET", path, NULL, err);
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();
	const Json *vm;
	size_t i;

	json_array_foreach((Json *)list, i, vm) g_strv_builder_add(b, json_str(vm, "name"));
	return list != NULL ? g_strv_builder_end(b) : NULL;
}

/* The names that were given, or of all vms that the verb has something to do for. */
static GStrv names_of(Cli *c, const struct many *m, GError **err)
{
	if (!cli_has(c, "all") && c->args[0] == NULL) {
		fail_advice(err, ERR_INVALID, "Write names of vms, or --all.", "no vm is named");
		return NULL;
	}
	if (!cli_has(c, "all") && cli_text(c, "filter") == NULL)
		return g_strdupv(c->args);
	if (!cli_has(c, "all") || c->args[0] != NULL) {
		fail_advice(err, ERR_INVALID, "Write names, or --all with or without --filter.",
			    "names and --all or --filter exclude each other");
		return NULL;
	}
	return vm_names_of_all(c, m->states, err);
}

static Asked *ask(Cli *c, const struct many *m, const char *name, GError **err)
{
	g_autofree char *rest = g_strconcat("/actions/", m->verb, NULL), *path = cli_path("vms", name, rest);
	g_autofree char *full = g_strconcat(path, m->query, NULL);
	Json *op = client_call(c->client, "POST", full, m->body, err);
	Asked *a;

	if (op == NULL)
		return NULL;
	a = g_new(Asked, 1);
	*a = (Asked){ g_strdup(name), op };
	return a;
}

static GPtrArray *ask_all(Cli *c, const struct many *m, GStrv names, GError **first)
{
	GPtrArray *all = g_ptr_array_new_with_free_func(asked_free);

	for (char **name = names; *name != NULL; name++) {
		GError *e = NULL;
		Asked *a = ask(c, m, *name, &e);

		if (a == NULL)
			note_failure(e, first);
		else
			g_ptr_array_add(all, a);
	}
	return all;
}

static void follow_all(Cli *c, const struct many *m, const GPtrArray *all, uint64_t deadline, GError **first)
{
	for (guint i = 0; i < all->len; i++) {
		const Asked *a = all->pdata[i];
		GError *e = NULL;

		if (cli_follow_until(c, a->operation, deadline, &e))
			printf("%s was %s\n", a->name, m->past);
		else
			note_failure(e, first);
		fflush(stdout);
	}
}

static bool act_on_all(Cli *c, const struct many *m, GStrv names, GError **err)
{
	g_autoptr(GPtrArray) all = NULL;
	GError *first = NULL;
	uint64_t deadline;

	if (!cli_deadline(c, &deadline, err))
		return false;
	all = ask_all(c, m, names, &first);
	if (cli_has(c, "no-wait"))
		for (guint i = 0; i < all->len; i++)
			printf("%s\n", json_str(((const Asked *)all->pdata[i])->operation, "id"));
	else
		follow_all(c, m, all, deadline, &first);
	if (first == NULL)
		return true;
	g_propagate_error(err, first);
	return false;
}

static bool act_on_one(Cli *c, const struct many *m, const char *name, GError **err)
{
	g_autofree char *rest = g_strconcat("/actions/", m->verb, NULL), *path = cli_path("vms", name, rest);
	g_autofree char *done = g_strdup_printf("%s was %s", name, m->past);

	return cli_operate(c, "POST", path, m->query, json_ref(m->body), done, err);
}

/* Plans, one after the other. */
static bool plan_all(Cli *c, const struct many *m, GStrv names, GError **err)
{
	GError *first = NULL;

	for (char **name = names; *name != NULL; name++) {
		GError *e = NULL;

		if (!act_on_one(c, m, *name, &e))
			note_failure(e, &first);
	}
	if (first == NULL)
		return true;
	g_propagate_error(err, first);
	return false;
}

bool vm_many(Cli *c, const struct many *m, GError **err)
{
	g_auto(GStrv) names = names_of(c, m, err);

	if (names == NULL)
		return false;
	if (g_strv_length(names) == 1)
		return act_on_one(c, m, names[0], err);
	if (cli_has(c, "dry-run"))
		return plan_all(c, m, names, err);
	return act_on_all(c, m, names, err);
}
