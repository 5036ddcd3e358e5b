/* SPDX-License-Identifier: Apache-2.0 */
#include "core/place/voters.h"

#include <string.h>

size_t voters_wanted(size_t n_hosts)
{
	if (n_hosts >= VOTERS_MAX)
		return VOTERS_MAX;
	return n_hosts >= 3 ? 3 : n_hosts > 0;
}

/* Who keeps its place, or gets one, first: lower is earlier. */
static int rank(const struct voter_host *h)
{
	if (h->online && h->able)
		return h->part == VOTER_FULL ? 0 : h->part == VOTER_LEARNER ? 1 : 2;
	/* Away: better than nobody if it votes already, for it may come back. */
	return h->part == VOTER_FULL && h->able ? 3 : 4;
}

static bool is_before(const struct voter_host *a, const struct voter_host *b)
{
	if (rank(a) != rank(b))
		return rank(a) < rank(b);
	if (a->joined != b->joined)
		return a->joined < b->joined;
	return strcmp(a->id, b->id) < 0;
}

static struct voter_host *next_choice(struct voter_host *host, size_t n)
{
	struct voter_host *best = NULL;

	for (size_t i = 0; i < n; i++)
		if (!host[i].chosen && rank(&host[i]) < 4 && (best == NULL || is_before(&host[i], best)))
			best = &host[i];
	return best;
}

static size_t count(const struct voter_host *host, size_t n, bool (*is)(const struct voter_host *h))
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += is(&host[i]);
	return found;
}

static bool can(const struct voter_host *h)
{
	return rank(h) < 4;
}

static bool votes(const struct voter_host *h)
{
	return h->part == VOTER_FULL;
}

static bool votes_online(const struct voter_host *h)
{
	return votes(h) && h->online;
}

void voters_choose(struct voter_host *host, size_t n)
{
	size_t able = count(host, n, can), wanted = voters_wanted(n);

	for (size_t i = 0; i < n; i++)
		host[i].chosen = false;
	/* Two can't do better than one. */
	wanted = wanted < voters_wanted(able) ? wanted : voters_wanted(able);
	for (size_t k = 0; k < wanted; k++)
		next_choice(host, n)->chosen = true;
}

/* The first that `is`; n when there is none. */
static size_t find(const struct voter_host *host, size_t n, bool (*is)(const struct voter_host *h))
{
	for (size_t i = 0; i < n; i++)
		if (is(&host[i]))
			return i;
	return n;
}

static bool is_learner_too_many(const struct voter_host *h)
{
	return h->part == VOTER_LEARNER && (!h->chosen || !h->online);
}

static bool is_learner_to_promote(const struct voter_host *h)
{
	return h->part == VOTER_LEARNER && h->chosen && h->online;
}

static bool is_missing(const struct voter_host *h)
{
	return h->part == VOTER_NONE && h->chosen && h->online;
}

static bool is_dead_too_many(const struct voter_host *h)
{
	return h->part == VOTER_FULL && !h->chosen && !h->online;
}

static bool is_voter_too_many(const struct voter_host *h)
{
	return h->part == VOTER_FULL && !h->chosen;
}

static bool is_majority(size_t online, size_t all)
{
	return online * 2 > all;
}

VoterStep voters_step(const struct voter_host *host, size_t n, size_t *ret_who)
{
	size_t all = count(host, n, votes), online = count(host, n, votes_online), who;
	/* In this order: what waits to be finished, what makes it stronger, what makes it smaller. */
	const struct {
		bool (*is)(const struct voter_host *h);
		VoterStep step;
		bool safe;
	} rules[] = {
		{ is_learner_too_many, VOTERS_REMOVE, true },
		/* A new voter is online, so it never costs the majority. */
		{ is_learner_to_promote, VOTERS_PROMOTE, true },
		/* Before another one is taken in: etcd refuses that while a voter is away. */
		{ is_dead_too_many, VOTERS_REMOVE, true },
		{ is_missing, VOTERS_ADD, true },
		{ is_voter_too_many, VOTERS_REMOVE, online > 1 && is_majority(online - 1, all - 1) },
	};
	bool waits = false;

	/* Without a majority etcd takes no change at all. */
	if (!is_majority(online, all))
		return VOTERS_WAIT;
	for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
		who = find(host, n, rules[r].is);
		if (who == n)
			continue;
		if (rules[r].safe) {
			*ret_who = who;
			return rules[r].step;
		}
		waits = true;
	}
	return waits ? VOTERS_WAIT : VOTERS_DONE;
}
