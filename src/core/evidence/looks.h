/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the vcpus of a guest whose agent is silent were seen to do, in a number
 * of looks at their registers. Pure.
 *
 * A kernel that hangs is met nowhere but in itself. A guest that computes is
 * met in its programs sooner or later, on each vcpu that does not rest: then
 * its kernel schedules, and only its agent has died. One vcpu that is met in
 * the kernel alone is enough for a hang: it may hold what all others wait for.
 */
#pragma once

#include <stdbool.h>

/* Those beyond are not looked at: QEMU makes no more. */
#define LOOKS_VCPUS 4096

/* All zero at the beginning. */
struct hang_looks {
	unsigned vcpus;          /* seen at least once */
	bool works[LOOKS_VCPUS]; /* met in a program, or at rest with its interrupts on */
};

/* `registers`: what QEMU prints for "info registers -a". Lines that mean nothing are passed over. */
void hang_looks_add(struct hang_looks *l, const char *registers);
/* All of its vcpus do. False when none was seen. */
bool hang_looks_work(const struct hang_looks *l);
