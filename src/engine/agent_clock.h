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

/* Less is noise of asking. */
#define CLOCK_LATE_MIN INT64_C(50000)

/* The guest's clock less ours, in us. ERR_TIMEOUT when it took too long to mean anything. */
bool agent_clock_offset(Agent *a, int64_t *ret, GError **err);
/*
 * Bring the guest back to `offset` from our clock. Its port is waited for, and it is asked until it answers
 * soon enough, for `wait` in all and once at least. *ret_late: by how much it was late; 0: it was let alone.
 * `since` (time_real()): before that it did not stand still, so if it is late by more, that was something
 * else.
 */
bool agent_clock_restore(Agent *a, int64_t offset, uint64_t since, uint64_t wait, int64_t *ret_late,
			 GError **err);
