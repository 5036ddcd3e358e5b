/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated host for tests of dynamic memory: guests that report, follow, lie
 * and are deaf, and the decisions about them as text. They follow as the engine
 * has them do.
 */
#pragma once

#include "core/guest/dimm.h"
#include "core/memory/balance.h"
#include "core/memory/range.h"
#include "core/memory/split.h"

#include <inttypes.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define SECOND UINT64_C(1000000)
#define PERIOD (3 * SECOND)
#define GUESTS_MAX 8
/* What a kernel keeps for itself from the start. */
#define HIDDEN (32 * MIB)

/* A guest as it really is. */
struct real {
	uint64_t uses, caches; /* without HIDDEN */
	uint64_t base, plugged, ballooned;
	uint64_t pages_in; /* that it reads from its swap space each round */
	bool no_driver, deaf, offline, counts_no_balloon;
	uint64_t frozen_at;     /* when it stopped to report; 0: it did not */
	uint64_t most;          /* that it gives back at a time; 0: all */
	uint64_t pinned;        /* of what was plugged: it can't give it back */
	uint64_t plug, balloon; /* what its devices were asked for last */
	uint64_t idle;          /* of what was plugged: its kernel has not taken it into use */
	uint64_t swap_in;
};

struct world {
	struct real real[GUESTS_MAX];
	struct balance_guest guest[GUESTS_MAX];
	struct split split[GUESTS_MAX];
	struct balance_round r;
	GString *log, *orders;
	unsigned round;
};

static inline void world_init(struct world *w, uint64_t capacity)
{
	*w = (struct world){ .log = g_string_new(NULL), .orders = g_string_new(NULL) };
	w->r = (struct balance_round){ .now = 1000 * SECOND, .period = PERIOD, .guest = w->guest };
	w->r.host.capacity = capacity;
	w->r.host.reserve = 256 * MIB;
}

static inline void world_done(struct world *w)
{
	g_string_free(w->log, TRUE);
	g_string_free(w->orders, TRUE);
}

/* With 20 % of buffer and a weight of 100; it boots with start. */
static inline struct real *add(struct world *w, const char *name, uint64_t min, uint64_t start, uint64_t max,
			       uint64_t uses)
{
	size_t i = w->r.n++;

	g_assert_cmpuint(i, <, GUESTS_MAX);
	w->guest[i] = (struct balance_guest){ .name = name,
					      .min = min * MIB,
					      .start = start * MIB,
					      .max = max * MIB,
					      .buffer = 20,
					      .weight = 100,
					      .base = start * MIB,
					      .fresh = true };
	w->real[i] = (struct real){ .base = start * MIB, .uses = uses * MIB };
	return &w->real[i];
}

static inline uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static inline uint64_t real_size(const struct real *r)
{
	return r->base + r->plugged - r->ballooned;
}

/* What a Linux driver tells. */
static inline struct balance_report report_of(const struct real *r, uint64_t at)
{
	uint64_t online = r->offline ? 0 : r->plugged - r->idle, usable, available;
	uint64_t total = r->base - HIDDEN + online - (r->counts_no_balloon ? r->ballooned : 0);

	usable = r->base - HIDDEN + online - r->ballooned;
	available = less(usable, r->uses);
	return (struct balance_report){ .at = at,
					.total = total,
					.free = less(available, r->caches),
					.available = available,
					.caches = MIN(r->caches, available),
					.swap_in = r->swap_in,
					.swap_out = 0,
					.major_faults = 0 };
}

static inline void measure(struct world *w, size_t i)
{
	struct real *r = &w->real[i];
	struct balance_guest *g = &w->guest[i];

	r->swap_in += r->pages_in;
	g->plugged = r->plugged;
	g->ballooned = r->ballooned;
	if (!r->no_driver && r->frozen_at == 0)
		g->report = report_of(r, w->r.now);
}

static inline void ask(struct world *w, size_t i)
{
	struct real *r = &w->real[i];
	struct split_order order;

	if (!split_next(&w->split[i], &w->guest[i], true, &order))
		return;
	g_string_append_printf(w->orders, "%u %s plug %" PRIu64 " keep %" PRIu64 " for %" PRIu64 " stuck\n",
			       w->round, w->guest[i].name, order.plugged / MIB, order.keeps / MIB,
			       order.rest / MIB);
	r->plug = order.plugged;
	r->balloon = r->base - order.keeps;
	split_done(&w->split[i], &w->guest[i], &order);
}

static inline void follow(struct world *w, size_t i)
{
	struct real *r = &w->real[i];
	uint64_t step = r->most != 0 ? r->most : UINT64_MAX, plug = MAX(r->plug, MIN(r->plugged, r->pinned));

	if (r->deaf || r->no_driver)
		return;
	if (plug > r->plugged)
		r->plugged = plug;
	else
		r->plugged -= MIN(r->plugged - plug, step);
	if (r->balloon < r->ballooned)
		r->ballooned = r->balloon;
	else
		r->ballooned += MIN(r->balloon - r->ballooned, step);
}

static inline void log_round(struct world *w)
{
	for (size_t i = 0; i < w->r.n; i++) {
		const struct balance_guest *g = &w->guest[i];

		if (g->from == g->target && g->verdict != BALANCE_WAITS && g->verdict != BALANCE_DEAF)
			continue;
		g_string_append_printf(w->log, "%u %s %s %" PRIu64 " -> %" PRIu64 "\n", w->round, g->name,
				       balance_verdict_name(g->verdict), g->from / MIB, g->target / MIB);
	}
	if (w->r.host.is_short)
		g_string_append_printf(w->log, "%u short of %" PRIu64 ": %s\n", w->round,
				       w->r.host.missing / MIB, w->guest[w->r.host.cheapest].name);
}

static inline void turn(struct world *w)
{
	for (size_t i = 0; i < w->r.n; i++)
		measure(w, i);
	balance_round(&w->r);
	log_round(w);
	for (size_t i = 0; i < w->r.n; i++) {
		ask(w, i);
		follow(w, i);
	}
	w->round++;
	w->r.now += PERIOD;
}

static inline void turns(struct world *w, unsigned n)
{
	while (n-- > 0)
		turn(w);
}

static inline void said(struct world *w, const char *text)
{
	g_assert_cmpstr(w->log->str, ==, text);
	g_string_truncate(w->log, 0);
}

/* It takes its guests up as they are. */
static inline void daemon_begins_anew(struct world *w)
{
	for (size_t i = 0; i < w->r.n; i++) {
		w->guest[i].state = (struct balance_state){ 0 };
		w->guest[i].fresh = false;
		w->split[i] = (struct split){ 0 };
	}
}
