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
	GMutex lock; /* of what follows */
	unsigned n_threads, resting;
	bool ending; /* GLib changes its bound no more */
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
	g_mutex_init(&p->lock);
	p->n_threads = n_threads;
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

bool worker_pool_rest(WorkerPool *p, unsigned rest_max)
{
	bool may;

	g_mutex_lock(&p->lock);
	may = p->resting < rest_max && !p->ending;
	p->resting += may;
	if (may)
		g_thread_pool_set_max_threads(p->threads, (gint)(p->n_threads + p->resting), NULL);
	g_mutex_unlock(&p->lock);
	return may;
}

/* More than the bound run until so many jobs have ended: who wakes is not held up. */
void worker_pool_wake(WorkerPool *p)
{
	g_mutex_lock(&p->lock);
	g_assert(p->resting > 0);
	p->resting--;
	if (!p->ending)
		g_thread_pool_set_max_threads(p->threads, (gint)(p->n_threads + p->resting), NULL);
	g_mutex_unlock(&p->lock);
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

void worker_pool_end(WorkerPool *p)
{
	g_mutex_lock(&p->lock);
	p->ending = true;
	g_mutex_unlock(&p->lock);
}

bool worker_pool_is_ending(WorkerPool *p)
{
	bool ending;

	g_mutex_lock(&p->lock);
	ending = p->ending;
	g_mutex_unlock(&p->lock);
	return ending;
}

WorkerPool *worker_pool_free(WorkerPool *p)
{
	if (p != NULL) {
		worker_pool_end(p);
		g_thread_pool_free(p->threads, FALSE, TRUE);
		g_mutex_clear(&p->lock);
		g_free(p);
	}
	return NULL;
}
