/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"
#include "base/json.h"

#include <string.h>

static Json *parse(const char *text)
{
	g_autoptr(GError) err = NULL;
	Json *j = json_parse(text, strlen(text), &err);

	g_assert_no_error(err);
	g_assert_nonnull(j);
	return j;
}

static void refuse(const char *text, size_t len)
{
	g_autoptr(GError) err = NULL;

	g_assert_null(json_parse(text, len, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_cmpuint(strlen(err->message), >, 0);
}

static void test_what_is_not_strict_json_is_refused(void)
{
	static const char *const bad[] = {
		"",
		" ",
		"{",
		"}",
		"[",
		"\"",
		"{\"a\":1,}",
		"[1,]",
		"{\"a\":1,\"a\":2}",
		"{\"a\":{\"b\":1,\"b\":1}}",
		"[01]",
		"[-]",
		"[1.]",
		"[.5]",
		"[+1]",
		"[0x1]",
		"NaN",
		"[NaN]",
		"[Infinity]",
		"[-Infinity]",
		"nul",
		"True",
		"{} {}",
		"{}x",
		"1 2",
		"[1]/*c*/",
		"//c\n1",
		"{a:1}",
		"{'a':1}",
		"\"\n\"",
		"\"\\x41\"",
		"\"\xff\"",
		"\"\xc3\"",
		"\"\xed\xa0\x80\"",
		"\"\\ud800\"",
		"\"\xc0\xaf\"",
		"[1e999]",
		"[9223372036854775808]",
		"\xef\xbb\xbf{}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		refuse(bad[i], strlen(bad[i]));
	refuse("{}\0", 3);
	refuse("[1\0]", 4);
}

/* C would see half of such a string, and check only that half. */
static void test_strings_with_nul_are_refused(void)
{
	refuse("\"a\\u0000b\"", 10);
	refuse("\"\\u0000\"", 8);
	refuse("[{\"k\":\"web\\u0000../x\"}]", 23);
}

static void test_nesting_is_bounded(void)
{
	enum { DEEP = 100000, FINE = 1000 };
	g_autofree char *deep = g_strnfill(DEEP, '['), *open = g_strnfill(FINE, '['),
			*close = g_strnfill(FINE, ']'), *fine = g_strconcat(open, close, NULL);
	_cleanup_json_ Json *j = NULL;

	refuse(deep, DEEP);
	j = parse(fine);
	g_assert_true(json_is_array(j));
}

static void test_text_is_bounded(void)
{
	g_autofree char *text = g_strnfill(JSON_TEXT_MAX + 1, ' ');
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = NULL;

	text[0] = '7';
	refuse(text, JSON_TEXT_MAX + 1);
	j = json_parse(text, JSON_TEXT_MAX, &err);
	g_assert_no_error(err);
	g_assert_cmpint(json_integer_value(j), ==, 7);
}

static void test_refusal_tells_the_place(void)
{
	g_autoptr(GError) err = NULL;

	g_assert_null(json_parse("{\n \"a\": x}", 10, &err));
	g_assert_nonnull(strstr(err->message, "line 2"));
}

static void test_numbers_are_exact(void)
{
	_cleanup_json_ Json *j = parse("[9007199254740993, 9223372036854775807, -9223372036854775808, 0.5]");
	g_autofree char *text = json_print(j);

	g_assert_cmpint(json_integer_value(json_array_get(j, 0)), ==, INT64_C(9007199254740993));
	g_assert_cmpint(json_integer_value(json_array_get(j, 1)), ==, INT64_MAX);
	g_assert_cmpint(json_integer_value(json_array_get(j, 2)), ==, INT64_MIN);
	g_assert_cmpstr(text, ==, "[9007199254740993,9223372036854775807,-9223372036854775808,0.5]");
}

static void test_wide_integers_are_read_where_a_peer_sends_them(void)
{
	static const char text[] = "{\"n\":18446744073709551615}", bad[] = "{\"n\":18446744073709551615";
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *j = json_parse_wide(text, strlen(text), &err);

	g_assert_no_error(err);
	g_assert_cmpfloat(json_real_value(json_object_get(j, "n")), ==, 18446744073709551615.0);
	json_unref(j);
	j = json_parse_wide("{\"s\":\"a\\u0000b\"}", 16, &err);
	g_assert_no_error(err);
	g_assert_cmpuint(json_string_length(json_object_get(j, "s")), ==, 3);
	g_assert_null(json_parse_wide(bad, strlen(bad), &err));
	g_assert_error(err, ERR, ERR_INVALID);
}

static void test_what_is_printed_reads_back(void)
{
	static const char *const texts[] = {
		"null", "true", "\"\"", "[]", "{}", "{\"b\":1,\"a\":[{},\"\xc3\xa4\\n\\\"\",-1,1.5]}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
		_cleanup_json_ Json *j = parse(texts[i]), *back = NULL, *pretty_back = NULL;
		g_autofree char *text = json_print(j), *pretty = json_print_pretty(j);

		g_assert_cmpstr(text, ==, texts[i]); /* compact, and keys in the order they came */
		g_assert_true(g_str_has_suffix(pretty, "\n"));
		back = parse(text);
		pretty_back = parse(pretty);
		g_assert_true(json_equal(back, j));
		g_assert_true(json_equal(pretty_back, j));
	}
}

static void test_getters_give_the_default_for_other_types(void)
{
	_cleanup_json_ Json *j =
	    parse("{\"s\":\"x\",\"i\":-5,\"u\":5,\"b\":true,\"r\":1.5,\"o\":{},\"a\":[],\"z\":null}");
	static const char *const keys[] = { "s", "i", "u", "b", "r", "o", "a", "z", "none" };

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
		const char *k = keys[i];
		char c = k[1] == '\0' ? k[0] : '?';

		g_assert_cmpstr(json_str(j, k), ==, c == 's' ? "x" : NULL);
		g_assert_cmpint(json_int(j, k, 77), ==, c == 'i' ? -5 : c == 'u' ? 5 : 77);
		g_assert_cmpuint(json_uint(j, k, 77), ==, c == 'u' ? 5 : 77);
		g_assert_cmpint(json_bool(j, k, true), ==, true);
		g_assert_cmpint(json_bool(j, k, false), ==, c == 'b');
		g_assert_true((json_obj(j, k) != NULL) == (c == 'o'));
		g_assert_true((json_arr(j, k) != NULL) == (c == 'a'));
	}
}

/* An answer from outside may be anything; so may what stands where an object was expected. */
static void test_getters_cope_with_what_is_no_object(void)
{
	static const char *const texts[] = { "null", "1", "\"s\"", "[{\"k\":1}]", "true" };

	for (size_t i = 0; i < G_N_ELEMENTS(texts) + 1; i++) {
		_cleanup_json_ Json *j = i < G_N_ELEMENTS(texts) ? parse(texts[i]) : NULL;

		g_assert_null(json_str(j, "k"));
		g_assert_cmpint(json_int(j, "k", 3), ==, 3);
		g_assert_cmpuint(json_uint(j, "k", 3), ==, 3);
		g_assert_true(json_bool(j, "k", true));
		g_assert_null(json_obj(j, "k"));
		g_assert_null(json_arr(j, "k"));
	}
}

static void test_setters_set_what_getters_get(void)
{
	_cleanup_json_ Json *j = json_object();
	g_autofree char *text = NULL;

	json_put_str(j, "s", "x");
	json_put_str(j, "n", NULL);
	json_put_str(j, "bytes", "a\xff");
	json_put_int(j, "i", INT64_MIN);
	json_put_uint(j, "u", INT64_MAX);
	json_put_bool(j, "b", true);
	json_put(j, "a", json_array());
	json_put_bool(j, "b", false); /* again: replaces */
	text = json_print(j);
	g_assert_cmpstr(text, ==,
			"{\"s\":\"x\",\"n\":null,\"bytes\":\"a\xef\xbf\xbd\",\"i\":-9223372036854775808,"
			"\"u\":9223372036854775807,\"b\":false,\"a\":[]}");
}

static void test_merge_replaces_adds_and_removes(void)
{
	_cleanup_json_ Json *into = parse("{\"keep\":1,\"replace\":{\"deep\":1},\"remove\":2}"),
			    *from =
				parse("{\"replace\":{\"other\":2},\"remove\":null,\"add\":3,\"none\":null}"),
			    *should = parse("{\"keep\":1,\"replace\":{\"other\":2},\"add\":3}"),
			    *empty = json_object();

	json_merge(into, from);
	g_assert_true(json_equal(into, should));
	json_merge(into, empty);
	g_assert_true(json_equal(into, should));
}

static void test_string_arrays(void)
{
	_cleanup_json_ Json *mixed = parse("[\"a\",1,null,\"b\",[\"c\"]]"), *back = NULL, *empty = NULL;
	g_auto(GStrv) v = json_strv(mixed), none = json_strv(NULL);
	g_autofree char *text = NULL;

	g_assert_cmpuint(g_strv_length(v), ==, 2);
	g_assert_cmpstr(v[0], ==, "a");
	g_assert_cmpstr(v[1], ==, "b");
	g_assert_cmpuint(g_strv_length(none), ==, 0);
	back = json_of_strv((const char *const *)v);
	text = json_print(back);
	g_assert_cmpstr(text, ==, "[\"a\",\"b\"]");
	empty = json_of_strv(NULL);
	g_assert_cmpuint(json_array_size(empty), ==, 0);
}

static void test_foreign_bytes_become_text(void)
{
	_cleanup_json_ Json *bad = json_text_or_escaped("a\xff\xfe\x80z"),
			    *good = json_text_or_escaped("\xc3\xa4"), *none = json_string_or_null(NULL),
			    *some = json_string_or_null("x");

	g_assert_true(g_utf8_validate(json_string_value(bad), -1, NULL));
	g_assert_true(g_str_has_prefix(json_string_value(bad), "a"));
	g_assert_true(g_str_has_suffix(json_string_value(bad), "z"));
	g_assert_cmpstr(json_string_value(good), ==, "\xc3\xa4");
	g_assert_true(json_is_null(none));
	g_assert_cmpstr(json_string_value(some), ==, "x");
}

static void test_references(void)
{
	Json *j = json_object();

	g_assert_true(json_ref(j) == j);
	json_unref(j);
	json_put_int(j, "still", 1); /* the second reference holds it */
	json_unref(j);
	json_unref(NULL);
	g_assert_null(json_ref(NULL));
}

static void test_no_control_character_is_printed_raw(void)
{
	static const char text[] = "a\xc2\x80 b\xc2\x9b c\xc2\x9f d\x7f e\xc2\xa0 f\xc3\x82 g\xe2\x82\xac";
	_cleanup_json_ Json *j = json_object(), *back = NULL;
	g_autofree char *compact = NULL, *pretty = NULL;

	json_put_str(j, text, text);
	compact = json_print(j);
	pretty = json_print_pretty(j);
	g_assert_nonnull(
	    strstr(compact, "a\\u0080 b\\u009b c\\u009f d\\u007f e\xc2\xa0 f\xc3\x82 g\xe2\x82\xac"));
	for (const char *p = pretty; *p != '\0'; p = g_utf8_next_char(p))
		g_assert_true(*p == '\n' || !g_unichar_iscntrl(g_utf8_get_char(p)));
	back = json_parse(pretty, strlen(pretty), NULL);
	g_assert_cmpstr(json_str(back, text), ==, text);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/json/refusals", test_what_is_not_strict_json_is_refused);
	g_test_add_func("/json/nul", test_strings_with_nul_are_refused);
	g_test_add_func("/json/nesting", test_nesting_is_bounded);
	g_test_add_func("/json/length", test_text_is_bounded);
	g_test_add_func("/json/place", test_refusal_tells_the_place);
	g_test_add_func("/json/numbers", test_numbers_are_exact);
	g_test_add_func("/json/wide", test_wide_integers_are_read_where_a_peer_sends_them);
	g_test_add_func("/json/print", test_what_is_printed_reads_back);
	g_test_add_func("/json/controls", test_no_control_character_is_printed_raw);
	g_test_add_func("/json/getters", test_getters_give_the_default_for_other_types);
	g_test_add_func("/json/getters_no_object", test_getters_cope_with_what_is_no_object);
	g_test_add_func("/json/setters", test_setters_set_what_getters_get);
	g_test_add_func("/json/merge", test_merge_replaces_adds_and_removes);
	g_test_add_func("/json/strv", test_string_arrays);
	g_test_add_func("/json/foreign", test_foreign_bytes_become_text);
	g_test_add_func("/json/references", test_references);
	return g_test_run();
}
