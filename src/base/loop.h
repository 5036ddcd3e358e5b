/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: sd-event, one per process, owned by one thread.
 *
 * Everything here must be called on the loop's own thread, with one exception:
 * loop_post(), which any thread may call. Callbacks run on the loop's thread
 * and must not block. A source may be freed in any callback, its own included.
 *
 * Times are microseconds of the monotonic clock.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

typedef struct Loop Loop;
typedef struct LoopSource LoopSource;

typedef void (*LoopFunc)(void *data);
typedef void (*LoopFdFunc)(int fd, uint32_t events, void *data);
/* `signo` is 0 for a normal exit, else the signal that killed it; `status` the exit status. */
typedef void (*LoopChildFunc)(pid_t pid, int signo, int status, void *data);
typedef void (*LoopSignalFunc)(int signo, void *data);

/* SIGCHLD must be blocked by the caller before any thread is made; loop_new() blocks it. */
Loop *loop_new(GError **err);
Loop *loop_free(Loop *l);
/* Is this the loop's own thread, the one that made it? From any thread. */
bool loop_on_thread(const Loop *l);

/* Run until loop_quit(); returns the code given there. */
int loop_run(Loop *l);
/* Ends loop_run() after the callbacks that are due. */
void loop_quit(Loop *l, int code);
/* One turn: waits at most `timeout_us` (UINT64_MAX: for ever). For tests. */
bool loop_turn(Loop *l, uint64_t timeout_us);

/* Microseconds of the monotonic clock, as of this turn. */
uint64_t loop_now(Loop *l);

/* `events` are EPOLLIN and the like. The descriptor stays the caller's and must outlive the source. */
LoopSource *loop_add_fd(Loop *l, int fd, uint32_t events, LoopFdFunc func, void *data);
void loop_fd_set_events(LoopSource *s, uint32_t events);

/* One shot after `delay`; loop_timer_set() arms it again. Accuracy of 1 ms. */
LoopSource *loop_add_timer(Loop *l, uint64_t delay, LoopFunc func, void *data);
void loop_timer_set(LoopSource *s, uint64_t delay);
void loop_timer_stop(LoopSource *s);

/* A child of this process (through a pidfd). Reaps it; one shot. */
LoopSource *loop_add_child(Loop *l, pid_t pid, LoopChildFunc func, void *data, GError **err);
/* Blocks the signal in this thread and receives it here. A thread that was made before could get it instead.
 */
LoopSource *loop_add_signal(Loop *l, int signo, LoopSignalFunc func, void *data, GError **err);

/* Before the loop is freed. NULL is fine; returns NULL. */
LoopSource *loop_source_free(LoopSource *s);

/*
 * Run func(data) on the loop's thread, in the order posted. From any thread.
 * What is posted after loop_free() began is dropped.
 */
void loop_post(Loop *l, LoopFunc func, void *data);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Loop, loop_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(LoopSource, loop_source_free)
