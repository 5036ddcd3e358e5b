/* SPDX-License-Identifier: Apache-2.0 */
#include "core/migrate/policy.h"
#include "base/str.h"

#include <inttypes.h>

#define SECOND UINT64_C(1000000)
#define LIMIT_STEPS 8
/* Rounds that pass before more downtime is allowed: the first copies everything, the second what it missed.
 */
#define FREE_ROUNDS 2
/* A round counts as shorter when it is so by 1/16. */
#define PROGRESS_SHIFT 4
/* Vain rounds before the next means is used. */
#define MEANS_PATIENCE 3
/* QEMU looks once a second whether to slow down more, and does at every second look, by 10 points. */
#define THROTTLE_TIME (SECOND * 10)
#define DEFAULT_DOWNTIME (SECOND * 3 / 10)
#define DEFAULT_STALL (SECOND * 20)
#define BANDWIDTH_MIN (UINT64_C(64) << 10)
#define DOWNTIME_MIN UINT64_C(1000)
#define TIMEOUT_MAX (UINT64_C(7) * 86400 * SECOND)

void migrate_settings_init(struct migrate_settings *s)
{
	*s = (struct migrate_settings){ .downtime = DEFAULT_DOWNTIME,
					.auto_converge = true,
					.stall = DEFAULT_STALL };
}

static bool take_number(const Json *j, const char *key, uint64_t min, uint64_t max, bool zero, uint64_t *ret,
			GError **err)
{
	const Json *v = json_object_get(j, key);
	json_int_t n;

	if (v == NULL || json_is_null(v))
		return true;
	n = json_is_integer(v) ? json_integer_value(v) : -1;
	if (n < 0 || ((uint64_t)n < min && !(zero && n == 0)) || (uint64_t)n > max)
		return fail(err, ERR_INVALID,
			    "'%s' of a migration is a number from %" PRIu64 " to %" PRIu64 "%s", key, min,
			    max, zero ? ", or 0 for no bound" : "");
	*ret = (uint64_t)n;
	return true;
}

static bool take_flag(const Json *j, const char *key, bool *ret, GError **err)
{
	const Json *v = json_object_get(j, key);

	if (v == NULL || json_is_null(v))
		return true;
	if (!json_is_boolean(v))
		return fail(err, ERR_INVALID, "'%s' of a migration is true or false", key);
	*ret = json_is_true(v);
	return true;
}

bool migrate_settings_of_json(const Json *j, struct migrate_settings *ret, GError **err)
{
	struct migrate_settings s;

	migrate_settings_init(&s);
	if (!take_number(j, "bandwidth", BANDWIDTH_MIN, INT64_MAX, true, &s.bandwidth, err) ||
	    !take_number(j, "downtime", DOWNTIME_MIN, MIGRATE_DOWNTIME_MAX, false, &s.downtime, err) ||
	    !take_number(j, "timeout", SECOND, TIMEOUT_MAX, true, &s.timeout, err) ||
	    !take_flag(j, "auto_converge", &s.auto_converge, err) ||
	    !take_flag(j, "post_copy", &s.post_copy, err) || !take_flag(j, "disks", &s.disks, err))
		return false;
	*ret = s;
	return true;
}

Json *migrate_settings_to_json(const struct migrate_settings *s)
{
	Json *j = json_object();

	json_put_uint(j, "bandwidth", s->bandwidth);
	json_put_uint(j, "downtime", s->downtime);
	json_put_bool(j, "auto_converge", s->auto_converge);
	json_put_bool(j, "post_copy", s->post_copy);
	json_put_bool(j, "disks", s->disks);
	json_put_uint(j, "timeout", s->timeout);
	return j;
}

/* Whole milliseconds: QEMU counts in those. */
static uint64_t limit_at(const struct migrate_settings *s, uint64_t round)
{
	uint64_t step = 1 + (round > FREE_ROUNDS ? round - FREE_ROUNDS : 0);
	uint64_t us = s->downtime * MIN(step, LIMIT_STEPS) / LIMIT_STEPS;

	return MAX(us / 1000, 1) * 1000;
}

uint64_t migrate_first_limit(const struct migrate_settings *s)
{
	return limit_at(s, 1);
}

/* Rounds before the vcpus are as slow as they may be say nothing of what that brings. */
static bool is_slowing(const struct migrate_memory *m, const struct migrate_sample *x)
{
	return x->throttle < m->percent && x->at - m->allowed_at < THROTTLE_TIME;
}

/* Rounds ended, one or more since the last sample: were they shorter than any before? */
static void end_rounds(struct migrate_memory *m, const struct migrate_sample *x)
{
	uint64_t n = x->rounds - m->round, sent = x->transferred - MIN(m->round_began, x->transferred);
	uint64_t each = MAX(sent / n, 1);
	bool better = m->least == 0 || each < m->least - (m->least >> PROGRESS_SHIFT) || is_slowing(m, x);

	m->vain = better ? 0 : m->vain + (unsigned)MIN(n, MIGRATE_PATIENCE);
	m->least = better ? each : m->least;
	m->round = x->rounds;
	m->round_began = x->transferred;
}

static void note(struct migrate_memory *m, const struct migrate_sample *x)
{
	if (x->transferred != m->transferred || m->moved_at == 0) {
		m->transferred = x->transferred;
		m->moved_at = MAX(x->at, 1);
	}
	if (m->round == 0)
		m->round = x->rounds;
	else if (x->rounds > m->round)
		end_rounds(m, x);
}

/* The first round is most of the work; what comes after it is worth the last tenth. */
static unsigned percent_of(const struct migrate_sample *x)
{
	uint64_t sent;

	if (x->total == 0)
		return 0;
	if (x->rounds > 1)
		return 95;
	sent = x->total - MIN(x->remaining, x->total);
	return (unsigned)((double)sent * 90 / (double)x->total);
}

/*
 * While a rest R is sent at rate B, the guest writes R * D / B anew: the sum of
 * the rounds is R / (B - D). A guest that writes as fast as the link sends has no end.
 */
static uint64_t estimate(const struct migrate_sample *x)
{
	if (x->rate == 0 || x->dirty_rate >= x->rate)
		return 0;
	return (uint64_t)((double)x->remaining / (double)(x->rate - x->dirty_rate) * (double)SECOND);
}

static bool give_up(struct migrate_decision *ret, bool failed)
{
	ret->action = MIGRATE_GIVE_UP;
	return failed;
}

static bool too_fast(const struct migrate_sample *x, GError **err)
{
	g_autofree char *dirty = print_size(x->dirty_rate), *rate = print_size(x->rate),
			*rest = print_size(x->remaining);

	return fail_advice(
	    err, ERR_BUSY,
	    "Allow more downtime or bandwidth, or allow post-copy, or move it when it has less to do.",
	    "the guest writes memory faster (%s a second) than it can be sent (%s a second): %s "
	    "are still to send after %" PRIu64 " rounds",
	    dirty, rate, rest, x->rounds);
}

/* Why to end it, or true. */
static bool may_go_on(const struct migrate_settings *s, const struct migrate_memory *m,
		      const struct migrate_sample *x, GError **err)
{
	if (s->timeout != 0 && x->at >= s->timeout)
		return fail_advice(err, ERR_TIMEOUT,
				   "Give it more time with --deadline, or allow more downtime.",
				   "the migration was not through in the time it was given");
	if (s->stall != 0 && x->at > m->moved_at && x->at - m->moved_at >= s->stall)
		return fail_advice(err, ERR_UNAVAILABLE, "Look at the network between the two hosts.",
				   "no byte of the guest's memory went over for %" PRIu64 " s",
				   (x->at - m->moved_at) / SECOND);
	return true;
}

/* The next means, when the ones in use had their time. */
static bool next_means(const struct migrate_settings *s, struct migrate_memory *m,
		       const struct migrate_sample *x, struct migrate_decision *ret, GError **err)
{
	if (s->auto_converge && m->percent < MIGRATE_THROTTLE_MAX) {
		m->percent += MIGRATE_THROTTLE_STEP;
		m->allowed_at = x->at;
		ret->action = MIGRATE_THROTTLE;
		ret->value = m->percent;
		m->vain = 0;
	} else if (s->post_copy) {
		m->post_copy = true;
		ret->action = MIGRATE_POST_COPY;
	} else if (m->vain >= MIGRATE_PATIENCE) {
		return give_up(ret, too_fast(x, err));
	}
	return true;
}

bool migrate_decide(const struct migrate_settings *s, struct migrate_memory *m,
		    const struct migrate_sample *x, struct migrate_decision *ret, GError **err)
{
	uint64_t limit;

	*ret = (struct migrate_decision){ .action = MIGRATE_WAIT };
	if (m->limit == 0)
		m->limit = migrate_first_limit(s);
	note(m, x);
	m->done = MAX(m->done, percent_of(x));
	ret->percent = m->done;
	ret->left = estimate(x);
	if (!may_go_on(s, m, x, err))
		return give_up(ret, false);
	if (m->post_copy)
		return true;
	limit = limit_at(s, x->rounds);
	if (limit > m->limit) {
		m->limit = limit;
		m->vain = 0;
		ret->action = MIGRATE_LIMIT;
		ret->value = limit;
		return true;
	}
	return m->vain < MEANS_PATIENCE || next_means(s, m, x, ret, err);
}
