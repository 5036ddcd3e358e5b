/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/rounds.h"

#include "base/time.h"

#include <glib.h>

struct Rounds {
	RoundFunc round;
	uint64_t pause; /* before the first */
	void *data;
	GMutex lock;
	GCond wake;      /* a round ended, or all are to, or have */
	GThread *thread; /* lock; NULL: stopped */
	bool ending;     /* lock */
	bool over;       /* lock; there is no further one */
	uint64_t ended;  /* lock; rounds */
};

static bool pause_for(Rounds *r, uint64_t us)
{
	gint64 until = (gint64)(time_monotonic() + us);
	bool on;

	g_mutex_lock(&r->lock);
	while (!r->ending && g_cond_wait_until(&r->wake, &r->lock, until))
		;
	on = !r->ending;
	g_mutex_unlock(&r->lock);
	return on;
}

/* Returns the pause behind it. */
static uint64_t go_round(Rounds *r)
{
	uint64_t pause = r->round(r->data);

	g_mutex_lock(&r->lock);
	r->ended++;
	g_cond_broadcast(&r->wake);
	g_mutex_unlock(&r->lock);
	return pause;
}

static gpointer run(gpointer data)
{
	Rounds *r = data;
	uint64_t pause = r->pause;

	while (pause != ROUNDS_OVER && pause_for(r, pause))
		pause = go_round(r);
	g_mutex_lock(&r->lock);
	r->over = true;
	g_cond_broadcast(&r->wake);
	g_mutex_unlock(&r->lock);
	return NULL;
}

Rounds *rounds_start(const char *name, uint64_t pause, RoundFunc round, void *data)
{
	Rounds *r = g_new0(Rounds, 1);

	r->round = round;
	r->pause = pause;
	r->data = data;
	g_mutex_init(&r->lock);
	g_cond_init(&r->wake);
	r->thread = g_thread_new(name, run, r);
	return r;
}

bool rounds_stop(Rounds *r)
{
	GThread *thread;

	if (r == NULL)
		return false;
	g_mutex_lock(&r->lock);
	thread = g_steal_pointer(&r->thread);
	r->ending = true;
	g_cond_broadcast(&r->wake);
	while (!r->over)
		g_cond_wait(&r->wake, &r->lock);
	g_mutex_unlock(&r->lock);
	if (thread != NULL)
		g_thread_join(thread);
	return thread != NULL;
}

Rounds *rounds_free(Rounds *r)
{
	if (r == NULL)
		return NULL;
	rounds_stop(r);
	g_mutex_clear(&r->lock);
	g_cond_clear(&r->wake);
	g_free(r);
	return NULL;
}

void rounds_wait(Rounds *r, uint64_t timeout)
{
	gint64 until = (gint64)(time_monotonic() + timeout);
	uint64_t now;

	g_mutex_lock(&r->lock);
	now = r->ended;
	while (!r->ending && !r->over && r->ended == now && g_cond_wait_until(&r->wake, &r->lock, until))
		;
	g_mutex_unlock(&r->lock);
}
