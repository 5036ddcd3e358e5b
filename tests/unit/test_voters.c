/* SPDX-License-Identifier: Apache-2.0 */
/* Which hosts keep the pool's state, and the way there. */
#include "core/place/voters.h"

#include <glib.h>
#include <string.h>

enum { N_MAX = 12 };

static struct voter_host host(const char *id, bool online, VoterPart part)
{
	return (struct voter_host){ .id = id, .online = online, .able = true, .part = part };
}

/* "a+ b c-": the ids of those chosen, in order. */
static void assert_chosen(struct voter_host *h, size_t n, const char *should)
{
	g_autoptr(GString) is = g_string_new(NULL);

	voters_choose(h, n);
	for (size_t i = 0; i < n; i++)
		if (h[i].chosen)
			g_string_append_printf(is, "%s%s", is->len > 0 ? " " : "", h[i].id);
	g_assert_cmpstr(is->str, ==, should);
}

static void test_their_number_is_odd(void)
{
	static const size_t wanted[] = { 0, 1, 1, 3, 3, 5, 5, 5 };

	for (size_t n = 0; n < G_N_ELEMENTS(wanted); n++)
		g_assert_cmpuint(voters_wanted(n), ==, wanted[n]);
	g_assert_cmpuint(voters_wanted(1000), ==, 5);
}

static void test_who_votes_goes_on_voting(void)
{
	struct voter_host h[] = { host("a", true, VOTER_NONE), host("b", true, VOTER_FULL),
				  host("c", true, VOTER_FULL), host("d", true, VOTER_FULL) };

	assert_chosen(h, 4, "b c d");
}

static void test_the_oldest_hosts_are_chosen_first(void)
{
	struct voter_host h[] = { host("a", true, VOTER_NONE), host("b", true, VOTER_NONE),
				  host("c", true, VOTER_NONE), host("d", true, VOTER_NONE) };

	assert_chosen(h, 4, "a b c");
	h[0].joined = 9;
	assert_chosen(h, 4, "b c d");
}

static void test_an_absent_voter_is_replaced_if_there_is_someone(void)
{
	struct voter_host h[] = { host("a", true, VOTER_FULL), host("b", false, VOTER_FULL),
				  host("c", true, VOTER_FULL), host("d", true, VOTER_NONE) };

	assert_chosen(h, 4, "a c d");
	assert_chosen(h, 3, "a b c"); /* nobody else: it may come back */
}

static void test_a_host_that_may_not_is_not_chosen(void)
{
	struct voter_host h[] = { host("a", true, VOTER_FULL), host("b", true, VOTER_NONE),
				  host("c", true, VOTER_NONE) };

	h[1].able = false;
	assert_chosen(h, 3, "a"); /* two would be worse than one */
	h[0].able = false;
	assert_chosen(h, 3, "c");
}

static void assert_step(const struct voter_host *h, size_t n, VoterStep should, const char *who)
{
	size_t i = n;

	g_assert_cmpint(voters_step(h, n, &i), ==, should);
	if (who != NULL)
		g_assert_cmpstr(h[i].id, ==, who);
}

static void test_a_dead_voter_leaves_before_another_comes(void)
{
	struct voter_host h[] = { host("a", true, VOTER_FULL), host("b", false, VOTER_FULL),
				  host("c", true, VOTER_FULL), host("d", true, VOTER_NONE) };

	voters_choose(h, 4);
	assert_step(h, 4, VOTERS_REMOVE, "b");
	h[1].part = VOTER_NONE;
	assert_step(h, 4, VOTERS_ADD, "d");
	h[3].part = VOTER_LEARNER;
	assert_step(h, 4, VOTERS_PROMOTE, "d");
	h[3].part = VOTER_FULL;
	assert_step(h, 4, VOTERS_DONE, NULL);
}

static void test_nothing_is_tried_without_a_majority(void)
{
	struct voter_host h[] = { host("a", true, VOTER_FULL), host("b", false, VOTER_FULL),
				  host("c", false, VOTER_FULL), host("d", true, VOTER_NONE) };

	voters_choose(h, 4);
	assert_step(h, 4, VOTERS_WAIT, NULL);
}

static void test_the_majority_is_never_given_away(void)
{
	struct voter_host h[] = { host("a", true, VOTER_FULL), host("b", true, VOTER_FULL),
				  host("c", false, VOTER_FULL) };

	/* b may not vote any more; without it, a and c are left, of which one is away. */
	h[1].able = false;
	for (int i = 0; i < 3; i++)
		h[i].chosen = i != 1;
	assert_step(h, 3, VOTERS_WAIT, NULL);
}

static size_t voters(const struct voter_host *h, size_t n, bool online_only)
{
	size_t found = 0;

	for (size_t i = 0; i < n; i++)
		found += h[i].part == VOTER_FULL && (h[i].online || !online_only);
	return found;
}

static void make_pool(GRand *rand, struct voter_host *h, size_t n, char id[][4])
{
	static const VoterPart parts[] = { VOTER_NONE, VOTER_NONE, VOTER_LEARNER, VOTER_FULL };

	for (size_t i = 0; i < n; i++) {
		g_snprintf(id[i], 4, "h%02u", (unsigned)i);
		h[i] = host(id[i], g_rand_int_range(rand, 0, 4) != 0, parts[g_rand_int_range(rand, 0, 4)]);
		h[i].joined = (uint64_t)g_rand_int_range(rand, 0, 3);
		h[i].able = g_rand_int_range(rand, 0, 8) != 0;
	}
}

static void take(struct voter_host *h, VoterStep step, size_t who)
{
	g_assert_true(step == VOTERS_REMOVE ? h[who].part != VOTER_NONE : h[who].online);
	if (step == VOTERS_ADD)
		g_assert_cmpint(h[who].part, ==, VOTER_NONE);
	if (step == VOTERS_PROMOTE)
		g_assert_cmpint(h[who].part, ==, VOTER_LEARNER);
	h[who].part = step == VOTERS_ADD ? VOTER_LEARNER : step == VOTERS_PROMOTE ? VOTER_FULL : VOTER_NONE;
}

/* Whatever the pool is like: the steps end, a majority that was there stays, and what was chosen is reached
 * unless it says that it waits. */
static void test_every_pool_comes_to_rest_and_keeps_its_majority(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed((guint32)g_test_rand_int());

	for (int round = 0; round < 5000; round++) {
		size_t n = (size_t)g_rand_int_range(rand, 1, N_MAX), who = 0;
		struct voter_host h[N_MAX];
		char id[N_MAX][4];
		bool had_majority;
		VoterStep step;
		int steps = 0;

		make_pool(rand, h, n, id);
		had_majority = voters(h, n, true) * 2 > voters(h, n, false);
		for (;; take(h, step, who)) {
			voters_choose(h, n);
			step = voters_step(h, n, &who);
			if (step == VOTERS_DONE || step == VOTERS_WAIT)
				break;
			g_assert_true(had_majority);
			g_assert_cmpint(steps++, <, 3 * N_MAX);
			g_assert_cmpuint(voters(h, n, true) * 2, >, voters(h, n, false));
		}
		for (size_t i = 0; step == VOTERS_DONE && i < n; i++)
			if (h[i].online)
				g_assert_true(h[i].chosen == (h[i].part == VOTER_FULL));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/voters/" #name, test_##name)
	T(their_number_is_odd);
	T(who_votes_goes_on_voting);
	T(the_oldest_hosts_are_chosen_first);
	T(an_absent_voter_is_replaced_if_there_is_someone);
	T(a_host_that_may_not_is_not_chosen);
	T(a_dead_voter_leaves_before_another_comes);
	T(nothing_is_tried_without_a_majority);
	T(the_majority_is_never_given_away);
	T(every_pool_comes_to_rest_and_keeps_its_majority);
	return g_test_run();
}
