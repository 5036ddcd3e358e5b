/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The clock of a guest that stood still while it moved, or was suspended.
 *
 * A guest's own clock stops with it (kvm-clock and Hyper-V's reference time
 * too), so afterwards it is late by that time, and stays so until its time
 * service has caught up. How far it was from its host's clock is asked before,
 * and restored after it: a guest that is kept at another time on purpose stays
 * there. It is never set back. Windows and Linux take the time alike. Worker
 * threads; errors as of agent_call().
 */
#pragma once

#include "engine/agent.h"

/* A guest that may be late by less is let alone. */
#define CLOCK_LATE_MIN INT64_C(50000)

/*
 * The guest's clock less its host's, in us, give or take `doubt`: half the time that the answer took, from
 * somewhere in which it is.
 */
struct agent_clock {
	int64_t offset, doubt;
};

/*
 * As another daemon told it, in these members. `doubt` may be absent: earlier ones took narrow answers only,
 * and did not say it. False: there is no offset.
 */
bool agent_clock_read(const Json *j, const char *offset, const char *doubt, struct agent_clock *ret);
/* The first narrow answer, or the narrowest of some seconds. ERR_TIMEOUT when there is none. */
bool agent_clock_ask(Agent *a, struct agent_clock *ret, GError **err);
/*
 * Bring the guest back to where it `was`, seen from our clock, if it is late for sure. Its port is waited
 * for, and it is asked until it answers soon enough to tell, for `wait` in all and once at least. *ret_late:
 * by how much it was late; 0: it was let alone. `since` (time_real()): before that it did not stand still, so
 * if it is late by more, that was something else.
 */
bool agent_clock_restore(Agent *a, const struct agent_clock *was, uint64_t since, uint64_t wait,
			 int64_t *ret_late, GError **err);
