/* SPDX-License-Identifier: Apache-2.0 */
/* The pure parts below a QMP connection: lines, messages, forms. */
#include "engine/form.h"
#include "engine/lines.h"
#include "engine/qmp_wire.h"

static bool collect(const char *line, size_t len, void *data)
{
	g_ptr_array_add(data, g_strndup(line, len));
	return true;
}

static void test_lines_come_whole_however_they_are_cut(void)
{
	static const char text[] = "one\r\n\ntwo three\nfour\r\nrest";
	static const char *const want[] = { "one", "", "two three", "four" };

	for (size_t step = 1; step < sizeof text; step++) {
		g_autoptr(GPtrArray) got = g_ptr_array_new_with_free_func(g_free);
		LineReader r;

		line_reader_init(&r, 100);
		for (size_t at = 0; at < strlen(text); at += step)
			g_assert_true(line_reader_feed(&r, text + at, MIN(step, strlen(text) - at), collect,
						       got, NULL));
		g_assert_cmpuint(got->len, ==, G_N_ELEMENTS(want));
		for (guint i = 0; i < got->len; i++)
			g_assert_cmpstr(got->pdata[i], ==, want[i]);
		g_assert_cmpuint(r.rest->len, ==, 4);
		line_reader_done(&r);
	}
}

static void test_a_line_beyond_the_bound_is_refused(void)
{
	g_autoptr(GPtrArray) got = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) e = NULL;
	LineReader r;

	line_reader_init(&r, 4);
	g_assert_true(line_reader_feed(&r, "1234\n12", 7, collect, got, &e));
	g_assert_no_error(e);
	g_assert_cmpuint(got->len, ==, 1);
	g_assert_false(line_reader_feed(&r, "345\n", 4, collect, got, &e));
	g_assert_error(e, ERR, ERR_LIMIT);
	g_clear_error(&e);
	line_reader_clear(&r);
	g_assert_false(line_reader_feed(&r, "12345", 5, collect, got, &e));
	g_assert_error(e, ERR, ERR_LIMIT);
	g_assert_cmpuint(got->len, ==, 1);
	line_reader_done(&r);
}

static bool stop(const char *line, size_t len, void *data)
{
	(void)line, (void)len;
	(*(unsigned *)data)++;
	return false;
}

static void test_a_reader_of_lines_may_end_it(void)
{
	unsigned n = 0;
	LineReader r;

	line_reader_init(&r, 100);
	g_assert_true(line_reader_feed(&r, "a\nb\nc\n", 6, stop, &n, NULL));
	g_assert_cmpuint(n, ==, 1);
	line_reader_done(&r);
}

static bool parse(const char *line, QmpMessage *m)
{
	g_autoptr(GError) e = NULL;
	bool ok = qmp_message_parse(line, strlen(line), m, &e);

	if (!ok)
		g_assert_error(e, ERR, ERR_QEMU);
	return ok;
}

static void test_messages_are_told_apart(void)
{
	g_auto(QmpMessage) m = { 0 };

	g_assert_true(parse("{\"QMP\": {\"version\": {}, \"capabilities\": []}}", &m));
	g_assert_cmpint(m.kind, ==, QMP_GREETING);
	qmp_message_clear(&m);
	g_assert_true(parse("{\"return\": {\"a\": 1}, \"id\": 7}", &m));
	g_assert_cmpint(m.kind, ==, QMP_RETURN);
	g_assert_true(m.has_id);
	g_assert_cmpuint(m.id, ==, 7);
	g_assert_cmpint(json_int(m.value, "a", 0), ==, 1);
	qmp_message_clear(&m);
	g_assert_true(parse("{\"error\": {\"class\": \"C\", \"desc\": \"D\"}}", &m));
	g_assert_cmpint(m.kind, ==, QMP_ERROR);
	g_assert_false(m.has_id);
	g_assert_cmpstr(m.name, ==, "C");
	g_assert_cmpstr(m.text, ==, "D");
	qmp_message_clear(&m);
	g_assert_true(parse("{\"event\": \"E\", \"timestamp\": {\"seconds\": 2, \"microseconds\": 3}}", &m));
	g_assert_cmpint(m.kind, ==, QMP_EVENT);
	g_assert_cmpuint(m.real_us, ==, 2000003);
	g_assert_true(json_is_object(m.value));
}

static void test_what_is_no_message_is_refused(void)
{
	static const char *const bad[] = {
		"",
		"{",
		"[]",
		"7",
		"null",
		"{}",
		"{\"return\": {}, \"id\": \"x\"}",
		"{\"return\": {}, \"id\": -1}",
		"{\"return\": {}, \"id\": 1e300}",
		"{\"error\": 1, \"id\": 1}",
		"{\"error\": {\"class\": 1, \"desc\": \"x\"}, \"id\": 1}",
		"{\"error\": {\"desc\": \"x\"}, \"id\": 1}",
		"{\"event\": 3}",
		"{\"return\": {}, \"return\": {}}",
		"{\"return\": \"\xff\xfe\"}",
		"{\"return\": NaN}",
	};
	QmpMessage m;

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(parse(bad[i], &m));
}

static void test_nesting_is_bounded(void)
{
	g_autofree char *deep = g_strnfill(100000, '[');
	QmpMessage m;

	g_assert_false(parse(deep, &m));
}

static void test_times_and_numbers_beyond_range_do_no_harm(void)
{
	g_auto(QmpMessage) m = { 0 };

	g_assert_true(parse("{\"event\": \"E\", \"timestamp\": {\"seconds\": 9223372036854775807, "
			    "\"microseconds\": 999999}}",
			    &m));
	g_assert_cmpuint(m.real_us, ==, 0);
	qmp_message_clear(&m);
	/* A Windows guest chooses these. */
	g_assert_true(parse("{\"event\": \"GUEST_PANICKED\", \"data\": {\"action\": \"pause\", \"info\": "
			    "{\"type\": \"hyper-v\", \"arg1\": 18446744073709551615}}}",
			    &m));
	g_assert_cmpstr(m.name, ==, "GUEST_PANICKED");
	qmp_message_clear(&m);
	g_assert_true(parse("{\"return\": 18446744073709551615, \"id\": 12}", &m));
	g_assert_cmpuint(m.id, ==, 12);
}

static void test_request_is_one_line(void)
{
	_cleanup_json_ Json *args = json_object();
	g_autofree char *with = NULL, *without = qmp_request_print("stop", NULL, 1);

	json_put_str(args, "path", "a\nb");
	with = qmp_request_print("qom-get", args, 2);
	g_assert_cmpstr(without, ==, "{\"execute\":\"stop\",\"id\":1}\n");
	g_assert_cmpstr(with, ==, "{\"execute\":\"qom-get\",\"arguments\":{\"path\":\"a\\nb\"},\"id\":2}\n");
}

static void test_refusals_keep_qemus_text(void)
{
	g_autoptr(GError) plain = qmp_refusal("cont", "GenericError", "no, because");
	g_autoptr(GError) none = qmp_refusal("cont", "CommandNotFound", "not found");
	g_autoptr(GError) device = qmp_refusal("device_del", "DeviceNotFound", "no such");
	g_autoptr(GError) inactive = qmp_refusal("balloon", "DeviceNotActive", "no balloon");
	g_autoptr(GError) future = qmp_refusal("cont", "SomethingNew", "x");

	g_assert_error(plain, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(plain->message, "no, because"));
	g_assert_cmpstr(json_str(err_details(plain), "command"), ==, "cont");
	g_assert_cmpstr(json_str(err_details(plain), "class"), ==, "GenericError");
	g_assert_error(none, ERR, ERR_UNSUPPORTED);
	g_assert_nonnull(err_advice(none));
	g_assert_error(device, ERR, ERR_NOT_FOUND);
	g_assert_error(inactive, ERR, ERR_BAD_STATE);
	g_assert_error(future, ERR, ERR_QEMU);
}

static void test_forms_accept_and_refuse(void)
{
	static const struct {
		const char *form, *value;
		bool sent, read;
	} cases[] = {
		{ "s", "\"x\"", true, true },
		{ "s", "1", false, false },
		{ "s(a|b)", "\"b\"", true, true },
		{ "s(a|b)", "\"c\"", false, true },
		{ "i", "1", true, true },
		{ "i", "1.5", false, false },
		{ "n", "1.5", true, true },
		{ "b", "true", true, true },
		{ "b", "1", false, false },
		{ "*", "null", true, true },
		{ "[i]", "[1, 2]", true, true },
		{ "[i]", "[1, \"2\"]", false, false },
		{ "[i]", "{}", false, false },
		{ "{}", "{}", true, true },
		{ "{}", "{\"a\": 1}", false, true },
		{ "{...}", "{\"a\": 1}", true, true },
		{ "{a:i b?:s}", "{\"a\": 1}", true, true },
		{ "{a:i b?:s}", "{\"a\": 1, \"b\": 2}", false, false },
		{ "{a:i b?:s}", "{\"b\": \"x\"}", false, false },
		{ "{a:[{b:s(x|y)}]}", "{\"a\": [{\"b\": \"x\"}, {\"b\": \"y\"}]}", true, true },
		{ "{a:[{b:s(x|y)}]}", "{\"a\": [{\"b\": \"x\"}, {}]}", false, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		_cleanup_json_ Json *v = json_parse(cases[i].value, strlen(cases[i].value), NULL);

		g_assert_nonnull(v);
		g_assert_cmpint(form_check_text(cases[i].form, v, FORM_SENT, NULL), ==, cases[i].sent);
		g_assert_cmpint(form_check_text(cases[i].form, v, FORM_READ, NULL), ==, cases[i].read);
	}
}

static void test_forms_say_where(void)
{
	static const char text[] = "{\"a\": [{\"b\": \"x\"}, {\"b\": 3}]}";
	_cleanup_json_ Json *v = json_parse(text, strlen(text), NULL);
	g_autoptr(GError) e = NULL;

	g_assert_false(form_check_text("{a:[{b:s}]}", v, FORM_READ, &e));
	g_assert_error(e, ERR, ERR_INVALID);
	g_assert_cmpstr(e->message, ==, "a[1].b: a string is wanted");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/lines/whole", test_lines_come_whole_however_they_are_cut);
	g_test_add_func("/lines/bound", test_a_line_beyond_the_bound_is_refused);
	g_test_add_func("/lines/may-end", test_a_reader_of_lines_may_end_it);
	g_test_add_func("/qmp/wire/kinds", test_messages_are_told_apart);
	g_test_add_func("/qmp/wire/refused", test_what_is_no_message_is_refused);
	g_test_add_func("/qmp/wire/nesting", test_nesting_is_bounded);
	g_test_add_func("/qmp/wire/range", test_times_and_numbers_beyond_range_do_no_harm);
	g_test_add_func("/qmp/wire/request", test_request_is_one_line);
	g_test_add_func("/qmp/wire/refusals", test_refusals_keep_qemus_text);
	g_test_add_func("/form/cases", test_forms_accept_and_refuse);
	g_test_add_func("/form/place", test_forms_say_where);
	return g_test_run();
}
