/* SPDX-License-Identifier: Apache-2.0 */
#include "core/memory/split.h"
#include "core/guest/dimm.h"
#include "core/memory/range.h"

#include <glib.h>

static uint64_t whole(uint64_t bytes)
{
	return bytes / RANGE_BLOCK * RANGE_BLOCK;
}

/* Of the target, what it did not boot with. */
static uint64_t above_base(const struct balance_guest *g)
{
	return g->target > g->base ? g->target - g->base : 0;
}

static uint64_t pluggable(const struct balance_guest *g)
{
	return whole(g->max - MIN(g->max, g->base));
}

/* Unplugging that stands still: pages that the guest can't move are in the way. */
static void see_stuck(struct split *s, const struct balance_guest *g, uint64_t wanted)
{
	uint64_t above = g->plugged > wanted ? g->plugged - wanted : 0;
	bool taken_up = s->target == 0 && !g->fresh;

	s->still = above > 0 && wanted == s->wanted && g->plugged == s->plugged ? s->still + 1 : 0;
	s->stuck = taken_up || s->still >= SPLIT_ROUNDS_STUCK ? above : MIN(s->stuck, above);
	s->wanted = wanted;
	s->plugged = g->plugged;
}

bool split_next(struct split *s, const struct balance_guest *g, bool plug, struct split_order *ret)
{
	uint64_t wanted = plug ? MIN(whole(above_base(g) + RANGE_BLOCK - 1), pluggable(g)) : 0;
	uint64_t keeps = MIN(g->target, g->base);

	see_stuck(s, g, wanted);
	if (g->target == s->target && s->stuck == s->rest)
		return false;
	*ret = (struct split_order){ .plugged = wanted,
				     .keeps = keeps - MIN(s->stuck, keeps / 2),
				     .rest = s->stuck,
				     .by_plug = wanted != g->plugged };
	return true;
}

bool split_next_dimm(const struct split *s, const struct balance_guest *g, uint64_t region,
		     struct split_order *ret)
{
	uint64_t size = dimm_next(region, g->plugged, above_base(g)), keeps = balance_keeps(g);

	if (size == 0 && g->target == s->target && keeps == s->keeps)
		return false;
	/* A new DIMM lies idle at first: the balloon leaves it on top. */
	*ret = (struct split_order){ .dimm = size, .keeps = keeps + size, .by_plug = size > 0 };
	return true;
}

void split_done(struct split *s, struct balance_guest *g, const struct split_order *order)
{
	if (order->rest < s->rest)
		g->state.arrived = false;
	s->target = g->target;
	s->keeps = order->keeps;
	s->rest = order->rest;
}
