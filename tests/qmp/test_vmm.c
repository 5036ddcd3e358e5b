/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU processes: started, watched, ended, lost and found. */
#include "base/fd.h"
#include "base/time.h"
#include "drive.h"
#include "engine/vmm_argv.h"
#include "vmm_rig.h"

#include <signal.h>
#include <sys/stat.h>

static void test_a_launched_qemu_is_ready_and_quits_when_told(void)
{
	_cleanup_json_ Json *exit = NULL;
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	g_assert_cmpint(kill(vmm_pid(v.vmm), 0), ==, 0);
	rig_vm_command(&v, "query-status");
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpuint(r.n_exited, ==, 1);
	exit = vmm_exit_to_json(&r.exit);
	g_assert_cmpint(json_int(exit, "code", -1), ==, 0);
	g_assert_cmpint(json_int(exit, "signal", -1), ==, 0);
	g_assert_cmpstr(json_str(exit, "shutdown"), ==, "host-qmp-quit");
	g_assert_false(json_bool(exit, "panicked", true));
	/* once more is fine */
	rig_vm_quit(&v, SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpuint(r.n_exited, ==, 1);
	g_assert_cmpuint(r.n_monitor, ==, 0);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_qemu_that_dies_at_start_tells_its_last_words(void)
{
	Json *exit;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_add_pair(&v, "-device", "no-such-device");
	rig_vm_launch(&v);
	g_assert_null(v.vmm);
	g_assert_error(v.error, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(v.error->message, "no-such-device"));
	g_assert_nonnull(err_advice(v.error));
	exit = json_obj(err_details(v.error), "exit");
	g_assert_cmpint(json_int(exit, "code", -1), ==, 1);
	g_assert_nonnull(strstr(json_str(exit, "last_words"), "no-such-device"));
	g_assert_cmpuint(r.n_exited, ==, 0); /* the error told it */
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_last_words_are_of_this_start_only(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_add_pair(&v, "-device", "first-device");
	rig_vm_launch(&v);
	g_assert_nonnull(strstr(v.error->message, "first-device"));
	rig_vm_done(&v);
	rig_vm_init_fake(&v, &r, "web1", "die");
	rig_vm_launch(&v);
	g_assert_error(v.error, ERR, ERR_QEMU);
	g_assert_null(strstr(v.error->message, "first-device"));
	g_assert_nonnull(strstr(v.error->message, "first line\nI can't go on: \"sda\" is missing"));
	g_assert_nonnull(strstr(v.error->message, "status 3"));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_missing_program_is_told_with_advice(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	g_free(v.argv->pdata[0]);
	v.argv->pdata[0] = g_strdup("qemu-system-none");
	rig_vm_launch(&v);
	g_assert_error(v.error, ERR, ERR_NOT_FOUND);
	g_assert_nonnull(strstr(err_advice(v.error), "qemu-system-x86"));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_bad_placeholders_start_nothing(void)
{
	static const struct {
		const char *arg;
		ErrCode code;
	} cases[] = {
		{ "fd=@fd:@", ERR_INVALID },      { "fd=@fd:no end", ERR_INVALID },
		{ "fd=@fd:Upper@", ERR_INVALID }, { "fd=@fd:../x@", ERR_INVALID },
		{ "nothing", ERR_INVALID }, /* no monitor */
	};
	VmmRig r;

	if (!vmm_rig_init(&r))
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		RigVm v;

		rig_vm_init_fake(&v, &r, "web1", "serve");
		g_ptr_array_set_size(v.argv, 1);
		rig_vm_add(&v, cases[i].arg);
		rig_vm_launch(&v);
		g_assert_error(v.error, ERR, (gint)cases[i].code);
		rig_vm_done(&v);
	}
	vmm_rig_done(&r);
}

static int number_of(const char *name, void *data)
{
	(void)data;
	return (int)strlen(name);
}

static void test_placeholders_become_numbers(void)
{
	static const char *const argv[] = { "qemu", "fd=@fd:qmp@,x", "@fd:tap-net0-1@:@fd:a@@fd:qmp@",
					    "me@host", NULL };
	g_autoptr(GPtrArray) names = vmm_argv_names(argv, NULL);
	g_auto(GStrv) got = vmm_argv_expand(argv, number_of, NULL);

	g_assert_cmpuint(names->len, ==, 3);
	g_assert_cmpstr(names->pdata[0], ==, "qmp");
	g_assert_cmpstr(names->pdata[1], ==, "tap-net0-1");
	g_assert_cmpstr(names->pdata[2], ==, "a");
	g_assert_cmpstr(got[1], ==, "fd=3,x");
	g_assert_cmpstr(got[2], ==, "10:13");
	g_assert_cmpstr(got[3], ==, "me@host");
	g_assert_null(got[4]);
}

static void test_a_vm_is_not_launched_twice(void)
{
	pid_t pid;
	RigVm v, again;
	VmmRig r;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	pid = vmm_pid(v.vmm);
	rig_vm_init(&again, &r, "web1", "job=idle");
	g_free(again.uuid);
	again.uuid = g_strdup(v.uuid);
	rig_vm_launch(&again);
	g_assert_null(again.vmm);
	g_assert_error(again.error, ERR, ERR_CONFLICT);
	g_assert_cmpint(kill(pid, 0), ==, 0);
	rig_vm_command(&v, "query-status"); /* its sockets are as they were */
	rig_vm_done(&again);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_killed_qemu_is_noticed_at_once(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	kill(vmm_pid(v.vmm), SIGKILL);
	rig_vm_wait_exited(&v);
	g_assert_true(r.exit.end.known);
	g_assert_cmpint(r.exit.end.signal, ==, SIGKILL);
	g_assert_null(r.exit.shutdown);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void ask_until_it_fails(void *data)
{
	_cleanup_json_ Json *reply = NULL;
	RigVm *v = data;

	do
		json_unref(g_steal_pointer(&reply));
	while ((reply = qmp_call(vmm_qmp(v->vmm), "query-status", NULL, 0, &v->error)) != NULL);
}

/* Whether its process or its connection is seen to end first: nobody has cancelled anything. */
static void test_calls_to_a_qemu_that_ends_are_not_told_as_cancelled(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	kill(vmm_pid(v.vmm), SIGKILL);
	drive_worker(r.loop, ask_until_it_fails, &v);
	g_assert_true(g_error_matches(v.error, ERR, ERR_GONE) ||
		      g_error_matches(v.error, ERR, ERR_UNAVAILABLE));
	g_clear_error(&v.error);
	rig_vm_wait_exited(&v);
	drive_worker(r.loop, ask_until_it_fails, &v);
	g_assert_error(v.error, ERR, ERR_GONE);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_guest_that_powers_off_says_so(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=poweroff");
	rig_vm_add(&v, "-S");
	rig_vm_must_launch(&v);
	rig_vm_command(&v, "cont");
	rig_vm_wait_exited(&v);
	g_assert_cmpstr(r.exit.shutdown, ==, "guest-shutdown");
	g_assert_cmpint(r.exit.end.code, ==, 0);
	g_assert_nonnull(strstr(r.events->str, "RESUME "));
	g_assert_nonnull(strstr(r.events->str, "SHUTDOWN "));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_guest_that_reboots_says_so(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=reboot");
	rig_vm_add(&v, "-S");
	rig_vm_add(&v, "-no-reboot");
	rig_vm_must_launch(&v);
	rig_vm_command(&v, "cont");
	rig_vm_wait_exited(&v);
	g_assert_cmpstr(r.exit.shutdown, ==, "guest-reset");
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_panic_is_remembered(void)
{
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=panic");
	rig_vm_add(&v, "-S");
	rig_vm_add_pair(&v, "-device", "pvpanic");
	rig_vm_add_pair(&v, "-action", "panic=pause");
	rig_vm_must_launch(&v);
	rig_vm_command(&v, "cont");
	while (strstr(r.events->str, "STOP ") == NULL)
		drive_until_count(r.loop, &r.n_events, r.n_events + 1);
	g_assert_nonnull(strstr(r.events->str, "GUEST_PANICKED "));
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_true(r.exit.panicked);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_qemu_that_is_not_ready_in_time_is_killed(void)
{
	struct stat st;
	g_autofree char *pid_path = NULL, *pid = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "silent");
	/* On a busy machine it may not come to say even that: then with more time. */
	for (v.timeout = SECONDS;; v.timeout *= 10) {
		rig_vm_launch(&v);
		g_assert_null(v.vmm);
		g_assert_error(v.error, ERR, ERR_TIMEOUT);
		if (v.timeout >= 100 * SECONDS || strstr(v.error->message, "I say nothing") != NULL)
			break;
		g_clear_error(&v.error);
	}
	g_assert_nonnull(strstr(v.error->message, "I say nothing to anybody"));
	pid_path = g_strdup_printf("%s/qemu.pid", v.dir);
	pid = file_read(pid_path, 64, NULL, NULL);
	g_assert_nonnull(pid);
	g_assert_cmpint(kill((pid_t)g_ascii_strtoll(pid, NULL, 10), 0), ==, -1);
	g_assert_cmpint(stat(pid_path, &st), ==, 0);
	g_assert_cmpuint(r.n_exited, ==, 0);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_quit_ends_a_qemu_that_does_not_listen(void)
{
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	kill(vmm_pid(v.vmm), SIGSTOP);
	rig_vm_quit(&v, 2 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpuint(r.n_exited, ==, 1);
	g_assert_cmpint(r.exit.end.signal, ==, SIGKILL);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void send_stop(void *data)
{
	g_autoptr(GError) e = NULL;
	RigVm *v = data;

	g_assert_null(qmp_call(vmm_qmp(v->vmm), "stop", NULL, 0, &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
}

static void test_a_lost_monitor_is_found_again(void)
{
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "serve");
	rig_vm_must_launch(&v);
	drive_worker(r.loop, send_stop, &v); /* it hangs up */
	drive_until_count(r.loop, &r.n_monitor, 2);
	g_assert_true(r.connected);
	rig_vm_command(&v, "cont");
	g_assert_cmpuint(r.n_exited, ==, 0);
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_the_log_is_bounded_while_qemu_runs(void)
{
	g_autofree char *old = NULL;
	g_autoptr(GError) e = NULL;
	struct stat st;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "talk");
	rig_vm_must_launch(&v);
	drive_idle(r.loop);
	old = g_strconcat(v.log_path, ".1", NULL);
	g_assert_cmpint(stat(v.log_path, &st), ==, 0);
	g_assert_cmpuint((uint64_t)st.st_size, <=, VMM_LOG_MAX);
	g_assert_cmpint(stat(old, &st), ==, 0);
	g_assert_cmpuint((uint64_t)st.st_size, <=, VMM_LOG_MAX);
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpuint(strlen(r.exit.last_words), <=, 2048);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_warnings_are_no_last_words_of_a_clean_end(void)
{
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "warn");
	rig_vm_must_launch(&v);
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpint(r.exit.end.code, ==, 0);
	g_assert_cmpstr(r.exit.last_words, ==, "fake_qemu: a word: warning: none");
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_warnings_stay_in_the_last_words_of_a_crash(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "warn");
	rig_vm_must_launch(&v);
	g_assert_cmpint(kill(vmm_pid(v.vmm), SIGKILL), ==, 0);
	drive_until_count(r.loop, &r.n_exited, 1);
	g_assert_nonnull(strstr(r.exit.last_words, "warning: hub 0"));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_long_log_is_moved_away_before_a_start(void)
{
	g_autofree char *old = NULL, *text = NULL, *big = g_strnfill(2 << 20, 'x');
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init_fake(&v, &r, "web1", "die");
	file_write_atomic(v.log_path, big, 2 << 20, 0600, &e);
	g_assert_no_error(e);
	rig_vm_launch(&v);
	old = g_strconcat(v.log_path, ".1", NULL);
	g_assert_cmpint(access(old, F_OK), ==, 0);
	text = file_read(v.log_path, 1 << 20, NULL, &e);
	g_assert_no_error(e);
	g_assert_true(g_str_has_prefix(text, "-- plimsoll: "));
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void forget(RigVm *v)
{
	vmm_forget(v->vmm);
	vmm_unref(g_steal_pointer(&v->vmm));
	drive_idle(v->rig->loop);
}

static void test_a_forgotten_qemu_lives_on_and_can_be_taken_up(void)
{
	_cleanup_json_ Json *record = NULL;
	g_autoptr(GError) e = NULL;
	pid_t pid;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	rig_vm_must_launch(&v);
	pid = vmm_pid(v.vmm);
	record = vmm_record(v.vmm);
	forget(&v);
	g_assert_cmpint(kill(pid, 0), ==, 0);
	rig_vm_adopt(&v, record);
	g_assert_no_error(v.error);
	g_assert_cmpint(vmm_pid(v.vmm), ==, pid);
	rig_vm_command(&v, "query-status");
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpuint(r.n_exited, ==, 1);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

/*
 * The daemon is gone: a process of its own launches and exits. It is this
 * program again, with the vm's folder and uuid as arguments.
 */
static int launcher_main(const char *dir, const char *uuid)
{
	g_autofree char *record_path = g_strdup_printf("%s/record", dir), *text = NULL;
	_cleanup_json_ Json *record = NULL;
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	g_assert_true(vmm_rig_init(&r));
	rig_vm_init(&v, &r, "web1", "job=idle");
	g_free(v.dir);
	v.dir = g_strdup(dir);
	g_free(v.log_path);
	v.log_path = g_strdup_printf("%s.log", dir);
	for (guint i = 0; i < v.argv->len; i++)
		if (g_str_equal(v.argv->pdata[i], v.uuid)) {
			g_free(v.argv->pdata[i]);
			v.argv->pdata[i] = g_strdup(uuid);
		}
	rig_vm_must_launch(&v);
	record = vmm_record(v.vmm);
	text = json_print(record);
	file_write_atomic(record_path, text, strlen(text), 0600, &e);
	g_assert_no_error(e);
	dir_remove(r.dir, NULL);
	_exit(0); /* as if killed: nothing is closed or told */
}

static void launch_elsewhere(const RigVm *v)
{
	g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
	const char *argv[] = { self, "--launch", v->dir, v->uuid, NULL };
	g_autoptr(GError) e = NULL;
	int status = -1;

	/* Its output and its end are not waited for through descriptors: QEMU has none of them. */
	g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status, &e);
	g_assert_no_error(e);
	g_assert_cmpint(status, ==, 0);
}

static Json *read_record(const RigVm *v)
{
	g_autofree char *path = g_strdup_printf("%s/record", v->dir);
	g_autofree char *text = file_read(path, 1 << 16, NULL, NULL);

	g_assert_nonnull(text);
	return json_parse(text, strlen(text), NULL);
}

static void adopt_and_end(RigVm *v, const Json *record)
{
	VmmRig *r = v->rig;
	pid_t pid;

	rig_vm_adopt(v, record);
	g_assert_no_error(v->error);
	rig_vm_command(v, "stop");
	drive_until_count(r->loop, &r->n_events, 1);
	g_assert_cmpstr(r->events->str, ==, "STOP ");
	pid = vmm_pid(v->vmm);
	kill(pid, SIGKILL);
	rig_vm_wait_exited(v);
	/* Its parent is init: nobody here could see how it ended, and that is what is said. */
	g_assert_false(r->exit.end.known);
	g_assert_null(r->exit.shutdown);
	rig_vm_done(v);
}

static void test_a_qemu_outlives_the_daemon_and_is_adopted(void)
{
	_cleanup_json_ Json *record = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "");
	launch_elsewhere(&v);
	record = read_record(&v);
	adopt_and_end(&v, record);
	vmm_rig_done(&r);
}

static void test_a_qemu_without_a_record_is_found_by_its_pid_file(void)
{
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "");
	launch_elsewhere(&v);
	adopt_and_end(&v, NULL);
	vmm_rig_done(&r);
}

static void test_an_adopted_guest_that_powers_off_says_so(void)
{
	_cleanup_json_ Json *record = NULL;
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "");
	launch_elsewhere(&v);
	record = read_record(&v);
	rig_vm_adopt(&v, record);
	g_assert_no_error(v.error);
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	g_assert_cmpstr(r.exit.shutdown, ==, "host-qmp-quit");
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void expect_gone(RigVm *v, const Json *record)
{
	rig_vm_adopt(v, record);
	g_assert_null(v->vmm);
	g_assert_error(v->error, ERR, ERR_GONE);
	g_clear_error(&v->error);
}

static Json *record_of(pid_t pid, uint64_t start)
{
	Json *j = json_object();

	json_put_int(j, "pid", pid);
	json_put_uint(j, "pid_start", start);
	return j;
}

static void test_what_is_gone_or_another_is_not_adopted(void)
{
	_cleanup_json_ Json *dead = NULL, *reused = NULL, *live = NULL;
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	expect_gone(&v, NULL); /* never began */
	rig_vm_must_launch(&v);
	live = vmm_record(v.vmm);
	dead = record_of(0x3ffffff, 1);
	reused = record_of(vmm_pid(v.vmm), json_uint(live, "pid_start", 0) + 1);
	forget(&v);
	expect_gone(&v, dead);
	expect_gone(&v, reused);
	/* The right process, but the guest behind the socket is not the one we look for. */
	g_free(v.uuid);
	v.uuid = uuid_new();
	expect_gone(&v, live);
	expect_gone(&v, NULL);
	kill((pid_t)json_int(live, "pid", 0), SIGKILL);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_hanging_qemu_is_adopted_unconnected(void)
{
	_cleanup_json_ Json *record = NULL;
	pid_t pid;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "");
	launch_elsewhere(&v);
	record = read_record(&v);
	pid = (pid_t)json_int(record, "pid", 0);
	kill(pid, SIGSTOP);
	v.timeout = SECONDS / 2;
	rig_vm_adopt(&v, record);
	g_assert_no_error(v.error);
	g_assert_true(vmm_alive(v.vmm));
	g_assert_cmpuint(r.n_monitor, ==, 0);
	kill(pid, SIGCONT);
	drive_until_count(r.loop, &r.n_monitor, 1);
	g_assert_true(r.connected);
	rig_vm_command(&v, "query-status");
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_a_hanging_process_without_a_record_is_left_alone(void)
{
	_cleanup_json_ Json *record = NULL;
	pid_t pid;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "");
	launch_elsewhere(&v);
	record = read_record(&v);
	pid = (pid_t)json_int(record, "pid", 0);
	kill(pid, SIGSTOP);
	v.timeout = SECONDS / 2;
	rig_vm_adopt(&v, NULL);
	g_assert_null(v.vmm);
	g_assert_error(v.error, ERR, ERR_UNAVAILABLE);
	g_assert_cmpint(kill(pid, 0), ==, 0);
	kill(pid, SIGKILL);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_qemu_runs_as_its_own_user_in_a_sandbox(void)
{
	g_autofree char *path = NULL, *status = NULL;
	g_autoptr(GError) e = NULL;
	SpawnUser nobody;
	VmmRig r;
	RigVm v;

	if (geteuid() != 0 || !spawn_user_find("nobody", NULL, &nobody)) {
		g_test_skip("only root can change the user");
		return;
	}
	if (!vmm_rig_init(&r))
		return;
	vmm_host_free(r.host);
	r.host = vmm_host_new(r.loop, &nobody, &e);
	g_assert_no_error(e);
	rig_vm_init(&v, &r, "web1", "job=idle");
	/* Nobody may not be able to read the build folder: no kernel, only firmware. */
	for (guint i = 0; i < v.argv->len; i++)
		if (g_str_equal(v.argv->pdata[i], "-kernel"))
			g_ptr_array_remove_range(v.argv, i, 4);
	rig_vm_add_pair(&v, "-sandbox",
			"on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	rig_vm_must_launch(&v);
	path = g_strdup_printf("/proc/%d/status", (int)vmm_pid(v.vmm));
	status = file_read_virtual(path, 1 << 16, NULL, &e);
	g_assert_no_error(e);
	g_assert_nonnull(strstr(status, "\nUid:\t65534\t65534\t65534\t65534\n"));
	g_assert_nonnull(strstr(status, "\nCapEff:\t0000000000000000\n"));
	g_assert_nonnull(strstr(status, "\nNoNewPrivs:\t1\n"));
	g_assert_nonnull(strstr(status, "\nSeccomp:\t2\n"));
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

static void test_long_paths_are_no_obstacle(void)
{
	g_autofree char *deep = NULL, *part = g_strnfill(100, 'd');
	g_autoptr(GError) e = NULL;
	VmmRig r;
	RigVm v;

	if (!vmm_rig_init(&r))
		return;
	rig_vm_init(&v, &r, "web1", "job=idle");
	deep = g_strdup_printf("%s/%s/%s", v.dir, part, part);
	dir_make(deep, 0700, &e);
	g_assert_no_error(e);
	g_free(v.dir);
	v.dir = g_steal_pointer(&deep);
	rig_vm_must_launch(&v);
	rig_vm_quit(&v, 120 * SECONDS, &e);
	g_assert_no_error(e);
	rig_vm_done(&v);
	vmm_rig_done(&r);
}

int main(int argc, char **argv)
{
	if (argc == 4 && g_str_equal(argv[1], "--launch"))
		return launcher_main(argv[2], argv[3]);
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/vmm/quit", test_a_launched_qemu_is_ready_and_quits_when_told);
	g_test_add_func("/vmm/dies-at-start", test_a_qemu_that_dies_at_start_tells_its_last_words);
	g_test_add_func("/vmm/last-words", test_last_words_are_of_this_start_only);
	g_test_add_func("/vmm/last-words/clean", test_warnings_are_no_last_words_of_a_clean_end);
	g_test_add_func("/vmm/last-words/crash", test_warnings_stay_in_the_last_words_of_a_crash);
	g_test_add_func("/vmm/no-program", test_a_missing_program_is_told_with_advice);
	g_test_add_func("/vmm/bad-placeholders", test_bad_placeholders_start_nothing);
	g_test_add_func("/vmm/placeholders", test_placeholders_become_numbers);
	g_test_add_func("/vmm/twice", test_a_vm_is_not_launched_twice);
	g_test_add_func("/vmm/killed", test_a_killed_qemu_is_noticed_at_once);
	g_test_add_func("/vmm/killed-calls", test_calls_to_a_qemu_that_ends_are_not_told_as_cancelled);
	g_test_add_func("/vmm/poweroff", test_a_guest_that_powers_off_says_so);
	g_test_add_func("/vmm/reboot", test_a_guest_that_reboots_says_so);
	g_test_add_func("/vmm/panic", test_a_panic_is_remembered);
	g_test_add_func("/vmm/not-ready", test_a_qemu_that_is_not_ready_in_time_is_killed);
	g_test_add_func("/vmm/escalation", test_quit_ends_a_qemu_that_does_not_listen);
	g_test_add_func("/vmm/monitor-lost", test_a_lost_monitor_is_found_again);
	g_test_add_func("/vmm/log-bound", test_the_log_is_bounded_while_qemu_runs);
	g_test_add_func("/vmm/log-moved", test_a_long_log_is_moved_away_before_a_start);
	g_test_add_func("/vmm/forget", test_a_forgotten_qemu_lives_on_and_can_be_taken_up);
	g_test_add_func("/vmm/adopt", test_a_qemu_outlives_the_daemon_and_is_adopted);
	g_test_add_func("/vmm/adopt-pid-file", test_a_qemu_without_a_record_is_found_by_its_pid_file);
	g_test_add_func("/vmm/adopt-end", test_an_adopted_guest_that_powers_off_says_so);
	g_test_add_func("/vmm/adopt-gone", test_what_is_gone_or_another_is_not_adopted);
	g_test_add_func("/vmm/adopt-hanging", test_a_hanging_qemu_is_adopted_unconnected);
	g_test_add_func("/vmm/adopt-unknown", test_a_hanging_process_without_a_record_is_left_alone);
	g_test_add_func("/vmm/user", test_qemu_runs_as_its_own_user_in_a_sandbox);
	g_test_add_func("/vmm/long-paths", test_long_paths_are_no_obstacle);
	return g_test_run();
}
