/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of a guest that goes on where it was suspended. Its arguments:
 *   CLOCK_RESTORE  vm, name, offset and doubt (us, before it was suspended; agent_clock_read()), since (when
 *                  that was)
 */
#include "base/log.h"
#include "base/time.h"
#include "engine/agent_clock.h"
#include "engine/engine-impl.h"
#include "engine/steps-impl.h"

/* For an agent that answered before the guest was suspended. The guest runs meanwhile. */
#define RESUMED_TIMEOUT UINT64_C(20000000)

static Agent *agent_of(StepContext *ctx, const Json *args)
{
	Engine *e = step_engine(ctx);

	return fleet_agent(e->fleet, json_str(args, "vm"));
}

bool step_clock_ask(StepContext *ctx, const Json *args, struct agent_clock *ret)
{
	g_autoptr(Agent) a = agent_of(ctx, args);

	return a != NULL && agent_is_open(a) && agent_clock_ask(a, ret, NULL);
}

void step_clock_restore(StepContext *ctx, const Json *args, const struct agent_clock *was, const char *since,
			uint64_t wait)
{
	g_autoptr(Agent) a = agent_of(ctx, args);
	g_autoptr(GError) err = NULL;
	const char *name = json_str(args, "name");
	uint64_t from;
	int64_t late;

	if (a == NULL || !time_parse(since, &from))
		return;
	if (!agent_clock_restore(a, was, from, wait, &late, &err)) {
		log_info("vm %s: its clock was not looked at after it stood still: %s", name, err->message);
		return;
	}
	step_result(ctx, CLOCK_SET, json_integer(late));
	if (late != 0)
		log_info("vm %s: its clock was late by %" G_GINT64_FORMAT " ms, and was set", name,
			 late / 1000);
}

bool step_CLOCK_RESTORE_run(StepContext *ctx, const Json *args, GError **err)
{
	struct agent_clock was;

	(void)err;
	if (agent_clock_read(args, "offset", "doubt", &was))
		step_clock_restore(ctx, args, &was, json_str(args, "since"), RESUMED_TIMEOUT);
	return true;
}
