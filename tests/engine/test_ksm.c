/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "engine/ksm.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

/* A folder that looks like the kernel's. */
static char *folder_new(void)
{
	char *dir = g_dir_make_tmp("plimsoll-ksm-XXXXXX", NULL);

	g_assert_nonnull(dir);
	return dir;
}

static void put(const char *dir, const char *name, const char *text)
{
	g_autofree char *path = g_build_filename(dir, name, NULL);

	g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static char *run_of(const char *dir)
{
	g_autofree char *path = g_build_filename(dir, "run", NULL);
	char *text = NULL;

	g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
	return g_strstrip(text);
}

static void folder_free(char *dir)
{
	g_assert_true(dir_remove(dir, NULL));
	g_free(dir);
}

static void test_on_scans_and_off_parts(void)
{
	char *dir = folder_new();
	g_autoptr(GError) err = NULL;
	g_autofree char *on = NULL, *off = NULL;

	put(dir, "run", "0\n");
	put(dir, "pages_sharing", "256\n");
	g_assert_true(ksm_apply(dir, KSM_ON, 0, &err));
	on = run_of(dir);
	g_assert_cmpstr(on, ==, "1");
	g_assert_true(ksm_apply(dir, KSM_OFF, MIB, &err));
	off = run_of(dir);
	g_assert_cmpstr(off, ==, "2");
	g_assert_no_error(err);
	folder_free(dir);
}

static void test_pages_without_room_are_not_parted(void)
{
	char *dir = folder_new();
	g_autoptr(GError) err = NULL;
	g_autofree char *run = NULL;
	uint64_t need = 256 * (uint64_t)getpagesize();

	put(dir, "run", "1\n");
	put(dir, "pages_sharing", "256\n");
	g_assert_false(ksm_apply(dir, KSM_OFF, need - 1, &err));
	g_assert_error(err, ERR, ERR_NO_SPACE);
	g_assert_cmpuint(json_uint(err_details(err), "needed", 0), ==, need);
	g_assert_nonnull(err_advice(err));
	run = run_of(dir);
	g_assert_cmpstr(run, ==, "1");
	folder_free(dir);
}

static void test_a_kernel_without_it_is_told_of(void)
{
	char *dir = folder_new();
	_cleanup_json_ Json *status = ksm_status(dir);

	g_assert_true(json_is_null(status));
	for (KsmMode m = KSM_ON; m <= KSM_OFF; m++) {
		g_autoptr(GError) err = NULL;

		g_assert_false(ksm_apply(dir, m, MIB, &err));
		g_assert_error(err, ERR, ERR_UNSUPPORTED);
		g_assert_nonnull(err_advice(err));
	}
	folder_free(dir);
}

static void test_auto_changes_nothing(void)
{
	char *dir = folder_new();
	_cleanup_json_ Json *none = json_object();

	g_assert_cmpint(ksm_mode_of(none), ==, KSM_AUTO);
	g_assert_true(ksm_apply(dir, KSM_AUTO, 0, NULL));
	folder_free(dir);
}

static void test_status_is_in_bytes(void)
{
	char *dir = folder_new();
	_cleanup_json_ Json *j = NULL;

	put(dir, "run", "1\n");
	put(dir, "pages_shared", "2\n");
	put(dir, "pages_sharing", "10\n");
	put(dir, "full_scans", "3\n");
	j = ksm_status(dir);
	g_assert_true(json_bool(j, "running", false));
	g_assert_cmpuint(json_uint(j, "shared", 0), ==, 2 * (uint64_t)getpagesize());
	g_assert_cmpuint(json_uint(j, "saved", 0), ==, 10 * (uint64_t)getpagesize());
	g_assert_cmpuint(json_uint(j, "scans", 0), ==, 3);
	folder_free(dir);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/ksm/on-off", test_on_scans_and_off_parts);
	g_test_add_func("/ksm/room", test_pages_without_room_are_not_parted);
	g_test_add_func("/ksm/absent", test_a_kernel_without_it_is_told_of);
	g_test_add_func("/ksm/auto", test_auto_changes_nothing);
	g_test_add_func("/ksm/status", test_status_is_in_bytes);
	return g_test_run();
}
