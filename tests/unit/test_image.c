/* SPDX-License-Identifier: Apache-2.0 */
/* Properties and records of images. */
#include "base/time.h"
#include "core/image/image.h"

#include <string.h>

#define ID "9e194003-4608-4fe3-b073-00bd2a774a57"
#define NOW "2017-01-27T16:08:46Z"

static Image *make(void)
{
	GError *err = NULL;
	Image *img = image_new(ID, "Windows 10 - With Apps [2017-01-27]", NOW, &err);

	g_assert_no_error(err);
	return img;
}

static void test_table_is_sound(void)
{
	size_t n;
	const struct prop_def *def = prop_table(&n);

	g_assert_cmpuint(n, >, 60);
	for (size_t i = 0; i < n; i++) {
		g_assert_true(prop_name_check(def[i].name, NULL));
		g_assert_true(prop_find(def[i].name) == &def[i]);
		g_assert_cmpint(def[i].type == PROP_ENUM, ==, def[i].values != NULL);
		g_assert_cmpstr(def[i].help, !=, "");
		g_assert_cmpstr(def[i].source, !=, "");
		if (def[i].flags & (PROP_READONLY | PROP_NULL))
			g_assert_true(def[i].flags & PROP_BASE);
	}
}

static void test_values_become_canonical(void)
{
	static const struct {
		const char *name, *text, *want;
	} rows[] = {
		{ "os_type", "Windows", "windows" },
		{ "os_distro", "Windows", "Windows" },
		{ "recommended", "True", "true" },
		{ "protected", "off", "false" },
		{ "min_disk", "040", "40" },
		{ "release_date", "2017-01-27", "2017-01-27" },
		{ "release_date", "2017-01-27T10:00:00+01:00", "2017-01-27T09:00:00Z" },
		{ "image_build_date", "2022-09-30 23:59", "2022-09-30T23:59:00Z" },
		{ "tags", "b,a,b", "a,b" },
		{ "tags", "", "" },
		{ "trait:HW_CPU_X86_AVX2", "required", "required" },
		{ "hw_numa_cpus.0", "0-3", "0-3" },
		{ "os", "WINDOWS", "WINDOWS" },
		{ "description", "two\nlines", "two\nlines" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autofree char *v = NULL, *again = NULL;

		if (*rows[i].text == '\0')
			continue;
		g_assert_true(prop_parse(rows[i].name, rows[i].text, &v, NULL));
		g_assert_cmpstr(v, ==, rows[i].want);
		g_assert_true(prop_parse(rows[i].name, v, &again, NULL));
		g_assert_cmpstr(again, ==, v);
	}
}

static void test_bad_values_are_refused_with_advice(void)
{
	static const struct {
		const char *name, *text;
	} rows[] = {
		{ "os_type", "beos" },
		{ "architecture", "x86-64" },
		{ "recommended", "maybe" },
		{ "min_disk", "-1" },
		{ "min_disk", "10G" },
		{ "min_ram", "99999999999999999999" },
		{ "release_date", "27.1.2017" },
		{ "release_date", "2017-02-30" },
		{ "release_date", "2017-1-27" },
		{ "os_distro", "deb\tian" },
		{ "os_distro", "\xff" },
		{ "tags", "a,,b" },
		{ "os_glance_importing", "x" },
		{ "platform.usb", "true" },
		{ "a b", "x" },
		{ "1x", "x" },
		{ "", "x" },
		{ "hw_tpm_model", "tis" },
		{ "a/b", "x" },
		{ "x", "bell \a" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) err = NULL;
		char *v;

		g_assert_false(prop_parse(rows[i].name, rows[i].text, &v, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_nonnull(err_advice(err));
	}
}

static void test_sizes_are_bounded(void)
{
	g_autofree char *name = g_strnfill(PROP_NAME_MAX + 1, 'a'),
			*value = g_strnfill(PROP_VALUE_MAX + 1, 'x');
	g_autoptr(Image) img = make();
	g_autoptr(GError) err = NULL;

	g_assert_false(image_set(img, name, "x", NULL));
	g_assert_false(image_set(img, "x", value, NULL));
	name[PROP_NAME_MAX] = value[PROP_VALUE_MAX] = '\0';
	g_assert_true(image_set(img, name, value, NULL));
	for (int i = 1; i < PROP_COUNT_MAX; i++) {
		g_autofree char *key = g_strdup_printf("key%d", i);

		g_assert_true(image_set(img, key, "v", NULL));
	}
	g_assert_false(image_set(img, "one_more", "v", &err));
	g_assert_error(err, ERR, ERR_LIMIT);
	g_assert_true(image_set(img, "key1", "changed", NULL));
	g_assert_true(image_set(img, "min_disk", "4", NULL));
}

static void test_json_is_flat_and_typed_as_glance(void)
{
	g_autoptr(Image) img = make();
	_cleanup_json_ Json *j = NULL;

	g_assert_true(image_set(img, "recommended", "yes", NULL));
	g_assert_true(image_set(img, "min_disk", "40", NULL));
	g_assert_true(image_set(img, "tags", "win,apps", NULL));
	image_record_uint(img, "size", UINT64_C(37580963840));
	j = image_to_json(img);
	g_assert_cmpstr(json_str(j, "recommended"), ==, "true");
	g_assert_true(json_is_false(json_object_get(j, "protected")));
	g_assert_cmpint(json_int(j, "min_disk", 0), ==, 40);
	g_assert_cmpint(json_int(j, "size", 0), ==, 37580963840);
	g_assert_true(json_is_null(json_object_get(j, "virtual_size")));
	g_assert_cmpuint(json_array_size(json_arr(j, "tags")), ==, 2);
	g_assert_cmpstr(json_str(j, "container_format"), ==, "bare");
	g_assert_cmpstr(json_str(j, "status"), ==, "queued");
}

static void test_json_leads_back(void)
{
	for (int round = 0; round < 200; round++) {
		g_autoptr(Image) img = make(), back = NULL;
		g_autofree char *text = NULL, *again = NULL;
		_cleanup_json_ Json *j = NULL, *k = NULL;
		size_t n;
		const struct prop_def *def = prop_table(&n);

		for (int i = 0; i < 20; i++) {
			g_autofree char *v = g_strdup_printf("%d", g_test_rand_int_range(0, 100));

			image_set(img, def[g_test_rand_int_range(0, (gint32)n)].name, v, NULL);
		}
		j = image_to_json(img);
		back = image_of_json(j, NULL);
		g_assert_nonnull(back);
		k = image_to_json(back);
		text = json_print(j);
		again = json_print(k);
		g_assert_cmpstr(text, ==, again);
	}
}

static void test_broken_records_are_refused(void)
{
	static const char *const rows[] = {
		"[]",
		"{}",
		"{\"id\":\"x\",\"name\":\"a\"}",
		"{\"id\":\"" ID
		"\",\"name\":\"a\",\"status\":\"active\",\"visibility\":\"private\",\"protected\":1,"
		"\"os_hidden\":false,\"min_disk\":0,\"min_ram\":0,\"tags\":[],\"created_at\":\"" NOW
		"\",\"updated_at\":\"" NOW "\"}",
		"{\"id\":\"" ID
		"\",\"name\":\"a/b\",\"status\":\"active\",\"visibility\":\"private\",\"protected\":false,"
		"\"os_hidden\":false,\"min_disk\":0,\"min_ram\":0,\"tags\":[],\"created_at\":\"" NOW
		"\",\"updated_at\":\"" NOW "\"}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		g_autoptr(GError) err = NULL;
		_cleanup_json_ Json *j = json_parse(rows[i], strlen(rows[i]), NULL);

		g_assert_nonnull(j);
		g_assert_null(image_of_json(j, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

static void test_readonly_stays_the_services(void)
{
	static const char *const names[] = { "id", "status", "size", "os_hash_value", "created_at" };
	g_autoptr(Image) img = make();

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autoptr(GError) err = NULL, err2 = NULL;
		const char *text = g_str_equal(names[i], "size")         ? "1"
				   : g_str_equal(names[i], "status")     ? "active"
				   : g_str_equal(names[i], "created_at") ? NOW
									 : "x";

		g_assert_false(image_set(img, names[i], text, &err));
		g_assert_error(err, ERR, ERR_DENIED);
		g_assert_false(image_unset(img, names[i], &err2));
		g_assert_error(err2, ERR, ERR_DENIED);
	}
	g_assert_false(image_unset(img, "name", NULL));
}

static void test_refused_patch_changes_nothing(void)
{
	g_autoptr(Image) img = make();
	g_autofree char *before = NULL, *after = NULL;
	_cleanup_json_ Json *j = image_to_json(img), *k = NULL, *patch = NULL, *good = NULL;

	before = json_print(j);
	patch = json_pack("{s:s, s:b, s:s}", "os_distro", "debian", "protected", 1, "os_type", "beos");
	g_assert_false(image_patch(img, patch, NULL));
	k = image_to_json(img);
	after = json_print(k);
	g_assert_cmpstr(before, ==, after);
	good =
	    json_pack("{s:s, s:b, s:n, s:i}", "os_distro", "debian", "protected", 1, "owner", "min_ram", 512);
	g_assert_true(image_patch(img, good, NULL));
	g_assert_cmpstr(image_get(img, "os_distro"), ==, "debian");
	g_assert_true(image_bool(img, "protected"));
	g_assert_cmpuint(image_uint(img, "min_ram"), ==, 512);
	g_assert_true(image_unset(img, "min_ram", NULL));
	g_assert_cmpuint(image_uint(img, "min_ram"), ==, 0);
	g_assert_nonnull(image_get(img, "min_ram"));
}

static void test_a_vm_inherits_properties_not_attributes(void)
{
	g_autoptr(Image) img = make();
	_cleanup_json_ Json *p = NULL;

	g_assert_true(image_set(img, "os_type", "windows", NULL));
	g_assert_true(image_set(img, "hw_qemu_guest_agent", "yes", NULL));
	p = image_properties(img);
	g_assert_cmpuint(json_object_size(p), ==, 2);
	g_assert_cmpstr(json_str(p, "hw_qemu_guest_agent"), ==, "true");
}

static void test_names(void)
{
	static const char *const good[] = { "a", "Debian 12",
					    "\xc3\x9c"
					    "bung",
					    "Windows 10 - With Apps [2017-01-27]" };
	static const char *const bad[] = { "", "a/b", " a", "a ", "a\n", "\xff", ID, "tab\there" };
	g_autofree char *longest = g_strnfill(256, 'x');

	for (size_t i = 0; i < G_N_ELEMENTS(good); i++)
		g_assert_true(image_name_check(good[i], NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
		g_assert_false(image_name_check(bad[i], NULL));
	g_assert_false(image_name_check(longest, NULL));
	longest[255] = '\0';
	g_assert_true(image_name_check(longest, NULL));
}

static void test_too_small_vms_are_refused(void)
{
	const uint64_t gib = UINT64_C(1) << 30;
	g_autoptr(Image) img = make();
	g_autoptr(GError) err = NULL, err2 = NULL;

	g_assert_true(image_set(img, "min_disk", "40", NULL));
	g_assert_true(image_set(img, "min_ram", "2048", NULL));
	g_assert_true(image_check_fit(img, 40 * gib, 2 * gib, NULL));
	g_assert_false(image_check_fit(img, 40 * gib - 1, 2 * gib, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_nonnull(strstr(err->message, "40 GiB"));
	g_assert_false(image_check_fit(img, 40 * gib, 2 * gib - 1, &err2));
	g_assert_nonnull(strstr(err2->message, "2 GiB"));
	image_record_uint(img, "virtual_size", 50 * gib);
	g_assert_false(image_check_fit(img, 49 * gib, 2 * gib, NULL));
}

static void test_only_active_images_are_used(void)
{
	g_autoptr(Image) img = make();
	g_autoptr(GError) err = NULL;

	g_assert_false(image_check_usable(img, &err));
	g_assert_error(err, ERR, ERR_BAD_STATE);
	image_record(img, "status", "active");
	g_assert_true(image_check_usable(img, NULL));
}

static void test_protected_and_used_images_stay(void)
{
	static const char *const nobody[] = { NULL }, *const users[] = { "web1-root", "web2-root", NULL };
	g_autoptr(Image) img = make();
	g_autoptr(GError) err = NULL, err2 = NULL;

	g_assert_true(image_check_delete(img, nobody, NULL));
	g_assert_false(image_check_delete(img, users, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_cmpuint(json_array_size(json_arr(err_details(err), "volumes")), ==, 2);
	g_assert_true(image_set(img, "protected", "true", NULL));
	g_assert_false(image_check_delete(img, nobody, &err2));
	g_assert_error(err2, ERR, ERR_DENIED);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/image/table", test_table_is_sound);
	g_test_add_func("/image/canonical", test_values_become_canonical);
	g_test_add_func("/image/bad-values", test_bad_values_are_refused_with_advice);
	g_test_add_func("/image/bounds", test_sizes_are_bounded);
	g_test_add_func("/image/json", test_json_is_flat_and_typed_as_glance);
	g_test_add_func("/image/json-back", test_json_leads_back);
	g_test_add_func("/image/broken-records", test_broken_records_are_refused);
	g_test_add_func("/image/readonly", test_readonly_stays_the_services);
	g_test_add_func("/image/patch", test_refused_patch_changes_nothing);
	g_test_add_func("/image/inherit", test_a_vm_inherits_properties_not_attributes);
	g_test_add_func("/image/names", test_names);
	g_test_add_func("/image/fit", test_too_small_vms_are_refused);
	g_test_add_func("/image/usable", test_only_active_images_are_used);
	g_test_add_func("/image/delete", test_protected_and_used_images_stay);
	return g_test_run();
}
