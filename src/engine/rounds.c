/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/rounds.h"

#include "base/time.h"

#include <glib.h>

struct Rounds {
	RoundFunc round;
	void *data;
	GThread *thread; /* NULL: stopped */
	GMutex lock;
	GCond wake;     /* a round ended, or all are to */
	bool ending;    /* lock */
	uint64_t ended; /* lock; rounds */
};

static bool pause_for(Rounds *r, uint64_t us)
{
	gint64 until = (gint64)(time_monotonic() + us);
	bool on;

	g_mutex_lock(&r->lock);
	r->ended++;
	g_cond_broadcast(&r->wake);
	while (!r->ending && g_cond_wait_until(&r->wake, &r->lock, until))
		;
	on = !r->ending;
	g_mutex_unlock(&r->lock);
	return on;
}

static gpointer run(gpointer data)
{
	Rounds *r = data;

	while (pause_for(r, r->round(r->data)))
		;
	return NULL;
}

Rounds *rounds_start(const char *name, RoundFunc round, void *data)
{
	Rounds *r = g_new0(Rounds, 1);

	r->round = round;
	r->data = data;
	g_mutex_init(&r->lock);
	g_cond_init(&r->wake);
	r->thread = g_thread_new(name, run, r);
	return r;
}

bool rounds_stop(Rounds *r)
{
	if (r == NULL || r->thread == NULL)
		return false;
	g_mutex_lock(&r->lock);
	r->ending = true;
	g_cond_broadcast(&r->wake);
	g_mutex_unlock(&r->lock);
	g_thread_join(g_steal_pointer(&r->thread));
	return true;
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
	while (!r->ending && r->ended == now && g_cond_wait_until(&r->wake, &r->lock, until))
		;
	g_mutex_unlock(&r->lock);
}
