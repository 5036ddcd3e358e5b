/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "core/model/vm_exit.h"

#include <string.h>

static Json *parse(const char *text)
{
	return json_parse(text, strlen(text), NULL);
}

static void judge(const char *policy, const char *exit, const char *runtime, uint64_t ran_for, VmVerdict *v)
{
	g_autoptr(Vm) vm = vm_new();
	_cleanup_json_ Json *e = parse(exit), *r = parse(runtime);

	if (policy != NULL)
		json_put_str(vm->settings, "restart", policy);
	vm_exit_judge(vm, r, e, ran_for, v);
}

static void test_each_end_has_its_state_and_event(void)
{
	static const struct {
		const char *exit;
		VmState state;
		EventType event;
	} cases[] = {
		{ "{\"code\":0,\"shutdown\":\"guest-shutdown\"}", VM_STOPPED, EVENT_VM_STOPPED },
		{ "{\"code\":0,\"shutdown\":\"host-qmp-quit\"}", VM_STOPPED, EVENT_VM_STOPPED },
		{ "{\"code\":1}", VM_CRASHED, EVENT_VM_CRASHED },
		{ "{\"signal\":9}", VM_CRASHED, EVENT_VM_CRASHED },
		{ "{\"code\":null,\"signal\":null,\"shutdown\":null}", VM_CRASHED, EVENT_VM_CRASHED },
		{ "{\"signal\":11,\"shutdown\":\"guest-shutdown\"}", VM_CRASHED, EVENT_VM_CRASHED },
		{ "{\"code\":0,\"shutdown\":\"guest-panic\",\"panicked\":true}", VM_CRASHED,
		  EVENT_VM_PANICKED },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		VmVerdict v;

		judge(NULL, cases[i].exit, "{}", 0, &v);
		g_assert_cmpint(v.state, ==, cases[i].state);
		g_assert_cmpint(v.event, ==, cases[i].event);
		g_assert_nonnull(v.reason);
		g_assert_false(v.restart);
		vm_verdict_done(&v);
	}
}

static void test_restart_follows_the_policy(void)
{
	static const char off[] = "{\"code\":0,\"shutdown\":\"guest-shutdown\"}", dead[] = "{\"signal\":9}";
	static const struct {
		const char *policy, *exit;
		bool restart;
	} cases[] = {
		{ "never", dead, false },     { "on-failure", dead, true }, { "always", dead, true },
		{ "on-failure", off, false }, { "always", off, true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		VmVerdict v;

		judge(cases[i].policy, cases[i].exit, "{\"restarts\":2}", 1000, &v);
		g_assert_cmpint(v.restart, ==, cases[i].restart);
		g_assert_cmpuint(v.delay, ==, cases[i].restart ? 4000000 : 0);
		g_assert_cmpint(v.restarts, ==, cases[i].restart ? 3 : 2);
		vm_verdict_done(&v);
	}
}

static void test_what_ended_with_its_host_comes_back_with_it_when_it_is_to_start_with_it(void)
{
	static const struct {
		bool autostart, host_restarted, restart;
	} cases[] = { { true, true, true }, { false, true, false }, { true, false, false } };

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(Vm) vm = vm_new();
		_cleanup_json_ Json *exit = parse("{\"code\":null,\"signal\":null}"), *r = parse("{}");
		VmVerdict v;

		json_put_bool(vm->settings, "autostart", cases[i].autostart);
		json_put_bool(exit, "host_restarted", cases[i].host_restarted);
		vm_exit_judge(vm, r, exit, 1000, &v);
		g_assert_cmpint(v.restart, ==, cases[i].restart);
		g_assert_cmpint(v.state, ==, VM_CRASHED);
		if (cases[i].host_restarted)
			g_assert_cmpstr(v.reason, ==, "it ended with its host");
		vm_verdict_done(&v);
	}
}

static void test_pauses_grow_to_a_bound_and_calm_resets_them(void)
{
	VmVerdict v;

	for (int64_t n = 1; n < 64; n++) {
		g_assert_cmpuint(vm_restart_delay(n), >=, vm_restart_delay(n - 1));
		g_assert_cmpuint(vm_restart_delay(n), <=, UINT64_C(300000000));
	}
	g_assert_cmpuint(vm_restart_delay(63), ==, UINT64_C(300000000));
	judge("always", "{\"signal\":9}", "{\"restarts\":40}", VM_RESTART_CALM, &v);
	g_assert_cmpuint(v.delay, ==, vm_restart_delay(0));
	g_assert_cmpint(v.restarts, ==, 1);
	vm_verdict_done(&v);
}

#define NOW "2026-11-21T09:30:00Z"

static uint64_t now_and(int64_t us)
{
	uint64_t now;

	g_assert_true(time_parse(NOW, &now));
	return now + (uint64_t)us;
}

/* What the record says of an end, `restarts` of which came before. */
static Json *ended(int64_t restarts)
{
	_cleanup_json_ Json *before = json_object();
	g_autofree char *text = NULL, *at = NULL;
	Json *after = json_object();
	VmVerdict v;

	json_put_int(before, "restarts", restarts);
	text = json_print(before);
	judge("on-failure", "{\"signal\":9}", text, 0, &v);
	at = vm_restart_at(&v, NOW);
	json_put_str(after, "state", vm_state_name(v.state));
	json_put_int(after, "restarts", v.restarts);
	json_put_str(after, "since", NOW);
	json_put_str(after, VM_RESTART_AT, at);
	vm_verdict_done(&v);
	return after;
}

static void test_a_record_says_how_long_its_restart_is_to_wait(void)
{
	for (int64_t n = 0; n < 12; n++) {
		_cleanup_json_ Json *r = ended(n);
		int64_t pause = (int64_t)vm_restart_delay(n);
		const struct {
			int64_t passed, left;
		} cases[] = {
			{ 0, pause },
			{ pause / 4, pause - pause / 4 },
			{ pause, 0 },
			{ pause + 1000000, 0 },
			/* a clock that was set back holds nobody for longer than he has to wait at all */
			{ -INT64_C(3600000000), pause },
		};

		for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
			uint64_t left = 7;

			g_assert_true(vm_restart_left(r, now_and(cases[i].passed), &left));
			g_assert_cmpuint(left, ==, (uint64_t)cases[i].left);
		}
	}
}

static void test_a_record_may_say_of_no_restart(void)
{
	static const char *const none[] = {
		"{\"since\":\"2026-11-21T09:30:02Z\",\"restart_at\":\"2026-11-21T09:30:01Z\"}", "{}",
		"{\"restart_at\":null}", "{\"restart_at\":\"soon\"}", "{\"restart_at\":7,\"restarts\":3}"
	};
	g_autofree char *at = NULL;
	VmVerdict v;

	for (size_t i = 0; i < G_N_ELEMENTS(none); i++) {
		_cleanup_json_ Json *r = parse(none[i]);
		uint64_t left = 7;

		g_assert_false(vm_restart_left(r, now_and(0), &left));
		g_assert_cmpuint(left, ==, 7);
	}
	judge("never", "{\"signal\":9}", "{}", 0, &v);
	at = vm_restart_at(&v, NOW);
	g_assert_null(at);
	vm_verdict_done(&v);
}

static void test_settings_decide_on_a_restart_until_it_is_made(void)
{
	static const struct {
		const char *setting, *value, *runtime;
		bool wanted;
	} cases[] = {
		{ "restart", "on-failure", "{\"state\":\"crashed\",\"exit\":{\"signal\":9}}", true },
		{ "restart", "on-failure", "{\"state\":\"stopped\",\"exit\":{\"code\":0}}", false },
		{ "restart", "always", "{\"state\":\"stopped\",\"exit\":{\"code\":0}}", true },
		{ "restart", "never", "{\"state\":\"crashed\",\"exit\":{\"signal\":9}}", false },
		{ "restart", "always", "{\"state\":\"running\",\"exit\":null}", false },
		{ "restart", "always", "{\"state\":\"suspended\",\"exit\":null}", false },
		{ "on_panic", "restart", "{\"state\":\"crashed\",\"exit\":{\"panicked\":true}}", true },
		{ "on_panic", "restart", "{\"state\":\"crashed\",\"exit\":{\"signal\":9}}", false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autoptr(Vm) vm = vm_new();
		_cleanup_json_ Json *r = parse(cases[i].runtime);

		json_put_str(vm->settings, cases[i].setting, cases[i].value);
		g_assert_cmpint(vm_restart_is_wanted(vm, r), ==, cases[i].wanted);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm-exit/states", test_each_end_has_its_state_and_event);
	g_test_add_func("/vm-exit/policy", test_restart_follows_the_policy);
	g_test_add_func("/vm-exit/host",
			test_what_ended_with_its_host_comes_back_with_it_when_it_is_to_start_with_it);
	g_test_add_func("/vm-exit/pauses", test_pauses_grow_to_a_bound_and_calm_resets_them);
	g_test_add_func("/vm-exit/restart/left", test_a_record_says_how_long_its_restart_is_to_wait);
	g_test_add_func("/vm-exit/restart/none", test_a_record_may_say_of_no_restart);
	g_test_add_func("/vm-exit/restart/wanted", test_settings_decide_on_a_restart_until_it_is_made);
	return g_test_run();
}
