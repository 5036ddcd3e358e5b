/* SPDX-License-Identifier: Apache-2.0 */
/* The steps around QEMU as the executor calls them: with the planners' arguments, twice, and undone. */
#include "base/fd.h"
#include "engine/steps-impl.h"
#include "engine/steps_host.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Rig {
	char *dir;
	Store *local;
} Rig;

static Rig rig;

struct grant_host step_grant_host(const StepContext *ctx)
{
	(void)ctx;
	return (struct grant_host){ .local = rig.local, .state = rig.dir };
}

static void rig_up(void)
{
	rig.dir = g_dir_make_tmp("test-steps-XXXXXX", NULL);
	g_assert_cmpint(chmod(rig.dir, 0711), ==, 0);
	rig.local = store_open("mem:", NULL);
}

static void rig_down(void)
{
	rig.local = store_close(rig.local);
	g_assert_true(dir_remove(rig.dir, NULL));
	g_free(rig.dir);
}

static char *in_rig(const char *name)
{
	return g_build_filename(rig.dir, name, NULL);
}

static Json *args_of(const char *path)
{
	Json *args = json_object();

	json_put_str(args, "vm", "11111111-2222-4333-8444-555555555555");
	json_put_str(args, "name", "web1");
	json_put_str(args, "path", path);
	return args;
}

static void done(StepFunc step, const Json *args)
{
	g_autoptr(GError) e = NULL;

	step(NULL, args, &e);
	g_assert_no_error(e);
}

static void test_a_folder_comes_twice_and_goes_twice(void)
{
	static const struct {
		StepFunc make, remove;
	} cases[] = {
		{ step_VM_DIR_MAKE_run, step_VM_DIR_REMOVE_run },
		{ step_VM_DIR_MAKE_run, step_VM_DIR_MAKE_undo },
		{ step_RUN_DIR_MAKE_run, step_RUN_DIR_REMOVE_run },
		{ step_RUN_DIR_MAKE_run, step_RUN_DIR_MAKE_undo },
	};

	rig_up();
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *path = in_rig("vm"), *file = in_rig("vm/file");
		_cleanup_json_ Json *args = args_of(path);
		struct stat st;

		done(cases[i].make, args);
		done(cases[i].make, args);
		g_assert_cmpint(stat(path, &st), ==, 0);
		g_assert_cmpuint(st.st_mode & 07777, ==, 0711);
		g_assert_true(file_write_atomic(file, "x", 1, 0600, NULL));
		done(cases[i].remove, args);
		g_assert_cmpint(access(path, F_OK), ==, -1);
		done(cases[i].remove, args);
	}
	rig_down();
}

static void test_firmware_variables_are_made_once(void)
{
	g_autofree char *path = NULL, *template = NULL, *text = NULL;
	_cleanup_json_ Json *args = NULL;

	rig_up();
	path = in_rig("nvram.fd");
	template = in_rig("VARS.fd");
	args = args_of(path);
	json_put_str(args, "template", template);
	g_assert_true(file_write_atomic(template, "fresh", 5, 0644, NULL));
	done(step_NVRAM_CREATE_run, args);
	text = file_read(path, 100, NULL, NULL);
	g_assert_cmpstr(text, ==, "fresh");
	g_assert_true(file_write_atomic(path, "boot order", 10, 0600, NULL));
	done(step_NVRAM_CREATE_run, args);
	g_free(text);
	text = file_read(path, 100, NULL, NULL);
	g_assert_cmpstr(text, ==, "boot order");
	rig_down();
}

static void test_a_missing_template_is_an_error_with_advice(void)
{
	g_autofree char *path = NULL;
	_cleanup_json_ Json *args = NULL;
	g_autoptr(GError) e = NULL;

	rig_up();
	path = in_rig("nvram.fd");
	args = args_of(path);
	json_put_str(args, "template", "/nonexistent/VARS.fd");
	g_assert_false(step_NVRAM_CREATE_run(NULL, args, &e));
	g_assert_cmpint(err_code(e), ==, ERR_NOT_FOUND);
	g_assert_nonnull(err_advice(e));
	g_assert_cmpint(access(path, F_OK), ==, -1);
	rig_down();
}

static void test_a_disk_is_granted_and_revoked(void)
{
	g_autofree char *path = NULL;
	_cleanup_json_ Json *args = NULL;
	struct stat st;

	if (geteuid() != 0) {
		g_test_skip("needs root");
		return;
	}
	rig_up();
	path = in_rig("volume.raw");
	args = args_of(path);
	json_put_str(args, "user", "nobody");
	json_put_bool(args, "readonly", false);
	g_assert_true(file_write_atomic(path, "disk", 4, 0600, NULL));
	done(step_DISK_GRANT_run, args);
	g_assert_cmpint(stat(path, &st), ==, 0);
	g_assert_cmpuint(st.st_uid, !=, 0);
	done(step_DISK_GRANT_undo, args);
	done(step_DISK_REVOKE_run, args);
	rig_down();
}

/* A damaged plan is told, not run. */
static void test_missing_arguments_are_refused(void)
{
	static const StepFunc steps[] = { step_VM_DIR_MAKE_run,    step_VM_DIR_REMOVE_run,
					  step_RUN_DIR_REMOVE_run, step_NVRAM_CREATE_run,
					  step_DISK_GRANT_run,     step_DISK_REVOKE_run,
					  step_TPM_START_run,      step_TPM_STOP_run,
					  step_NET_TAP_ADD_run,    step_NET_TAP_DEL_run };
	_cleanup_json_ Json *none = json_object(), *relative = args_of("vms/x");

	rig_up();
	for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
		g_autoptr(GError) a = NULL, b = NULL;

		g_assert_false(steps[i](NULL, none, &a));
		g_assert_cmpint(err_code(a), ==, ERR_INTERNAL);
		g_assert_false(steps[i](NULL, relative, &b));
		g_assert_cmpint(err_code(b), ==, ERR_INTERNAL);
	}
	rig_down();
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/steps_host/" #name, test_##name)
	T(a_folder_comes_twice_and_goes_twice);
	T(firmware_variables_are_made_once);
	T(a_missing_template_is_an_error_with_advice);
	T(a_disk_is_granted_and_revoked);
	T(missing_arguments_are_refused);
#undef T
	return g_test_run();
}
