/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agent_clock.h"
#include "base/time.h"

#define ASK_TIMEOUT UINT64_C(2000000)
/* The guest's answer is from somewhere in this time. */
#define ASK_MEANS UINT64_C(100000)
/* The year 2200: there is room for an offset behind it. */
#define NS_MAX INT64_C(7258118400000000000)

static bool ask(Agent *a, int64_t *ret, GError **err)
{
	uint64_t before = time_real(), after;
	_cleanup_json_ Json *ns = agent_call(a, "guest-get-time", NULL, ASK_TIMEOUT, err);

	after = time_real();
	if (ns == NULL)
		return false;
	if (json_integer_value(ns) <= 0 || json_integer_value(ns) > NS_MAX)
		return fail(err, ERR_AGENT, "the guest has no time that makes sense");
	if (after < before || after - before > ASK_MEANS)
		return fail(err, ERR_TIMEOUT, "the guest took too long to say what time it is");
	*ret = (int64_t)json_integer_value(ns) / 1000 - (int64_t)(before + (after - before) / 2);
	return true;
}

/* The first answer behind a new connection takes longer, and so may any of a guest that has much to do. */
static bool ask_until(Agent *a, uint64_t until, int64_t *ret, GError **err)
{
	for (;;) {
		g_autoptr(GError) e = NULL;

		if (ask(a, ret, &e))
			return true;
		if (!g_error_matches(e, ERR, ERR_TIMEOUT) || time_monotonic() > until) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}

bool agent_clock_offset(Agent *a, int64_t *ret, GError **err)
{
	return ask_until(a, time_monotonic() + ASK_TIMEOUT, ret, err);
}

static bool set(Agent *a, int64_t us, GError **err)
{
	Json *args = json_pack("{s:I}", "time", (json_int_t)us * 1000);
	_cleanup_json_ Json *reply = agent_call(a, "guest-set-time", args, ASK_TIMEOUT, err);

	return reply != NULL;
}

/* An agent of Linux sets the system's clock, and then complains where there is no clock of hardware to write
 * to. */
static bool is_set(Agent *a, int64_t offset)
{
	int64_t now;

	return agent_clock_offset(a, &now, NULL) && ABS(offset - now) < CLOCK_LATE_MIN;
}

bool agent_clock_restore(Agent *a, int64_t offset, uint64_t since, uint64_t wait, int64_t *ret_late,
			 GError **err)
{
	uint64_t until = time_monotonic() + wait;
	g_autoptr(GError) e = NULL;
	int64_t now, late;

	*ret_late = 0;
	if (!agent_wait_open(a, wait, err) || !ask_until(a, until, &now, err))
		return false;
	late = offset - now;
	if (late < CLOCK_LATE_MIN || late - CLOCK_LATE_MIN > (int64_t)(time_real() - since))
		return true;
	if (!set(a, (int64_t)time_real() + offset, &e) && !is_set(a, offset)) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	*ret_late = late;
	return true;
}
