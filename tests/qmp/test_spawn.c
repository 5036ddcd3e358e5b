/* SPDX-License-Identifier: Apache-2.0 */
/* What a started process has and has not. The processes are shells that say what they find. */
#include "base/fd.h"
#include "engine/spawn.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

typedef struct Ran {
	pid_t pid;
	struct process_end end;
	char *out;
} Ran;

static void ran_clear(Ran *r)
{
	g_free(r->out);
	*r = (Ran){ 0 };
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Ran, ran_clear)

static void wait_end(int pidfd, struct process_end *ret)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	g_assert_cmpint(poll(&p, 1, 120000), ==, 1);
	g_assert_true(process_ended(pidfd, ret));
}

/* Run it to its end, with what it prints. */
static void run(struct spawn *s, Ran *ret)
{
	g_autofree char *path = NULL;
	g_autoptr(GError) e = NULL;
	_cleanup_close_ int out = g_file_open_tmp("spawn-XXXXXX", &path, &e), pidfd = -EBADF;
	bool ok;

	g_assert_no_error(e);
	s->output = out;
	if (s->max_files == 0)
		s->max_files = 100;
	ok = spawn_process(s, &ret->pid, &pidfd, &e);
	g_assert_no_error(e);
	g_assert_true(ok);
	wait_end(pidfd, &ret->end);
	ret->out = file_read(path, 1 << 20, NULL, &e);
	g_assert_no_error(e);
	g_unlink(path);
}

static void shell(const char *script, struct spawn *s, Ran *ret)
{
	const char *argv[] = { "/bin/sh", "-c", script, NULL };

	s->argv = argv;
	run(s, ret);
	g_assert_true(ret->end.known);
	if (ret->end.code != 0 || ret->end.signal != 0)
		g_error("'%s' failed and said: %s", script, ret->out);
}

static void test_a_process_gets_descriptors_by_number_and_no_others(void)
{
	g_auto(Ran) r = { 0 };
	struct spawn s = { 0 };
	g_autofree char *script = NULL, *want = NULL;
	int fds[2], open_one = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, as a library might */
	char buf[16] = { 0 };

	g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
	s.keep = &fds[1];
	s.n_keep = 1;
	/* ls itself opens the folder as its next descriptor. */
	script = g_strdup_printf("echo through >&%d; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l; "
				 "test -e /proc/self/fd/%d || test %d -lt 4",
				 fds[1], open_one, open_one);
	want = g_strdup_printf("/dev/null\n5\n");
	shell(script, &s, &r);
	g_assert_cmpint(read(fds[0], buf, sizeof buf), ==, 8);
	g_assert_cmpstr(buf, ==, "through\n");
	g_assert_cmpstr(r.out, ==, want);
	close(fds[0]);
	close(fds[1]);
	close(open_one);
}

static void test_a_process_leads_its_own_session_in_the_root_folder(void)
{
	g_auto(Ran) r = { 0 };
	g_autofree char *want = NULL;
	struct spawn s = { 0 };

	shell("pwd; cut -d ' ' -f 6 /proc/$$/stat; umask", &s, &r);
	want = g_strdup_printf("/\n%d\n0077\n", (int)r.pid);
	g_assert_cmpstr(r.out, ==, want);
}

static void test_a_process_has_no_rights(void)
{
	g_auto(Ran) r = { 0 };
	struct spawn s = { .max_files = 64 };

	shell("grep -E '^(Cap|NoNewPrivs)' /proc/self/status | grep -v CapBnd; ulimit -c; ulimit -n", &s, &r);
	g_assert_cmpstr(r.out, ==,
			"CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
			"CapAmb:\t0000000000000000\nNoNewPrivs:\t1\n0\n64\n");
}

static void test_a_process_gets_the_user_and_nothing_of_ours(void)
{
	static const char *const groups[] = { "daemon", "no-such-group", NULL };
	g_auto(Ran) r = { 0 };
	struct spawn s = { 0 };
	SpawnUser u;

	g_assert_false(spawn_user_find("no-such-user", NULL, &u));
	if (geteuid() != 0) {
		g_test_skip("only root can change the user");
		return;
	}
	g_assert_true(spawn_user_find("nobody", groups, &u));
	s.user = &u;
	shell("id -u; id -G; grep -E '^CapBnd' /proc/self/status; kill -0 1 2>/dev/null || echo refused", &s,
	      &r);
	g_assert_cmpstr(r.out, ==, "65534\n65534 1\nCapBnd:\t0000000000000000\nrefused\n");
}

static void test_signals_are_as_if_nobody_had_touched_them(void)
{
	g_auto(Ran) r = { 0 };
	struct spawn s = { 0 };
	sigset_t set, before;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &before);
	signal(SIGPIPE, SIG_IGN);
	shell("grep -E '^Sig(Blk|Ign)' /proc/self/status", &s, &r);
	g_assert_cmpstr(r.out, ==, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	/* and ours are as they were */
	pthread_sigmask(SIG_SETMASK, &before, &set);
	g_assert_true(sigismember(&set, SIGTERM));
	g_assert_false(sigismember(&set, SIGINT));
	signal(SIGPIPE, SIG_DFL);
}

static void test_the_environment_is_small(void)
{
	g_auto(Ran) r = { 0 };
	const char *argv[] = { "/usr/bin/env", NULL };
	struct spawn s = { .argv = argv };

	g_setenv("SECRET", "x", TRUE);
	run(&s, &r);
	g_assert_cmpstr(r.out, ==, "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\n");
}

static void test_the_pid_is_written_before_the_program_begins(void)
{
	g_autofree char *path = g_strdup_printf("/tmp/spawn-pid-%d", (int)getpid());
	g_autofree char *script = g_strdup_printf("test \"$(cat %s)\" = $$ && cat %s", path, path);
	g_autofree char *want = NULL;
	g_auto(Ran) r = { 0 };
	struct spawn s = { .pid_path = path };

	shell(script, &s, &r);
	want = g_strdup_printf("%d\n", (int)r.pid);
	g_assert_cmpstr(r.out, ==, want);
	g_unlink(path);
}

static void test_a_program_that_cannot_run_is_told(void)
{
	static const struct {
		const char *path;
		ErrCode code;
	} cases[] = {
		{ "/no/such/program", ERR_NOT_FOUND },
		{ "/dev/null", ERR_DENIED },
		{ "/", ERR_DENIED },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		const char *argv[] = { cases[i].path, NULL };
		_cleanup_close_ int out = open("/dev/null", O_WRONLY | O_CLOEXEC);
		struct spawn s = { .argv = argv, .output = out, .max_files = 10 };
		g_autoptr(GError) e = NULL;
		int pidfd = -EBADF;
		pid_t pid = 0;

		g_assert_false(spawn_process(&s, &pid, &pidfd, &e));
		g_assert_error(e, ERR, (gint)cases[i].code);
		g_assert_nonnull(strstr(e->message, "can't run the program"));
		g_assert_cmpint(pidfd, ==, -EBADF);
		/* Nothing is left to be reaped. */
		g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
	}
}

/* In a process of its own: begins one that sleeps, as another user, and is killed. */
static void begin_and_die(int out)
{
	static const char *const argv[] = { "/bin/sh", "-c", "echo begun; exec sleep 300", NULL };
	struct spawn s = { .argv = argv, .output = out, .max_files = 64, .ends_with_us = true };
	int pidfd = -EBADF;
	SpawnUser u;
	pid_t pid;

	if (geteuid() == 0 && spawn_user_find("daemon", NULL, &u))
		s.user = &u;
	if (spawn_process(&s, &pid, &pidfd, NULL))
		raise(SIGKILL);
	_exit(1);
}

static void test_one_that_is_to_end_with_us_does(void)
{
	char said[16] = { 0 };
	int fds[2], status;
	struct pollfd p;
	pid_t us;

	g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
	us = fork();
	if (us == 0)
		begin_and_die(fds[1]);
	close(fds[1]);
	g_assert_cmpint(waitpid(us, &status, 0), ==, us);
	g_assert_cmpint(WTERMSIG(status), ==, SIGKILL);
	/* Its output is open for as long as it lives. */
	p = (struct pollfd){ .fd = fds[0], .events = POLLIN };
	do
		g_assert_cmpint(poll(&p, 1, 120000), ==, 1);
	while (read(fds[0], said, sizeof said) > 0);
	close(fds[0]);
}

static void test_how_it_ended_is_known(void)
{
	const char *exits[] = { "/bin/sh", "-c", "exit 7", NULL };
	const char *killed[] = { "/bin/sh", "-c", "kill -KILL $$", NULL };
	struct spawn s = { .argv = exits };
	g_auto(Ran) a = { 0 }, b = { 0 };

	run(&s, &a);
	g_assert_true(a.end.known);
	g_assert_cmpint(a.end.code, ==, 7);
	g_assert_cmpint(a.end.signal, ==, 0);
	s.argv = killed;
	run(&s, &b);
	g_assert_true(b.end.known);
	g_assert_cmpint(b.end.signal, ==, SIGKILL);
}

static void test_start_time_tells_processes_apart(void)
{
	uint64_t mine = 0, again = 0, init = 0;
	g_autoptr(GError) e = NULL;

	g_assert_true(process_start_time(getpid(), &mine, NULL));
	g_assert_true(process_start_time(getpid(), &again, NULL));
	g_assert_true(process_start_time(1, &init, NULL));
	g_assert_cmpuint(mine, ==, again);
	g_assert_cmpuint(mine, >, init);
	g_assert_false(process_start_time(0x3ffffff, &mine, &e));
	g_assert_error(e, ERR, ERR_GONE);
}

#define THREADS 8
#define EACH 25

static gpointer spawn_many(gpointer unused)
{
	const char *argv[] = { "/bin/true", NULL };
	_cleanup_close_ int out = open("/dev/null", O_WRONLY | O_CLOEXEC);

	(void)unused;
	for (unsigned i = 0; i < EACH; i++) {
		struct spawn s = { .argv = argv, .output = out, .max_files = 10 };
		_cleanup_close_ int pidfd = -EBADF;
		struct process_end end = { 0 };
		g_autoptr(GError) e = NULL;
		pid_t pid;

		spawn_process(&s, &pid, &pidfd, &e);
		g_assert_no_error(e);
		wait_end(pidfd, &end);
		g_assert_true(end.known);
		g_assert_cmpint(end.code, ==, 0);
	}
	return NULL;
}

static void test_many_threads_may_spawn_at_once(void)
{
	GThread *t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		t[i] = g_thread_new("spawner", spawn_many, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		g_thread_join(t[i]);
	g_assert_cmpint(waitpid(-1, NULL, WNOHANG), ==, -1);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/spawn/descriptors", test_a_process_gets_descriptors_by_number_and_no_others);
	g_test_add_func("/spawn/session", test_a_process_leads_its_own_session_in_the_root_folder);
	g_test_add_func("/spawn/rights", test_a_process_has_no_rights);
	g_test_add_func("/spawn/user", test_a_process_gets_the_user_and_nothing_of_ours);
	g_test_add_func("/spawn/signals", test_signals_are_as_if_nobody_had_touched_them);
	g_test_add_func("/spawn/environment", test_the_environment_is_small);
	g_test_add_func("/spawn/pid-file", test_the_pid_is_written_before_the_program_begins);
	g_test_add_func("/spawn/cannot-run", test_a_program_that_cannot_run_is_told);
	g_test_add_func("/spawn/end", test_how_it_ended_is_known);
	g_test_add_func("/spawn/ends-with-us", test_one_that_is_to_end_with_us_does);
	g_test_add_func("/spawn/start-time", test_start_time_tells_processes_apart);
	g_test_add_func("/spawn/threads", test_many_threads_may_spawn_at_once);
	return g_test_run();
}
