/* SPDX-License-Identifier: Apache-2.0 */
#include "core/plan/plan.h"

#include <string.h>

static Plan *start_plan(void)
{
	Plan *p = plan_new();
	Json *args = json_object();

	json_put_str(args, "bridge", "br0");
	plan_add(p, STEP_NET_TAP_ADD, "net0", args);
	plan_add(p, STEP_QEMU_SPAWN, "web1", NULL);
	plan_add(p, STEP_QEMU_CONT, "web1", NULL);
	return p;
}

static void test_a_plan_prints_as_its_steps(void)
{
	g_autoptr(Plan) p = start_plan(), none = plan_new();
	g_autofree char *text = plan_print(p), *empty = plan_print(none);

	g_assert_cmpstr(text, ==, "NET_TAP_ADD net0\nQEMU_SPAWN web1\nQEMU_CONT web1\n");
	g_assert_cmpstr(empty, ==, "");
}

static void test_a_plan_survives_the_store(void)
{
	g_autoptr(Plan) p = start_plan(), back = NULL;
	_cleanup_json_ Json *j = plan_to_json(p), *again = NULL;

	back = plan_of_json(j, NULL);
	g_assert_nonnull(back);
	again = plan_to_json(back);
	g_assert_true(json_equal(j, again));
	g_assert_cmpstr(json_str(plan_step(back, 0)->args, "bridge"), ==, "br0");
	g_assert_cmpint(plan_step(back, 1)->kind, ==, STEP_QEMU_SPAWN);
}

static void test_every_kind_survives_the_store(void)
{
	g_autoptr(Plan) p = plan_new(), back = NULL;
	_cleanup_json_ Json *j = NULL;

	for (StepKind k = 0; k < _STEP_MAX; k++)
		plan_add(p, k, "x", NULL);
	j = plan_to_json(p);
	back = plan_of_json(j, NULL);
	g_assert_nonnull(back);
	for (StepKind k = 0; k < _STEP_MAX; k++) {
		g_assert_cmpint(plan_step(back, k)->kind, ==, k);
		g_assert_cmpstr(step_stage(k), !=, "");
	}
}

static void test_what_this_version_does_not_know_is_refused(void)
{
	static const char *const bad[] = {
		"null",
		"{}",
		"7",
		"[1]",
		"[{\"step\":\"QEMU_DANCE\",\"target\":\"x\",\"args\":{}}]",
		"[{\"step\":\"QEMU_SPAWN\",\"args\":{}}]",
		"[{\"step\":\"QEMU_SPAWN\",\"target\":\"x\"}]",
		"[{\"step\":\"QEMU_SPAWN\",\"target\":\"x\",\"args\":[]}]",
		"[{\"step\":7,\"target\":\"x\",\"args\":{}}]",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;
		_cleanup_json_ Json *j = json_parse(bad[i], strlen(bad[i]), NULL);

		g_assert_null(plan_of_json(j, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
	{
		g_autoptr(GError) err = NULL;

		g_assert_null(plan_of_json(NULL, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

/* A step behind which the plan is finished can't be one that is undone. */
static void test_a_point_of_no_return_has_no_way_back(void)
{
	for (StepKind k = 0; k < _STEP_MAX; k++)
		g_assert_false(step_undoes(k) && step_is_point_of_no_return(k));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/plan/print", test_a_plan_prints_as_its_steps);
	g_test_add_func("/plan/round-trip", test_a_plan_survives_the_store);
	g_test_add_func("/plan/kinds", test_every_kind_survives_the_store);
	g_test_add_func("/plan/bad", test_what_this_version_does_not_know_is_refused);
	g_test_add_func("/plan/no-return", test_a_point_of_no_return_has_no_way_back);
	return g_test_run();
}
