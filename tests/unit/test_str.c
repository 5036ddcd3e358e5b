/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "base/time.h"

static void test_sizes(void)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{ "0", 0 },
		{ "512", 512 },
		{ "1K", 1024 },
		{ "1KB", 1000 },
		{ "1.5GiB", UINT64_C(3) << 29 },
		{ "2g", UINT64_C(2) << 30 },
		{ "10 TiB", UINT64_C(10) << 40 },
	};
	static const char *const bad[] = { "",          "-1", "1X",   "1.0001K", "G", "9223372036854775808",
					   "99999999T", "1.", "0x10", " 1" };
	uint64_t v;

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
		g_assert_true(parse_size(good[i].text, &v, NULL));
		g_assert_cmpuint(v, ==, good[i].bytes);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_false(parse_size(bad[i], &v, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
	}
}

static void test_durations(void)
{
	uint64_t v;

	g_assert_true(parse_duration("90", &v, NULL));
	g_assert_cmpuint(v, ==, 90000000);
	g_assert_true(parse_duration("1.5min", &v, NULL));
	g_assert_cmpuint(v, ==, 90000000);
	g_assert_true(parse_duration("250ms", &v, NULL));
	g_assert_cmpuint(v, ==, 250000);
	g_assert_false(parse_duration("soon", &v, NULL));
}

static void test_names(void)
{
	static const char *const good[] = { "a", "web-1", "Web.2_x", "0" };
	static const char *const bad[] = {
		"",    "-a",       ".a",   "a/b",
		"a b", "\xc3\xa4", "../x", "a123456789012345678901234567890123456789012345678901234567890123"
	};

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
		g_assert_true(name_check("a vm", good[i], NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(name_check("a vm", bad[i], NULL));
}

static void test_uuids(void)
{
	for (int i = 0; i < 100; i++) {
		g_autofree char *u = uuid_new();

		g_assert_true(uuid_valid(u));
		g_assert_cmpint(u[14], ==, '4');
	}
	g_assert_false(uuid_valid("9e194003-4608-4fe3-b073-00bd2a774a5"));
	g_assert_false(uuid_valid("9E194003-4608-4fe3-b073-00bd2a774a57"));
}

static void test_times_lead_back(void)
{
	uint64_t back;
	g_autofree char *a = time_print(UINT64_C(1479720600000000)),
			*b = time_print(UINT64_C(1479720600000001));

	g_assert_cmpstr(a, ==, "2016-11-21T09:30:00Z");
	g_assert_cmpstr(b, ==, "2016-11-21T09:30:00.000001Z");
	g_assert_true(time_parse(b, &back));
	g_assert_cmpuint(back, ==, UINT64_C(1479720600000001));
	g_assert_false(time_parse("yesterday", &back));
}

static void test_bools_and_numbers(void)
{
	bool b;
	uint64_t v;

	g_assert_true(parse_bool("on", &b, NULL) && b);
	g_assert_true(parse_bool("0", &b, NULL) && !b);
	g_assert_false(parse_bool("maybe", &b, NULL));
	g_assert_true(parse_uint("18446744073709551615", 0, UINT64_MAX, &v, NULL));
	g_assert_false(parse_uint("18446744073709551616", 0, UINT64_MAX, &v, NULL));
	g_assert_false(parse_uint("5", 6, 9, &v, NULL));
	g_assert_false(parse_uint("5x", 0, 9, &v, NULL));
}

static void test_a_text_does_nothing_to_a_terminal(void)
{
	static const struct {
		const char *text, *line, *lines;
	} row[] = {
		{ "plain, \xc3\xa4\xe2\x82\xac", "plain, \xc3\xa4\xe2\x82\xac",
		  "plain, \xc3\xa4\xe2\x82\xac" },
		{ "a\x1b]52;c;eA==\x07z", "a ]52;c;eA== z", "a ]52;c;eA== z" },
		{ "a\nb\rc\td\x7f", "a b c d ", "a\nb c d " },
		{ "\xc2\x9b"
		  "2J\xc2\xa0",
		  "  2J\xc2\xa0", "  2J\xc2\xa0" },
		{ "cut \xc2", "cut \xc2", "cut \xc2" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autofree char *line = text_harmless(g_strdup(row[i].text), false),
				*lines = text_harmless(g_strdup(row[i].text), true);

		g_assert_cmpstr(line, ==, row[i].line);
		g_assert_cmpstr(lines, ==, row[i].lines);
	}
	g_assert_null(text_harmless(NULL, false));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/str/sizes", test_sizes);
	g_test_add_func("/str/durations", test_durations);
	g_test_add_func("/str/names", test_names);
	g_test_add_func("/str/uuids", test_uuids);
	g_test_add_func("/str/times", test_times_lead_back);
	g_test_add_func("/str/bools", test_bools_and_numbers);
	g_test_add_func("/str/a_text_does_nothing_to_a_terminal", test_a_text_does_nothing_to_a_terminal);
	return g_test_run();
}
