/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dynamic memory of guests that rise, with the time that everything takes: a guest tells once a second what
 * it uses, the daemon looks some time later, and its balloon takes a while to let go.
 */
#include "memory_world.h"

#define STEP (SECOND / 10)
#define LOOKS SECOND
#define REPORTS SECOND
#define LETS_GO (2 * STEP) /* it begins to, after it was asked */

struct timed {
	struct world w;
	struct balance_report told;
	uint64_t told_at; /* within each second */
	uint64_t asked_at;
	uint64_t speed; /* of its balloon, in a step; 0: all at once */
};

/* It can have 736 MiB, uses 246, and has what it needs for that. */
static void timed_init(struct timed *t, uint64_t told_at)
{
	*t = (struct timed){ .told_at = told_at };
	world_init(&t->w, 8 * GIB);
	t->w.r.period = LOOKS;
	add(&t->w, "rises", 256, 736, 736, 246);
	t->w.guest[0].buffer = 25;
}

static void tell(struct timed *t)
{
	/* QEMU has whole seconds. */
	t->told = report_of(&t->w.real[0], t->w.r.now / SECOND * SECOND);
}

static void look(struct timed *t)
{
	struct world *w = &t->w;

	w->guest[0].report = t->told;
	w->guest[0].plugged = w->real[0].plugged;
	w->guest[0].ballooned = w->real[0].ballooned;
	balance_round(&w->r);
	log_round(w);
	if (w->guest[0].target != w->guest[0].from)
		t->asked_at = w->r.now;
	ask(w, 0);
	w->round++;
}

static void move_balloon(struct timed *t)
{
	struct real *r = &t->w.real[0];
	uint64_t most = t->speed != 0 ? t->speed : UINT64_MAX;

	if (r->balloon < r->ballooned)
		r->ballooned -= MIN(r->ballooned - r->balloon, most);
	else
		r->ballooned += MIN(r->balloon - r->ballooned, most);
}

static void pass(struct timed *t)
{
	uint64_t now = t->w.r.now;

	if (now % REPORTS == t->told_at)
		tell(t);
	if (now % LOOKS == 0)
		look(t);
	if (now >= t->asked_at + LETS_GO)
		move_balloon(t);
	t->w.r.now += STEP;
}

static int64_t at_hand(const struct timed *t)
{
	const struct real *r = &t->w.real[0];

	return (int64_t)real_size(r) - (int64_t)(HIDDEN + r->uses);
}

/* Its use rises by so much, each so often, to 600 MiB; what it had at hand at the worst. */
static int64_t rise(struct timed *t, uint64_t piece, uint64_t each)
{
	int64_t least = INT64_MAX;
	uint64_t since = 0;

	for (; t->w.real[0].uses < 600 * MIB; since += STEP) {
		if (since % each == 0)
			t->w.real[0].uses += piece;
		least = MIN(least, at_hand(t));
		pass(t);
	}
	return least;
}

static void rest(struct timed *t, unsigned seconds)
{
	for (unsigned i = 0; i < seconds * SECOND / STEP; i++)
		pass(t);
}

static void test_one_that_rises_in_pieces_always_has_some_at_hand(void)
{
	static const struct {
		uint64_t piece, each;
	} rises[] = {
		{ 2 * MIB, STEP },        { 10 * MIB, SECOND / 2 }, { 20 * MIB, SECOND },
		{ 40 * MIB, 2 * SECOND }, { 60 * MIB, 4 * SECOND },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(rises); i++)
		for (uint64_t told_at = 0; told_at < REPORTS; told_at += STEP) {
			struct timed t;
			int64_t least;

			timed_init(&t, told_at);
			rest(&t, 60);
			g_assert_cmpuint(t.w.guest[0].target, <, 360 * MIB);
			least = rise(&t, rises[i].piece, rises[i].each);
			g_test_message("%" PRIu64 " MiB, told at %" PRIu64 ": %" PRId64 " KiB at hand",
				       rises[i].piece / MIB, told_at, least / 1024);
			g_assert_cmpint(least, >, 0);
			world_done(&t.w);
		}
}

static void test_what_one_that_rises_in_pieces_gets(void)
{
	struct timed t;

	timed_init(&t, 5 * STEP);
	rest(&t, 60);
	g_string_truncate(t.w.log, 0);
	rise(&t, 40 * MIB, 2 * SECOND);
	rest(&t, 3);
	said(&t.w, "61 rises grew 348 -> 478\n"
		   "63 rises grew 478 -> 528\n"
		   "65 rises grew 528 -> 578\n"
		   "67 rises grew 578 -> 628\n"
		   "69 rises grew 628 -> 678\n"
		   "71 rises grew 678 -> 728\n");
	world_done(&t.w);
}

/* A burst is followed by nothing: what it got for more of them is not kept for it. */
static void test_what_was_for_another_burst_goes_back(void)
{
	struct timed t;

	timed_init(&t, 5 * STEP);
	rest(&t, 60);
	g_string_truncate(t.w.log, 0);
	t.w.real[0].uses += 40 * MIB;
	rest(&t, 40);
	said(&t.w, "61 rises grew 348 -> 478\n"
		   "71 rises shrank 478 -> 420\n");
	world_done(&t.w);
}

/* Its balloon takes a MiB each second, so that every report is of before it moved. */
static void test_one_that_rises_while_its_balloon_takes_is_seen(void)
{
	struct timed t;

	timed_init(&t, 5 * STEP);
	t.speed = MIB / 10;
	rest(&t, 16);
	g_assert_cmpuint(t.w.guest[0].target, <, real_size(&t.w.real[0]));
	g_string_truncate(t.w.log, 0);
	t.w.real[0].uses += 250 * MIB;
	rest(&t, 3);
	said(&t.w, "17 rises grew 644 -> 736\n");
	g_assert_cmpuint(t.w.guest[0].need, >=, (246 + 250) * MIB + HIDDEN - 2 * MIB);
	rest(&t, 30);
	g_assert_cmpuint(t.w.guest[0].need, ==, (246 + 250) * MIB + HIDDEN);
	world_done(&t.w);
}

/* A busy guest lets go of 30 MiB a second, so that its size is another one at each look. */
static void test_one_that_rises_while_its_balloon_lets_go_is_seen(void)
{
	struct timed t;

	timed_init(&t, 5 * STEP);
	rest(&t, 60);
	t.speed = 3 * MIB;
	g_string_truncate(t.w.log, 0);
	g_assert_cmpint(rise(&t, 20 * MIB, SECOND), >, 0);
	said(&t.w, "61 rises grew 348 -> 414\n"
		   "64 rises grew 414 -> 480\n"
		   "67 rises grew 480 -> 554\n"
		   "70 rises grew 554 -> 620\n"
		   "71 rises grew 620 -> 664\n"
		   "74 rises grew 664 -> 720\n");
	world_done(&t.w);
}

/* The host has 140 MiB for more: one lacks 86 MiB of its buffer; both would have 178 and 142 more as they
 * rise. */
static void test_what_is_needed_comes_before_what_will_be(void)
{
	struct world w;

	world_init(&w, (1024 + 768 + 140) * MIB);
	add(&w, "rises", 256, 1024, 4096, 700);
	add(&w, "needs", 256, 768, 4096, 580);
	turns(&w, 3);
	g_string_truncate(w.log, 0);
	w.real[0].uses += 160 * MIB;
	w.real[1].uses += 100 * MIB;
	turn(&w);
	said(&w, "3 rises grew 1024 -> 1050\n"
		 "3 needs grew 768 -> 882\n");
	world_done(&w);
}

/* It was busy before its balloon's driver was there, and the balloon takes 20 MiB a second. */
static void test_one_that_is_busy_when_it_boots_is_not_squeezed(void)
{
	struct timed t;

	timed_init(&t, 5 * STEP);
	t.w.guest[0].start = 256 * MIB;
	t.w.real[0].uses = 400 * MIB;
	t.speed = 2 * MIB;
	for (unsigned i = 0; i < 40 * SECOND / STEP; i++) {
		pass(&t);
		g_assert_cmpint(at_hand(&t), >, 0);
	}
	said(&t.w, "0 rises begun 0 -> 256\n"
		   "1 rises grew 256 -> 512\n");
	world_done(&t.w);
}

/* It could use 1600 MiB until its balloon's driver is there; it was let in with 256. */
static void test_one_that_boots_does_not_keep_others_waiting(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 1700 * MIB);
	add(&w, "rises", 256, 512, 2048, 340);
	turns(&w, 3);
	r = add(&w, "boots", 256, 256, 1600, 60);
	r->base = w.guest[1].base = 1600 * MIB;
	r->no_driver = true;
	g_string_truncate(w.log, 0);
	turn(&w);
	w.real[0].uses += 200 * MIB;
	turns(&w, 2);
	said(&w, "3 boots begun 0 -> 256\n"
		 "4 rises grew 512 -> 768\n");
	/* One that has no driver is counted by what it can use. */
	turns(&w, BALANCE_ROUNDS_DEAF);
	g_assert_true(w.r.host.is_short);
	r->no_driver = false;
	turns(&w, BALANCE_ROUNDS_PARDON + 60);
	g_assert_false(w.r.host.is_short);
	g_assert_cmpuint(w.guest[1].target, ==, 256 * MIB);
	world_done(&w);
}

/* It never tells anything, and moves its balloon by a page now and then. */
static void test_one_that_boots_for_ever_is_counted_by_what_it_can_use(void)
{
	struct world w;
	struct real *r;

	world_init(&w, 1700 * MIB);
	add(&w, "rises", 256, 512, 2048, 340);
	turns(&w, 3);
	r = add(&w, "boots", 256, 256, 1600, 60);
	r->base = w.guest[1].base = 1600 * MIB;
	r->no_driver = true;
	turn(&w);
	w.real[0].uses += 200 * MIB;
	for (unsigned i = 0; i < 2 * BALANCE_ROUNDS_DEAF; i++) {
		r->ballooned = i % 2 == 0 ? 4096 : 0;
		turn(&w);
	}
	g_assert_true(w.r.host.is_short);
	world_done(&w);
}

/* A reset leaves with its QEMU what it used before. */
static void test_one_that_boots_again_is_counted_by_what_it_may_hold(void)
{
	struct world w;

	world_init(&w, 1700 * MIB);
	add(&w, "rises", 256, 512, 2048, 340);
	turns(&w, 3);
	add(&w, "again", 256, 256, 1600, 60)->no_driver = true;
	w.real[1].base = w.guest[1].base = 1600 * MIB;
	w.guest[1].again = true;
	turn(&w);
	w.real[0].uses += 200 * MIB;
	turns(&w, 3);
	g_assert_true(w.r.host.is_short);
	world_done(&w);
}

/* A report of before memory was plugged, seen when it is and the balloon has let go of most. */
static void test_what_was_plugged_meanwhile_was_not_used_before(void)
{
	for (unsigned i = 0; i < 100; i++) {
		struct timed t;
		struct real *r = &t.w.real[0];

		timed_init(&t, i % 10 * STEP);
		r->base = t.w.guest[0].base = 1024 * MIB;
		t.w.guest[0].max = 3 * GIB;
		rest(&t, 90);
		t.speed = (1 + i / 10 % 5 * 3) * MIB;
		while (r->uses < 1500 * MIB) {
			r->uses += (i / 50 == 0 ? 10 : 30) * MIB;
			pass(&t);
			g_assert_cmpuint(t.w.guest[0].need, <=, r->uses + HIDDEN);
		}
		world_done(&t.w);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/balance/rise/pieces", test_one_that_rises_in_pieces_always_has_some_at_hand);
	g_test_add_func("/balance/rise/decisions", test_what_one_that_rises_in_pieces_gets);
	g_test_add_func("/balance/rise/burst", test_what_was_for_another_burst_goes_back);
	g_test_add_func("/balance/rise/while_taken", test_one_that_rises_while_its_balloon_takes_is_seen);
	g_test_add_func("/balance/rise/while_let_go", test_one_that_rises_while_its_balloon_lets_go_is_seen);
	g_test_add_func("/balance/rise/first", test_what_is_needed_comes_before_what_will_be);
	g_test_add_func("/balance/rise/busy_boot", test_one_that_is_busy_when_it_boots_is_not_squeezed);
	g_test_add_func("/balance/rise/boot", test_one_that_boots_does_not_keep_others_waiting);
	g_test_add_func("/balance/rise/boot_for_ever",
			test_one_that_boots_for_ever_is_counted_by_what_it_can_use);
	g_test_add_func("/balance/rise/boot_again", test_one_that_boots_again_is_counted_by_what_it_may_hold);
	g_test_add_func("/balance/rise/plugged", test_what_was_plugged_meanwhile_was_not_used_before);
	return g_test_run();
}
