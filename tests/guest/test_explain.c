/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/explain.h"
#include "guest_cases.h"

#include <string.h>

static Argv *argv_with(const GuestCase *c, const char *key, const char *json)
{
	g_autoptr(Vm) vm = vm_copy(c->vm);
	g_autoptr(GPtrArray) paths = disk_paths(vm, c->host);
	g_autoptr(Profile) p = NULL;
	g_autoptr(GError) err = NULL;
	Argv *argv;

	if (key != NULL)
		json_put(vm->settings, key, json_parse(json, strlen(json), NULL));
	p = profile_of(vm, c->host, NULL, NULL, &err);
	g_assert_no_error(err);
	argv = argv_of(p, vm, c->host, (const char *const *)paths->pdata, &err);
	g_assert_no_error(err);
	return argv;
}

static void test_equal_configurations_have_nothing_pending(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		g_autoptr(Argv) a = argv_of_case(cases->pdata[i]), b = argv_of_case(cases->pdata[i]),
				stored = NULL;
		_cleanup_json_ Json *rows = explain_pending(a, b), *keys = explain_pending_keys(a, b),
				    *j = NULL, *none = explain_pending(a, NULL), *of_stored = NULL;

		g_assert_cmpuint(json_array_size(rows), ==, 0);
		g_assert_cmpuint(json_array_size(keys), ==, 0);
		g_assert_cmpuint(json_array_size(none), ==, 0);
		j = argv_to_json(b);
		stored = argv_of_json(j, NULL);
		of_stored = explain_pending(a, stored);
		g_assert_cmpuint(json_array_size(of_stored), ==, 0);
	}
}

/* Identities are what a difference is found by: two arguments with one would hide each other. */
static void test_every_argument_is_told_from_every_other(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	_cleanup_json_ Json *empty = json_array();
	g_autoptr(Argv) none = argv_of_json(empty, NULL);

	for (guint i = 0; i < cases->len; i++) {
		g_autoptr(Argv) all = argv_of_case(cases->pdata[i]);
		_cleanup_json_ Json *rows = NULL;

		rows = explain_pending(all, none);
		g_assert_cmpuint(json_array_size(rows), ==, all->arg->len);
	}
}

typedef struct Change {
	const char *key, *json;
	const char *keys; /* of the pending changes, with spaces between them */
	const char *row;  /* "change argument part" of the first cause of one row */
} Change;

// clang-format off
static const Change changes[] = {
	{ "platform.hpet", "true", "platform.hpet", "change -machine hpet=on" },
	{ "platform.usb", "true", "platform.usb", "add -device qemu-xhci,id=usb,bus=pcie.0,addr=0x8" },
	{ "memory.start", "2147483648", "memory.start", "change -m size=2048M" },
	{ "clock", "\"localtime\"", "clock", "change -rtc base=localtime" },
	{ "platform.balloon", "false", "platform.balloon", "remove -device "
	  "virtio-balloon-pci,id=balloon,deflate-on-oom=on,free-page-reporting=on,bus=pcie.0,addr=0x4" },
	{ "vcpus", "1", "vcpus topology", "change -smp cpus=1" },
	{ "autostart", "true", "", NULL },
	{ "stop.timeout", "1000000", "", NULL },
};
// clang-format on

static bool has_row(const Json *rows, const char *want)
{
	const Json *row;
	size_t i;

	json_array_foreach(rows, i, row)
	{
		const Json *cause = json_array_get(json_arr(row, "causes"), 0);
		g_autofree char *is = g_strdup_printf("%s %s %s", json_str(row, "change"),
						      json_str(row, "argument"), json_str(cause, "part"));

		if (g_str_equal(is, want))
			return true;
	}
	return false;
}

static void test_a_change_says_what_the_next_start_brings(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	const GuestCase *c = guest_case(cases, "linux");
	g_autoptr(Argv) applied = argv_of_case(c);

	for (size_t i = 0; i < G_N_ELEMENTS(changes); i++) {
		g_autoptr(Argv) next = argv_with(c, changes[i].key, changes[i].json);
		_cleanup_json_ Json *rows = explain_pending(next, applied),
				    *keys = explain_pending_keys(next, applied);
		g_auto(GStrv) list = json_strv(keys);
		g_autofree char *joined = g_strjoinv(" ", list), *text = json_print(rows);

		g_test_message("%s: %s", changes[i].key, text);
		g_assert_cmpstr(joined, ==, changes[i].keys);
		if (changes[i].row != NULL)
			g_assert_true(has_row(rows, changes[i].row));
	}
}

static void test_a_new_qemu_is_pending(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	GuestCase *c = (GuestCase *)guest_case(cases, "linux");
	g_autoptr(Argv) applied = argv_of_case(c), next = NULL;
	_cleanup_json_ Json *keys = NULL;

	g_free(c->host->qemu_version);
	c->host->qemu_version = g_strdup("7.2.23");
	next = argv_of_case(c);
	keys = explain_pending_keys(next, applied);
	g_assert_cmpuint(json_array_size(keys), ==, 1);
	g_assert_cmpstr(json_string_value(json_array_get(keys, 0)), ==, "qemu.version");
}

static void test_the_running_guest_is_explained_by_what_it_was_started_with(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	const GuestCase *c = guest_case(cases, "windows-tcg");
	g_autoptr(Profile) p = profile_of_case(c);
	g_autoptr(Argv) applied = argv_of_case(c), next = argv_with(c, "platform.hpet", "true");
	_cleanup_json_ Json *could_not = profile_could_not_to_json(p);
	_cleanup_json_ Json *running = explain_of(
	    &(struct explain){ .profile = p, .next = next, .applied = applied, .could_not = could_not });
	_cleanup_json_ Json *stopped = explain_of(&(struct explain){ .profile = p, .next = next });
	g_autofree char *was = json_print(json_arr(running, "arguments"));
	g_autofree char *will_be = json_print(json_arr(stopped, "arguments"));

	g_assert_nonnull(strstr(was, "\"hpet=off\""));
	g_assert_null(strstr(was, "\"hpet=on\""));
	g_assert_nonnull(strstr(will_be, "\"hpet=on\""));
	g_assert_cmpuint(json_array_size(json_arr(running, "pending")), ==, 1);
	g_assert_cmpuint(json_array_size(json_arr(stopped, "pending")), ==, 0);
	g_assert_cmpuint(json_array_size(json_arr(running, "could_not")), ==, p->could_not->len);
}

static void test_what_runs_is_explained_when_it_could_not_start_again(void)
{
	g_autoptr(GPtrArray) cases = guest_cases();
	g_autoptr(Argv) applied = argv_of_case(guest_case(cases, "linux"));
	g_autoptr(GError) blocked = NULL;
	_cleanup_json_ Json *j = NULL;

	fail_advice(&blocked, ERR_UNSUPPORTED, "Mend it.", "no accelerator works");
	j = explain_of(&(struct explain){ .blocked = blocked, .applied = applied });
	g_assert_cmpuint(json_array_size(json_arr(j, "arguments")), >, 20);
	g_assert_cmpuint(json_array_size(json_arr(j, "pending")), ==, 0);
	g_assert_cmpstr(json_str(json_obj(j, "blocked"), "message"), ==, "no accelerator works");
	g_assert_cmpstr(json_str(json_obj(j, "blocked"), "advice"), ==, "Mend it.");
}

static void test_each_row_is_complete(void)
{
	static const char *const members[] = { "argument", "part", "source", "key", "value" };
	g_autoptr(GPtrArray) cases = guest_cases();

	for (guint i = 0; i < cases->len; i++) {
		g_autoptr(Profile) p = profile_of_case(cases->pdata[i]);
		g_autoptr(Argv) argv = argv_of_case(cases->pdata[i]);
		_cleanup_json_ Json *j = explain_of(&(struct explain){ .profile = p, .next = argv });
		const Json *row;
		size_t k;

		json_array_foreach(json_arr(j, "arguments"), k, row)
		{
			for (size_t n = 0; n < G_N_ELEMENTS(members); n++)
				g_assert_nonnull(json_str(row, members[n]));
			g_assert_nonnull(json_object_get(row, "note"));
		}
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/explain/equal", test_equal_configurations_have_nothing_pending);
	g_test_add_func("/explain/identities", test_every_argument_is_told_from_every_other);
	g_test_add_func("/explain/changes", test_a_change_says_what_the_next_start_brings);
	g_test_add_func("/explain/new-qemu", test_a_new_qemu_is_pending);
	g_test_add_func("/explain/running", test_the_running_guest_is_explained_by_what_it_was_started_with);
	g_test_add_func("/explain/blocked", test_what_runs_is_explained_when_it_could_not_start_again);
	g_test_add_func("/explain/rows", test_each_row_is_complete);
	return g_test_run();
}
