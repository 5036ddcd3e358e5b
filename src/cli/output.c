/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/output.h"
#include "base/str.h"
#include "base/time.h"

#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>

const Json *json_at(const Json *obj, const char *path)
{
	const Json *v = json_object_get(obj, path);
	const char *dot;

	for (dot = strchr(path, '.'); v == NULL && dot != NULL; dot = strchr(dot + 1, '.')) {
		g_autofree char *head = g_strndup(path, (size_t)(dot - path));

		v = json_at(json_object_get(obj, head), dot + 1);
	}
	return v;
}

char *value_text(const Json *v)
{
	if (v == NULL || json_is_null(v))
		return g_strdup("-");
	return json_is_string(v) ? g_strdup(json_string_value(v)) : json_print(v);
}

char *print_bytes(const Json *value, const Json *object)
{
	(void)object;
	return json_is_integer(value) ? print_size((uint64_t)json_integer_value(value)) : g_strdup("-");
}

char *print_age(const Json *value, const Json *object)
{
	uint64_t then, now = time_real();

	(void)object;
	if (!json_is_string(value) || !time_parse(json_string_value(value), &then) || then > now)
		return g_strdup("-");
	return print_duration((now - then) / 1000000 * 1000000);
}

char *print_strings(const Json *value, const Json *object)
{
	g_auto(GStrv) v = json_strv(value);

	(void)object;
	return v[0] != NULL ? g_strjoinv(", ", v) : g_strdup("-");
}

static char *cell_text(const Column *col, const Json *object)
{
	const Json *v = json_at(object, col->key);

	return col->print != NULL ? col->print(v, object) : value_text(v);
}

static void table_row(struct libscols_table *t, const Column *columns, const Json *object)
{
	struct libscols_line *line = scols_table_new_line(t, NULL);

	g_assert(line != NULL);
	for (size_t i = 0; columns[i].title != NULL; i++) {
		g_autofree char *text = text_harmless(cell_text(&columns[i], object), false);

		scols_line_set_data(line, i, text);
	}
}

static void list_table(const Cli *c, const Json *list, const Column *columns)
{
	struct libscols_table *t = scols_new_table();
	const Json *object;
	size_t i;

	scols_table_enable_noheadings(t, cli_has(c, "no-headers"));
	scols_table_enable_nowrap(t, 1);
	for (i = 0; columns[i].title != NULL; i++)
		scols_table_new_column(t, columns[i].title, 0, columns[i].right ? SCOLS_FL_RIGHT : 0);
	json_array_foreach((Json *)list, i, object) table_row(t, columns, object);
	scols_print_table(t);
	scols_unref_table(t);
}

/* RFC 4180: quotes around what holds a comma, a quote or a line break. */
static void csv_cell(const char *text, bool first)
{
	g_auto(GStrv) parts = NULL;
	g_autofree char *doubled = NULL;

	printf("%s", first ? "" : ",");
	if (strpbrk(text, ",\"\r\n") == NULL) {
		printf("%s", text);
		return;
	}
	parts = g_strsplit(text, "\"", -1);
	doubled = g_strjoinv("\"\"", parts);
	printf("\"%s\"", doubled);
}

static void list_csv(const Cli *c, const Json *list, const Column *columns)
{
	const Json *object;
	size_t i;

	for (i = 0; columns[i].title != NULL && !cli_has(c, "no-headers"); i++)
		csv_cell(columns[i].key, i == 0);
	if (!cli_has(c, "no-headers"))
		printf("\r\n");
	json_array_foreach((Json *)list, i, object)
	{
		for (size_t k = 0; columns[k].title != NULL; k++) {
			g_autofree char *text =
			    text_harmless(value_text(json_at(object, columns[k].key)), true);

			csv_cell(text, k == 0);
		}
		printf("\r\n");
	}
}

static void list_names(const Json *list)
{
	const Json *object;
	size_t i;

	json_array_foreach((Json *)list, i, object)
	{
		const char *name = json_str(object, "name");

		printf("%s\n", name != NULL ? name : json_str(object, "id"));
	}
}

/* JSON strings are YAML's double-quoted scalars; plain ones are nicer where they can't be misread. */
static bool is_plain(const char *s)
{
	static const char *const words[] = {
		"null", "true", "false", "yes", "no", "on", "off", "y", "n", NULL
	};
	g_autofree char *lower = g_ascii_strdown(s, -1);
	bool has_letter = false;

	if (*s == '\0' || g_strv_contains(words, lower) || !g_ascii_isalpha(*s))
		return false;
	for (const char *p = s; *p != '\0'; p++) {
		if (!g_ascii_isalnum(*p) && strchr("-_./ ", *p) == NULL)
			return false;
		has_letter |= g_ascii_isalpha(*p);
	}
	return has_letter && s[strlen(s) - 1] != ' ';
}

static void yaml_scalar(const Json *v)
{
	g_autofree char *text = NULL;

	if (json_is_string(v) && is_plain(json_string_value(v))) {
		printf(" %s\n", json_string_value(v));
		return;
	}
	text = json_print(v);
	printf(" %s\n", text);
}

static void yaml_value(const Json *v, int indent, bool in_list);

static bool is_empty(const Json *v)
{
	return (json_is_object(v) && json_object_size(v) == 0) ||
	       (json_is_array(v) && json_array_size(v) == 0);
}

static void yaml_member(const char *key, const Json *v, int indent)
{
	if (is_plain(key)) {
		printf("%s:", key);
	} else {
		_cleanup_json_ Json *name = json_string(key);
		g_autofree char *text = json_print(name);

		printf("%s:", text);
	}
	if ((json_is_object(v) || json_is_array(v)) && !is_empty(v)) {
		printf("\n");
		yaml_value(v, indent + 2, false);
	} else {
		yaml_scalar(v);
	}
}

static void yaml_list(const Json *v, int indent)
{
	const Json *item;
	size_t i;

	json_array_foreach((Json *)v, i, item)
	{
		printf("%*s-", indent, "");
		if (json_is_object(item) && !is_empty(item)) {
			printf(" ");
			yaml_value(item, indent + 2, true);
		} else if (json_is_array(item) && !is_empty(item)) {
			printf("\n");
			yaml_value(item, indent + 2, false);
		} else {
			yaml_scalar(item);
		}
	}
}

/* Depth is that of API objects: a few levels. */
static void yaml_value(const Json *v, int indent, bool in_list)
{
	const char *key;
	Json *item;
	bool first = true;

	if (json_is_array(v)) {
		yaml_list(v, indent);
		return;
	}
	json_object_foreach((Json *)v, key, item)
	{
		printf("%*s", first && in_list ? 0 : indent, "");
		first = false;
		yaml_member(key, item, indent);
	}
}

static void print_yaml(const Json *v)
{
	if (is_empty(v))
		printf(json_is_array(v) ? "[]\n" : "{}\n");
	else
		yaml_value(v, 0, false);
}

static void output_json(const Json *v)
{
	g_autofree char *text = json_print_pretty(v);

	printf("%s", text);
}

static bool fail_format(const char *format, GError **err)
{
	fail(err, ERR_INVALID, "there is no output format '%s'", format);
	return err_advise(err, "Write one of: table, json, yaml, csv, name.");
}

bool output_list(const Cli *c, const Json *list, const Column *columns, GError **err)
{
	const char *format = cli_text(c, "output");

	if (format == NULL || g_str_equal(format, "table"))
		list_table(c, list, columns);
	else if (g_str_equal(format, "json"))
		output_json(list);
	else if (g_str_equal(format, "yaml"))
		print_yaml(list);
	else if (g_str_equal(format, "csv"))
		list_csv(c, list, columns);
	else if (g_str_equal(format, "name"))
		list_names(list);
	else
		return fail_format(format, err);
	return true;
}

static gint compare_keys(gconstpointer a, gconstpointer b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Members of members are shown by their dotted path, so that one table shows all. */
static void flatten(Json *into, const char *prefix, const Json *object)
{
	const char *key;
	Json *v;

	json_object_foreach((Json *)object, key, v)
	{
		g_autofree char *path = g_strconcat(prefix, key, NULL);

		if (json_is_object(v) && json_object_size(v) > 0) {
			g_autofree char *deeper = g_strconcat(path, ".", NULL);

			flatten(into, deeper, v);
		} else {
			json_object_set(into, path, v);
		}
	}
}

static void rule(size_t a, size_t b)
{
	g_autofree char *x = g_strnfill(a + 2, '-'), *y = g_strnfill(b + 2, '-');

	printf("+%s+%s+\n", x, y);
}

static void property_row(const char *key, const char *value, size_t a, size_t b)
{
	printf("| %s%*s | %s%*s |\n", key, (int)(a - (size_t)g_utf8_strlen(key, -1)), "", value,
	       (int)(b - (size_t)g_utf8_strlen(value, -1)), "");
}

/* Long values go on in the rows below, so that the box stays readable. */
#define VALUE_WIDTH 100

static void property_rows(const char *key, const char *value, size_t a, size_t b)
{
	while (g_utf8_strlen(value, -1) > VALUE_WIDTH) {
		const char *rest = g_utf8_offset_to_pointer(value, VALUE_WIDTH);
		g_autofree char *piece = g_strndup(value, (size_t)(rest - value));

		property_row(key, piece, a, b);
		key = "";
		value = rest;
	}
	property_row(key, value, a, b);
}

/* The form that glance gave to `image-show`: sorted properties in a box. */
static void object_table(const Json *object)
{
	_cleanup_json_ Json *flat = json_object(), *texts = json_object();
	g_autoptr(GPtrArray) keys = g_ptr_array_new();
	size_t a = strlen("Property"), b = strlen("Value");
	const char *key;
	Json *v;

	flatten(flat, "", object);
	json_object_foreach(flat, key, v)
	{
		g_autofree char *text =
		    text_harmless(json_is_null(v) ? g_strdup("None") : value_text(v), false);

		json_put_str(texts, key, text);
		g_ptr_array_add(keys, (gpointer)key);
		a = MAX(a, (size_t)g_utf8_strlen(key, -1));
		b = MAX(b, MIN((size_t)g_utf8_strlen(json_str(texts, key), -1), VALUE_WIDTH));
	}
	g_ptr_array_sort(keys, compare_keys);
	rule(a, b);
	property_row("Property", "Value", a, b);
	rule(a, b);
	for (guint i = 0; i < keys->len; i++)
		property_rows(keys->pdata[i], json_str(texts, keys->pdata[i]), a, b);
	rule(a, b);
}

bool output_object(const Cli *c, const Json *object, GError **err)
{
	const char *format = cli_text(c, "output");

	if (format == NULL || g_str_equal(format, "table"))
		object_table(object);
	else if (g_str_equal(format, "json"))
		output_json(object);
	else if (g_str_equal(format, "yaml"))
		print_yaml(object);
	else if (g_str_equal(format, "name"))
		printf("%s\n",
		       json_str(object, "name") != NULL ? json_str(object, "name") : json_str(object, "id"));
	else if (g_str_equal(format, "csv"))
		return fail_advice(err, ERR_INVALID, "Write table, json, yaml or name.",
				   "one object is not shown as csv");
	else
		return fail_format(format, err);
	return true;
}
