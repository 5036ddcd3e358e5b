/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/settings.h"

#include <string.h>

typedef struct Typed {
	const char *key, *text, *stored; /* stored as JSON text; NULL: refused */
} Typed;

static const Typed typed[] = {
	{ "vcpus", "4", "4" },
	{ "vcpus", "0", NULL },
	{ "vcpus", "256", NULL },
	{ "vcpus", "-1", NULL },
	{ "vcpus", "four", NULL },
	{ "memory.start", "2GiB", "2147483648" },
	{ "memory", "512M", "536870912" },
	{ "memory", "1M", NULL },
	{ "memory", "5TiB", NULL },
	{ "memory", "lots", NULL },
	{ "accel", "tcg", "\"tcg\"" },
	{ "accel", "xen", NULL },
	{ "accel", "", NULL },
	{ "tpm", "yes", "true" },
	{ "tpm", "0", "false" },
	{ "tpm", "maybe", NULL },
	{ "stop.timeout", "2min", "120000000" },
	{ "stop.timeout", "10ms", NULL },
	{ "boot.kernel", "/boot/vmlinuz", "\"/boot/vmlinuz\"" },
	{ "boot.kernel", "vmlinuz", NULL },
	{ "boot.kernel", "", NULL },
	{ "boot.kernel", "/a\nb", NULL },
	{ "boot.cmdline", "console=hvc0 a,b=c", "\"console=hvc0 a,b=c\"" },
	{ "boot.cmdline", "a\x1b[2J", NULL },
	{ "boot.cmdline", "\xff", NULL },
	{ "platform.video", "virtio", "\"virtio\"" },
	{ "platform.video", "cga", NULL },
};

static void test_typed_values_are_stored_or_refused_with_advice(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(typed); i++) {
		g_autoptr(GError) err = NULL;
		_cleanup_json_ Json *v = setting_parse(typed[i].key, typed[i].text, &err);
		g_autofree char *text = v != NULL ? json_print(v) : NULL;

		g_assert_cmpstr(text, ==, typed[i].stored);
		if (typed[i].stored != NULL) {
			g_assert_no_error(err);
			continue;
		}
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
		g_assert_nonnull(json_str(err_details(err), "key"));
	}
}

/* What a program posts has the type of the record, not of the keyboard. */
static void test_json_values_keep_their_type(void)
{
	static const struct {
		const char *key, *json;
		bool ok;
	} row[] = {
		{ "vcpus", "4", true },
		{ "vcpus", "\"4\"", false },
		{ "vcpus", "4.0", false },
		{ "tpm", "true", true },
		{ "tpm", "1", false },
		{ "memory.start", "1073741824", true },
		{ "memory.start", "\"1GiB\"", false },
		{ "memory.start", "9223372036854775807", false },
		{ "accel", "\"kvm\"", true },
		{ "accel", "null", false },
		{ "boot.initrd", "\"/x\\u0000y\"", false },
		{ "boot.initrd", "[]", false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(GError) err = NULL;
		_cleanup_json_ Json *v = json_parse_wide(row[i].json, strlen(row[i].json), NULL);
		_cleanup_json_ Json *checked = setting_check(row[i].key, v, &err);

		g_assert_cmpint(checked != NULL, ==, row[i].ok);
		g_assert_cmpint(err == NULL, ==, row[i].ok);
	}
}

static void test_an_unknown_key_names_the_nearest(void)
{
	static const struct {
		const char *typed, *meant;
	} row[] = {
		{ "vcpu", "vcpus" },
		{ "platform.ubs", "platform.usb" },
		{ "platform.serial", "platform.hvm_serial" },
		{ "memry", "memory.start" },
		{ "mem", "memory.start" },
		{ "acel", "accel" },
		{ "kernel", "boot.kernel" },
		{ "cmdline", "boot.cmdline" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(setting_parse(row[i].typed, "1", &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(strstr(err->message, row[i].typed));
		g_assert_nonnull(strstr(err_advice(err), row[i].meant));
	}
}

static void test_a_key_like_no_other_names_none(void)
{
	g_autofree char *lengthy = g_strnfill(5000, 'x');
	const char *const odd[] = { lengthy, "xyz", "" };

	for (size_t i = 0; i < G_N_ELEMENTS(odd); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(setting_parse(odd[i], "1", &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_null(strstr(err_advice(err), "mean"));
	}
}

/* Each row of the table is complete, and its default is one that its own parser accepts. */
static void test_the_table_is_sound(void)
{
	static const char *const words[] = { "auto", "none", NULL };

	for (size_t i = 0; i < n_settings; i++) {
		const Setting *s = &settings[i];
		_cleanup_json_ Json *v = NULL;

		g_assert_true(setting_find(s->key) == s);
		g_assert_nonnull(setting_type_name(s->type));
		g_assert_true(g_str_has_suffix(s->help, "."));
		g_assert_cmpint(s->type == SETTING_ENUM, ==, s->values != NULL);
		for (size_t k = 0; k < i; k++)
			g_assert_cmpstr(s->key, !=, settings[k].key);
		if (s->type != SETTING_ENUM && g_strv_contains(words, s->dflt))
			continue;
		v = setting_parse(s->key, s->dflt, NULL);
		g_assert_nonnull(v);
	}
}

static void test_what_is_printed_parses_to_the_same(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(typed); i++) {
		g_autofree char *shown = NULL;
		_cleanup_json_ Json *v = NULL, *back = NULL;

		if (typed[i].stored == NULL || g_str_equal(typed[i].key, "stop.timeout"))
			continue; /* "2min 0s" is for people */
		v = setting_parse(typed[i].key, typed[i].text, NULL);
		shown = setting_print(setting_find(typed[i].key), v);
		back = setting_parse(typed[i].key, shown, NULL);
		g_assert_true(json_equal(v, back));
	}
}

static Json *parsed(const char *text)
{
	Json *j = json_parse(text, strlen(text), NULL);

	g_assert_nonnull(j);
	return j;
}

static void test_a_merge_is_whole_or_nothing(void)
{
	_cleanup_json_ Json *into = parsed("{\"vcpus\":2,\"tpm\":true}");
	_cleanup_json_ Json *before = json_deep_copy(into);
	_cleanup_json_ Json *bad = parsed("{\"vcpus\":3,\"accel\":\"xen\"}");
	_cleanup_json_ Json *unknown = parsed("{\"vcpus\":3,\"no.such\":null}");
	_cleanup_json_ Json *good = parsed("{\"vcpus\":3,\"tpm\":null,\"memory\":1073741824,\"agent\":null}");
	_cleanup_json_ Json *after = parsed("{\"vcpus\":3,\"memory.start\":1073741824}");
	g_autoptr(GError) err = NULL, err2 = NULL;

	g_assert_false(settings_merge(into, bad, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_true(json_equal(into, before));
	g_assert_false(settings_merge(into, unknown, &err2));
	g_assert_error(err2, ERR, ERR_INVALID);
	g_assert_true(json_equal(into, before));
	g_assert_true(settings_merge(into, good, NULL));
	g_assert_true(json_equal(into, after));
}

static void test_settings_that_are_no_object_are_refused(void)
{
	_cleanup_json_ Json *list = parsed("[]");
	g_autoptr(GError) err = NULL;

	g_assert_false(settings_check(list, &err));
	g_assert_error(err, ERR, ERR_INVALID);
}

static void test_what_holds_is_what_was_set_else_the_default(void)
{
	_cleanup_json_ Json *stored = parsed("{\"vcpus\":3}");
	_cleanup_json_ Json *vcpus = setting_effective(stored, "vcpus"),
			    *memory = setting_effective(stored, "memory.start"),
			    *nothing_stored = setting_effective(NULL, "vcpus"),
			    *open = setting_effective(stored, "cpu.model"),
			    *none = setting_effective(stored, "boot.kernel");

	g_assert_cmpint(json_integer_value(vcpus), ==, 3);
	g_assert_cmpint(json_integer_value(memory), ==, 512 << 20);
	g_assert_cmpint(json_integer_value(nothing_stored), ==, 1);
	g_assert_null(open);
	g_assert_null(none);
}

/* The table's own texts: a default that can't be stored would hold nowhere. */
static void test_every_default_is_a_value_or_left_to_others(void)
{
	for (size_t i = 0; i < n_settings; i++) {
		_cleanup_json_ Json *v = setting_effective(NULL, settings[i].key);
		bool left = g_str_equal(settings[i].dflt, "auto") || g_str_equal(settings[i].dflt, "none");

		g_assert_true(left == (v == NULL));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/settings/typed", test_typed_values_are_stored_or_refused_with_advice);
	g_test_add_func("/settings/json", test_json_values_keep_their_type);
	g_test_add_func("/settings/nearest", test_an_unknown_key_names_the_nearest);
	g_test_add_func("/settings/no-nearest", test_a_key_like_no_other_names_none);
	g_test_add_func("/settings/table", test_the_table_is_sound);
	g_test_add_func("/settings/print", test_what_is_printed_parses_to_the_same);
	g_test_add_func("/settings/merge", test_a_merge_is_whole_or_nothing);
	g_test_add_func("/settings/object", test_settings_that_are_no_object_are_refused);
	g_test_add_func("/settings/effective", test_what_holds_is_what_was_set_else_the_default);
	g_test_add_func("/settings/defaults", test_every_default_is_a_value_or_left_to_others);
	return g_test_run();
}
