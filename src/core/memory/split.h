/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dynamic memory: a guest's target as orders to the devices that move it. Pure.
 *
 * The engine calls split_next() or split_next_dimm() after each round, carries
 * the order out, and says so with split_done(). An order that failed is made
 * again in the next round.
 *
 *  - With virtio-mem what is above base is plugged in, in whole blocks, and what
 *    is below base the balloon takes. With the balloon alone all is base.
 *  - Blocks with pages that the guest can't move stay when they are unplugged.
 *    When nothing has gone for SPLIT_ROUNDS_STUCK rounds the balloon takes as
 *    much of what the guest booted with, up to a half of what it keeps. What goes
 *    later, block by block, is made up for less; what stuck with a larger target
 *    sticks with a smaller one. A guest that a daemon takes up
 *    with more plugged in than its target has was made up for before, and is so
 *    without a wait: else its balloon would let go of all that at once.
 *  - DIMMs only come (see core/guest/dimm.h); the balloon is told how much of all
 *    that there is the guest keeps.
 *  - A balloon that lets go because less is stuck does as it was asked: the guest
 *    has not run out of memory (see BALANCE_TOOK).
 */
#pragma once

#include "core/memory/balance.h"

#define SPLIT_ROUNDS_STUCK 3

/* What is remembered of a guest from round to round; zero when it boots, and when a daemon takes it up. */
struct split {
	uint64_t target;  /* that its devices were asked for last; 0: none yet */
	uint64_t keeps;   /* what its balloon was told then, of one with DIMMs */
	uint64_t rest;    /* of `stuck`, made up for then */
	uint64_t wanted;  /* to be plugged in, in the round before */
	uint64_t plugged; /* in the round before */
	unsigned still;   /* rounds since the last block went, or was to */
	uint64_t stuck;   /* of what is plugged in above that */
};

struct split_order {
	uint64_t dimm;    /* to be plugged in first, of this size; 0: none */
	uint64_t plugged; /* that virtio-mem shall have in all */
	uint64_t keeps;   /* what the balloon leaves of base, and of DIMMs */
	uint64_t rest;    /* stuck, and made up for by that */
	bool by_plug;     /* virtio-mem or a DIMM moves memory; else only the balloon */
};

/* What `g` is to be asked for its target; `plug`: it has virtio-mem. False: it was asked already. */
bool split_next(struct split *s, const struct balance_guest *g, bool plug, struct split_order *ret);
/* The same with DIMMs, in a region of this size. */
bool split_next_dimm(const struct split *s, const struct balance_guest *g, uint64_t region,
		     struct split_order *ret);
/* The devices of `g` took the order. */
void split_done(struct split *s, struct balance_guest *g, const struct split_order *order);
