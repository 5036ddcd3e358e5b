/* SPDX-License-Identifier: Apache-2.0 */
/*
 * When is a guest to be asked whether it still lives? Pure.
 *
 * A kernel that hangs either spins, or sleeps with its interrupts off: its vcpus
 * want all of a processor, or nothing at all, not once woken. A guest that does
 * so for HANG_SAMPLES samples in a row is asked through its agent; a hang is
 * that, no answer, and no progress (of one that spins; looks.h says which).
 * Healthy guests may look so too: one that computes answers, and is asked again after 2, 4, 8, ... samples,
 * HANG_REST_MAX at most. An idle guest has timers, and so is never asked. One that wants a processor and gets
 * less than a twentieth of it could not answer, and is not asked.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define HANG_SAMPLES 2
#define HANG_REST_MAX 64

/* The difference of two looks at a guest's vcpus. */
struct hang_sample {
	uint64_t duration;     /* us; 0: nothing can be said */
	uint64_t vcpu_wakeups; /* how often they were woken */
	uint64_t vcpu_cpu;     /* us that they ran */
	uint64_t vcpu_wait;    /* us that they waited for a processor of the host */
};

/* Of one guest; zero when it begins. */
struct hang_state {
	unsigned stuck; /* samples in a row */
	unsigned rest;  /* samples for which it is not asked */
	unsigned pause; /* the rest after the next question */
	bool asked;     /* since it looked well last */
};

typedef enum HangVerdict {
	HANG_NOTHING,
	HANG_ASK,  /* it must answer now */
	HANG_OVER, /* it was asked, and looks well again */
} HangVerdict;

/* It wants all of a processor. One that is asked and does not want it sleeps for good. */
bool hang_spins(const struct hang_sample *s);
HangVerdict hang_judge(struct hang_state *state, const struct hang_sample *s);
