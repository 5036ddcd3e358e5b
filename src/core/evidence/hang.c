/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/hang.h"

#include <glib.h>

/* Percent of a processor: what one that spins wants, and what it must get. */
#define BUSY 95
#define ENOUGH 5

bool hang_spins(const struct hang_sample *s)
{
	uint64_t percent = s->duration / 100;

	return s->vcpu_cpu > 0 && s->vcpu_cpu + s->vcpu_wait >= percent * BUSY &&
	       s->vcpu_cpu >= percent * ENOUGH;
}

static bool looks_stuck(const struct hang_sample *s)
{
	return hang_spins(s) || (s->vcpu_wakeups == 0 && s->vcpu_cpu == 0 && s->vcpu_wait == 0);
}

HangVerdict hang_judge(struct hang_state *state, const struct hang_sample *s)
{
	bool asked = state->asked;

	if (s->duration == 0)
		return HANG_NOTHING;
	if (!looks_stuck(s)) {
		*state = (struct hang_state){ 0 };
		return asked ? HANG_OVER : HANG_NOTHING;
	}
	state->stuck++;
	if (state->rest > 0) {
		state->rest--;
		return HANG_NOTHING;
	}
	if (state->stuck < HANG_SAMPLES)
		return HANG_NOTHING;
	state->pause = CLAMP(state->pause * 2, 2, HANG_REST_MAX);
	state->rest = state->pause;
	state->asked = true;
	return HANG_ASK;
}
