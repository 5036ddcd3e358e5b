/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every command and event that the program uses, against what QEMU says of
 * itself: recorded schemas (the arguments), and the QEMU of this machine.
 */
#include "base/str.h"
#include "engine/qmp_cmd.h"
#include "schema.h"

static void check_cmd(const Schema *s, const QmpCmd *c)
{
	const char *takes = schema_type_of(s, "command", c->name, "arg-type");
	const char *gives = schema_type_of(s, "command", c->name, "ret-type");
	g_autoptr(Form) args = form_parse(c->args), reply = form_parse(c->reply);
	g_autoptr(GError) e = NULL;

	if (takes == NULL)
		g_error("this QEMU has no command '%s'", c->name);
	if (!schema_check_form(s, takes, args, FORM_SENT, &e))
		g_error("%s, arguments: %s", c->name, e->message);
	if (!schema_check_form(s, gives, reply, FORM_READ, &e))
		g_error("%s, answer: %s", c->name, e->message);
}

static void check_event(const Schema *s, const QmpEvent *ev)
{
	const char *gives = schema_type_of(s, "event", ev->name, "arg-type");
	g_autoptr(Form) data = form_parse(ev->data);
	g_autoptr(GError) e = NULL;

	if (gives == NULL)
		g_error("this QEMU has no event '%s'", ev->name);
	if (!schema_check_form(s, gives, data, FORM_READ, &e))
		g_error("%s: %s", ev->name, e->message);
}

static void check_tables(const Schema *s)
{
	size_t n_cmds, n_events;
	const QmpCmd *cmds = qmp_cmd_table(&n_cmds);
	const QmpEvent *events = qmp_event_table(&n_events);

	for (size_t i = 0; i < n_cmds; i++)
		check_cmd(s, &cmds[i]);
	for (size_t i = 0; i < n_events; i++)
		check_event(s, &events[i]);
}

static void test_recorded(gconstpointer path)
{
	g_autoptr(Schema) s = schema_load(path);

	check_tables(s);
}

/* The check itself must refuse, or the tests above prove nothing. */
static void test_wrong_forms_are_found(gconstpointer path)
{
	static const struct {
		const char *name, *which, *form;
		FormUse use;
	} wrong[] = {
		{ "screendump", "arg-type", "{file:s}", FORM_SENT },
		{ "screendump", "arg-type", "{filename?:s}", FORM_SENT },
		{ "screendump", "arg-type", "{filename:s format?:s(gif)}", FORM_SENT },
		{ "screendump", "arg-type", "{filename:i}", FORM_SENT },
		{ "query-status", "ret-type", "{running:s}", FORM_READ },
		{ "query-status", "ret-type", "{running:b nothing:b}", FORM_READ },
		{ "query-status", "ret-type", "[{running:b}]", FORM_READ },
		{ "query-name", "ret-type", "{name:s}", FORM_READ },
	};
	g_autoptr(Schema) s = schema_load(path);

	for (size_t i = 0; i < G_N_ELEMENTS(wrong); i++) {
		const char *type = schema_type_of(s, "command", wrong[i].name, wrong[i].which);
		g_autoptr(Form) f = form_parse(wrong[i].form);
		g_autoptr(GError) e = NULL;

		g_assert_false(schema_check_form(s, type, f, wrong[i].use, &e));
		g_assert_error(e, ERR, ERR_INVALID);
	}
}

static void test_wrong_values_are_found(gconstpointer path)
{
	static const struct {
		const char *which, *value;
		bool right;
	} values[] = {
		{ "arg-type", "{\"filename\": \"x\", \"format\": \"png\"}", true },
		{ "arg-type", "{\"filename\": \"x\", \"format\": \"gif\"}", false },
		{ "arg-type", "{\"filename\": 1}", false },
		{ "arg-type", "{}", false },
		{ "arg-type", "{\"filename\": \"x\", \"colour\": true}", false },
		{ "ret-type", "{}", true },
		{ "ret-type", "[]", false },
	};
	g_autoptr(Schema) s = schema_load(path);

	for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
		const char *type = schema_type_of(s, "command", "screendump", values[i].which);
		_cleanup_json_ Json *v = json_parse(values[i].value, strlen(values[i].value), NULL);

		g_assert_cmpint(schema_check_value(s, type, v, NULL), ==, values[i].right);
	}
}

static void test_installed(gconstpointer qemu)
{
	const char *argv[] = { PYTHON, RECORDER, qemu, NULL };
	g_autofree char *out = NULL, *errors = NULL;
	g_autoptr(GError) e = NULL;
	g_autoptr(Schema) s = NULL;
	int status = -1;
	Json *all;

	if (*(const char *)qemu == '\0') {
		g_test_skip("no QEMU is installed");
		return;
	}
	g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &errors, &status, &e);
	g_assert_no_error(e);
	g_assert_cmpint(status, ==, 0);
	all = json_parse(out, strlen(out), &e);
	g_assert_no_error(e);
	s = schema_new(all);
	check_tables(s);
}

int main(int argc, char **argv)
{
	static const char recorded[] = SCHEMAS "/7.2.json";

	g_test_init(&argc, &argv, NULL);
	g_test_add_data_func("/qmp/schema/recorded-7.2", recorded, test_recorded);
	g_test_add_data_func("/qmp/schema/wrong-forms-are-found", recorded, test_wrong_forms_are_found);
	g_test_add_data_func("/qmp/schema/wrong-values-are-found", recorded, test_wrong_values_are_found);
	g_test_add_data_func("/qmp/schema/installed", QEMU, test_installed);
	return g_test_run();
}
