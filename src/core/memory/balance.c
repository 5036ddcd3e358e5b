/* SPDX-License-Identifier: Apache-2.0 */
/* The host: who gets what there is. */
#include "core/memory/balance-impl.h"
#include "core/memory/range.h"

#include <glib.h>

/* Of its target that a guest gives back at a time: by itself, and for others. */
#define STEP_SHARE 8
#define STEP_SHARE_TIGHT 4
/* Of what all have: asked back at a time from guests of a host that swaps or waits for memory. */
#define PRESSURE_SHARE 32
/* Of its capacity that a host has at hand: one whose need rises has no time to wait until others gave. */
#define HAND_SHARE 32

typedef struct Table {
	struct balance_round *r;
	struct appetite *a;
	uint64_t held;  /* what the guests have or were promised */
	uint64_t more;  /* what they need on top */
	uint64_t ahead; /* of that: what they don't need yet */
	uint64_t spare; /* what they can do without */
	uint64_t room;  /* what the host has for more */
	uint64_t owed;  /* what the host must have back */
	uint64_t wants; /* with what is to be at hand for the next: what guests shall give back if they can */
} Table;

static uint64_t sub(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

static uint64_t whole(uint64_t size)
{
	return size / RANGE_BLOCK * RANGE_BLOCK;
}

/*
 * Until a guest has given it back, memory is not there for others. But one that boots with room for its
 * balloon was let in with what it starts with, and has not used more: that its driver is not there yet is no
 * reason to let others wait. That is believed for BALANCE_ROUNDS_DEAF rounds.
 */
static uint64_t held_of(const struct balance_guest *g)
{
	const struct balance_state *s = &g->state;

	return s->boots && !s->arrived ? s->target : MAX(balance_size(g), s->target);
}

static void look_at_guests(Table *t)
{
	for (size_t i = 0; i < t->r->n; i++) {
		struct balance_guest *g = &t->r->guest[i];

		t->a[i] = balance_look(g, t->r->now, t->r->period);
		t->held += held_of(g);
		t->more += t->a[i].more;
		t->ahead += t->a[i].ahead;
		t->spare += t->a[i].spare;
	}
}

static void look_at_host(Table *t)
{
	const struct balance_host *h = &t->r->host;

	t->owed = sub(t->held, h->capacity);
	if (h->available > 0)
		t->owed = MAX(t->owed, sub(h->reserve, h->available));
	if (h->swaps || h->psi >= BALANCE_PSI)
		t->owed = MAX(t->owed, t->held / PRESSURE_SHARE);
	t->room = t->owed > 0 ? 0 : sub(h->capacity, t->held);
	if (h->available > 0)
		t->room = MIN(t->room, sub(h->available, h->reserve));
	t->wants = sub(t->more + t->owed + h->capacity / HAND_SHARE, t->room);
}

/* ---- more ---- */

static uint64_t weights(const Table *t, const uint64_t *most, const uint64_t *granted)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < t->r->n; i++)
		if (granted[i] < most[i])
			sum += t->r->guest[i].weight;
	return sum;
}

/* One pass over those who have less than `most`: each its part by weight. What was given out. */
static uint64_t deal_once(const Table *t, const uint64_t *most, uint64_t room, uint64_t *granted)
{
	uint64_t sum = weights(t, most, granted), given = 0;

	for (size_t i = 0; i < t->r->n && sum > 0; i++) {
		uint64_t open = sub(most[i], granted[i]);
		uint64_t part = (uint64_t)((double)room * t->r->guest[i].weight / (double)sum);

		part = MIN(open, MIN(part, room - given));
		granted[i] += part;
		given += part;
	}
	return given;
}

/* What is left of the room. */
static uint64_t deal(const Table *t, const uint64_t *most, uint64_t room, uint64_t *granted)
{
	uint64_t given;

	while (room >= RANGE_BLOCK && (given = deal_once(t, most, room, granted)) > 0)
		room -= given;
	return room;
}

/* What is needed now comes before what one that rises will need. */
static void deal_all(const Table *t, uint64_t *granted)
{
	g_autofree uint64_t *most = g_new(uint64_t, t->r->n);
	uint64_t room;

	for (size_t i = 0; i < t->r->n; i++)
		most[i] = t->a[i].more - t->a[i].ahead;
	room = deal(t, most, t->room, granted);
	for (size_t i = 0; i < t->r->n; i++)
		most[i] = t->a[i].more;
	deal(t, most, room, granted);
}

static BalanceVerdict why_more(const struct balance_guest *g, bool enough)
{
	if (!enough)
		return BALANCE_SHARED;
	if (g->state.took)
		return BALANCE_TOOK;
	return g->state.swap_rate >= BALANCE_SWAP_RATE && !g->state.roomy ? BALANCE_PRESSED : BALANCE_GREW;
}

static void grant(const Table *t)
{
	g_autofree uint64_t *granted = g_new0(uint64_t, t->r->n);

	deal_all(t, granted);
	for (size_t i = 0; i < t->r->n; i++) {
		struct balance_guest *g = &t->r->guest[i];
		uint64_t target = g->state.target + whole(granted[i]);
		bool enough = granted[i] >= t->a[i].more - t->a[i].ahead;

		if (t->a[i].more == 0)
			continue;
		/* The last block of what is not a whole number of them. */
		if (granted[i] >= t->a[i].more)
			target = g->state.target + t->a[i].more;
		if (target == g->state.target)
			g->verdict = BALANCE_WAITS;
		else
			balance_ask(g, target, why_more(g, enough), t->r->now);
	}
}

/* ---- less ---- */

static void shrink(struct balance_guest *g, uint64_t by, unsigned share, BalanceVerdict why, uint64_t now)
{
	uint64_t step = MIN(by, MAX(g->state.target / share, balance_band(g->state.target)));

	step = whole(step);
	if (step > 0)
		balance_ask(g, g->state.target - step, why, now);
}

/* Who has watched for long enough that a guest does not use something has it back. */
static void collect_unused(const Table *t)
{
	for (size_t i = 0; i < t->r->n; i++) {
		struct balance_guest *g = &t->r->guest[i];

		if (t->a[i].unused > 0 && g->state.peak_before > 0)
			shrink(g, t->a[i].unused, STEP_SHARE, BALANCE_SHRANK, t->r->now);
	}
}

/* From each by what it can spare, of which its weight keeps some. */
static void collect_spare(const Table *t, uint64_t owed)
{
	bool needed = t->more + t->owed > t->room;
	double sum = 0;

	for (size_t i = 0; i < t->r->n; i++)
		sum += (double)t->a[i].spare / t->r->guest[i].weight;
	for (size_t i = 0; i < t->r->n; i++) {
		struct balance_guest *g = &t->r->guest[i];
		double part = (double)t->a[i].spare / g->weight;
		uint64_t by;

		/* Asked already, or it has nothing that would be worth it: for what may come nobody is asked
		 * for crumbs. */
		if (g->target != g->from ||
		    t->a[i].spare < (needed ? RANGE_BLOCK : balance_band(g->state.target)))
			continue;
		by = MAX((uint64_t)((double)owed * part / sum), balance_band(g->state.target));
		shrink(g, MIN(by, t->a[i].spare), STEP_SHARE_TIGHT, BALANCE_GAVE, t->r->now);
	}
}

/* ---- short ---- */

static bool is_cheaper(const struct balance_guest *a, const struct balance_guest *b, uint64_t missing)
{
	uint64_t x = held_of(a), y = held_of(b);

	if ((x >= missing) != (y >= missing))
		return x >= missing;
	/* Of those that are enough the smallest, of the others the largest. */
	return x >= missing ? x < y : x > y;
}

static size_t find_cheapest(const struct balance_round *r, uint64_t missing)
{
	size_t best = SIZE_MAX;

	for (size_t i = 0; i < r->n; i++)
		if (!r->guest[i].held &&
		    (best == SIZE_MAX || is_cheaper(&r->guest[i], &r->guest[best], missing)))
			best = i;
	return best;
}

static void tell_shortage(const Table *t)
{
	struct balance_host *h = &t->r->host;
	uint64_t missing = sub(t->more - t->ahead + t->owed, t->room + t->spare);

	h->missing = missing >= RANGE_BLOCK ? missing : 0;
	h->short_rounds = h->missing > 0 ? h->short_rounds + 1 : 0;
	h->is_short = h->short_rounds >= BALANCE_ROUNDS_SHORT;
	h->cheapest = h->is_short ? find_cheapest(t->r, missing) : SIZE_MAX;
}

void balance_round(struct balance_round *r)
{
	g_autofree struct appetite *a = g_new0(struct appetite, r->n);
	Table t = { .r = r, .a = a };

	look_at_guests(&t);
	look_at_host(&t);
	r->host.tight = t.wants > 0;
	grant(&t);
	collect_unused(&t);
	if (r->host.tight)
		collect_spare(&t, t.wants);
	tell_shortage(&t);
	for (size_t i = 0; i < r->n; i++)
		r->guest[i].state.verdict = r->guest[i].verdict;
}
