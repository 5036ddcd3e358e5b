/* SPDX-License-Identifier: Apache-2.0 */
#include "base/loop.h"
#include "base/fd.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>

/* Descriptors served before timers and children have their turn. */
#define BATCH 64

/* sd-event reads an accuracy of 0 as its default of 250 ms, so it is always said. */
#define TIMER_ACCURACY UINT64_C(1000)

typedef struct Post {
	LoopFunc func;
	void *data;
} Post;

struct Loop {
	sd_event *event;
	GThread *thread; /* that made it; only compared */
	int epoll_fd;
	sd_event_source *epoll;
	struct epoll_event batch[BATCH];
	int n_batch;
	int wake_fd;
	LoopSource *wake;
	GAsyncQueue *posted; /* Post */
};

struct LoopSource {
	sd_event_source *source;
	Loop *loop; /* of a descriptor, which is in the loop's own epoll and has no source */
	int fd;
	union {
		LoopFunc plain;
		LoopFdFunc fdfunc;
		LoopChildFunc child;
		LoopSignalFunc signal;
	} func;
	void *data;
};

static void run_posted(int fd, uint32_t events, void *data)
{
	Loop *l = data;
	uint64_t n;
	Post *p;

	(void)events;
	if (read(fd, &n, sizeof n) < 0)
		return;
	while ((p = g_async_queue_try_pop(l->posted)) != NULL) {
		p->func(p->data);
		g_free(p);
	}
}

/*
 * sd-event asks the kernel again after each callback it has run, and gets all
 * that are ready each time: with hundreds of busy descriptors it would spend
 * its time counting them. So they are in an epoll of their own, which is one
 * descriptor to sd-event, and are served in batches.
 */
static int on_epoll(sd_event_source *es, int fd, uint32_t revents, void *data)
{
	Loop *l = data;

	(void)es, (void)revents;
	l->n_batch = epoll_wait(fd, l->batch, BATCH, 0);
	for (int i = 0; i < l->n_batch; i++) {
		LoopSource *s = l->batch[i].data.ptr;

		if (s != NULL)
			s->func.fdfunc(s->fd, l->batch[i].events, s->data);
	}
	l->n_batch = 0;
	return 0;
}

static bool open_descriptors(Loop *l, GError **err)
{
	int r;

	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0)
		return fail_errno(err, errno, "can't make an epoll");
	r = sd_event_add_io(l->event, &l->epoll, l->epoll_fd, EPOLLIN, on_epoll, l);
	if (r < 0)
		return fail_errno(err, -r, "can't watch an epoll");
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (l->wake_fd < 0)
		return fail_errno(err, errno, "can't make an eventfd");
	l->wake = loop_add_fd(l, l->wake_fd, EPOLLIN, run_posted, l);
	return true;
}

Loop *loop_new(GError **err)
{
	g_autoptr(Loop) l = g_new0(Loop, 1);
	sigset_t set;
	int r;

	l->wake_fd = l->epoll_fd = -EBADF;
	l->thread = g_thread_self();
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	l->posted = g_async_queue_new_full(g_free);
	r = sd_event_new(&l->event);
	if (r < 0) {
		fail_errno(err, -r, "can't make the event loop");
		return NULL;
	}
	if (!open_descriptors(l, err))
		return NULL;
	return g_steal_pointer(&l);
}

Loop *loop_free(Loop *l)
{
	if (l == NULL)
		return NULL;
	loop_source_free(l->wake);
	sd_event_source_disable_unref(l->epoll);
	sd_event_unref(l->event);
	g_async_queue_unref(l->posted);
	fd_closep(&l->wake_fd);
	fd_closep(&l->epoll_fd);
	g_free(l);
	return NULL;
}

bool loop_on_thread(const Loop *l)
{
	return l->thread == g_thread_self();
}

int loop_run(Loop *l)
{
	return sd_event_loop(l->event);
}

void loop_quit(Loop *l, int code)
{
	sd_event_exit(l->event, code);
}

bool loop_turn(Loop *l, uint64_t timeout_us)
{
	return sd_event_run(l->event, timeout_us) > 0;
}

uint64_t loop_now(Loop *l)
{
	uint64_t now = 0;

	sd_event_now(l->event, CLOCK_MONOTONIC, &now);
	return now;
}

static LoopSource *source_new(int fd, void *data)
{
	LoopSource *s = g_new0(LoopSource, 1);

	s->fd = fd;
	s->data = data;
	return s;
}

static void set_events(LoopSource *s, int op, uint32_t events)
{
	struct epoll_event e = { .events = events, .data.ptr = s };
	int r = epoll_ctl(s->loop->epoll_fd, op, s->fd, &e);

	g_assert(r == 0); /* only a bad descriptor or no memory: our own mistake */
}

LoopSource *loop_add_fd(Loop *l, int fd, uint32_t events, LoopFdFunc func, void *data)
{
	LoopSource *s = source_new(fd, data);

	s->loop = l;
	s->func.fdfunc = func;
	set_events(s, EPOLL_CTL_ADD, events);
	return s;
}

void loop_fd_set_events(LoopSource *s, uint32_t events)
{
	set_events(s, EPOLL_CTL_MOD, events);
}

static void remove_fd(LoopSource *s)
{
	Loop *l = s->loop;

	epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	/* It may be further down in the batch that is being served. */
	for (int i = 0; i < l->n_batch; i++)
		if (l->batch[i].data.ptr == s)
			l->batch[i].data.ptr = NULL;
}

static int on_timer(sd_event_source *es, uint64_t usec, void *data)
{
	LoopSource *s = data;

	(void)es, (void)usec;
	s->func.plain(s->data);
	return 0;
}

LoopSource *loop_add_timer(Loop *l, uint64_t delay, LoopFunc func, void *data)
{
	LoopSource *s = source_new(-EBADF, data);
	int r;

	s->func.plain = func;
	r = sd_event_add_time_relative(l->event, &s->source, CLOCK_MONOTONIC, delay, TIMER_ACCURACY, on_timer,
				       s);
	g_assert(r >= 0);
	return s;
}

void loop_timer_set(LoopSource *s, uint64_t delay)
{
	int r = sd_event_source_set_time_relative(s->source, delay);

	g_assert(r >= 0);
	sd_event_source_set_enabled(s->source, SD_EVENT_ONESHOT);
}

void loop_timer_stop(LoopSource *s)
{
	sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
}

static int on_child(sd_event_source *es, const siginfo_t *si, void *data)
{
	LoopSource *s = data;
	bool killed = si->si_code == CLD_KILLED || si->si_code == CLD_DUMPED;

	(void)es;
	s->func.child(si->si_pid, killed ? si->si_status : 0, killed ? 0 : si->si_status, s->data);
	return 0;
}

LoopSource *loop_add_child(Loop *l, pid_t pid, LoopChildFunc func, void *data, GError **err)
{
	g_autoptr(LoopSource) s = source_new(-EBADF, data);
	int r;

	s->func.child = func;
	r = sd_event_add_child(l->event, &s->source, pid, WEXITED, on_child, s);
	if (r < 0) {
		fail_errno(err, -r, "can't watch process %d", (int)pid);
		return NULL;
	}
	return g_steal_pointer(&s);
}

static int on_signal(sd_event_source *es, const struct signalfd_siginfo *si, void *data)
{
	LoopSource *s = data;

	(void)es;
	s->func.signal((int)si->ssi_signo, s->data);
	return 0;
}

LoopSource *loop_add_signal(Loop *l, int signo, LoopSignalFunc func, void *data, GError **err)
{
	g_autoptr(LoopSource) s = source_new(-EBADF, data);
	sigset_t set;
	int r;

	sigemptyset(&set);
	sigaddset(&set, signo);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	s->func.signal = func;
	r = sd_event_add_signal(l->event, &s->source, signo, on_signal, s);
	if (r < 0) {
		fail_errno(err, -r, "can't receive signal %d", signo);
		return NULL;
	}
	return g_steal_pointer(&s);
}

LoopSource *loop_source_free(LoopSource *s)
{
	if (s == NULL)
		return NULL;
	if (s->loop != NULL)
		remove_fd(s);
	else
		sd_event_source_disable_unref(s->source);
	g_free(s);
	return NULL;
}

void loop_post(Loop *l, LoopFunc func, void *data)
{
	static const uint64_t one = 1;
	Post *p = g_new(Post, 1);
	ssize_t r;

	*p = (Post){ .func = func, .data = data };
	g_async_queue_push(l->posted, p);
	do
		r = write(l->wake_fd, &one, sizeof one);
	while (r < 0 && errno == EINTR);
}
