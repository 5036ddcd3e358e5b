/* SPDX-License-Identifier: Apache-2.0 */
/* Whom to ask whether it still lives. */
#include "core/evidence/hang.h"

#include <glib.h>

#define PERIOD UINT64_C(30000000)

static const struct hang_sample spins = { PERIOD, 40, PERIOD, 0 }, sleeps = { PERIOD, 0, 0, 0 },
				crowded = { PERIOD, 40, PERIOD / 10, PERIOD },
				starved = { PERIOD, 40, PERIOD / 50, PERIOD },
				idles = { PERIOD, 12, 3000, 10 },
				works = { PERIOD, 9000, PERIOD / 2, PERIOD / 4 }, unknown = { 0 };

static HangVerdict judge(struct hang_state *state, const struct hang_sample *s, unsigned times)
{
	HangVerdict v = HANG_NOTHING;

	while (times-- > 0)
		v = hang_judge(state, s);
	return v;
}

static void test_idle_and_working_guests_are_never_asked(void)
{
	struct hang_state state = { 0 };

	for (int i = 0; i < 1000; i++) {
		g_assert_cmpint(hang_judge(&state, i % 3 == 0 ? &works : &idles), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, &unknown), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, &starved), ==, HANG_NOTHING);
	}
}

static void test_one_that_spins_or_sleeps_for_good_is_asked(void)
{
	const struct hang_sample *const stuck[] = { &spins, &sleeps, &crowded };

	for (size_t i = 0; i < G_N_ELEMENTS(stuck); i++) {
		struct hang_state state = { 0 };

		g_assert_cmpint(judge(&state, stuck[i], HANG_SAMPLES - 1), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, stuck[i]), ==, HANG_ASK);
		g_assert_cmpint(hang_judge(&state, stuck[i]), ==, HANG_NOTHING);
	}
}

static void test_a_busy_moment_is_no_reason(void)
{
	struct hang_state state = { 0 };

	for (int i = 0; i < 100; i++) {
		g_assert_cmpint(hang_judge(&state, &spins), ==, HANG_NOTHING);
		g_assert_cmpint(hang_judge(&state, &works), ==, HANG_NOTHING);
	}
}

static void test_one_that_computes_is_asked_less_and_less(void)
{
	struct hang_state state = { 0 };
	unsigned n = 0, last = 0, longest = 0;

	for (unsigned i = 1; i <= 2000; i++) {
		if (hang_judge(&state, &spins) != HANG_ASK)
			continue;
		longest = MAX(longest, i - last);
		last = i;
		n++;
	}
	g_assert_cmpuint(longest, ==, HANG_REST_MAX + 1);
	g_assert_cmpuint(n, <, 2000 / HANG_REST_MAX + 10);
}

static void test_an_end_is_told_once_of_those_that_were_asked(void)
{
	struct hang_state state = { 0 };

	g_assert_cmpint(judge(&state, &sleeps, HANG_SAMPLES), ==, HANG_ASK);
	g_assert_cmpint(hang_judge(&state, &works), ==, HANG_OVER);
	g_assert_cmpint(hang_judge(&state, &works), ==, HANG_NOTHING);
	g_assert_cmpint(judge(&state, &spins, HANG_SAMPLES), ==, HANG_ASK);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/hang/healthy", test_idle_and_working_guests_are_never_asked);
	g_test_add_func("/hang/stuck", test_one_that_spins_or_sleeps_for_good_is_asked);
	g_test_add_func("/hang/moment", test_a_busy_moment_is_no_reason);
	g_test_add_func("/hang/computes", test_one_that_computes_is_asked_less_and_less);
	g_test_add_func("/hang/over", test_an_end_is_told_once_of_those_that_were_asked);
	return g_test_run();
}
