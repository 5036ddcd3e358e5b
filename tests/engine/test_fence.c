/* SPDX-License-Identifier: Apache-2.0 */
/* The fence with a guard and processes that stand for QEMUs. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/fence.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define DEADLINE UINT64_C(30000000)
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
	guard(r, time_monotonic() + 3600 * SECOND);
	await_state(r->pid[0], "S");
	g_assert_cmpuint(fence_shut_at(r->fence), ==, 0);
}

static void test_guests_are_held_when_it_ends(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, time_monotonic() + SECOND / 2);
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	g_assert_cmpuint(fence_shut_at(r->fence), >, 0);
}

static void test_what_is_still_ours_goes_on_and_the_rest_ends(Rig *r, gconstpointer data)
{
	(void)data;
	guard(r, time_monotonic());
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	fence_set(r->fence, time_monotonic() + 3600 * SECOND);
	g_assert_cmpuint(fence_release(r->fence, only_first, r), ==, 1);
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
	guard(r, time_monotonic());
	await_state(r->pid[0], "T");
	await_state(r->pid[1], "T");
	fence_set(r->fence, time_monotonic() + 3600 * SECOND);
	g_assert_cmpuint(fence_release(r->fence, stop_first_again, r), ==, 2);
	await_state(r->pid[0], "S");
	await_state(r->pid[1], "S");
}

static void test_it_holds_when_the_daemon_is_gone(Rig *r, gconstpointer data)
{
	int status;
	pid_t daemon = fork();

	(void)data;
	if (daemon == 0) {
		guard(r, time_monotonic() + SECOND / 2);
		_exit(0);
	}
	g_assert_cmpint(waitpid(daemon, &status, 0), ==, daemon);
	g_assert_cmpint(status, ==, 0);
	await_state(r->pid[0], "T");
}

static void test_another_process_of_the_same_number_is_left_alone(Rig *r, gconstpointer data)
{
	(void)data;
	/* Its start is not the one that was noted: as if the number had been given again. */
	kill(r->pid[1], SIGKILL);
	waitpid(r->pid[1], NULL, 0);
	guard(r, time_monotonic());
	await_state(r->pid[0], "T");
	g_assert_cmpint(state_of(r->pid[1]), ==, '-');
	r->pid[1] = sleeper();
	fence_set(r->fence, time_monotonic() + 3600 * SECOND);
	g_assert_cmpuint(fence_release(r->fence, only_first, r), ==, 1);
	await_state(r->pid[1], "S");
}

int main(int argc, char **argv)
{
	/* The guard is the program itself, as in the daemon. */
	if (argc == 3 && g_str_equal(argv[1], "--guard"))
		return fence_guard((int)g_ascii_strtoll(argv[2], NULL, 10));
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/fence/" #name, Rig, NULL, rig_init, test_##name, rig_done)
	ADD(guests_run_while_the_lease_holds);
	ADD(guests_are_held_when_it_ends);
	ADD(what_is_still_ours_goes_on_and_the_rest_ends);
	ADD(a_stop_behind_the_release_does_not_last);
	ADD(it_holds_when_the_daemon_is_gone);
	ADD(another_process_of_the_same_number_is_left_alone);
	return g_test_run();
}
