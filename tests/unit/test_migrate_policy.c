/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The migration policy on simulated guests: a guest of some size writes into
 * part of its memory at some rate, a link sends at another. What was decided,
 * and how it ended, is compared with an expected log.
 */
#include "core/migrate/policy.h"

#include <inttypes.h>
#include <string.h>

#define MIB (UINT64_C(1) << 20)
#define SECOND UINT64_C(1000000)
/* Samples taken in one round. */
#define SAMPLES 4
#define ROUNDS_MAX 10000
#define LAZY_POINT (SECOND * 4 / 10)

struct world {
	uint64_t memory, working_set, writes, link; /* bytes, bytes a second */
	uint64_t dead_after;                        /* us; 0: the link lives */
	bool lazy; /* QEMU slows the vcpus by a point in 400 ms, not at once */
};

struct run {
	const struct world *w;
	const struct migrate_settings *s;
	struct migrate_memory m;
	struct migrate_sample x;
	unsigned throttle; /* allowed */
	uint64_t late;     /* us towards its next point */
	bool moved;        /* the guest itself */
	GString *log;
	GError *error;
};

static void take(struct run *r, const struct migrate_decision *d)
{
	switch (d->action) {
	case MIGRATE_WAIT:
		return;
	case MIGRATE_LIMIT:
		g_string_append_printf(r->log, "round %" PRIu64 ": limit %" PRIu64 " ms\n", r->x.rounds,
				       d->value / 1000);
		return;
	case MIGRATE_THROTTLE:
		r->throttle = (unsigned)d->value;
		g_string_append_printf(r->log, "round %" PRIu64 ": throttle %u\n", r->x.rounds, r->throttle);
		return;
	case MIGRATE_POST_COPY:
		r->moved = true;
		g_string_append_printf(r->log, "round %" PRIu64 ": post-copy\n", r->x.rounds);
		return;
	case MIGRATE_GIVE_UP:
		g_string_append_printf(r->log, "round %" PRIu64 ": gives up: %s\n", r->x.rounds,
				       err_name(err_code(r->error)));
		return;
	}
}

static void slow_down(struct run *r, uint64_t us)
{
	uint64_t points = (r->late + us) / LAZY_POINT;

	r->late = r->w->lazy ? (r->late + us) % LAZY_POINT : 0;
	r->x.throttle =
	    r->w->lazy ? MIN(r->throttle, r->x.throttle + (unsigned)MIN(points, 100)) : r->throttle;
}

/* One sample, `us` after the last one, with `bytes` sent meanwhile. False when it was given up. */
static bool sample(struct run *r, uint64_t us, uint64_t bytes)
{
	struct migrate_decision d;
	unsigned before = r->m.done;
	bool ok;

	if (r->w->dead_after != 0 && r->x.at + us > r->w->dead_after)
		bytes = 0;
	r->x.at += us;
	slow_down(r, us);
	r->x.transferred += bytes;
	r->x.remaining -= MIN(bytes, r->x.remaining);
	ok = migrate_decide(r->s, &r->m, &r->x, &d, &r->error);
	g_assert_true(ok == (d.action != MIGRATE_GIVE_UP));
	g_assert_true(ok == (r->error == NULL));
	g_assert_cmpuint(d.percent, >=, before);
	g_assert_cmpuint(d.percent, <=, 100);
	take(r, &d);
	return ok;
}

static uint64_t writes_now(const struct run *r)
{
	return r->w->writes * (100 - r->x.throttle) / 100;
}

/* True while it goes on. */
static bool one_round(struct run *r)
{
	uint64_t rest = r->x.remaining, us = rest * SECOND / r->w->link;

	for (int i = 0; i < SAMPLES; i++)
		if (!sample(r, us / SAMPLES, rest / SAMPLES) || r->moved)
			return false;
	r->x.rounds++;
	r->x.dirty_rate = writes_now(r);
	r->x.remaining = MIN(writes_now(r) * us / SECOND, r->w->working_set);
	if (r->x.remaining * SECOND / r->w->link <= r->m.limit) {
		g_string_append_printf(r->log, "round %" PRIu64 ": through\n", r->x.rounds);
		return false;
	}
	return true;
}

static struct run simulate(const struct world *w, const struct migrate_settings *s)
{
	struct run r = { .w = w, .s = s, .log = g_string_new(NULL) };

	r.x = (struct migrate_sample){
		.total = w->memory, .remaining = w->memory, .rounds = 1, .rate = w->link
	};
	for (int i = 0; i < ROUNDS_MAX && one_round(&r); i++) {
	}
	return r;
}

static void run_done(struct run *r)
{
	g_string_free(r->log, TRUE);
	g_clear_error(&r->error);
}

#define LIMITS                                                                                               \
	"round 3: limit 75 ms\nround 4: limit 112 ms\nround 5: limit 150 ms\nround 6: limit 187 ms\n"        \
	"round 7: limit 225 ms\nround 8: limit 262 ms\nround 9: limit 300 ms\n"
#define THROTTLES                                                                                            \
	"round 12: throttle 20\nround 15: throttle 40\nround 18: throttle 60\nround 21: throttle 80\n"

static const struct {
	const char *what;
	struct world w;
	bool converge, post_copy;
	uint64_t timeout;
	const char *log;
} cases[] = {
	{ "an idle guest goes through in the second round",
	  { 512 * MIB, 64 * MIB, 0, 1000 * MIB, 0, false },
	  true,
	  false,
	  0,
	  "round 2: through\n" },
	{ "a guest that writes slowly is held shortly",
	  { 512 * MIB, 64 * MIB, 50 * MIB, 1000 * MIB, 0, false },
	  true,
	  false,
	  0,
	  "round 2: through\n" },
	{ "more downtime is allowed round by round",
	  { 512 * MIB, 100 * MIB, 2000 * MIB, 1000 * MIB, 0, false },
	  true,
	  false,
	  0,
	  "round 3: limit 75 ms\nround 4: limit 112 ms\nround 5: through\n" },
	{ "then the vcpus are slowed, step by step",
	  { 4096 * MIB, 900 * MIB, 1200 * MIB, 1000 * MIB, 0, false },
	  true,
	  false,
	  0,
	  LIMITS "round 12: throttle 20\nround 39: through\n" },
	{ "short rounds wait for QEMU, which slows the vcpus by the second",
	  { 64 * MIB, 40 * MIB, 124 * MIB, 100 * MIB, 0, true },
	  true,
	  false,
	  0,
	  LIMITS "round 12: throttle 20\nround 34: throttle 40\nround 40: through\n" },
	{ "what writes too fast at every speed is given up",
	  { 4096 * MIB, 4096 * MIB, 9000 * MIB, 1000 * MIB, 0, false },
	  true,
	  false,
	  0,
	  LIMITS THROTTLES "round 41: gives up: busy\n" },
	{ "without auto-converge the vcpus are left alone",
	  { 4096 * MIB, 900 * MIB, 1200 * MIB, 1000 * MIB, 0, false },
	  false,
	  false,
	  0,
	  LIMITS "round 29: gives up: busy\n" },
	{ "post-copy is the last means, when it is allowed",
	  { 4096 * MIB, 4096 * MIB, 9000 * MIB, 1000 * MIB, 0, false },
	  true,
	  true,
	  0,
	  LIMITS THROTTLES "round 24: post-copy\n" },
	{ "post-copy comes at once where nothing else is allowed",
	  { 4096 * MIB, 4096 * MIB, 9000 * MIB, 1000 * MIB, 0, false },
	  false,
	  true,
	  0,
	  LIMITS "round 12: post-copy\n" },
	{ "a dead link is noticed",
	  { 65536 * MIB, 64 * MIB, 0, 100 * MIB, 200 * SECOND, false },
	  true,
	  false,
	  0,
	  "round 1: gives up: unavailable\n" },
	{ "time that was given is kept",
	  { 65536 * MIB, 64 * MIB, 0, 100 * MIB, 0, false },
	  true,
	  false,
	  300 * SECOND,
	  "round 1: gives up: timeout\n" },
};

static void test_decisions(gconstpointer data)
{
	size_t i = GPOINTER_TO_SIZE(data);
	struct migrate_settings s;
	struct run r;

	migrate_settings_init(&s);
	s.auto_converge = cases[i].converge;
	s.post_copy = cases[i].post_copy;
	s.timeout = cases[i].timeout;
	r = simulate(&cases[i].w, &s);
	g_assert_cmpstr(r.log->str, ==, cases[i].log);
	run_done(&r);
}

/* Whatever the guest and the link: it ends, and never allows more than was set. */
static void test_every_migration_ends_within_its_bounds(void)
{
	g_autoptr(GRand) rand = g_rand_new_with_seed(20261121);

	for (int i = 0; i < 2000; i++) {
		uint64_t memory = (uint64_t)g_rand_int_range(rand, 16, 65536) * MIB;
		struct world w = {
			.memory = memory,
			.working_set = (uint64_t)g_rand_double_range(rand, 0, (double)memory),
			.writes = (uint64_t)g_rand_int_range(rand, 0, 8000) * MIB,
			.link = (uint64_t)g_rand_int_range(rand, 1, 4000) * MIB,
		};
		struct migrate_settings s;
		struct run r;

		migrate_settings_init(&s);
		s.downtime = (uint64_t)g_rand_int_range(rand, 1000, 2000000);
		s.auto_converge = g_rand_boolean(rand);
		s.post_copy = g_rand_boolean(rand);
		r = simulate(&w, &s);
		g_assert_cmpuint(r.m.limit, <=, MAX(s.downtime, 1000));
		g_assert_cmpuint(r.m.percent, <=, s.auto_converge ? MIGRATE_THROTTLE_MAX : 0);
		g_assert_cmpuint(r.x.rounds, <, ROUNDS_MAX);
		g_assert_true(r.error == NULL || !s.post_copy);
		run_done(&r);
	}
}

static void test_the_estimate_follows_the_rates(void)
{
	struct migrate_settings s;
	struct migrate_memory m = { 0 };
	struct migrate_sample x = { .at = 1,
				    .total = 100 * MIB,
				    .remaining = 50 * MIB,
				    .transferred = 50 * MIB,
				    .rounds = 1,
				    .rate = 20 * MIB,
				    .dirty_rate = 10 * MIB };
	struct migrate_decision d;

	migrate_settings_init(&s);
	g_assert_true(migrate_decide(&s, &m, &x, &d, NULL));
	g_assert_cmpuint(d.left, ==, 5 * SECOND);
	g_assert_cmpuint(d.percent, ==, 45);
	x.dirty_rate = 20 * MIB; /* as fast as the link: nobody knows */
	g_assert_true(migrate_decide(&s, &m, &x, &d, NULL));
	g_assert_cmpuint(d.left, ==, 0);
}

static void test_settings_out_of_range_are_refused(void)
{
	static const char *const bad[] = {
		"{\"bandwidth\": 1}", "{\"bandwidth\": -5}",          "{\"bandwidth\": \"fast\"}",
		"{\"downtime\": 0}",  "{\"downtime\": 2000000001}",   "{\"timeout\": 5}",
		"{\"post_copy\": 1}", "{\"auto_converge\": \"yes\"}", "{\"disks\": 1}",
	};
	struct migrate_settings s = { .bandwidth = 77 };

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		_cleanup_json_ Json *j = json_parse(bad[i], strlen(bad[i]), NULL);
		g_autoptr(GError) err = NULL;

		g_assert_nonnull(j);
		g_assert_false(migrate_settings_of_json(j, &s, &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_cmpuint(s.bandwidth, ==, 77); /* untouched */
	}
}

static void test_settings_survive_json(void)
{
	struct migrate_settings s, back;
	_cleanup_json_ Json *j = NULL;

	migrate_settings_init(&s);
	s.bandwidth = 5 * MIB;
	s.downtime = 40000;
	s.post_copy = true;
	s.disks = true;
	s.auto_converge = false;
	s.timeout = 7 * SECOND;
	j = migrate_settings_to_json(&s);
	g_assert_true(migrate_settings_of_json(j, &back, NULL));
	g_assert_cmpuint(back.bandwidth, ==, s.bandwidth);
	g_assert_cmpuint(back.downtime, ==, s.downtime);
	g_assert_cmpuint(back.timeout, ==, s.timeout);
	g_assert_true(back.post_copy && back.disks && !back.auto_converge);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
		g_autofree char *path = g_strdup_printf("/migrate/policy/%s", cases[i].what);

		g_test_add_data_func(path, GSIZE_TO_POINTER(i), test_decisions);
	}
	g_test_add_func("/migrate/policy/every_migration_ends_within_its_bounds",
			test_every_migration_ends_within_its_bounds);
	g_test_add_func("/migrate/policy/the_estimate_follows_the_rates",
			test_the_estimate_follows_the_rates);
	g_test_add_func("/migrate/policy/settings_out_of_range_are_refused",
			test_settings_out_of_range_are_refused);
	g_test_add_func("/migrate/policy/settings_survive_json", test_settings_survive_json);
	return g_test_run();
}
