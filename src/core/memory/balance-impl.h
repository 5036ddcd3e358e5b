/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the parts of core/memory/balance; nobody else includes this.
 *
 * balance.c        the host: who gets what there is
 * balance_guest.c  one guest: what its report is worth, what it needs
 * balance_print.c  verdicts as sentences and JSON
 */
#pragma once

#include "core/memory/balance.h"

#define MIB (UINT64_C(1) << 20)

/* What one guest would have on its own, before the host is looked at. */
struct appetite {
	bool settled;    /* the verdict is there: nothing else may be done in this round */
	uint64_t more;   /* it needs */
	uint64_t ahead;  /* of that: what it does not need yet */
	uint64_t spare;  /* it can do without for the sake of others */
	uint64_t unused; /* it has not used for a while: it shall go in any case */
};

/* A change of less is not worth it. */
uint64_t balance_band(uint64_t size);
/* Reads the report, keeps the state, fills need, floor, and the verdict where that is settled. */
struct appetite balance_look(struct balance_guest *g, uint64_t now, uint64_t period);
/* Gives a new target. */
void balance_ask(struct balance_guest *g, uint64_t target, BalanceVerdict why, uint64_t now);
