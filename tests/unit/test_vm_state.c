/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/event.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"

#include <string.h>

#define NOW "2026-01-01T00:00:00Z"
#define LATER "2026-01-01T00:00:05Z"

static Json *runtime_in(VmState s)
{
	_cleanup_json_ Json *fresh = vm_runtime_new("host1", NOW);

	return vm_runtime_moved(fresh, s, "test", NOW);
}

/* Written out once more by hand: a slip in the table is a promise broken. */
static void test_every_action_in_every_state(void)
{
	static const char *const allowed[_VM_STATE_MAX] = {
		[VM_STOPPED] = "start delete clone rename change grow restore backup",
		[VM_RUNNING] =
		    "stop kill pause suspend reset reboot migrate backup nmi dump inspect screenshot console agent rename change",
		[VM_PAUSED] =
		    "stop kill suspend resume reset migrate backup dump inspect screenshot console rename change",
		[VM_CRASHED] = "start delete clone rename change grow restore backup",
		[VM_SUSPENDED] = "start kill delete rename",
	};

	for (VmState s = 0; s < _VM_STATE_MAX; s++) {
		g_auto(GStrv) list = g_strsplit(allowed[s], " ", -1);
		_cleanup_json_ Json *rt = runtime_in(s);

		for (VmAction a = 0; a < _VM_ACTION_MAX; a++) {
			g_autoptr(GError) err = NULL;
			bool expect = g_strv_contains((const char *const *)list, vm_action_name(a));

			g_assert_cmpint(vm_allows("web1", rt, a, &err), ==, expect);
			g_assert_cmpint(err == NULL, ==, expect);
			if (expect)
				continue;
			g_assert_error(err, ERR, ERR_BAD_STATE);
			g_assert_nonnull(strstr(err->message, vm_state_name(s)));
			g_assert_nonnull(err_advice(err));
			g_assert_cmpstr(json_str(err_details(err), "state"), ==, vm_state_name(s));
		}
	}
}

static void test_a_vm_without_a_record_is_stopped(void)
{
	g_assert_cmpint(vm_runtime_state(NULL), ==, VM_STOPPED);
	g_assert_true(vm_allows("web1", NULL, VM_ACTION_start, NULL));
	g_assert_false(vm_allows("web1", NULL, VM_ACTION_stop, NULL));
}

static void test_an_operation_under_way_comes_first(void)
{
	_cleanup_json_ Json *rt = runtime_in(VM_RUNNING);
	g_autoptr(GError) err = NULL;

	json_put_str(rt, "operation", "op7");
	g_assert_false(vm_allows("web1", rt, VM_ACTION_stop, &err));
	g_assert_error(err, ERR, ERR_BUSY);
	g_assert_nonnull(strstr(err_advice(err), "op7"));
	g_assert_cmpstr(json_str(err_details(err), "operation"), ==, "op7");
}

static void test_advice_names_a_command_that_is_allowed(void)
{
	for (VmState s = 0; s < _VM_STATE_MAX; s++)
		for (VmAction a = 0; a < _VM_ACTION_MAX; a++) {
			_cleanup_json_ Json *rt = runtime_in(s);
			g_autoptr(GError) err = NULL;

			if (vm_allows("web1", rt, a, &err))
				continue;
			for (VmAction b = 0; b < _VM_ACTION_MAX; b++) {
				g_autofree char *cmd =
				    g_strdup_printf("`plim vm %s web1`", vm_action_name(b));

				if (strstr(err_advice(err), cmd) != NULL)
					g_assert_true(vm_allows("web1", rt, b, NULL));
			}
		}
}

static void test_a_stop_clears_what_belongs_to_the_process(void)
{
	_cleanup_json_ Json *rt = runtime_in(VM_RUNNING), *stopped = NULL, *paused = NULL;

	json_put_int(rt, "pid", 42);
	json_put_str(rt, "started_at", NOW);
	json_put(rt, "addresses", json_array());
	json_put(rt, "applied", json_object());
	paused = vm_runtime_moved(rt, VM_PAUSED, "asked", LATER);
	g_assert_cmpint(json_int(paused, "pid", 0), ==, 42);
	stopped = vm_runtime_moved(rt, VM_STOPPED, "powered off", LATER);
	g_assert_null(json_object_get(stopped, "pid"));
	g_assert_null(json_object_get(stopped, "started_at"));
	g_assert_null(json_object_get(stopped, "addresses"));
	g_assert_nonnull(json_object_get(stopped, "applied"));
	g_assert_cmpstr(json_str(stopped, "reason"), ==, "powered off");
	g_assert_cmpstr(json_str(stopped, "since"), ==, LATER);
	/* the record that was given stays as it was */
	g_assert_cmpint(json_int(rt, "pid", 0), ==, 42);
	g_assert_cmpint(vm_runtime_state(rt), ==, VM_RUNNING);
}

static void test_names_lead_back_to_states(void)
{
	VmState s;

	for (VmState i = 0; i < _VM_STATE_MAX; i++) {
		g_assert_true(vm_state_of_name(vm_state_name(i), &s));
		g_assert_cmpint(s, ==, i);
	}
	g_assert_false(vm_state_of_name("sleeping", &s));
}

static void test_keys_split_into_what_they_were_made_of(void)
{
	g_autofree char *key = key_vm_config("ID"), *name = key_name("vms", "web1");
	g_autofree char *c = NULL, *i = NULL, *r = NULL, *c2 = NULL, *i2 = NULL, *r2 = NULL, *host = NULL,
			*c3 = NULL, *i3 = NULL, *r3 = NULL;
	static const char *const no[] = { "",
					  "/plimsoll/v1/pool",
					  "/plimsoll/v2/vms/ID",
					  "/plimsoll/v1/vms/",
					  "/plimsoll/v1//ID",
					  "plimsoll/v1/vms/ID" };

	g_assert_true(key_split(key, &c, &i, &r));
	g_assert_cmpstr(c, ==, "vms");
	g_assert_cmpstr(i, ==, "ID");
	g_assert_cmpstr(r, ==, "config");
	g_assert_true(key_split(name, &c2, &i2, &r2));
	g_assert_cmpstr(c2, ==, "names");
	g_assert_cmpstr(r2, ==, "web1");
	host = key_host("h");
	g_assert_true(key_split(host, &c3, &i3, &r3));
	g_assert_cmpstr(r3, ==, "");
	for (size_t n = 0; n < G_N_ELEMENTS(no); n++)
		g_assert_false(key_split(no[n], &c, &i, &r));
}

static void test_keys_of_events_sort_as_events_do(void)
{
	g_autofree char *a = key_event(9), *b = key_event(10), *c = key_event(G_MAXUINT64);

	g_assert_cmpstr(a, <, b);
	g_assert_cmpstr(b, <, c);
}

static void test_an_event_says_what_happened_to_what(void)
{
	_cleanup_json_ Json *e = event_new(10, NOW, EVENT_VM_CRASHED, "vm", "ID", "web1", "it fell", NULL),
			    *d = event_new(11, NOW, EVENT_DAEMON_STARTED, NULL, NULL, NULL, "up", NULL);

	g_assert_cmpstr(json_str(e, "type"), ==, "vm.crashed");
	g_assert_cmpstr(json_str(e, "severity"), ==, "error");
	g_assert_cmpstr(json_str(json_obj(e, "object"), "name"), ==, "web1");
	g_assert_nonnull(json_obj(e, "details"));
	g_assert_true(json_is_null(json_object_get(d, "object")));
	for (EventType t = 0; t < _EVENT_MAX; t++)
		g_assert_nonnull(strchr(event_type_name(t), '.'));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vm-state/table", test_every_action_in_every_state);
	g_test_add_func("/vm-state/no-record", test_a_vm_without_a_record_is_stopped);
	g_test_add_func("/vm-state/busy", test_an_operation_under_way_comes_first);
	g_test_add_func("/vm-state/advice", test_advice_names_a_command_that_is_allowed);
	g_test_add_func("/vm-state/stop", test_a_stop_clears_what_belongs_to_the_process);
	g_test_add_func("/vm-state/names", test_names_lead_back_to_states);
	g_test_add_func("/keys/split", test_keys_split_into_what_they_were_made_of);
	g_test_add_func("/keys/events", test_keys_of_events_sort_as_events_do);
	g_test_add_func("/event/new", test_an_event_says_what_happened_to_what);
	return g_test_run();
}
