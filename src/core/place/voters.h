/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which hosts of a pool keep its state: the voters of etcd. Pure.
 *
 * One host or two: one voter, for a second one would only make two hosts that both
 * must live. Three or four hosts: three. Five and more: five. Whoever votes goes on
 * voting as long as it can: a change costs a copy of the data and is a risk. A
 * voter that is offline is replaced when an online host can take its place; how long
 * a host must be away to count as offline is the caller's to say, and should
 * be minutes: a reboot is no reason.
 *
 * The way there is one step at a time. A new member joins as a learner and
 * gets its vote when it has caught up; then an old one leaves. No step is taken that
 * would leave the voters that are online in the minority.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VOTERS_MAX 5

typedef enum VoterPart {
	VOTER_NONE,    /* runs no member */
	VOTER_LEARNER, /* gets the data, has no vote */
	VOTER_FULL,
} VoterPart;

struct voter_host {
	const char *id;
	uint64_t joined; /* the oldest are chosen first; the id decides between equals */
	bool online;
	bool able; /* may be chosen: has etcd, and no admin forbids it */
	VoterPart part;
	bool chosen; /* set by voters_choose() */
};

/* How many voters a pool of so many hosts should have: 0, 1, 3 or 5. */
size_t voters_wanted(size_t n_hosts);

/*
 * Sets `chosen` of each host. Fewer than wanted are chosen when there are not enough that can; never an even
 * number, unless voters that are offline and can't be replaced make it so.
 */
void voters_choose(struct voter_host *host, size_t n);

typedef enum VoterStep {
	VOTERS_DONE,    /* all is as chosen */
	VOTERS_WAIT,    /* not now: it would cost the majority, or the host is away */
	VOTERS_ADD,     /* take in `who` as a learner, and start its member */
	VOTERS_PROMOTE, /* give `who` its vote; it may have to catch up first */
	VOTERS_REMOVE,  /* take out `who`, and end its member */
} VoterStep;

/* The next step from what is to what was chosen. `ret_who` is an index, set but for DONE and WAIT. */
VoterStep voters_step(const struct voter_host *host, size_t n, size_t *ret_who);
