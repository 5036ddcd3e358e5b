/* SPDX-License-Identifier: Apache-2.0 */
/* Which bundles of evidence stay, which dump a guest gets, and whether it has room. */
#include "core/evidence/dump.h"
#include "core/evidence/keep.h"

#include <string.h>

#define MANY 8
#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

static void choose(const struct evidence_kept *list, size_t n, uint64_t quota, size_t per_vm,
		   const char *goes)
{
	bool ret[MANY];
	char text[MANY + 1] = "";

	g_assert_cmpuint(n, <=, MANY);
	evidence_choose(list, n, quota, per_vm, ret);
	for (size_t i = 0; i < n; i++)
		text[i] = ret[i] ? 'x' : '.';
	g_assert_cmpstr(text, ==, goes);
}

static void test_the_newest_of_each_vm_goes_last(void)
{
	static const struct evidence_kept list[] = { { "a", 100 }, { "b", 100 }, { "a", 100 }, { "c", 100 } };

	choose(list, 4, 400, 5, "....");
	choose(list, 4, 300, 5, "..x.");
	choose(list, 4, 200, 5, "..xx");
	choose(list, 4, 100, 5, ".xxx");
}

static void test_the_newest_of_all_stays_however_large(void)
{
	static const struct evidence_kept list[] = { { "a", 1000 }, { "b", 1 } };

	choose(list, 2, 10, 5, ".x");
	choose(list, 1, 0, 1, ".");
	choose(list, 0, 0, 1, "");
}

static void test_the_oldest_go_first(void)
{
	static const struct evidence_kept list[] = {
		{ "a", 10 }, { "a", 20 }, { "a", 30 }, { "b", 5 }, { "b", 40 }
	};

	choose(list, 5, 65, 5, "....x");
	choose(list, 5, 64, 5, "..x.x");
	choose(list, 5, 15, 5, ".xx.x");
}

static void test_no_vm_has_more_than_its_number(void)
{
	static const struct evidence_kept list[] = { { "a", 1 }, { "a", 1 }, { "a", 1 }, { "a", 1 },
						     { "a", 1 }, { "a", 1 }, { "a", 1 }, { "b", 1 } };

	choose(list, 8, 100, 5, ".....xx.");
	choose(list, 8, 100, 1, ".xxxxxx.");
}

static void test_what_stays_is_within_the_quota(void)
{
	static const char *const names[] = { "a", "b", "c" };

	for (int round = 0; round < 2000; round++) {
		struct evidence_kept list[MANY];
		bool goes[MANY];
		size_t n = (size_t)g_random_int_range(1, MANY + 1);
		uint64_t quota = (uint64_t)g_random_int_range(0, 400), sum = 0;

		for (size_t i = 0; i < n; i++)
			list[i] = (struct evidence_kept){ names[g_random_int_range(0, 3)],
							  (uint64_t)g_random_int_range(0, 100) };
		evidence_choose(list, n, quota, 3, goes);
		g_assert_false(goes[0]);
		for (size_t i = 1; i < n; i++)
			sum += goes[i] ? 0 : list[i].bytes;
		g_assert_true(sum == 0 || sum + list[0].bytes <= quota);
	}
}

static void test_names_are_no_paths(void)
{
	static const char *const bad[] = { "", ".", "..", ".x", "a/b", "../a", "a\nb", "a b", "ä" };
	g_autofree char *id = evidence_id("web_1", "2026-11-21T08:35:36.116255Z"),
			*longest = g_strnfill(201, 'a');

	g_assert_cmpstr(id, ==, "web_1-20261121T083536.116255Z");
	g_assert_true(evidence_name_ok(id));
	g_assert_false(evidence_name_ok(longest));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(evidence_name_ok(bad[i]));
}

static void formats(const char *policy, const char *os_type, const char *expected)
{
	g_autofree char *list = g_strjoinv(" ", (char **)dump_forms_of_policy(policy, os_type));

	g_assert_cmpstr(list, ==, expected);
}

static void test_a_guest_gets_the_format_that_suits_it(void)
{
	formats("none", "linux", "");
	formats("kdump", "linux", "kdump-zlib");
	formats("kdump", NULL, "kdump-zlib");
	formats("kdump", "windows", "win-dmp elf");
	formats("elf", "windows", "elf");
	g_assert_cmpstr(dump_form_usual("windows"), ==, "win-dmp");
	g_assert_cmpstr(dump_form_usual(NULL), ==, "kdump-zlib");
	for (const char *const *f = dump_forms_of_policy("kdump", "windows"); *f != NULL; f++)
		g_assert_nonnull(dump_form_find(*f));
	g_assert_null(dump_form_find("kdump-lzo"));
}

static void test_a_dump_is_refused_before_it_begins(void)
{
	static const struct {
		uint64_t need, free, total, quota;
		bool unasked;
		int code; /* -1: it fits */
	} cases[] = {
		{ GIB, GIB, 100 * GIB, 0, false, -1 },
		{ GIB, GIB - 1, 100 * GIB, 0, false, ERR_NO_SPACE },
		{ GIB, 6 * GIB, 100 * GIB, GIB, true, -1 },
		{ GIB, 6 * GIB - 1, 100 * GIB, GIB, true, ERR_NO_SPACE },
		{ GIB, 1, 100 * GIB, GIB, true, ERR_NO_SPACE },
		{ GIB, 100 * GIB, 100 * GIB, GIB - 1, true, ERR_LIMIT },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const struct dump_room room = { cases[i].need, cases[i].free, cases[i].total,
						cases[i].quota };
		g_autoptr(GError) err = NULL;

		g_assert_cmpint(dump_fits(&room, "/evidence", cases[i].unasked, &err), ==,
				cases[i].code == -1);
		if (cases[i].code == -1) {
			g_assert_no_error(err);
			continue;
		}
		g_assert_error(err, ERR, cases[i].code);
		g_assert_nonnull(err_advice(err));
	}
}

static void test_the_bound_leaves_room_for_headers(void)
{
	g_assert_cmpuint(dump_bound(0), >=, 16 * MIB);
	/* QEMU's kdump has 24 bytes for each page of 4 KiB and two bitmaps. */
	g_assert_cmpuint(dump_bound(64 * GIB), >,
			 64 * GIB + 64 * GIB / 4096 * 24 + 2 * (64 * GIB / 4096 / 8));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/evidence/newest", test_the_newest_of_each_vm_goes_last);
	g_test_add_func("/evidence/newest-of-all", test_the_newest_of_all_stays_however_large);
	g_test_add_func("/evidence/oldest", test_the_oldest_go_first);
	g_test_add_func("/evidence/number", test_no_vm_has_more_than_its_number);
	g_test_add_func("/evidence/quota", test_what_stays_is_within_the_quota);
	g_test_add_func("/evidence/names", test_names_are_no_paths);
	g_test_add_func("/evidence/formats", test_a_guest_gets_the_format_that_suits_it);
	g_test_add_func("/evidence/room", test_a_dump_is_refused_before_it_begins);
	g_test_add_func("/evidence/bound", test_the_bound_leaves_room_for_headers);
	return g_test_run();
}
