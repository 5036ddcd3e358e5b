/* SPDX-License-Identifier: Apache-2.0 */
#include "base/worker.h"

/* Of all pools together; GLib ends them after 15 s. */
#define UNUSED_MAX 8
/* us between two looks at a pool that is to become idle. */
#define DRAIN_LOOK 2000

typedef struct Job {
	WorkerFunc func;
	void *data;
} Job;

struct WorkerPool {
	GThreadPool *threads;
};

static void run_job(gpointer data, gpointer unused)
{
	Job *j = data;

	(void)unused;
	j->func(j->data);
	g_free(j);
}

WorkerPool *worker_pool_new(unsigned n_threads)
{
	WorkerPool *p = g_new0(WorkerPool, 1);

	g_assert(n_threads > 0);
	/* A request passes through some threads: those of the one before are there for some seconds. */
	g_thread_pool_set_max_unused_threads(UNUSED_MAX);
	/* Not exclusive: idle threads end, so a resting daemon holds none. */
	p->threads = g_thread_pool_new(run_job, NULL, (gint)n_threads, FALSE, NULL);
	return p;
}

void worker_pool_push(WorkerPool *p, WorkerFunc func, void *data)
{
	Job *j = g_new(Job, 1);

	*j = (Job){ .func = func, .data = data };
	g_thread_pool_push(p->threads, j, NULL);
}

unsigned worker_pool_load(WorkerPool *p)
{
	return g_thread_pool_unprocessed(p->threads) + g_thread_pool_get_num_threads(p->threads);
}

void worker_pool_drain(WorkerPool *p)
{
	while (worker_pool_load(p) > 0)
		g_usleep(DRAIN_LOOK);
}

WorkerPool *worker_pool_free(WorkerPool *p)
{
	if (p != NULL) {
		g_thread_pool_free(p->threads, FALSE, TRUE);
		g_free(p);
	}
	return NULL;
}
