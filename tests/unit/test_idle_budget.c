/* SPDX-License-Identifier: Apache-2.0 */
/* When an idle guest is told to cost too much, and when no more. */
#include "core/wake/budget.h"

#include <glib.h>

static const struct idle_budget budget = { .wakeups = 100, .cpu = 30000 };

/* Ten seconds of a guest, given per second. */
static struct idle_sample per_second(uint64_t wakeups, uint64_t cpu, uint64_t vcpu_cpu)
{
	return (struct idle_sample){ 10000000, wakeups * 10, cpu * 10, vcpu_cpu * 10 };
}

struct row {
	uint64_t wakeups, cpu, vcpu_cpu;
	BudgetVerdict verdict;
};

static void judge_rows(const struct row *row, size_t n)
{
	struct idle_state state = { 0 };

	for (size_t i = 0; i < n; i++) {
		struct idle_sample s = per_second(row[i].wakeups, row[i].cpu, row[i].vcpu_cpu);

		g_assert_cmpint(idle_judge(&state, &budget, &s), ==, row[i].verdict);
	}
}

static void test_it_is_told_once_and_not_for_a_moment(void)
{
	static const struct row rows[] = {
		{ 900, 0, 0, BUDGET_NOTHING },  { 900, 0, 0, BUDGET_NOTHING }, { 10, 0, 0, BUDGET_NOTHING },
		{ 900, 0, 0, BUDGET_NOTHING },  { 900, 0, 0, BUDGET_NOTHING }, { 900, 0, 0, BUDGET_EXCEEDED },
		{ 900, 0, 0, BUDGET_NOTHING },  { 900, 0, 0, BUDGET_NOTHING }, { 900, 0, 0, BUDGET_NOTHING },
		{ 5000, 0, 0, BUDGET_NOTHING },
	};

	judge_rows(rows, G_N_ELEMENTS(rows));
}

static void test_it_must_stay_well_below_before_it_is_told_again(void)
{
	static const struct row rows[] = {
		{ 900, 0, 0, BUDGET_NOTHING },  { 900, 0, 0, BUDGET_NOTHING },
		{ 900, 0, 0, BUDGET_EXCEEDED }, { 90, 0, 0, BUDGET_NOTHING }, /* between: nothing changes */
		{ 90, 0, 0, BUDGET_NOTHING },   { 90, 0, 0, BUDGET_NOTHING },
		{ 120, 0, 0, BUDGET_NOTHING },  { 120, 0, 0, BUDGET_NOTHING },
		{ 120, 0, 0, BUDGET_NOTHING },  { 50, 0, 0, BUDGET_NOTHING },
		{ 50, 0, 0, BUDGET_NOTHING },   { 50, 0, 0, BUDGET_KEPT_AGAIN },
		{ 50, 0, 0, BUDGET_NOTHING },   { 900, 0, 0, BUDGET_NOTHING },
		{ 900, 0, 0, BUDGET_NOTHING },  { 900, 0, 0, BUDGET_EXCEEDED },
	};

	judge_rows(rows, G_N_ELEMENTS(rows));
}

static void test_a_guest_that_works_is_not_judged(void)
{
	static const struct row rows[] = {
		{ 9000, 90000, 1000000, BUDGET_NOTHING },
		{ 9000, 90000, 1000000, BUDGET_NOTHING },
		{ 9000, 90000, 1000000, BUDGET_NOTHING },
		{ 9000, 90000, 50000, BUDGET_NOTHING },
	};

	judge_rows(rows, G_N_ELEMENTS(rows));
}

static void test_work_between_does_not_count_for_either(void)
{
	static const struct row rows[] = {
		{ 900, 0, 0, BUDGET_NOTHING },       { 900, 0, 0, BUDGET_NOTHING },
		{ 9000, 0, 900000, BUDGET_NOTHING }, { 900, 0, 0, BUDGET_EXCEEDED },
		{ 9, 0, 0, BUDGET_NOTHING },         { 9, 0, 0, BUDGET_NOTHING },
		{ 9000, 0, 900000, BUDGET_NOTHING }, { 9, 0, 0, BUDGET_KEPT_AGAIN },
	};

	judge_rows(rows, G_N_ELEMENTS(rows));
}

static void test_the_guests_own_time_explains_some_wakeups(void)
{
	struct idle_sample disk = per_second(400, 10000, 40000), tablet = per_second(1000, 10000, 8000);

	g_assert_true(idle_cost_of(&disk).idle);
	g_assert_cmpuint(idle_cost_of(&disk).wakeups, ==, 0);
	g_assert_cmpuint(idle_cost_of(&tablet).wakeups, ==, 920);
}

static void test_time_alone_is_enough(void)
{
	static const struct row rows[] = {
		{ 0, 50000, 1000, BUDGET_NOTHING },
		{ 0, 50000, 1000, BUDGET_NOTHING },
		{ 0, 50000, 1000, BUDGET_EXCEEDED },
	};

	judge_rows(rows, G_N_ELEMENTS(rows));
}

static void test_no_limit_is_no_limit(void)
{
	struct idle_budget none = { 0 };
	struct idle_sample s = per_second(90000, 900000, 0), nothing = { 0 };
	struct idle_state state = { 0 };

	for (int i = 0; i < 10; i++)
		g_assert_cmpint(idle_judge(&state, &none, &s), ==, BUDGET_NOTHING);
	g_assert_false(idle_cost_of(&nothing).idle);
	g_assert_cmpint(idle_judge(&state, &budget, &nothing), ==, BUDGET_NOTHING);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/idle_budget/once", test_it_is_told_once_and_not_for_a_moment);
	g_test_add_func("/idle_budget/hysteresis", test_it_must_stay_well_below_before_it_is_told_again);
	g_test_add_func("/idle_budget/working", test_a_guest_that_works_is_not_judged);
	g_test_add_func("/idle_budget/between", test_work_between_does_not_count_for_either);
	g_test_add_func("/idle_budget/explained", test_the_guests_own_time_explains_some_wakeups);
	g_test_add_func("/idle_budget/cpu", test_time_alone_is_enough);
	g_test_add_func("/idle_budget/none", test_no_limit_is_no_limit);
	return g_test_run();
}
