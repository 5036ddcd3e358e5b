/* SPDX-License-Identifier: Apache-2.0 */
/* The fence with a guard and processes that stand for QEMUs. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/fence.h"
#include "engine/qemu_pid.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define DEADLINE UINT64_C(120000000)
#define SECOND UINT64_C(1000000)

typedef struct Rig {
	char *run;
	Fence *fence;
	pid_t pid[2];
} Rig;

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	g_assert_cmpint(pid, >, 0);
	return pid;
}

static char state_of(pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
	g_autofree char *text = file_read_virtual(path, 4096, NULL, NULL);
	const char *end = text != NULL ? strrchr(text, ')') : NULL;

	return end != NULL ? end[2] : '-';
}

static void await_state(pid_t pid, const char *states)
{
	uint64_t until = time_monotonic() + DEADLINE;

	while (strchr(states, state_of(pid)) == NULL) {
		g_assert_cmpuint(time_monotonic(), <, until);
		g_usleep(5000);
	}
}

static void rig_init(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	r->run = g_dir_make_tmp("plim-fence-XXXXXX", &e);
	g_assert_no_error(e);
	r->fence = fence_open(r->run, NULL, &e);
	g_assert_no_error(e);
	for (size_t i = 0; i < G_N_ELEMENTS(r->pid); i++) {
		r->pid[i] = sleeper();
		fence_add(r->fence, r->pid[i]);
	}
}

static void rig_done(Rig *r, gconstpointer data)
{
	(void)data;
	fence_set(r->fence, 0);
	fence_close(r->fence);
	for (size_t i = 0; i < G_N_ELEMENTS(r->pid); i++) {
		kill(r->pid[i], SIGKILL);
		waitpid(r->pid[i], NULL, 0);
	}
	dir_remove(r->run, NULL);
	g_free(r->run);
}

static void guard(Rig *r, uint64_t until)
{
	g_autoptr(GError) e = NULL;

	fence_set(r->fence, until);
	fence_check_guard(r->fence, &e);
	g_assert_no_error(e);
}

static bool only_first(pid_t pid, void *data)
{
	const Rig *r = data;

	return pid == r->pid[0];
}

static void test_guests_run_while_the_lease_holds(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, fence_now() + 3600 * SECOND);
	await_state(r->pid[0], "S");
	g_assert_cmpuint(fence_shut_at(r->fence), ==, 0);
}

static void test_guests_are_held_when_it_ends(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, fence_now() + SECOND / 2);
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	g_assert_cmpuint(fence_shut_at(r->fence), >, 0);
}

static void test_what_is_still_ours_goes_on_and_the_rest_ends(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, fence_now());
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	fence_set(r->fence, fence_now() + 3600 * SECOND);
	g_assert_cmpuint(fence_release(r->fence, only_first, r).go_on, ==, 1);
	await_state(r->pid[0], "S");
	await_state(r->pid[1], "Z");
	g_assert_cmpuint(fence_shut_at(r->fence), ==, 0);
}

/* The guard's stop, sent from a look before the release, comes between the release's two. */
static bool stop_first_again(pid_t pid, void *data)
{
	const Rig *r = data;

	if (pid == r->pid[1])
		kill(r->pid[0], SIGSTOP);
	return true;
}

static void test_a_stop_behind_the_release_does_not_last(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, fence_now());
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	/* Else a guard that is slow to look at the time takes its stop back itself, and this one is nobody's.
	 */
	fence_hold(r->fence);
	fence_set(r->fence, fence_now() + 3600 * SECOND);
	g_assert_cmpuint(fence_release(r->fence, stop_first_again, r).go_on, ==, 2);
	await_state(r->pid[0], "S");
	await_state(r->pid[1], "S");
}

static void test_it_holds_when_the_daemon_is_gone(Rig *r, gconstpointer data)
{
	int status;
	pid_t daemon = fork();

	(void)data;
	if (daemon == 0) {
		guard(r, fence_now() + SECOND / 2);
		_exit(0);
	}
	g_assert_cmpint(waitpid(daemon, &status, 0), ==, daemon);
	g_assert_cmpint(status, ==, 0);
	await_state(r->pid[0], "T");
}

static void test_the_daemon_holds_guests_before_the_time(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, fence_now() + 3600 * SECOND);
	g_assert_cmpuint(fence_hold(r->fence), ==, 2);
	g_assert_cmpuint(fence_shut_at(r->fence), >, 0);
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	g_assert_cmpuint(fence_release(r->fence, only_first, r).ended, ==, 1);
	await_state(r->pid[0], "S");
	await_state(r->pid[1], "Z");
	g_assert_cmpuint(fence_shut_at(r->fence), ==, 0);
}

static void test_where_nobody_runs_nothing_is_shut(Rig *r, gconstpointer data)
{
	(void)data;
	/* No lease was watched so far: these are the guests of a host on its own. */
	g_assert_cmpuint(fence_hold(r->fence), ==, 0);
	guard(r, fence_now() + 3600 * SECOND);
	for (size_t i = 0; i < G_N_ELEMENTS(r->pid); i++) {
		kill(r->pid[i], SIGKILL);
		waitpid(r->pid[i], NULL, 0);
	}
	g_assert_cmpuint(fence_hold(r->fence), ==, 0);
	g_assert_cmpuint(fence_shut_at(r->fence), ==, 0);
}

static void test_who_comes_while_it_is_shut_is_stopped_at_once(Rig *r, gconstpointer data)
{
	pid_t late = sleeper();

	(void)data;
	/* The time is over, and no guard lives that could have noticed. */
	fence_set(r->fence, fence_now() - SECOND);
	g_assert_true(fence_add(r->fence, late));
	await_state(late, "T");
	kill(late, SIGKILL);
	waitpid(late, NULL, 0);
}

static void write_over(const char *path, const char *data, size_t len)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	g_assert_cmpint(fd, >=, 0);
	g_assert_cmpint(fd_write_all(fd, data, len), ==, 0);
}

static void test_a_full_table_is_told_and_nobody_is_in_it_twice(Rig *r, gconstpointer data)
{
	g_autofree char *path = g_build_filename(r->run, "fence", NULL);
	uint64_t *word;
	size_t len = 0;
	g_autofree char *table = NULL;

	(void)data;
	for (int i = 0; i < 10; i++)
		g_assert_true(fence_add(r->fence, r->pid[0]));
	fence_set(r->fence, fence_now() + 3600 * SECOND);
	g_assert_cmpuint(fence_hold(r->fence), ==, 2);
	/* Each place is {start, pid}, behind three words: the first one's is copied into all others. */
	table = file_read(path, 1 << 20, &len, NULL);
	word = (uint64_t *)(void *)table;
	g_assert_cmpuint(len, ==, (3 + 2 * FENCE_PLACES) * sizeof *word);
	for (size_t i = 2; i < FENCE_PLACES; i++)
		memcpy(&word[3 + 2 * i], &word[3], 2 * sizeof *word);
	write_over(path, table, len);
	g_assert_true(fence_add(r->fence, r->pid[1]));
	g_assert_false(fence_add(r->fence, getpid()));
}

/* Arguments as QEMU's: the id is a word of its own. */
static pid_t sleeper_called(const char *id)
{
	pid_t pid = fork();

	if (pid == 0) {
		execl("/proc/self/exe", "test_fence", "--sleep", "-uuid", id, NULL);
		_exit(127);
	}
	return pid;
}

static void note_pid(const char *run, const char *id, pid_t pid)
{
	g_autofree char *dir = g_build_filename(run, "vms", id, NULL),
			*path = g_build_filename(dir, "qemu.pid", NULL),
			*text = g_strdup_printf("%d\n", (int)pid);

	g_assert_cmpint(g_mkdir_with_parents(dir, 0700), ==, 0);
	g_assert_true(g_file_set_contents(path, text, -1, NULL));
}

static void until_called(pid_t pid, const char *id)
{
	uint64_t until = time_monotonic() + DEADLINE;

	while (!qemu_pid_is(pid, id)) {
		g_assert_cmpuint(time_monotonic(), <, until);
		g_usleep(5000);
	}
}

static void test_all_are_killed_of_a_host_that_was_taken_out(Rig *r, gconstpointer data)
{
	static const char id[] = "6f1c7d7e-4a53-4c3e-9d57-0a6a4b1f5d10",
			  other[] = "6f1c7d7e-4a53-4c3e-9d57-0a6a4b1f5d11";
	pid_t noted = sleeper_called(id), stranger = sleeper_called("no-vm");

	(void)data;
	note_pid(r->run, id, noted);
	/* Its number is that of a process of somebody else by now. */
	note_pid(r->run, other, stranger);
	until_called(noted, id);
	g_assert_cmpint(qemu_pid_of(r->run, id), ==, noted);
	g_assert_cmpint(qemu_pid_of(r->run, other), ==, 0);
	fence_kill_all(r->run);
	await_state(noted, "Z");
	await_state(r->pid[0], "Z");
	await_state(r->pid[1], "Z");
	g_assert_null(strchr("Z-", state_of(stranger)));
	kill(stranger, SIGKILL);
	waitpid(stranger, NULL, 0);
	waitpid(noted, NULL, 0);
}

static bool both(pid_t pid, void *data)
{
	(void)pid;
	(void)data;
	return true;
}

static void test_who_is_in_no_pool_any_more_holds_nobody(Rig *r, gconstpointer data)
{
	g_autofree char *path = g_build_filename(r->run, "fence", NULL);

	(void)data;
	/* It may be about to stop them at any moment of this. */
	for (unsigned i = 0; i < 5; i++) {
		guard(r, fence_now() + i * 1000);
		if (i % 2 == 0)
			await_state(r->pid[1], "T");
		fence_drop(r->run, both, r);
		await_state(r->pid[0], "RS");
		await_state(r->pid[1], "RS");
		g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
		fence_close(r->fence);
		r->fence = fence_open(r->run, NULL, NULL);
		g_assert_nonnull(r->fence);
		fence_add(r->fence, r->pid[0]);
		fence_add(r->fence, r->pid[1]);
	}
	guard(r, fence_now());
	fence_drop(r->run, only_first, r);
	await_state(r->pid[0], "RS");
	await_state(r->pid[1], "Z");
	/* Where there is none. */
	fence_drop(r->run, only_first, r);
}

static void test_another_process_of_the_same_number_is_left_alone(Rig *r, gconstpointer data)
{
	(void)data;
	/* Its start is not the one that was noted: as if the number had been given again. */
	kill(r->pid[1], SIGKILL);
	waitpid(r->pid[1], NULL, 0);
	guard(r, fence_now());
	await_state(r->pid[0], "T");
	g_assert_cmpint(state_of(r->pid[1]), ==, '-');
	r->pid[1] = sleeper();
	fence_set(r->fence, fence_now() + 3600 * SECOND);
	g_assert_cmpuint(fence_release(r->fence, only_first, r).go_on, ==, 1);
	await_state(r->pid[1], "S");
}

int main(int argc, char **argv)
{
	/* The guard is the program itself, as in the daemon. */
	if (argc == 3 && g_str_equal(argv[1], "--guard"))
		return fence_guard((int)g_ascii_strtoll(argv[2], NULL, 10));
	if (argc > 1 && g_str_equal(argv[1], "--sleep"))
		for (;;)
			pause();
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/fence/" #name, Rig, NULL, rig_init, test_##name, rig_done)
	ADD(guests_run_while_the_lease_holds);
	ADD(guests_are_held_when_it_ends);
	ADD(what_is_still_ours_goes_on_and_the_rest_ends);
	ADD(a_stop_behind_the_release_does_not_last);
	ADD(it_holds_when_the_daemon_is_gone);
	ADD(the_daemon_holds_guests_before_the_time);
	ADD(where_nobody_runs_nothing_is_shut);
	ADD(who_comes_while_it_is_shut_is_stopped_at_once);
	ADD(a_full_table_is_told_and_nobody_is_in_it_twice);
	ADD(all_are_killed_of_a_host_that_was_taken_out);
	ADD(who_is_in_no_pool_any_more_holds_nobody);
	ADD(another_process_of_the_same_number_is_left_alone);
	return g_test_run();
}
