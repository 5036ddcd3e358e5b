/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bounded pool of threads on which straight-line, blocking code runs.
 *
 * Jobs are queued without bound and run in order of arrival, at most
 * `n_threads` at a time. What a job needs is handed over with it; what it
 * finds goes back with loop_post().
 */
#pragma once

#include <glib.h>
#include <stdbool.h>

typedef struct WorkerPool WorkerPool;
typedef void (*WorkerFunc)(void *data);

WorkerPool *worker_pool_new(unsigned n_threads);
/* From any thread. */
void worker_pool_push(WorkerPool *p, WorkerFunc func, void *data);
/*
 * For a job that runs here and is about to wait, for a guest or for another
 * pool, without a use for the processor: until worker_pool_wake() it does not
 * count, and another may run in its place. At most `rest_max` rest so, and none
 * begins to in a pool that is being freed; the others count on, and false is
 * returned: no wake is due then.
 */
bool worker_pool_rest(WorkerPool *p, unsigned rest_max);
void worker_pool_wake(WorkerPool *p);
/*
 * The pool is about to be freed: none rests any more, and a job that waits for long for something else asks
 * whether it should give up. Who frees the pool need not call it; who wants the results of such jobs does
 * before. From any thread.
 */
void worker_pool_end(WorkerPool *p);
bool worker_pool_is_ending(WorkerPool *p);
/* Jobs that wait or run. */
unsigned worker_pool_load(WorkerPool *p);
/* Wait until nothing runs or waits. Who may push still must have been stopped. */
void worker_pool_drain(WorkerPool *p);
/* Waits for the jobs that run; those that still wait are run too. Returns NULL; NULL is fine. */
WorkerPool *worker_pool_free(WorkerPool *p);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(WorkerPool, worker_pool_free)
