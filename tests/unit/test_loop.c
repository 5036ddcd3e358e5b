/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/loop.h"
#include "base/time.h"
#include "base/worker.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>

/* A test that would wait for ever ends here. */
#define DEADLINE_US UINT64_C(120000000)

typedef struct Fixture {
	Loop *l;
	LoopSource *guard;
} Fixture;

static void on_deadline(void *data)
{
	(void)data;
	g_error("the test waits for something that does not come");
}

static void set_up(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;

	(void)unused;
	f->l = loop_new(&err);
	g_assert_no_error(err);
	f->guard = loop_add_timer(f->l, DEADLINE_US, on_deadline, NULL);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
	(void)unused;
	loop_source_free(f->guard);
	loop_free(f->l);
}

/* ---- posts and workers ---- */

enum { N_POSTS = 1000, N_JOBS = 200, N_THREADS = 3 };

struct seen {
	Loop *l;
	int n, expect;
	gint running, most; /* of workers; atomic */
};

struct post {
	struct seen *seen;
	int number;
};

static void on_post(void *data)
{
	struct post *p = data;

	g_assert_true(loop_on_thread(p->seen->l));
	g_assert_cmpint(p->number, ==, p->seen->n);
	if (++p->seen->n == p->seen->expect)
		loop_quit(p->seen->l, 42);
	g_free(p);
}

static void test_posts_run_in_order(Fixture *f, gconstpointer unused)
{
	struct seen seen = { .l = f->l, .expect = N_POSTS };

	(void)unused;
	for (int i = 0; i < N_POSTS; i++) {
		struct post *p = g_new(struct post, 1);

		*p = (struct post){ .seen = &seen, .number = i };
		loop_post(f->l, on_post, p);
	}
	g_assert_cmpint(seen.n, ==, 0); /* never before loop_post() returns */
	g_assert_cmpint(loop_run(f->l), ==, 42);
	g_assert_cmpint(seen.n, ==, N_POSTS);
}

static void on_job_done(void *data)
{
	struct seen *s = data;

	g_assert_true(loop_on_thread(s->l));
	if (++s->n == s->expect)
		loop_quit(s->l, 0);
}

static void job(void *data)
{
	struct seen *s = data;
	gint now = g_atomic_int_add(&s->running, 1) + 1, most;

	g_assert_false(loop_on_thread(s->l));
	do
		most = g_atomic_int_get(&s->most);
	while (now > most && !g_atomic_int_compare_and_exchange(&s->most, most, now));
	g_thread_yield();
	g_atomic_int_add(&s->running, -1);
	loop_post(s->l, on_job_done, s);
}

static void test_workers_reach_the_loop(Fixture *f, gconstpointer unused)
{
	struct seen seen = { .l = f->l, .expect = N_JOBS };
	g_autoptr(WorkerPool) pool = worker_pool_new(N_THREADS);

	(void)unused;
	g_assert_true(loop_on_thread(f->l));
	for (int i = 0; i < N_JOBS; i++)
		worker_pool_push(pool, job, &seen);
	g_assert_cmpint(loop_run(f->l), ==, 0);
	g_assert_cmpint(seen.n, ==, N_JOBS);
	g_assert_cmpint(g_atomic_int_get(&seen.most), >=, 1);
	g_assert_cmpint(g_atomic_int_get(&seen.most), <=, N_THREADS);
}

static void count_job(void *data)
{
	g_atomic_int_inc((gint *)data);
}

static void test_pool_runs_what_waits_before_it_ends(void)
{
	WorkerPool *pool = worker_pool_new(1);
	gint n = 0;

	for (int i = 0; i < N_JOBS; i++)
		worker_pool_push(pool, count_job, &n);
	g_assert_null(worker_pool_free(pool));
	g_assert_cmpint(n, ==, N_JOBS);
	g_assert_null(worker_pool_free(NULL));
}

static void resting_job(void *data)
{
	WorkerPool *pool = data;
	bool rests = worker_pool_rest(pool, 1);

	g_usleep(50000);
	if (rests)
		worker_pool_wake(pool);
}

static void test_who_rests_may_wake_while_the_pool_is_freed(void)
{
	WorkerPool *pool = worker_pool_new(1);

	worker_pool_push(pool, resting_job, pool);
	g_usleep(20000);
	g_assert_null(worker_pool_free(pool));
}

/* ---- timers ---- */

struct timed {
	Loop *l;
	LoopSource *s;
	int n, again;
	uint64_t began;
};

static void on_timer(void *data)
{
	struct timed *t = data;

	if (++t->n <= t->again)
		loop_timer_set(t->s, 1000);
	else
		loop_quit(t->l, t->n);
}

static void test_timer_fires_once_and_not_before_its_time(Fixture *f, gconstpointer unused)
{
	struct timed t = { .l = f->l, .began = time_monotonic() };

	(void)unused;
	t.s = loop_add_timer(f->l, 20000, on_timer, &t);
	g_assert_cmpint(loop_run(f->l), ==, 1);
	g_assert_cmpuint(time_monotonic() - t.began, >=, 20000);
	loop_source_free(t.s);
}

static void test_timer_is_armed_again(Fixture *f, gconstpointer unused)
{
	struct timed t = { .l = f->l, .again = 5 };

	(void)unused;
	t.s = loop_add_timer(f->l, 0, on_timer, &t);
	g_assert_cmpint(loop_run(f->l), ==, 6);
	loop_source_free(t.s);
}

static void test_stopped_timer_does_not_fire(Fixture *f, gconstpointer unused)
{
	struct timed stopped = { .l = f->l }, later = { .l = f->l };

	(void)unused;
	stopped.s = loop_add_timer(f->l, 1000, on_timer, &stopped);
	later.s = loop_add_timer(f->l, 20000, on_timer, &later);
	loop_timer_stop(stopped.s);
	g_assert_cmpint(loop_run(f->l), ==, 1);
	g_assert_cmpint(stopped.n, ==, 0);
	g_assert_cmpint(later.n, ==, 1);
	loop_source_free(stopped.s);
	loop_source_free(later.s);
}

static void test_turn_returns_when_nothing_happens(Fixture *f, gconstpointer unused)
{
	uint64_t began = time_monotonic();

	(void)unused;
	while (loop_turn(f->l, 0))
		;
	g_assert_false(loop_turn(f->l, 5000));
	g_assert_cmpuint(time_monotonic() - began, >=, 5000);
	g_assert_cmpuint(loop_now(f->l), >=, began);
}

/* ---- children ---- */

struct ended {
	Loop *l;
	pid_t pid;
	int signo, status, n;
};

static void on_child(pid_t pid, int signo, int status, void *data)
{
	struct ended *e = data;

	*e = (struct ended){ .l = e->l, .pid = pid, .signo = signo, .status = status, .n = e->n + 1 };
	loop_quit(e->l, 0);
}

/* A child that waits for its end of the pipe to be told, then exits with `status`. */
static pid_t spawn(int status, int *ret_tell)
{
	int p[2];
	pid_t pid;
	char c;

	g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		close(p[1]);
		_exit(read(p[0], &c, 1) < 0 ? 99 : status);
	}
	close(p[0]);
	*ret_tell = p[1];
	return pid;
}

static void test_child_exit_status_is_told(Fixture *f, gconstpointer unused)
{
	_cleanup_close_ int tell = -EBADF;
	struct ended e = { .l = f->l };
	pid_t pid = spawn(7, &tell);
	g_autoptr(GError) err = NULL;
	g_autoptr(LoopSource) s = loop_add_child(f->l, pid, on_child, &e, &err);

	(void)unused;
	g_assert_no_error(err);
	while (loop_turn(f->l, 0))
		;
	g_assert_cmpint(e.n, ==, 0);
	fd_closep(&tell);
	tell = -EBADF;
	loop_run(f->l);
	g_assert_cmpint(e.pid, ==, pid);
	g_assert_cmpint(e.signo, ==, 0);
	g_assert_cmpint(e.status, ==, 7);
	g_assert_cmpint(kill(pid, 0), ==, -1); /* reaped */
}

static void test_child_signal_is_told(Fixture *f, gconstpointer unused)
{
	_cleanup_close_ int tell = -EBADF;
	struct ended e = { .l = f->l };
	pid_t pid = spawn(0, &tell);
	g_autoptr(LoopSource) s = loop_add_child(f->l, pid, on_child, &e, NULL);

	(void)unused;
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	loop_run(f->l);
	g_assert_cmpint(e.signo, ==, SIGKILL);
	g_assert_cmpint(e.status, ==, 0);
}

static void test_child_that_ended_before_is_told(Fixture *f, gconstpointer unused)
{
	struct ended e = { .l = f->l };
	siginfo_t si;
	g_autoptr(LoopSource) s = NULL;
	pid_t pid = fork();

	(void)unused;
	if (pid == 0)
		_exit(3);
	g_assert_cmpint(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), ==, 0);
	s = loop_add_child(f->l, pid, on_child, &e, NULL);
	g_assert_nonnull(s);
	loop_run(f->l);
	g_assert_cmpint(e.status, ==, 3);
}

static void test_no_child_is_refused(Fixture *f, gconstpointer unused)
{
	struct ended e = { .l = f->l };
	g_autoptr(GError) err = NULL;
	siginfo_t si;
	pid_t pid = fork();

	(void)unused;
	if (pid == 0)
		_exit(0);
	g_assert_cmpint(waitid(P_PID, (id_t)pid, &si, WEXITED), ==, 0);
	g_assert_null(loop_add_child(f->l, pid, on_child, &e, &err));
	g_assert_nonnull(err);
}

/* ---- descriptors and signals ---- */

struct pipe_end {
	Loop *l;
	LoopSource *s;
	GString *got;
	uint32_t last;
};

static void on_readable(int fd, uint32_t events, void *data)
{
	struct pipe_end *e = data;
	char buf[64];
	ssize_t n = read(fd, buf, sizeof buf);

	e->last = events;
	if (n > 0) {
		g_string_append_len(e->got, buf, n);
		return;
	}
	e->s = loop_source_free(e->s); /* in its own callback */
	loop_quit(e->l, 0);
}

static void test_descriptor_tells_what_arrives(Fixture *f, gconstpointer unused)
{
	struct pipe_end e = { .l = f->l, .got = g_string_new(NULL) };
	int p[2];

	(void)unused;
	g_assert_cmpint(pipe2(p, O_CLOEXEC | O_NONBLOCK), ==, 0);
	e.s = loop_add_fd(f->l, p[0], EPOLLIN, on_readable, &e);
	g_assert_cmpint(fd_write_all(p[1], "hello ", 6), ==, 0);
	while (loop_turn(f->l, 0))
		;
	g_assert_cmpstr(e.got->str, ==, "hello ");
	loop_fd_set_events(e.s, 0);
	g_assert_cmpint(fd_write_all(p[1], "world", 5), ==, 0);
	while (loop_turn(f->l, 0))
		;
	g_assert_cmpstr(e.got->str, ==, "hello "); /* not asked for */
	loop_fd_set_events(e.s, EPOLLIN);
	close(p[1]);
	loop_run(f->l);
	g_assert_cmpstr(e.got->str, ==, "hello world");
	g_assert_true((e.last & EPOLLHUP) != 0);
	g_assert_null(e.s);
	close(p[0]);
	g_string_free(e.got, TRUE);
}

enum { N_READY = 200 }; /* more than are served in one batch */

struct ready {
	struct ready_all *all;
	LoopSource *s;
	int p[2], calls;
};

struct ready_all {
	struct ready r[N_READY];
	int calls;
};

static void open_ready(Fixture *f, struct ready_all *all, LoopFdFunc func)
{
	for (int i = 0; i < N_READY; i++) {
		struct ready *r = &all->r[i];

		r->all = all;
		g_assert_cmpint(pipe2(r->p, O_CLOEXEC | O_NONBLOCK), ==, 0);
		g_assert_cmpint(fd_write_all(r->p[1], "x", 1), ==, 0);
		r->s = loop_add_fd(f->l, r->p[0], EPOLLIN, func, r);
	}
}

static void close_ready(struct ready_all *all)
{
	for (int i = 0; i < N_READY; i++) {
		loop_source_free(all->r[i].s);
		close(all->r[i].p[0]);
		close(all->r[i].p[1]);
	}
}

static void on_ready(int fd, uint32_t events, void *data)
{
	struct ready *r = data;
	char c;

	(void)events;
	g_assert_cmpint(read(fd, &c, 1), ==, 1);
	r->calls++;
	r->all->calls++;
}

static void test_all_that_are_ready_are_served_once(Fixture *f, gconstpointer unused)
{
	struct ready_all all = { 0 };

	(void)unused;
	open_ready(f, &all, on_ready);
	while (loop_turn(f->l, 0))
		;
	for (int i = 0; i < N_READY; i++)
		g_assert_cmpint(all.r[i].calls, ==, 1);
	close_ready(&all);
}

static void on_ready_free_others(int fd, uint32_t events, void *data)
{
	struct ready *r = data;

	on_ready(fd, events, data);
	for (int i = 0; i < N_READY; i++)
		r->all->r[i].s = loop_source_free(r->all->r[i].s);
}

static void test_what_is_freed_by_another_is_not_served(Fixture *f, gconstpointer unused)
{
	struct ready_all all = { 0 };

	(void)unused;
	open_ready(f, &all, on_ready_free_others);
	while (loop_turn(f->l, 0))
		;
	g_assert_cmpint(all.calls, ==, 1);
	close_ready(&all);
}

static void on_signal(int signo, void *data)
{
	loop_quit(data, signo);
}

static void test_signal_is_received(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(LoopSource) s = loop_add_signal(f->l, SIGUSR1, on_signal, f->l, &err);

	(void)unused;
	g_assert_no_error(err);
	g_assert_cmpint(raise(SIGUSR1), ==, 0); /* to this thread: others that idle have it unblocked */
	g_assert_cmpint(loop_run(f->l), ==, SIGUSR1);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		void (*func)(Fixture *f, gconstpointer unused);
	} tests[] = {
		{ "/loop/posts_run_in_order", test_posts_run_in_order },
		{ "/loop/workers_reach_the_loop", test_workers_reach_the_loop },
		{ "/loop/timer_fires_once", test_timer_fires_once_and_not_before_its_time },
		{ "/loop/timer_is_armed_again", test_timer_is_armed_again },
		{ "/loop/stopped_timer", test_stopped_timer_does_not_fire },
		{ "/loop/turn", test_turn_returns_when_nothing_happens },
		{ "/loop/child_exit", test_child_exit_status_is_told },
		{ "/loop/child_signal", test_child_signal_is_told },
		{ "/loop/child_ended_before", test_child_that_ended_before_is_told },
		{ "/loop/no_child", test_no_child_is_refused },
		{ "/loop/descriptor", test_descriptor_tells_what_arrives },
		{ "/loop/all_ready", test_all_that_are_ready_are_served_once },
		{ "/loop/freed_by_another", test_what_is_freed_by_another_is_not_served },
		{ "/loop/signal", test_signal_is_received },
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].func, tear_down);
	g_test_add_func("/worker/runs_what_waits", test_pool_runs_what_waits_before_it_ends);
	g_test_add_func("/worker/wakes_while_freed", test_who_rests_may_wake_while_the_pool_is_freed);
	return g_test_run();
}
