/* SPDX-License-Identifier: Apache-2.0 */
/* Guest tools: versions, what a lying guest can make of its record, the judgement, and the plan of a rollout.
 */
#include "core/tools/judge.h"
#include "core/tools/record.h"
#include "core/tools/rollout.h"
#include "core/tools/version.h"

#include <string.h>

static Json *parse(const char *text)
{
	g_autoptr(GError) err = NULL;
	Json *j = json_parse(text, strlen(text), &err);

	g_assert_no_error(err);
	return j;
}

/* ---- versions ---- */

static void test_versions_are_numbers_and_not_text(void)
{
	static const struct {
		const char *is, *wanted;
		int order;
	} rows[] = {
		{ "7.2.22", "7.2.22", 0 },
		{ "7.2.9", "7.2.22", -1 },
		{ "7.10", "7.9", 1 },
		{ "7.2.22 (Debian 1:7.2+dfsg-7+deb12u13)", "7.2", 0 },
		{ "7.2", "7.2.0", 0 },
		{ "7", "7.2", -1 },
		{ "v8.0.1", "7.2.22", 1 },
		{ "109.0.2", "7.2.22", 1 },
		{ "7.2.22.1.9", "7.2.22.1", 0 },
		{ "2.5.", "2.5", 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct tools_version is, wanted;
		int order;

		g_test_message("%s beside %s", rows[i].is, rows[i].wanted);
		g_assert_true(tools_version_parse(rows[i].is, &is));
		g_assert_true(tools_version_parse(rows[i].wanted, &wanted));
		order = tools_version_compare(&is, &wanted);
		g_assert_cmpint((order > 0) - (order < 0), ==, rows[i].order);
	}
}

static void test_what_is_no_version_is_told_so(void)
{
	static const char *const rows[] = {
		"", "new", "-1", ".7", "v", "7.99999999999999999999", "123456789"
	};
	struct tools_version v;

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++)
		g_assert_false(tools_version_parse(rows[i], &v));
	g_assert_false(tools_version_parse(NULL, &v));
}

/* ---- devices ---- */

static void test_a_guest_s_own_list_of_drivers_is_read(void)
{
	static const struct {
		const char *text, *device, *driver;
	} rows[] = {
		{ "DRIVER=virtio_balloon\nMODALIAS=virtio:d00000005v00001AF4\n", "virtio-balloon",
		  "virtio_balloon" },
		{ "MODALIAS=virtio:d00000004v00001AF4\n", "virtio-rng", NULL },
		{ "DRIVER=virtio_mem\nMODALIAS=virtio:d00000018v00001AF4", "virtio-mem", "virtio_mem" },
		{ "DRIVER=x\nMODALIAS=virtio:d0000FFFFv00001AF4\n", NULL, NULL },
		{ "DRIVER=virtio_net\n", NULL, NULL },
		{ "", NULL, NULL },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		_cleanup_json_ Json *j = tools_driver_of_uevent(rows[i].text, strlen(rows[i].text));

		g_test_message("%s", rows[i].text);
		g_assert_cmpstr(json_str(j, "device"), ==, rows[i].device);
		g_assert_cmpstr(json_str(j, "driver"), ==, rows[i].driver);
	}
}

static void test_windows_drivers_have_versions(void)
{
	_cleanup_json_ Json *told = parse(
	    "[{\"driver-name\": \"VirtIO Balloon Driver\", \"driver-version\": \"100.93.104.22000\","
	    "  \"id\": {\"type\": \"pci\", \"vendor-id\": 6900, \"device-id\": 4098}},"
	    " {\"driver-name\": \"Red Hat VirtIO SCSI\", \"id\": {\"type\": \"pci\", \"vendor-id\": 6900, \"device-id\": 4162}},"
	    " {\"driver-name\": \"Other\", \"id\": {\"type\": \"pci\", \"vendor-id\": 32902, \"device-id\": 4098}},"
	    " {\"driver-name\": \"None\"}]");
	_cleanup_json_ Json *list = tools_drivers_of_devices(told);
	g_autofree char *text = json_print(list);

	g_assert_cmpstr(text, ==,
			"[{\"device\":\"virtio-balloon\",\"driver\":\"VirtIO Balloon Driver\",\"version\":"
			"\"100.93.104.22000\"},{\"device\":\"virtio-blk\",\"driver\":\"Red Hat VirtIO SCSI\","
			"\"version\":null}]");
	g_assert_cmpint(tools_is_driven(list, TOOLS_DEVICE_BALLOON), ==, TOOLS_DRIVEN);
	g_assert_cmpint(tools_is_driven(list, TOOLS_DEVICE_RNG), ==, TOOLS_NOT_DRIVEN);
	g_assert_cmpint(tools_is_driven(NULL, TOOLS_DEVICE_RNG), ==, TOOLS_DRIVEN_UNKNOWN);
}

static Json *command_line(void)
{
	return parse(
	    "[{\"option\": \"-device\", \"value\": \"virtio-balloon-pci,id=balloon\"},"
	    " {\"option\": \"-device\", \"value\": \"virtio-net-pci-transitional,id=x\"},"
	    " {\"option\": \"-name\", \"value\": \"virtio-rng-pci,\"},"
	    " {\"option\": \"-S\", \"value\": null},"
	    " {\"option\": \"-device\", \"value\": \"virtserialport,id=agent0,name=org.qemu.guest_agent.0,nr=1\"}]");
}

static void test_only_devices_of_the_command_line_are_offered(void)
{
	_cleanup_json_ Json *arguments = command_line();

	g_assert_cmphex(tools_devices_offered(arguments), ==, TOOLS_DEVICE_BIT(TOOLS_DEVICE_BALLOON));
	g_assert_true(tools_channel_offered(arguments));
	g_assert_cmphex(tools_devices_offered(NULL), ==, 0);
	g_assert_false(tools_channel_offered(NULL));
}

/* ---- the record ---- */

static Json *record_of(const char *info, const Json *os, const Json *drivers)
{
	_cleanup_json_ Json *j = parse(info);
	const struct tools_heard h = {
		.now = "2026-11-21T12:00:00Z", .host = "h1", .info = j, .os = os, .drivers = drivers
	};

	return tools_record_new(&h, NULL);
}

/* All that it may say, as long and as often as it likes. */
static void test_a_guest_that_lies_makes_no_large_record(void)
{
	_cleanup_json_ Json *info = json_object(), *os = json_object(), *drivers = json_array(),
			    *record = NULL;
	g_autofree char *flood = g_strnfill(1 << 20, 'x'), *word = g_strnfill(2048, 'y'), *text = NULL;
	Json *names = json_array();
	struct tools_heard h = { .now = "", .host = "h1", .info = info, .os = os, .drivers = drivers };

	json_put_str(info, "version", flood);
	for (int i = 0; i < 5000; i++) {
		g_autofree char *name = g_strdup_printf("guest-%058d", i);

		json_array_append_new(names, json_string(name));
		json_array_append_new(drivers, json_pack("{s:s,s:s,s:s}", "device", "virtio-net", "driver",
							 word, "version", "\x1b[2J"));
	}
	json_array_append_new(names, json_string(flood));
	json_put(info, "commands", json_ref(names));
	json_put(info, "disabled", names);
	json_put_str(os, "pretty-name", flood);
	json_put_str(os, "unheard-of", flood);
	record = tools_record_new(&h, NULL);
	text = json_print(record);
	g_assert_cmpuint(strlen(text), <, TOOLS_RECORD_MAX);
	g_assert_cmpuint(json_array_size(json_arr(json_obj(record, "agent"), "commands")), ==,
			 TOOLS_COMMANDS_MAX);
	g_assert_null(strchr(text, '\x1b'));
	g_assert_null(strstr(text, "u001b"));
	g_assert_null(strstr(text, "unheard-of"));
}

static void test_names_that_no_command_has_are_left_out(void)
{
	_cleanup_json_ Json *r = record_of(
	    "{\"version\": \"7.2\\u001b[1m\", \"commands\": [\"guest-ping\", \"rm -rf /\", \"\", 7]}", NULL,
	    NULL);
	const Json *agent = json_obj(r, "agent");
	g_autofree char *text = json_print(json_arr(agent, "commands"));

	g_assert_cmpstr(text, ==, "[\"guest-ping\"]");
	g_assert_cmpstr(json_str(agent, "version"), ==, "7.2 [1m");
	g_assert_true(json_is_null(json_object_get(r, "os")));
	g_assert_true(json_is_null(json_object_get(r, "drivers")));
}

static void test_each_pair_of_versions_is_told_once(void)
{
	_cleanup_json_ Json *r = record_of("{\"version\": \"7.2.17\"}", NULL, NULL), *next = NULL,
			    *old = NULL;
	_cleanup_json_ Json *upgraded = parse("{\"version\": \"7.2.18\"}");
	struct tools_heard h = { .now = "2026-11-21T13:00:00Z", .host = "h2", .info = upgraded };

	g_assert_false(tools_record_was_told(r, "7.2.22"));
	tools_record_tell(r, "7.2.22");
	g_assert_true(tools_record_was_told(r, "7.2.22"));
	g_assert_false(tools_record_was_told(r, "8.0"));
	tools_record_tell(r, "8.0");
	next = tools_record_new(&h, r);
	g_assert_false(tools_record_was_told(next, "7.2.22"));
	for (int i = 0; i < 3 * TOOLS_TOLD_MAX; i++)
		tools_record_tell(next, "9.0");
	g_assert_cmpuint(json_array_size(json_arr(next, "told")), ==, TOOLS_TOLD_MAX);
	old = record_of("{\"version\": \"7.2.17\"}", NULL, NULL);
	g_assert_false(tools_record_was_told(old, "7.2.22"));
}

/* ---- the judgement ---- */

#define ALL                                                                                                  \
	"\"guest-shutdown\",\"guest-get-time\",\"guest-set-time\",\"guest-fsfreeze-status\","                \
	"\"guest-fsfreeze-freeze\",\"guest-fsfreeze-thaw\",\"guest-exec-status\",\"guest-file-open\","       \
	"\"guest-file-read\",\"guest-file-close\",\"guest-network-get-interfaces\",\"guest-get-osinfo\""
#define BALLOON TOOLS_DEVICE_BIT(TOOLS_DEVICE_BALLOON)

static void test_what_a_guest_lacks_and_why(void)
{
	static const struct {
		const char *info, *drivers; /* info NULL: none was heard */
		bool channel;
		uint32_t offered;
		const char *capability, *because; /* because NULL: it has it, or does not lack it */
	} rows[] = {
		{ "{\"version\":\"7.2.22\",\"commands\":[" ALL ",\"guest-exec\"]}", NULL, true, 0, "exec",
		  NULL },
		{ "{\"version\":\"7.2.22\",\"commands\":[" ALL "],\"disabled\":[\"guest-exec\"]}", NULL, true,
		  0, "exec", "the guest's agent may not do guest-exec" },
		{ "{\"version\":\"2.4\",\"commands\":[" ALL "]}", NULL, true, 0, "exec",
		  "its agent 2.4 has no guest-exec, which came with 2.5" },
		{ "{\"version\":\"7.2.22\",\"commands\":[" ALL "]}", NULL, true, 0, "exec",
		  "its agent 7.2.22 was built without guest-exec" },
		{ "{\"version\":null,\"commands\":[]}", NULL, true, 0, "freeze",
		  "its agent (of no version) was built without guest-fsfreeze-status" },
		{ NULL, NULL, true, 0, "freeze", "no agent has answered yet" },
		{ NULL, NULL, false, 0, "clock", "the vm has no channel for an agent" },
		{ "{\"version\":\"7.2\"}", "[]", true, 0, "balloon", NULL },
		{ "{\"version\":\"7.2\"}", NULL, true, BALLOON, "balloon", NULL },
		{ "{\"version\":\"7.2\"}", "[{\"device\":\"virtio-balloon\",\"driver\":\"virtio_balloon\"}]",
		  true, BALLOON, "balloon", NULL },
		{ "{\"version\":\"7.2\"}", "[{\"device\":\"virtio-balloon\",\"driver\":null}]", true, BALLOON,
		  "balloon", "no driver of the guest has its virtio-balloon" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		_cleanup_json_ Json *drivers = rows[i].drivers != NULL ? parse(rows[i].drivers) : NULL;
		_cleanup_json_ Json *r = rows[i].info != NULL ? record_of(rows[i].info, NULL, drivers) : NULL;
		const struct tools_guest g = { .name = "web1",
					       .record = r,
					       .expected = "7.2",
					       .channel = rows[i].channel,
					       .offered = rows[i].offered };
		_cleanup_json_ Json *j = tools_judge(&g);
		const char *because = NULL;
		const Json *x;
		size_t k;

		g_test_message("row %zu", i);
		json_array_foreach(json_arr(j, "cannot"), k, x)
		{
			g_assert_true(strlen(json_str(x, "loss")) > 0 && strlen(json_str(x, "advice")) > 0);
			if (g_str_equal(json_str(x, "capability"), rows[i].capability))
				because = json_str(x, "because");
		}
		g_assert_cmpstr(because, ==, rows[i].because);
	}
}

static bool lists(const Json *j, const char *key, const char *name)
{
	const Json *x;
	size_t i;

	json_array_foreach(json_arr(j, key), i,
			   x) if (g_strcmp0(json_string_value(x), name) == 0) return true;
	return false;
}

static void test_what_nobody_can_tell_is_not_held_against_it(void)
{
	_cleanup_json_ Json *r = record_of("{\"version\":\"7.2\"}", NULL, NULL);
	const struct tools_guest g = { .name = "a", .record = r, .channel = true, .offered = BALLOON };
	_cleanup_json_ Json *j = tools_judge(&g);

	g_assert_true(lists(j, "unknown", "balloon"));
	g_assert_false(lists(j, "can", "balloon"));
	g_assert_false(lists(j, "unknown", "growth"));
}

static void test_drift_is_towards_what_the_host_expects(void)
{
	_cleanup_json_ Json *r = record_of("{\"version\":\"7.2.17\"}", NULL, NULL),
			    *odd = record_of("{\"version\":\"latest\"}", NULL, NULL);

	g_assert_cmpint(tools_drift_of(r, "7.2.22"), ==, TOOLS_DRIFT_OLDER);
	g_assert_cmpint(tools_drift_of(r, "7.2"), ==, TOOLS_DRIFT_CURRENT);
	g_assert_cmpint(tools_drift_of(r, "5.2"), ==, TOOLS_DRIFT_NEWER);
	g_assert_cmpint(tools_drift_of(r, NULL), ==, TOOLS_DRIFT_UNKNOWN);
	g_assert_cmpint(tools_drift_of(odd, "7.2"), ==, TOOLS_DRIFT_UNKNOWN);
	g_assert_cmpint(tools_drift_of(NULL, "7.2"), ==, TOOLS_DRIFT_NONE);
}

static void test_windows_agents_are_never_compared_with_qemu(void)
{
	_cleanup_json_ Json *set =
	    parse("{\"tools.version\": \"7.2\", \"tools.windows_version\": \"109.0\"}");
	g_autofree char *linux_set = tools_expected(set, "7.2.22", false),
			*windows_set = tools_expected(set, "7.2.22", true),
			*linux_auto = tools_expected(NULL, "7.2.22", false),
			*windows_auto = tools_expected(NULL, "7.2.22", true);

	g_assert_cmpstr(linux_set, ==, "7.2");
	g_assert_cmpstr(windows_set, ==, "109.0");
	g_assert_cmpstr(linux_auto, ==, "7.2.22");
	g_assert_null(windows_auto);
}

static void test_a_host_can_only_be_told_versions(void)
{
	_cleanup_json_ Json *good = parse("{\"tools.version\": \"7.2\", \"ksm\": \"on\"}"),
			    *bad = parse("{\"tools.windows_version\": \"newest\"}"),
			    *other = parse("{\"ksm\": \"on\"}");
	g_autoptr(GError) err = NULL;

	g_assert_true(tools_settings_check(good, &err) && tools_settings_named(good));
	g_assert_true(tools_settings_check(NULL, &err) && !tools_settings_named(other));
	g_assert_false(tools_settings_check(bad, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_nonnull(err_advice(err));
}

/* ---- the plan of a rollout ---- */

#define GUEST(name, state, agent, version, os, can)                                                          \
	"{\"id\":\"id-" name "\",\"name\":\"" name "\",\"state\":\"" state                                   \
	"\",\"host\":\"h1\",\"agent\":{\"state\":\"" agent "\",\"version\":\"" version "\"},\"os\":" os      \
	",\"expected\":\"7.2.22\",\"can\":[" can "]}"
#define DEBIAN "{\"id\":\"debian\"}"

static Json *plan_of(const char *guests, const char *wave, const char *command)
{
	_cleanup_json_ Json *list = parse(guests);
	struct rollout_options o = { .command = command };
	g_autoptr(GError) err = NULL;

	g_assert_true(rollout_wave_parse(wave, &o, &err));
	return rollout_plan(list, &o);
}

static void test_who_is_left_alone_is_told_why(void)
{
	static const struct {
		const char *guest, *reason; /* NULL: it is upgraded */
	} rows[] = {
		{ GUEST("a", "running", "connected", "7.2.17", DEBIAN, "\"exec\""), NULL },
		{ GUEST("a", "stopped", "gone", "7.2.17", DEBIAN, "\"exec\""), "it is stopped" },
		{ GUEST("a", "paused", "connected", "7.2.17", DEBIAN, "\"exec\""), "it is paused" },
		{ GUEST("a", "running", "none", "", "null", ""), "no agent has ever answered" },
		{ GUEST("a", "running", "gone", "7.2.17", DEBIAN, "\"exec\""),
		  "its agent does not answer now" },
		{ GUEST("a", "running", "connected", "7.2.22", DEBIAN, "\"exec\""),
		  "its agent is 7.2.22 already" },
		{ GUEST("a", "running", "connected", "8.0", DEBIAN, "\"exec\""), "its agent is 8.0 already" },
		{ GUEST("a", "running", "connected", "7.2.17", DEBIAN, ""),
		  "its agent may not run commands (guest-exec)" },
		{ GUEST("a", "running", "connected", "7.2.17", "{\"id\":\"plan9\"}", "\"exec\""),
		  "no way to upgrade the agent of 'plan9' is known; give --command" },
		{ GUEST("a", "running", "connected", "7.2.17", "null", "\"exec\""),
		  "which system it has is not known; give --command" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *guests = g_strdup_printf("[%s]", rows[i].guest);
		_cleanup_json_ Json *plan = plan_of(guests, "1", NULL);
		const Json *skipped = json_array_get(json_arr(plan, "skipped"), 0);

		g_test_message("%s", rows[i].guest);
		g_assert_cmpstr(json_str(skipped, "reason"), ==, rows[i].reason);
		g_assert_cmpint(json_int(plan, "guests", -1), ==, rows[i].reason == NULL);
	}
}

static char *names_of(const Json *plan)
{
	GString *s = g_string_new(NULL);
	const Json *wave, *g;
	size_t i, k;

	json_array_foreach(json_arr(plan, "waves"), i, wave)
	{
		g_string_append(s, i > 0 ? "|" : "");
		json_array_foreach((Json *)wave, k, g) g_string_append(s, json_str(g, "name"));
	}
	return g_string_free(s, FALSE);
}

static void test_windows_is_upgraded_from_its_disk(void)
{
	_cleanup_json_ Json *list =
	    parse("[" GUEST("l", "running", "connected", "7.2.17", DEBIAN, "\"exec\"") "," GUEST(
		"w", "running", "connected", "7.2.17", "{\"id\":\"mswindows\"}", "\"exec\"") "]");
	struct rollout_options with = { .count = 9, .disk = true }, without = { .count = 9 };
	_cleanup_json_ Json *a = rollout_plan(list, &with), *b = rollout_plan(list, &without), *c = NULL;
	const Json *wave = json_array_get(json_arr(a, "waves"), 0), *l = json_array_get(wave, 0),
		   *w = json_array_get(wave, 1);

	g_assert_cmpstr(json_str(w, "command"), ==, ROLLOUT_WINDOWS);
	g_assert_true(json_bool(w, "disk", false));
	g_assert_false(json_bool(l, "disk", true)); /* it has packages */
	g_assert_cmpstr(json_str(json_array_get(json_arr(b, "skipped"), 0), "reason"), ==,
			"Windows needs the disk of its tools (--image) or --command");
	g_assert_true(rollout_succeeded(w, 3010) && rollout_succeeded(w, 0) && rollout_succeeded(l, 0));
	g_assert_false(rollout_succeeded(l, 3010) || rollout_succeeded(w, 1));
	rollout_take_no_disk(list, "id-l", "no drive");
	rollout_take_no_disk(list, "id-w", "no drive");
	c = rollout_plan(list, &with);
	g_assert_cmpint(json_int(c, "guests", -1), ==, 1);
	g_assert_cmpstr(json_str(json_array_get(json_arr(c, "skipped"), 0), "name"), ==, "w");
	g_assert_cmpstr(json_str(json_array_get(json_arr(c, "skipped"), 0), "reason"), ==, "no drive");
}

static void test_waves_are_parts_of_those_that_are_upgraded(void)
{
	static const struct {
		const char *wave, *names;
	} rows[] = { { "1", "a|b|c|d|e" }, { "2", "ab|cd|e" },   { "100", "abcde" }, { "10%", "a|b|c|d|e" },
		     { "21%", "ab|cd|e" }, { "40%", "ab|cd|e" }, { "100%", "abcde" } };
	GString *list = g_string_new("[" GUEST("z", "stopped", "gone", "1", DEBIAN, ""));

	for (const char *c = "ecadb"; *c != '\0'; c++)
		g_string_append_printf(
		    list, "," GUEST("%c", "running", "connected", "7.2.17", DEBIAN, "\"exec\""), *c, *c);
	g_string_append(list, "]");
	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		_cleanup_json_ Json *plan = plan_of(list->str, rows[i].wave, NULL);
		g_autofree char *names = names_of(plan);

		g_assert_cmpstr(names, ==, rows[i].names);
	}
	g_string_free(list, TRUE);
}

static void test_no_guest_makes_no_wave(void)
{
	_cleanup_json_ Json *plan = plan_of("[]", "10%", NULL);

	g_assert_cmpuint(json_array_size(json_arr(plan, "waves")), ==, 0);
}

static void test_a_wave_is_a_part_or_a_number(void)
{
	static const char *const bad[] = { "", "%", "0", "0%", "101%", "-1", "10 %", "many" };
	struct rollout_options o;

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;

		g_test_message("%s", bad[i]);
		g_assert_false(rollout_wave_parse(bad[i], &o, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(strstr(err_advice(err), "10%"));
	}
}

static void test_the_command_is_the_system_s_or_the_user_s(void)
{
	const char *one = "[" GUEST("a", "running", "connected", "7.2.17", DEBIAN, "\"exec\"") "]",
		   *windows = "[" GUEST("w", "running", "connected", "7.2.17", "{\"id\":\"mswindows\"}",
					"\"exec\"") "]";
	_cleanup_json_ Json *usual = plan_of(one, "1", NULL), *own = plan_of(one, "1", "upgrade-it"),
			    *other = plan_of(windows, "1", "setup.exe");
	_cleanup_json_ Json *a = NULL, *b = NULL, *c = NULL;

	a = rollout_words(json_array_get(json_array_get(json_arr(usual, "waves"), 0), 0));
	b = rollout_words(json_array_get(json_array_get(json_arr(own, "waves"), 0), 0));
	c = rollout_words(json_array_get(json_array_get(json_arr(other, "waves"), 0), 0));
	g_assert_cmpuint(json_array_size(a), ==, 4);
	g_assert_nonnull(
	    strstr(json_string_value(json_array_get(a, 2)), "systemctl start plimsoll-tools.service"));
	g_assert_true(g_str_has_prefix(json_string_value(json_array_get(a, 3)), ROLLOUT_DEBIAN " && "));
	g_assert_cmpstr(json_string_value(json_array_get(b, 3)), ==, "upgrade-it");
	g_assert_cmpstr(json_string_value(json_array_get(c, 0)), ==, "cmd.exe");
	g_assert_cmpstr(json_string_value(json_array_get(c, 2)), ==, "setup.exe");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/tools/version/order", test_versions_are_numbers_and_not_text);
	g_test_add_func("/tools/version/none", test_what_is_no_version_is_told_so);
	g_test_add_func("/tools/device/uevent", test_a_guest_s_own_list_of_drivers_is_read);
	g_test_add_func("/tools/device/windows", test_windows_drivers_have_versions);
	g_test_add_func("/tools/device/offered", test_only_devices_of_the_command_line_are_offered);
	g_test_add_func("/tools/record/bounds", test_a_guest_that_lies_makes_no_large_record);
	g_test_add_func("/tools/record/names", test_names_that_no_command_has_are_left_out);
	g_test_add_func("/tools/record/told", test_each_pair_of_versions_is_told_once);
	g_test_add_func("/tools/judge/missing", test_what_a_guest_lacks_and_why);
	g_test_add_func("/tools/judge/unknown", test_what_nobody_can_tell_is_not_held_against_it);
	g_test_add_func("/tools/judge/drift", test_drift_is_towards_what_the_host_expects);
	g_test_add_func("/tools/judge/expected", test_windows_agents_are_never_compared_with_qemu);
	g_test_add_func("/tools/judge/settings", test_a_host_can_only_be_told_versions);
	g_test_add_func("/tools/rollout/skipped", test_who_is_left_alone_is_told_why);
	g_test_add_func("/tools/rollout/windows", test_windows_is_upgraded_from_its_disk);
	g_test_add_func("/tools/rollout/waves", test_waves_are_parts_of_those_that_are_upgraded);
	g_test_add_func("/tools/rollout/none", test_no_guest_makes_no_wave);
	g_test_add_func("/tools/rollout/wave", test_a_wave_is_a_part_or_a_number);
	g_test_add_func("/tools/rollout/command", test_the_command_is_the_system_s_or_the_user_s);
	return g_test_run();
}
