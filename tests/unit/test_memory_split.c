/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic memory: what virtio-mem and the balloon are asked for, and blocks that can't be given back. */
#include "memory_world.h"

static void ordered(struct world *w, const char *text)
{
	g_assert_cmpstr(w->orders->str, ==, text);
	g_string_truncate(w->orders, 0);
}

/* Each round's verdict on the only guest, which shall not be this one. */
static void turns_without(struct world *w, unsigned n, BalanceVerdict v)
{
	while (n-- > 0) {
		turn(w);
		g_assert_cmpint(w->guest[0].verdict, !=, v);
	}
}

/* It grew, and has no need of it any more. The orders until then are left out. */
static struct real *add_one_that_grew(struct world *w)
{
	struct real *r;

	world_init(w, 8 * GIB);
	r = add(w, "web", 512, 1024, 4096, 700);
	turns(w, 3);
	r->uses = 1600 * MIB;
	turns(w, 4);
	r->uses = 700 * MIB;
	g_assert_cmpuint(r->plugged, ==, 1280 * MIB);
	g_string_truncate(w->log, 0);
	g_string_truncate(w->orders, 0);
	return r;
}

/* The same, and it has given back all but 64 MiB, which stick. */
static struct real *add_one_with_stuck_blocks(struct world *w)
{
	struct real *r = add_one_that_grew(w);

	r->pinned = 64 * MIB;
	turns(w, 53);
	g_assert_cmpuint(r->plugged, ==, r->pinned);
	g_string_truncate(w->log, 0);
	g_string_truncate(w->orders, 0);
	return r;
}

static void test_the_balloon_makes_up_for_blocks_that_stick(void)
{
	struct world w;
	struct real *r = add_one_that_grew(&w);

	r->pinned = 64 * MIB;
	turns_without(&w, 53, BALANCE_TOOK);
	ordered(&w, "24 web plug 992 keep 1024 for 0 stuck\n"
		    "25 web plug 740 keep 1024 for 0 stuck\n"
		    "26 web plug 520 keep 1024 for 0 stuck\n"
		    "27 web plug 328 keep 1024 for 0 stuck\n"
		    "28 web plug 160 keep 1024 for 0 stuck\n"
		    "29 web plug 12 keep 1024 for 0 stuck\n"
		    "33 web plug 12 keep 972 for 52 stuck\n"
		    "35 web plug 0 keep 856 for 52 stuck\n"
		    "38 web plug 0 keep 844 for 64 stuck\n");
	said(&w, "24 web shrank 2304 -> 2016\n"
		 "25 web shrank 2016 -> 1764\n"
		 "26 web shrank 1764 -> 1544\n"
		 "27 web shrank 1544 -> 1352\n"
		 "28 web shrank 1352 -> 1184\n"
		 "29 web shrank 1184 -> 1036\n"
		 "35 web shrank 1036 -> 908\n");
	g_assert_cmpuint(real_size(r), ==, w.guest[0].target);
	world_done(&w);
}

/* Else the guest would have it twice until that is seen anew, at each step down. */
static void test_what_stuck_stays_made_up_for_when_the_target_falls_and_rises(void)
{
	struct world w;
	struct real *r = add_one_that_grew(&w);
	uint64_t before = 0, most = 0;

	r->pinned = 400 * MIB;
	for (unsigned i = 0; i < 60; i++) {
		turn(&w);
		g_assert_cmpuint(r->ballooned, >=, before);
		before = r->ballooned;
	}
	g_assert_cmpuint(r->ballooned, ==, 516 * MIB);
	g_assert_cmpuint(real_size(r), ==, 908 * MIB);
	/* It needs more than it booted with again; what is plugged in still comes first. */
	r->uses = 1200 * MIB;
	for (unsigned i = 0; i < 10; i++) {
		turn(&w);
		most = MAX(most, real_size(r));
		g_assert_cmpuint(real_size(r), <=, w.guest[0].target);
	}
	g_assert_cmpuint(most, >=, 1400 * MIB);
	g_assert_cmpuint(w.split[0].rest, ==, 0);
	world_done(&w);
}

/* A guest that gives back slowly gives back: its balloon need not help. */
static void test_unplugging_that_goes_on_is_not_taken_for_stuck(void)
{
	struct world w;
	struct real *r = add_one_that_grew(&w);

	r->most = 16 * MIB;
	turns(&w, 120);
	g_assert_cmpuint(r->plugged, ==, 0);
	g_assert_null(strstr(w.orders->str, "for 1"));
	g_assert_nonnull(strstr(w.orders->str, "plug 0 keep 908 for 0 stuck\n"));
	g_assert_cmpuint(real_size(r), ==, 908 * MIB);
	world_done(&w);
}

static void test_what_goes_later_is_made_up_for_less_and_no_want_of_memory(void)
{
	struct world w;
	struct real *r = add_one_with_stuck_blocks(&w);

	r->pinned -= RANGE_BLOCK;
	turns_without(&w, 20, BALANCE_TOOK);
	ordered(&w, "61 web plug 0 keep 846 for 62 stuck\n");
	r->pinned -= 12 * MIB;
	turns_without(&w, 20, BALANCE_TOOK);
	ordered(&w, "81 web plug 0 keep 858 for 50 stuck\n");
	said(&w, "");
	g_assert_cmpuint(real_size(r), ==, 908 * MIB);
	r->pinned = 0;
	turns_without(&w, 20, BALANCE_TOOK);
	ordered(&w, "101 web plug 0 keep 908 for 0 stuck\n");
	said(&w, "");
	world_done(&w);
}

static void test_a_daemon_that_begins_anew_leaves_the_balloon_what_it_made_up_for(void)
{
	struct world w;
	struct real *r = add_one_with_stuck_blocks(&w);
	uint64_t ballooned = r->ballooned;

	for (unsigned i = 0; i < 3; i++) {
		daemon_begins_anew(&w);
		for (unsigned n = 0; n < 40; n++) {
			turns_without(&w, 1, BALANCE_TOOK);
			g_assert_cmpuint(r->ballooned, ==, ballooned);
		}
	}
	said(&w, "60 web begun 0 -> 908\n"
		 "100 web begun 0 -> 908\n"
		 "140 web begun 0 -> 908\n");
	ordered(&w, "60 web plug 0 keep 844 for 64 stuck\n"
		    "100 web plug 0 keep 844 for 64 stuck\n"
		    "140 web plug 0 keep 844 for 64 stuck\n");
	/* And it goes on as it did before. */
	r->pinned -= RANGE_BLOCK;
	turns_without(&w, 10, BALANCE_TOOK);
	ordered(&w, "181 web plug 0 keep 846 for 62 stuck\n");
	said(&w, "");
	world_done(&w);
}

/* Not of a world: it booted with 1 GiB, and may have 4. */
static struct balance_guest guest_with(uint64_t plugged, uint64_t target)
{
	return (struct balance_guest){ .min = 512 * MIB,
				       .start = GIB,
				       .max = 4 * GIB,
				       .base = GIB,
				       .plugged = plugged,
				       .target = target };
}

/* It has more plugged in than it shall have only because it boots: nothing was made up for. */
static void test_a_guest_that_boots_is_not_taken_for_one_with_stuck_blocks(void)
{
	struct split s = { 0 };
	struct split_order order;
	struct balance_guest g = guest_with(64 * MIB, GIB);

	g.fresh = true;
	g_assert_true(split_next(&s, &g, true, &order));
	g_assert_cmpuint(order.keeps, ==, GIB);
	g_assert_cmpuint(order.rest, ==, 0);
	g.fresh = false;
	g_assert_true(split_next(&s, &g, true, &order));
	g_assert_cmpuint(order.keeps, ==, GIB - 64 * MIB);
	g_assert_cmpuint(order.rest, ==, 64 * MIB);
}

static void run_out(struct real *r)
{
	r->ballooned -= 30 * MIB; /* its kernel was about to kill */
	r->uses = 900 * MIB;
}

static void test_one_that_runs_out_of_memory_is_seen_with_blocks_that_stick_and_without(void)
{
	for (unsigned stuck = 0; stuck < 2; stuck++) {
		struct world w;
		struct real *r = add_one_with_stuck_blocks(&w);

		if (!stuck) {
			r->pinned = 0;
			turns(&w, 10);
			g_assert_cmpuint(r->plugged, ==, 0);
		}
		g_assert_cmpuint(r->ballooned, >, 100 * MIB);
		run_out(r);
		turn(&w);
		g_assert_cmpint(w.guest[0].verdict, ==, BALANCE_TOOK);
		/* What it took back is its own: nothing of that is called stuck. */
		for (unsigned i = 0; i < 6; i++) {
			turn(&w);
			g_assert_cmpuint(w.split[0].rest, <=, stuck ? 64 * MIB : 0);
		}
		g_assert_cmpuint(real_size(r), >, 932 * MIB);
		world_done(&w);
	}
}

/* The balloon has let go as it was asked to; what goes next the guest took. */
static void test_one_that_runs_out_soon_after_a_block_went_is_seen(void)
{
	struct world w;
	struct real *r = add_one_with_stuck_blocks(&w);

	r->pinned -= RANGE_BLOCK;
	turns(&w, 2);
	ordered(&w, "61 web plug 0 keep 846 for 62 stuck\n");
	turns_without(&w, 2, BALANCE_TOOK);
	run_out(r);
	turn(&w);
	g_assert_cmpint(w.guest[0].verdict, ==, BALANCE_TOOK);
	world_done(&w);
}

static void test_the_balloon_makes_up_for_no_more_than_a_half(void)
{
	struct split s = { 0 };
	struct split_order order;
	struct balance_guest g = guest_with(2 * GIB, 600 * MIB);

	g_assert_true(split_next(&s, &g, true, &order));
	g_assert_cmpuint(order.rest, ==, 2 * GIB);
	g_assert_cmpuint(order.keeps, ==, 300 * MIB);
}

/* What failed was not done. */
static void test_an_order_is_made_until_it_was_carried_out(void)
{
	struct split s = { 0 };
	struct split_order order, again;
	struct balance_guest g = guest_with(0, 1537 * MIB);

	g.fresh = true;
	for (unsigned i = 0; i < 3; i++) {
		g_assert_true(split_next(&s, &g, true, &order));
		g_assert_cmpuint(order.plugged, ==, 514 * MIB); /* whole blocks */
		g_assert_cmpuint(order.keeps, ==, GIB);
		g_assert_true(order.by_plug);
	}
	split_done(&s, &g, &order);
	g_assert_false(split_next(&s, &g, true, &again));
	/* Without virtio-mem all is the balloon's. */
	g.base = 4 * GIB;
	g.target = 700 * MIB;
	g_assert_true(split_next(&s, &g, false, &order));
	g_assert_cmpuint(order.plugged, ==, 0);
	g_assert_cmpuint(order.keeps, ==, 700 * MIB);
	g_assert_false(order.by_plug);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/memory_split/stuck", test_the_balloon_makes_up_for_blocks_that_stick);
	g_test_add_func("/memory_split/steps",
			test_what_stuck_stays_made_up_for_when_the_target_falls_and_rises);
	g_test_add_func("/memory_split/slow", test_unplugging_that_goes_on_is_not_taken_for_stuck);
	g_test_add_func("/memory_split/goes_later",
			test_what_goes_later_is_made_up_for_less_and_no_want_of_memory);
	g_test_add_func("/memory_split/taken_up",
			test_a_daemon_that_begins_anew_leaves_the_balloon_what_it_made_up_for);
	g_test_add_func("/memory_split/boots",
			test_a_guest_that_boots_is_not_taken_for_one_with_stuck_blocks);
	g_test_add_func("/memory_split/took",
			test_one_that_runs_out_of_memory_is_seen_with_blocks_that_stick_and_without);
	g_test_add_func("/memory_split/took_later", test_one_that_runs_out_soon_after_a_block_went_is_seen);
	g_test_add_func("/memory_split/half", test_the_balloon_makes_up_for_no_more_than_a_half);
	g_test_add_func("/memory_split/until_done", test_an_order_is_made_until_it_was_carried_out);
	return g_test_run();
}
