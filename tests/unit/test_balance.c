/* SPDX-License-Identifier: Apache-2.0 */
/* Dynamic memory: what hosts and guests of all kinds decide, as text; and what must hold whatever happens. */
#include "memory_world.h"

/* ---- one guest, and room ---- */

static void test_a_guest_grows_at_once_and_shrinks_when_it_was_calm(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 8 * GIB);
	r = add(&w, "web", 512, 1024, 4096, 700);
	turns(&w, 3);
	said(&w, "0 web begun 0 -> 1024\n");
	r->uses = 1600 * MIB; /* more than it has: it could not, but its report may say so */
	turns(&w, 4);
	said(&w, "3 web grew 1024 -> 1536\n"
		 "4 web grew 1536 -> 2304\n");
	r->uses = 700 * MIB;
	turns(&w, 8);
	said(&w, "");
	turns(&w, 30);
	said(&w, "24 web shrank 2304 -> 2016\n"
		 "25 web shrank 2016 -> 1764\n"
		 "26 web shrank 1764 -> 1544\n"
		 "27 web shrank 1544 -> 1352\n"
		 "28 web shrank 1352 -> 1184\n"
		 "29 web shrank 1184 -> 1036\n"
		 "30 web shrank 1036 -> 908\n");
	world_done(&w);
}

static void test_disk_caches_stay_while_the_host_has_room(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 8 * GIB);
	r = add(&w, "files", 256, 2048, 2048, 300);
	r->caches = 1000 * MIB;
	turns(&w, 60);
	g_assert_cmpuint(w.guest[0].target, >=, 1300 * MIB + HIDDEN);
	g_assert_cmpuint(w.guest[0].target, <, 1500 * MIB);
	w.r.host.capacity = 600 * MIB; /* others came */
	turns(&w, 60);
	g_assert_cmpuint(w.guest[0].target, >=, (300 * MIB + HIDDEN) * 12 / 10 - MIB);
	g_assert_cmpuint(w.guest[0].target, <=, 600 * MIB);
	world_done(&w);
}

static void test_one_that_swaps_grows_beyond_its_buffer(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 8 * GIB);
	r = add(&w, "db", 512, 1024, 4096, 780);
	turns(&w, 2);
	r->pages_in = 3 * MIB;
	r->uses = 800 * MIB;
	turns(&w, 2);
	said(&w, "0 db begun 0 -> 1024\n"
		 "2 db pressed 1024 -> 1280\n");
	r->pages_in = 300; /* some pages of old now and then are no need */
	turns(&w, 4);
	said(&w, "");
	world_done(&w);
}

/* What it wrote when it had less, or what its kernel has no room for in memory that can be taken away. */
static void test_one_that_swaps_with_much_available_gets_no_more(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 8 * GIB);
	r = add(&w, "db", 512, 1024, 4096, 300);
	r->pages_in = 3 * MIB;
	turns(&w, 9);
	said(&w, "0 db begun 0 -> 1024\n");
	world_done(&w);
}

static void test_one_that_takes_memory_back_gets_more(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 8 * GIB);
	r = add(&w, "job", 256, 1024, 4096, 100);
	turns(&w, 40);
	g_assert_cmpuint(w.guest[0].target, <, 300 * MIB);
	g_string_truncate(w.log, 0);
	r->ballooned -= 100 * MIB; /* its kernel was about to kill */
	r->uses = 900 * MIB;
	turn(&w);
	g_assert_cmpint(w.guest[0].verdict, ==, BALANCE_TOOK);
	g_assert_cmpuint(w.guest[0].target, >, 400 * MIB);
	turns(&w, 6);
	g_assert_cmpuint(w.guest[0].target, >, 932 * MIB);
	world_done(&w);
}

/* ---- who can't be believed ---- */

static void test_who_reports_nothing_keeps_what_it_has(void)
{
	struct world w;

	world_init(&w, 200 * MIB); /* less than it has */
	add(&w, "old", 256, 1024, 4096, 100)->no_driver = true;
	turns(&w, 100);
	g_assert_cmpuint(w.guest[0].target, ==, GIB);
	g_assert_cmpint(w.guest[0].verdict, ==, BALANCE_SILENT);
	g_assert_true(w.r.host.is_short);
	world_done(&w);
}

static void test_who_stops_to_report_keeps_what_it_has(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 8 * GIB);
	r = add(&w, "hung", 256, 1024, 4096, 100);
	turns(&w, 3);
	r->frozen_at = w.r.now;
	w.r.host.capacity = 512 * MIB;
	turns(&w, BALANCE_ROUNDS_STALE + 1);
	g_string_truncate(w.log, 0);
	turns(&w, 30);
	g_assert_cmpint(w.guest[0].verdict, ==, BALANCE_STALE);
	g_assert_cmpuint(w.guest[0].target, ==, w.guest[0].from);
	world_done(&w);
}

static void lie(struct balance_report *r, unsigned which)
{
	switch (which) {
	case 0:
		r->available = r->total + 1;
		break;
	case 1:
		r->free = 64 * GIB;
		break;
	case 2:
		r->total = 64 * GIB;
		break;
	case 3:
		r->total = 0;
		break;
	default:
		r->caches = r->total * 2;
		break;
	}
}

static void test_who_reports_what_cannot_be_keeps_what_it_has_and_is_told_of_once(void)
{
	for (unsigned which = 0; which < 5; which++) {
		struct world w;
		unsigned told = 0;

		world_init(&w, 512 * MIB);
		add(&w, "liar", 256, 1024, 4096, 100);
		for (unsigned i = 0; i < 50; i++) {
			measure(&w, 0);
			lie(&w.guest[0].report, which);
			balance_round(&w.r);
			told += w.guest[0].noticed;
			w.r.now += PERIOD;
			g_assert_cmpuint(w.guest[0].target, ==, GIB);
		}
		g_assert_cmpint(w.guest[0].verdict, ==, BALANCE_LYING);
		g_assert_cmpuint(told, ==, 1);
		world_done(&w);
	}
}

static void test_who_ignores_its_balloon_is_noticed_and_left_alone(void)
{
	struct world w;
	unsigned told = 0;

	world_init(&w, 8 * GIB);
	add(&w, "deaf", 256, 1024, 4096, 100)->deaf = true;
	for (unsigned i = 0; i < 300; i++) {
		turn(&w);
		told += w.guest[0].noticed;
	}
	g_assert_cmpuint(told, ==, 1);
	g_assert_cmpuint(balance_size(&w.guest[0]), ==, GIB);
	/* It may have learnt to listen. */
	w.real[0].deaf = false;
	turns(&w, BALANCE_ROUNDS_PARDON + 40);
	g_assert_cmpuint(w.guest[0].target, <, 400 * MIB);
	world_done(&w);
}

static void test_who_does_not_take_what_is_plugged_gets_no_more(void)
{
	struct world w;
	struct real *r;
	unsigned told = 0;

	world_init(&w, 8 * GIB);
	r = add(&w, "offline", 256, 1024, 4096, 980);
	r->offline = true;
	for (unsigned i = 0; i < 40; i++) {
		turn(&w);
		told += w.guest[0].noticed;
	}
	g_assert_cmpuint(told, ==, 1);
	g_assert_cmpuint(w.guest[0].target, <=, 1536 * MIB);
	world_done(&w);
}

static void test_balloons_count_right_in_drivers_that_take_them_off_the_total(void)
{
	for (unsigned off = 0; off < 2; off++) {
		struct world w;

		world_init(&w, 8 * GIB);
		add(&w, "guest", 256, 2048, 2048, 600)->counts_no_balloon = off;
		turns(&w, 80);
		g_assert_cmpuint(w.guest[0].need, ==, 600 * MIB + HIDDEN);
		g_assert_cmpuint(w.guest[0].target, >=, (600 * MIB + HIDDEN) * 12 / 10 - MIB);
		world_done(&w);
	}
}

/* ---- one guest that grows by DIMMs ---- */

/* It boots with 1 GiB and may have 64 GiB more, so that each DIMM has 2 GiB. */
#define REGION (64 * GIB)

/* It can use what its kernel counts, but for what its balloon has. */
static uint64_t in_use(const struct world *w)
{
	const struct real *r = &w->real[0];

	return r->base + (r->offline ? 0 : r->plugged - r->idle) - r->ballooned;
}

/* As the engine follows; the balloon takes all that it may at once. */
static void turn_dimms(struct world *w)
{
	struct balance_guest *g = &w->guest[0];
	struct real *r = &w->real[0];
	struct split_order order;

	measure(w, 0);
	balance_round(&w->r);
	if (split_next_dimm(&w->split[0], g, REGION, &order)) {
		if (order.dimm > 0)
			balance_plugged(g, order.dimm);
		g_assert_cmpuint(order.keeps, ==, balance_keeps(g));
		r->plugged += order.dimm;
		r->ballooned = r->base + r->plugged - order.keeps;
		split_done(&w->split[0], g, &order);
	}
	w->r.now += PERIOD;
}

static void add_dimm_guest(struct world *w, uint64_t uses)
{
	world_init(w, 128 * GIB);
	add(w, "guest", 512, 1024, 65 * 1024, uses);
	w->guest[0].dimms = true;
	for (unsigned i = 0; i < 3; i++)
		turn_dimms(w);
	g_assert_cmpuint(w->guest[0].plugged, ==, 0);
}

static void test_a_dimm_that_lies_idle_is_not_taken_out_of_what_the_guest_uses(void)
{
	struct world w;
	unsigned told = 0, offline = 0;

	add_dimm_guest(&w, 700);
	w.real[0].offline = true;
	w.real[0].uses = 900 * MIB;
	for (unsigned i = 0; i < 200; i++) {
		turn_dimms(&w);
		told += w.guest[0].noticed;
		offline += w.guest[0].verdict == BALANCE_OFFLINE;
		g_assert_cmpuint(in_use(&w), ==, GIB);
		g_assert_cmpuint(w.real[0].plugged, ==, 2 * GIB);
	}
	g_assert_cmpuint(offline, >, 0);
	g_assert_cmpuint(told, >=, 1);
	g_assert_cmpuint(told, <=, 200 / BALANCE_ROUNDS_PARDON + 1);
	/* It gives back what it does not need all the same. */
	w.real[0].uses = 500 * MIB;
	for (unsigned i = 0; i < 60; i++)
		turn_dimms(&w);
	g_assert_cmpuint(w.guest[0].need, ==, 500 * MIB + HIDDEN);
	g_assert_cmpuint(in_use(&w), ==, w.guest[0].target);
	g_assert_cmpuint(in_use(&w), <, 768 * MIB);
	/* Its administrator takes it into use at last. */
	w.real[0].offline = false;
	w.real[0].uses = 900 * MIB;
	for (unsigned i = 0; i < 40; i++)
		turn_dimms(&w);
	g_assert_cmpuint(w.guest[0].need, ==, 900 * MIB + HIDDEN);
	g_assert_cmpuint(in_use(&w), ==, w.guest[0].target);
	g_assert_cmpuint(in_use(&w), >=, 1100 * MIB);
	g_assert_cmpuint(in_use(&w), <, 1536 * MIB);
	world_done(&w);
}

static void test_the_balloon_takes_the_rest_of_a_dimm_once_it_is_in_use(void)
{
	for (unsigned off = 0; off < 2; off++) {
		struct world w;

		add_dimm_guest(&w, 700);
		w.real[0].counts_no_balloon = off;
		w.real[0].uses = 900 * MIB;
		for (unsigned i = 0; i < 40; i++) {
			turn_dimms(&w);
			g_assert_cmpuint(in_use(&w), >=, GIB);
		}
		g_assert_cmpuint(w.real[0].plugged, ==, 2 * GIB);
		g_assert_cmpuint(w.guest[0].need, ==, 900 * MIB + HIDDEN);
		g_assert_cmpuint(in_use(&w), ==, w.guest[0].target);
		g_assert_cmpuint(in_use(&w), <, 1536 * MIB);
		world_done(&w);
	}
}

/* A daemon that began anew, or another host, does not know what its kernel keeps for itself. */
static void test_a_dimm_that_lies_idle_is_no_need_of_a_guest_that_was_taken_over(void)
{
	struct world w;

	add_dimm_guest(&w, 700);
	w.real[0].uses = 900 * MIB;
	for (unsigned i = 0; i < 40; i++)
		turn_dimms(&w);
	daemon_begins_anew(&w);
	turn_dimms(&w);
	w.real[0].uses = 2900 * MIB;
	for (unsigned i = 0; i < 40 && w.real[0].plugged == 2 * GIB; i++)
		turn_dimms(&w);
	g_assert_cmpuint(w.real[0].plugged, ==, 4 * GIB);
	w.real[0].idle = 2 * GIB;
	for (unsigned i = 0; i < 40; i++) {
		turn_dimms(&w);
		g_assert_cmpuint(w.real[0].plugged, ==, 4 * GIB);
		g_assert_cmpuint(in_use(&w), ==, 3 * GIB);
		g_assert_cmpuint(w.guest[0].need, <=, 3 * GIB);
	}
	w.real[0].idle = 0;
	for (unsigned i = 0; i < 40; i++)
		turn_dimms(&w);
	g_assert_cmpuint(w.real[0].plugged, ==, 4 * GIB);
	g_assert_cmpuint(w.guest[0].need, ==, 2900 * MIB + HIDDEN);
	g_assert_cmpuint(in_use(&w), ==, w.guest[0].target);
	world_done(&w);
}

static void test_what_the_balloon_keeps(void)
{
	static const struct {
		uint64_t base, plugged, target, idle, keeps;
	} rows[] = {
		{ GIB, 0, GIB, 0, GIB },
		{ GIB, 0, 700 * MIB, 0, 700 * MIB },
		{ GIB, 2 * GIB, 1124 * MIB, 2 * GIB, 3 * GIB },
		{ GIB, 2 * GIB, 1124 * MIB, GIB, 2148 * MIB },
		{ GIB, 2 * GIB, 1124 * MIB, 0, 1124 * MIB },
		{ GIB, 2 * GIB, 8 * GIB, 2 * GIB, 3 * GIB },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
		struct balance_guest g = { .base = rows[i].base,
					   .plugged = rows[i].plugged,
					   .target = rows[i].target,
					   .state.idle = rows[i].idle };

		g_assert_cmpuint(balance_keeps(&g), ==, rows[i].keeps);
	}
}

/* ---- many guests, no room ---- */

static void test_those_with_most_to_spare_give_and_weight_divides(void)
{
	struct world w;

	world_init(&w, 3584 * MIB);
	add(&w, "rich", 256, 2048, 2048, 200);
	add(&w, "light", 256, 768, 2048, 500);
	add(&w, "heavy", 256, 768, 2048, 500);
	w.guest[2].weight = 300;
	turns(&w, 1);
	w.real[1].uses = w.real[2].uses = 1400 * MIB;
	turns(&w, 1);
	said(&w, "0 rich begun 0 -> 2048\n"
		 "0 light begun 0 -> 768\n"
		 "0 heavy begun 0 -> 768\n"
		 "1 rich gave 2048 -> 1536\n"
		 "1 light waits 768 -> 768\n"
		 "1 heavy waits 768 -> 768\n");
	turns(&w, 1);
	said(&w, "2 light shared 768 -> 896\n"
		 "2 heavy grew 768 -> 1152\n");
	turns(&w, 30);
	g_assert_cmpuint(w.guest[0].target, <, 400 * MIB);
	g_assert_cmpuint(w.guest[1].target + w.guest[2].target, >, 2500 * MIB);
	g_assert_cmpuint(w.guest[2].target, >, w.guest[1].target);
	world_done(&w);
}

/* It does not have to wait until another one has given. */
static void test_a_host_has_memory_at_hand_for_one_that_rises(void)
{
	struct world w;

	world_init(&w, 2048 * MIB);
	add(&w, "idle", 256, 1600, 2048, 300);
	add(&w, "rises", 256, 448, 2048, 340);
	turns(&w, 6);
	said(&w, "0 idle begun 0 -> 1600\n"
		 "0 rises begun 0 -> 448\n"
		 "1 idle gave 1600 -> 1500\n");
	w.real[1].uses += 40 * MIB;
	turns(&w, 3);
	said(&w, "6 idle gave 1500 -> 1408\n"
		 "6 rises grew 448 -> 548\n");
	world_done(&w);
}

static void test_who_is_in_need_does_not_wait_until_another_was_calm(void)
{
	struct world w;
	unsigned rounds = 0;

	world_init(&w, 1536 * MIB);
	add(&w, "after", 256, 1152, 2048, 900);
	add(&w, "before", 256, 384, 2048, 200);
	turns(&w, 20);
	g_assert_cmpuint(w.guest[0].target, ==, 1152 * MIB);
	w.real[0].uses = 200 * MIB; /* its peak is over, and the other one's begins */
	for (; w.guest[1].target < 900 * MIB && rounds < 100; rounds++) {
		w.real[1].uses = real_size(&w.real[1]) - HIDDEN - 8 * MIB;
		turn(&w);
	}
	g_assert_cmpuint(rounds, <=, 8);
	g_assert_cmpuint(w.guest[0].target, >=, (200 * MIB + HIDDEN) * 12 / 10 - MIB);
	world_done(&w);
}

/* With its buffer alone it would be without memory between two rounds. */
static void test_one_that_rises_gets_what_it_will_need(void)
{
	struct world w;

	world_init(&w, 16 * GIB);
	add(&w, "rises", 256, 1024, 8192, 800);
	turns(&w, 5);
	for (unsigned i = 0; i < 10; i++) {
		w.real[0].uses += 60 * MIB;
		turn(&w);
	}
	for (unsigned i = 0; i < 5; i++) {
		w.real[0].uses += 400 * MIB;
		turn(&w);
		/* One step is no rise; from the second on the next is there before it is needed. */
		if (i > 1)
			g_assert_cmpuint(real_size(&w.real[0]) - HIDDEN, >=,
					 w.real[0].uses + 400 * MIB + (w.real[0].uses + HIDDEN) / 5);
	}
	turns(&w, 60);
	g_assert_cmpuint(w.guest[0].target, <, (w.real[0].uses + HIDDEN) * 13 / 10);
	world_done(&w);
}

/* Its balloon lets go at once, so that it is not a round behind each time that it was given something. */
static void test_one_that_grows_out_of_its_balloon_is_seen_each_round(void)
{
	struct world w;

	world_init(&w, 16 * GIB);
	add(&w, "rises", 256, 4096, 4096, 300);
	turns(&w, 60);
	g_assert_cmpuint(w.real[0].ballooned, >, 3 * GIB);
	g_string_truncate(w.log, 0);
	for (unsigned i = 0; i < 5; i++) {
		w.real[0].uses += 60 * MIB;
		turn(&w);
		g_assert_cmpuint(w.guest[0].need, ==, w.real[0].uses + HIDDEN);
	}
	said(&w, "60 rises grew 400 -> 600\n"
		 "61 rises grew 600 -> 664\n"
		 "62 rises grew 664 -> 736\n"
		 "63 rises grew 736 -> 808\n"
		 "64 rises grew 808 -> 880\n");
	world_done(&w);
}

/* It uses 800 MiB, then 200 more each round. */
static struct real *add_one_that_rises(struct world *w, uint64_t capacity)
{
	struct real *r;

	world_init(w, capacity);
	r = add(w, "rises", 256, 2048, 8192, 800);
	turns(w, 5);
	for (unsigned i = 0; i < 3; i++) {
		r->uses += 200 * MIB;
		turn(w);
	}
	g_string_truncate(w->log, 0);
	return r;
}

static void test_what_is_ahead_of_a_need_is_not_missed(void)
{
	struct world w;
	const struct balance_guest *g = &w.guest[0];
	const uint64_t capacity = 2100 * MIB;
	struct real *r = add_one_that_rises(&w, capacity);

	/* Its need with its buffer fits, what it will need later does not. */
	for (uint64_t more = 200 * MIB; more >= 100 * MIB; more -= 100 * MIB) {
		r->uses += more;
		turn(&w);
		g_assert_cmpuint(g->wanted, >, capacity + 100 * MIB);
		g_assert_cmpuint(g->floor, <, capacity);
		g_assert_cmpuint(w.r.host.missing, ==, 0);
	}
	said(&w, "8 rises waits 2100 -> 2100\n"
		 "9 rises waits 2100 -> 2100\n");
	turns(&w, 3);
	said(&w, "");
	/* What it needs now is missed. */
	r->uses += 200 * MIB;
	turns(&w, BALANCE_ROUNDS_SHORT);
	g_assert_true(w.r.host.is_short);
	g_assert_cmpuint(g->floor, >, capacity + 200 * MIB);
	g_assert_cmpuint(w.r.host.missing, ==, g->floor - capacity);
	world_done(&w);
}

static void test_what_is_ahead_of_a_need_is_no_claim(void)
{
	struct world w;
	const struct balance_guest *g = &w.guest[0];
	struct real *r = add_one_that_rises(&w, 16 * GIB);

	for (unsigned i = 0; i < 5; i++) {
		uint64_t with_buffer;

		r->uses += 200 * MIB;
		with_buffer = (r->uses + HIDDEN) * 12 / 10;
		turn(&w);
		g_assert_cmpuint(g->target, >=, with_buffer + 390 * MIB);
		g_assert_cmpuint(balance_claim(g), >=, with_buffer - MIB);
		g_assert_cmpuint(balance_claim(g), <=, with_buffer + RANGE_BLOCK);
	}
	/* Of one that has stopped to report nothing is sure to be had back. */
	r->frozen_at = w.r.now;
	turns(&w, BALANCE_ROUNDS_STALE + 2);
	g_assert_cmpint(g->verdict, ==, BALANCE_STALE);
	g_assert_cmpuint(balance_claim(g), ==, g->target);
	world_done(&w);
}

static void test_what_is_ahead_ends_with_the_rise(void)
{
	struct world w;
	const struct balance_guest *g = &w.guest[0];
	struct real *r = add_one_that_rises(&w, 16 * GIB);
	uint64_t most;

	for (unsigned i = 0; i < 5; i++) {
		r->uses += 200 * MIB;
		turn(&w);
	}
	most = g->target;
	g_assert_cmpuint(most, >=, g->floor + 390 * MIB);
	g_string_truncate(w.log, 0);
	/* It asks for nothing more, and somebody who needs it has it after three rounds. */
	turns(&w, BALANCE_ROUNDS_TIGHT);
	said(&w, "");
	g_assert_cmpuint(g->wanted, ==, most);
	add(&w, "needs", 256, 512, 8192, 1500);
	w.r.host.capacity = most + 512 * MIB;
	turns(&w, 6);
	g_assert_cmpuint(g->target, ==, g->floor);
	g_assert_cmpuint(w.guest[1].target, >, 800 * MIB);
	world_done(&w);
}

static void test_a_shortage_is_told_with_the_cheapest_to_move(void)
{
	struct world w;

	world_init(&w, 2 * GIB);
	add(&w, "large", 256, 1024, 4096, 980);
	add(&w, "small", 256, 400, 4096, 300);
	add(&w, "mid", 256, 600, 4096, 450);
	turns(&w, 6);
	g_assert_true(w.r.host.is_short);
	g_assert_cmpuint(w.r.host.missing, >, 0);
	g_assert_cmpstr(w.guest[w.r.host.cheapest].name, ==, "small");
	w.real[0].uses = 200 * MIB;
	turns(&w, 60);
	g_assert_false(w.r.host.is_short);
	world_done(&w);
}

static void test_a_host_that_swaps_has_memory_back(void)
{
	static const struct balance_host trouble[] = {
		{ .capacity = 8 * GIB, .reserve = 256 * MIB, .swaps = true },
		{ .capacity = 8 * GIB, .reserve = 256 * MIB, .psi = BALANCE_PSI },
		{ .capacity = 8 * GIB, .reserve = 256 * MIB, .available = 100 * MIB },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(trouble); i++) {
		struct world w;
		struct real *r;

		world_init(&w, 8 * GIB);
		r = add(&w, "guest", 256, 2048, 2048, 600);
		r->caches = 1300 * MIB;
		turns(&w, 3);
		w.r.host = trouble[i];
		turns(&w, 2);
		g_assert_cmpuint(w.guest[0].target, <, 2048 * MIB);
		turns(&w, 60);
		g_assert_cmpuint(w.guest[0].target, >=, (600 * MIB + HIDDEN) * 12 / 10 - MIB);
		world_done(&w);
	}
}

/* ---- whatever happens ---- */

static uint64_t rest_of(struct world *w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->r.n; i++)
		sum += MAX(real_size(&w->real[i]), w->guest[i].target);
	return sum;
}

static void random_world(struct world *w, GRand *rand)
{
	world_init(w, (uint64_t)g_rand_int_range(rand, 1000, 8000) * MIB);
	for (size_t i = 0; i < GUESTS_MAX; i++) {
		uint64_t min = (uint64_t)g_rand_int_range(rand, 64, 256) * 2,
			 start = min + (uint64_t)g_rand_int_range(rand, 0, 400) * 2,
			 max = start + (uint64_t)g_rand_int_range(rand, 0, 1000) * 2;
		struct real *r = add(w, "guest", min, start, max, 0);

		w->guest[i].weight = (unsigned)g_rand_int_range(rand, 1, 1000);
		r->most = (uint64_t)g_rand_int_range(rand, 0, 100) * MIB;
		r->deaf = g_rand_int_range(rand, 0, 10) == 0;
		r->counts_no_balloon = g_rand_boolean(rand);
	}
}

static void change_something(struct world *w, GRand *rand)
{
	struct real *r = &w->real[g_rand_int_range(rand, 0, GUESTS_MAX)];
	uint64_t size = real_size(r);

	switch (g_rand_int_range(rand, 0, 4)) {
	case 0:
		/* No guest can use more than it has. */
		r->uses = (uint64_t)(g_rand_double(rand) * (double)less(size, HIDDEN));
		break;
	case 1:
		r->caches = (uint64_t)g_rand_int_range(rand, 0, 500) * MIB;
		break;
	case 2:
		r->pages_in = g_rand_boolean(rand) ? 0 : 10 * MIB;
		break;
	default:
		w->r.host.available = (uint64_t)g_rand_int_range(rand, 0, 2000) * MIB;
		break;
	}
}

static void check(const struct world *w, uint64_t held)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->r.n; i++) {
		const struct balance_guest *g = &w->guest[i];

		g_assert_cmpuint(g->target, >=, g->min);
		g_assert_cmpuint(g->target, <=, g->max);
		/* Nobody is asked to go below what it uses and its buffer. */
		if (g->target < g->from)
			g_assert_cmpuint(g->target, >=, MIN(g->need + g->need / 100 * g->buffer, g->max));
		sum += g->target;
	}
	g_assert_cmpuint(sum, <=, MAX(w->r.host.capacity, held));
}

static void test_no_guest_is_squeezed_and_no_host_is_promised_twice(void)
{
	for (unsigned seed = 1; seed <= 60; seed++) {
		GRand *rand = g_rand_new_with_seed(seed);
		struct world w;

		random_world(&w, rand);
		turn(&w);
		for (unsigned i = 0; i < 300; i++) {
			uint64_t held = rest_of(&w);

			change_something(&w, rand);
			turn(&w);
			check(&w, held);
		}
		world_done(&w);
		g_rand_free(rand);
	}
}

static void test_at_rest_nothing_is_asked_of_anybody(void)
{
	for (unsigned seed = 1; seed <= 40; seed++) {
		GRand *rand = g_rand_new_with_seed(seed);
		struct world w;

		random_world(&w, rand);
		for (size_t i = 0; i < w.r.n; i++)
			w.real[i].uses = w.guest[i].start / 3, w.real[i].deaf = false;
		turns(&w, 400);
		g_string_truncate(w.log, 0);
		turns(&w, 50);
		for (size_t i = 0; i < w.r.n; i++)
			g_assert_cmpuint(w.guest[i].from, ==, w.guest[i].target);
		world_done(&w);
		g_rand_free(rand);
	}
}

static void test_each_verdict_has_a_sentence(void)
{
	struct balance_guest g = { .name = "g", .max = GIB };

	for (BalanceVerdict v = 0; v < _BALANCE_VERDICT_MAX; v++) {
		g_autofree char *reason = NULL;
		_cleanup_json_ Json *j = NULL;

		g.verdict = v;
		reason = balance_reason(&g);
		j = balance_decision_to_json(&g);
		g_assert_cmpuint(strlen(reason), >, 20);
		g_assert_cmpstr(json_str(j, "verdict"), ==, balance_verdict_name(v));
		g_assert_true(json_is_null(json_object_get(j, "report")));
	}
}

/* ---- settings ---- */

static const struct {
	const char *settings;
	uint64_t min, start, max; /* MiB; max 0: refused */
	const char *advice;
} ranges[] = {
	{ "{}", 512, 512, 512, NULL },
	{ "{\"memory.max\":2147483648}", 256, 512, 2048, NULL },
	{ "{\"memory.start\":134217728,\"memory.max\":2147483648}", 128, 128, 2048, NULL },
	{ "{\"memory.min\":268435456}", 256, 512, 512, NULL },
	{ "{\"memory.min\":268435456,\"memory.start\":1073741824,\"memory.max\":2147483648}", 256, 1024, 2048,
	  NULL },
	{ "{\"memory.min\":1073741824}", 0, 0, 0, "memory.min to 512 MiB or less, or memory.start to 1 GiB" },
	{ "{\"memory.max\":268435456}", 0, 0, 0,
	  "memory.start to 256 MiB or less, or memory.max to 512 MiB" },
	{ "{\"memory.min\":2147483648,\"memory.start\":1073741824,\"memory.max\":536870912}", 0, 0, 0,
	  "memory.min" },
	{ "{\"memory.max\":2147483648,\"platform.balloon\":false}", 0, 0, 0, "platform.balloon=true" },
	{ "{\"platform.balloon\":false}", 512, 512, 512, NULL },
};

static void test_ranges_are_in_order_or_refused_with_what_to_set(void)
{
	for (size_t i = 0; i < G_N_ELEMENTS(ranges); i++) {
		_cleanup_json_ Json *own = json_parse(ranges[i].settings, strlen(ranges[i].settings), NULL);
		g_autoptr(GError) err = NULL;
		struct memory_range r;

		if (ranges[i].max == 0) {
			g_assert_false(memory_range_of(own, &r, &err));
			g_assert_error(err, ERR, ERR_INVALID);
			g_assert_nonnull(strstr(err_advice(err), ranges[i].advice));
			continue;
		}
		g_assert_true(memory_range_of(own, &r, &err));
		g_assert_cmpuint(r.min, ==, ranges[i].min * MIB);
		g_assert_cmpuint(r.start, ==, ranges[i].start * MIB);
		g_assert_cmpuint(r.max, ==, ranges[i].max * MIB);
		g_assert_true(memory_range_moves(&r) == (r.min < r.max));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/balance/grow_shrink", test_a_guest_grows_at_once_and_shrinks_when_it_was_calm);
	g_test_add_func("/balance/caches", test_disk_caches_stay_while_the_host_has_room);
	g_test_add_func("/balance/swap", test_one_that_swaps_grows_beyond_its_buffer);
	g_test_add_func("/balance/roomy", test_one_that_swaps_with_much_available_gets_no_more);
	g_test_add_func("/balance/took", test_one_that_takes_memory_back_gets_more);
	g_test_add_func("/balance/silent", test_who_reports_nothing_keeps_what_it_has);
	g_test_add_func("/balance/stale", test_who_stops_to_report_keeps_what_it_has);
	g_test_add_func("/balance/liar",
			test_who_reports_what_cannot_be_keeps_what_it_has_and_is_told_of_once);
	g_test_add_func("/balance/deaf", test_who_ignores_its_balloon_is_noticed_and_left_alone);
	g_test_add_func("/balance/offline", test_who_does_not_take_what_is_plugged_gets_no_more);
	g_test_add_func("/balance/drivers",
			test_balloons_count_right_in_drivers_that_take_them_off_the_total);
	g_test_add_func("/balance/dimm/keeps", test_what_the_balloon_keeps);
	g_test_add_func("/balance/dimm/idle",
			test_a_dimm_that_lies_idle_is_not_taken_out_of_what_the_guest_uses);
	g_test_add_func("/balance/dimm/rest", test_the_balloon_takes_the_rest_of_a_dimm_once_it_is_in_use);
	g_test_add_func("/balance/dimm/taken_over",
			test_a_dimm_that_lies_idle_is_no_need_of_a_guest_that_was_taken_over);
	g_test_add_func("/balance/weight", test_those_with_most_to_spare_give_and_weight_divides);
	g_test_add_func("/balance/at_hand", test_a_host_has_memory_at_hand_for_one_that_rises);
	g_test_add_func("/balance/each_round", test_one_that_grows_out_of_its_balloon_is_seen_each_round);
	g_test_add_func("/balance/rises", test_one_that_rises_gets_what_it_will_need);
	g_test_add_func("/balance/ahead/missing", test_what_is_ahead_of_a_need_is_not_missed);
	g_test_add_func("/balance/ahead/claim", test_what_is_ahead_of_a_need_is_no_claim);
	g_test_add_func("/balance/ahead/ends", test_what_is_ahead_ends_with_the_rise);
	g_test_add_func("/balance/waits", test_who_is_in_need_does_not_wait_until_another_was_calm);
	g_test_add_func("/balance/short", test_a_shortage_is_told_with_the_cheapest_to_move);
	g_test_add_func("/balance/host", test_a_host_that_swaps_has_memory_back);
	g_test_add_func("/balance/never", test_no_guest_is_squeezed_and_no_host_is_promised_twice);
	g_test_add_func("/balance/rest", test_at_rest_nothing_is_asked_of_anybody);
	g_test_add_func("/balance/sentences", test_each_verdict_has_a_sentence);
	g_test_add_func("/balance/range", test_ranges_are_in_order_or_refused_with_what_to_set);
	return g_test_run();
}
