/* SPDX-License-Identifier: Apache-2.0 */
#include "core/wake/budget.h"

#include <stddef.h>

#define SECOND UINT64_C(1000000)

static uint64_t per_second(uint64_t n, uint64_t duration)
{
	return (uint64_t)((double)n * (double)SECOND / (double)duration);
}

struct idle_cost idle_cost_of(const struct idle_sample *s)
{
	struct idle_cost c = { 0 };
	uint64_t vcpu, explained;

	if (s->duration == 0)
		return c;
	vcpu = per_second(s->vcpu_cpu, s->duration);
	explained = (uint64_t)((double)vcpu * BUDGET_EXPLAINED / (double)SECOND);
	c.idle = vcpu < BUDGET_IDLE_CPU;
	c.wakeups = per_second(s->wakeups, s->duration);
	c.wakeups -= c.wakeups < explained ? c.wakeups : explained;
	c.cpu = per_second(s->cpu, s->duration);
	return c;
}

static bool is_above(const struct idle_cost *c, const struct idle_budget *b)
{
	return (b->wakeups != 0 && c->wakeups > b->wakeups) || (b->cpu != 0 && c->cpu > b->cpu);
}

static bool is_well_below(const struct idle_cost *c, const struct idle_budget *b)
{
	return (b->wakeups == 0 || c->wakeups < b->wakeups - b->wakeups / 4) &&
	       (b->cpu == 0 || c->cpu < b->cpu - b->cpu / 4);
}

BudgetVerdict idle_judge(struct idle_state *state, const struct idle_budget *b, const struct idle_sample *s)
{
	struct idle_cost c = idle_cost_of(s);

	if (!c.idle)
		return BUDGET_NOTHING;
	state->above = is_above(&c, b) ? state->above + 1 : 0;
	state->below = is_well_below(&c, b) ? state->below + 1 : 0;
	if (!state->over && state->above >= BUDGET_RAISE) {
		state->over = true;
		return BUDGET_EXCEEDED;
	}
	if (state->over && state->below >= BUDGET_CLEAR) {
		state->over = false;
		return BUDGET_KEPT_AGAIN;
	}
	return BUDGET_NOTHING;
}
