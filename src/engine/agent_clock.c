/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agent_clock.h"
#include "base/time.h"

#define ASK_TIMEOUT UINT64_C(2000000)
/* Of a narrow answer, at most; one of 100 ms. */
#define DOUBT_NARROW INT64_C(50000)
/* More has no answer that was waited for. */
#define DOUBT_MAX INT64_C(10000000)
/* The year 2200: there is room for an offset behind it. */
#define NS_MAX INT64_C(7258118400000000000)
#define OFFSET_MAX (NS_MAX / 1000)

bool agent_clock_read(const Json *j, const char *offset, const char *doubt, struct agent_clock *ret)
{
	int64_t us = json_int(j, offset, 0);

	if (!json_is_integer(json_object_get(j, offset)) || us < -OFFSET_MAX || us > OFFSET_MAX)
		return false;
	ret->offset = us;
	ret->doubt = MIN((int64_t)json_uint(j, doubt, DOUBT_NARROW), DOUBT_MAX);
	return true;
}

static bool ask(Agent *a, struct agent_clock *ret, GError **err)
{
	uint64_t before = time_real(), after;
	_cleanup_json_ Json *ns = agent_call(a, "guest-get-time", NULL, ASK_TIMEOUT, err);

	after = time_real();
	if (ns == NULL)
		return false;
	if (json_integer_value(ns) <= 0 || json_integer_value(ns) > NS_MAX)
		return fail(err, ERR_AGENT, "the guest has no time that makes sense");
	if (after < before || after - before > 2 * (uint64_t)DOUBT_MAX)
		return fail(err, ERR_TIMEOUT,
			    "the host's clock was set while the guest was asked for its own");
	ret->doubt = (int64_t)(after - before + 1) / 2;
	ret->offset = (int64_t)json_integer_value(ns) / 1000 - (int64_t)before - ret->doubt;
	return true;
}

/* The guest is later by this at least. */
static int64_t surely_late(const struct agent_clock *was, const struct agent_clock *now)
{
	return was->offset - was->doubt - now->offset - now->doubt;
}

static bool is_enough(const struct agent_clock *was, const struct agent_clock *now)
{
	return now->doubt <= DOUBT_NARROW || (was != NULL && surely_late(was, now) >= CLOCK_LATE_MIN);
}

/*
 * The first answer behind a new connection takes longer, and so may any of a guest that has much to do, or
 * whose host has. With `was` one is enough by which the guest is late for sure.
 */
static bool ask_until(Agent *a, uint64_t until, const struct agent_clock *was, struct agent_clock *ret,
		      GError **err)
{
	bool found = false;

	for (;;) {
		g_autoptr(GError) e = NULL;
		struct agent_clock c;
		bool ok = ask(a, &c, &e);

		if (ok && (!found || c.doubt < ret->doubt)) {
			*ret = c;
			found = true;
		}
		if (found && is_enough(was, ret))
			return true;
		if ((ok || g_error_matches(e, ERR, ERR_TIMEOUT)) && time_monotonic() <= until)
			continue;
		if (!found)
			g_propagate_error(err, g_steal_pointer(&e));
		return found;
	}
}

bool agent_clock_ask(Agent *a, struct agent_clock *ret, GError **err)
{
	return ask_until(a, time_monotonic() + ASK_TIMEOUT, NULL, ret, err);
}

static bool set(Agent *a, int64_t us, GError **err)
{
	Json *args = json_pack("{s:I}", "time", (json_int_t)us * 1000);
	_cleanup_json_ Json *reply = agent_call(a, "guest-set-time", args, ASK_TIMEOUT, err);

	return reply != NULL;
}

/*
 * An agent of Linux sets the system's clock, and then complains where there is no clock of hardware to write
 * to: did it go on, and to there? It is late by what went by until it took the time, at most `took`.
 */
static bool is_set(Agent *a, int64_t offset, const struct agent_clock *before, uint64_t took)
{
	struct agent_clock now;

	return agent_clock_ask(a, &now, NULL) && surely_late(&now, before) > 0 &&
	       ABS(offset - now.offset) < CLOCK_LATE_MIN + now.doubt + (int64_t)took;
}

bool agent_clock_restore(Agent *a, const struct agent_clock *was, uint64_t since, uint64_t wait,
			 int64_t *ret_late, GError **err)
{
	uint64_t until = time_monotonic() + wait, begin;
	g_autoptr(GError) e = NULL;
	struct agent_clock now;
	int64_t late;

	*ret_late = 0;
	if (!agent_wait_open(a, wait, err) || !ask_until(a, until, was, &now, err))
		return false;
	late = surely_late(was, &now);
	if (late < CLOCK_LATE_MIN || late - CLOCK_LATE_MIN > (int64_t)(time_real() - since))
		return true;
	begin = time_monotonic();
	if (!set(a, (int64_t)time_real() + was->offset, &e) &&
	    !is_set(a, was->offset, &now, time_monotonic() - begin)) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	*ret_late = was->offset - now.offset;
	return true;
}
