/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/explain.h"

#include <string.h>

static Json *cause_row(const ArgCause *c)
{
	Json *j = json_object();

	json_put_str(j, "part", c->part);
	cause_put(j, c->cause);
	return j;
}

static Json *argument_rows(const Argv *argv)
{
	Json *rows = json_array();

	for (guint i = 0; i < argv->arg->len; i++) {
		const Arg *a = argv->arg->pdata[i];

		for (guint k = 0; k < a->cause->len; k++) {
			const ArgCause *c = a->cause->pdata[k];
			Json *row = json_object();

			json_put_str(row, "argument", a->option);
			json_put_str(row, "part", c->part);
			cause_put(row, c->cause);
			json_array_append_new(rows, row);
		}
	}
	return rows;
}

/* `key=` at the beginning of the text or behind a comma, up to the next comma. */
static char *member(const char *text, const char *key)
{
	g_auto(GStrv) part = g_strsplit(text, ",", -1);

	for (char **p = part; *p != NULL; p++)
		if (g_str_has_prefix(*p, key))
			return g_strdup(*p);
	return NULL;
}

/*
 * What makes an argument the same one in two command lines: its option, and the
 * name that it gives to something where an option can stand several times.
 */
static char *identity(const Argv *argv, guint index)
{
	static const char *const names[] = { "id=", "node-name=", "chardev=", "property=" };
	const Arg *a = argv->arg->pdata[index];
	const char *equals;

	if (index == 0)
		return g_strdup("qemu");
	if (a->value == NULL)
		return g_strdup(a->option);
	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *m = member(a->value, names[i]);

		if (m != NULL)
			return g_strconcat(a->option, " ", m, NULL);
	}
	equals = strchr(a->value, '=');
	if (g_str_equal(a->option, "-global") && equals != NULL)
		return g_strdup_printf("%s %.*s", a->option, (int)(equals - a->value), a->value);
	return g_strdup(a->option);
}

/* A new QEMU under the same path is a change: the cause of the first argument is its version. */
static bool same(const Arg *a, const Arg *b, bool first)
{
	const ArgCause *ca = a->cause->pdata[0], *cb = b->cause->pdata[0];

	if (first && !g_str_equal(ca->cause->value, cb->cause->value))
		return false;
	return g_str_equal(a->option, b->option) && g_strcmp0(a->value, b->value) == 0;
}

/* identity to Arg */
static GHashTable *by_identity(const Argv *argv)
{
	GHashTable *t = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	for (guint i = 0; i < argv->arg->len; i++)
		g_hash_table_insert(t, identity(argv, i), argv->arg->pdata[i]);
	return t;
}

static bool has_part(const Arg *a, const ArgCause *c)
{
	for (guint i = 0; a != NULL && i < a->cause->len; i++) {
		const ArgCause *other = a->cause->pdata[i];

		if (g_str_equal(other->part, c->part) &&
		    (c->part[0] != '/' || g_str_equal(other->cause->value, c->cause->value)))
			return true;
	}
	return false;
}

/* The parts of `a` that `other` has not. */
static void add_new_parts(Json *rows, const Arg *a, const Arg *other)
{
	for (guint i = 0; a != NULL && i < a->cause->len; i++)
		if (!has_part(other, a->cause->pdata[i]))
			json_array_append_new(rows, cause_row(a->cause->pdata[i]));
}

/* Either may be NULL, not both. A part that only goes is explained by what brought it. */
static Json *change_row(const Arg *was, const Arg *will_be)
{
	Json *row = json_object(), *causes = json_array();
	const Arg *any = will_be != NULL ? will_be : was;

	add_new_parts(causes, will_be, was);
	if (json_array_size(causes) == 0)
		add_new_parts(causes, was, will_be);
	json_put_str(row, "change", was == NULL ? "add" : will_be == NULL ? "remove" : "change");
	json_put_str(row, "argument", any->option);
	json_put_str(row, "was", was != NULL ? was->value : NULL);
	json_put_str(row, "will_be", will_be != NULL ? will_be->value : NULL);
	json_put(row, "causes", causes);
	return row;
}

Json *explain_pending(const Argv *next, const Argv *applied)
{
	g_autoptr(GHashTable) old = NULL, new = NULL;
	Json *rows = json_array();

	if (applied == NULL)
		return rows;
	old = by_identity(applied);
	new = by_identity(next);
	for (guint i = 0; i < next->arg->len; i++) {
		g_autofree char *id = identity(next, i);
		const Arg *a = next->arg->pdata[i], *was = g_hash_table_lookup(old, id);

		if (was == NULL || !same(was, a, i == 0))
			json_array_append_new(rows, change_row(was, a));
	}
	for (guint i = 0; i < applied->arg->len; i++) {
		g_autofree char *id = identity(applied, i);

		if (!g_hash_table_contains(new, id))
			json_array_append_new(rows, change_row(applied->arg->pdata[i], NULL));
	}
	return rows;
}

Json *explain_pending_keys(const Argv *next, const Argv *applied)
{
	_cleanup_json_ Json *rows = explain_pending(next, applied);
	g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
	Json *keys = json_array();
	const Json *row, *cause;
	size_t i, k;

	json_array_foreach(rows, i, row)
	{
		json_array_foreach(json_arr(row, "causes"), k, cause)
		{
			const char *key = json_str(cause, "key");

			if (g_hash_table_add(seen, (gpointer)key))
				json_array_append_new(keys, json_string(key));
		}
	}
	return keys;
}

Json *explain_of(const struct explain *e)
{
	const Argv *shown = e->applied != NULL ? e->applied : e->next;
	Json *j = json_object(), *could_not;

	g_assert(shown != NULL);
	if (e->applied != NULL)
		could_not = e->could_not != NULL ? json_deep_copy(e->could_not) : json_array();
	else
		could_not = profile_could_not_to_json(e->profile);
	json_put(j, "arguments", argument_rows(shown));
	json_put(j, "pending", e->next != NULL ? explain_pending(e->next, e->applied) : json_array());
	json_put(j, "could_not", could_not);
	json_put(j, "blocked", e->blocked != NULL ? err_to_json(e->blocked) : json_null());
	return j;
}
