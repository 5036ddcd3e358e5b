/* SPDX-License-Identifier: Apache-2.0 */
#include "drive.h"
#include "base/time.h"

#define PATIENCE (120 * SECONDS)

void drive_until_count(Loop *l, const unsigned *count, unsigned want)
{
	uint64_t deadline = time_monotonic() + PATIENCE;

	while (*count < want) {
		g_assert_cmpuint(time_monotonic(), <, deadline);
		loop_turn(l, SECONDS / 10);
	}
}

void drive_until(Loop *l, const bool *done)
{
	uint64_t deadline = time_monotonic() + PATIENCE;

	while (!*done) {
		g_assert_cmpuint(time_monotonic(), <, deadline);
		loop_turn(l, SECONDS / 10);
	}
}

void drive_idle(Loop *l)
{
	while (loop_turn(l, 0))
		continue;
}

typedef struct Work {
	void (*func)(void *data);
	void *data;
	Loop *loop;
	bool done;
} Work;

static void set_done(void *data)
{
	*(bool *)data = true;
}

static gpointer work(gpointer data)
{
	Work *w = data;

	w->func(w->data);
	loop_post(w->loop, set_done, &w->done);
	return NULL;
}

void drive_worker(Loop *l, void (*func)(void *data), void *data)
{
	Work w = { .func = func, .data = data, .loop = l };
	GThread *t = g_thread_new("worker", work, &w);

	drive_until(l, &w.done);
	g_thread_join(t);
}
