/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must hold of a guest that moved. Pure.
 *
 * A guest that is watched prints a line again and again: the payload's job
 * `soak` (docs/payload.md), or the script that plim starts through the guest
 * agent. The line before a move and one after it are compared, and what the
 * hosts themselves say of QEMU processes is counted. Every deviation is
 * {check, message}; an empty list: all is as it must be.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* "soak BEAT NS GAP BACK CHECKED BAD CPU [FLOW BROKEN]", CPU in 16 hex digits */
struct soak_beat {
	uint64_t beat;    /* counted in the guest's memory, never reset */
	uint64_t clock;   /* ns of the guest's monotonic clock */
	uint64_t gap;     /* ns, the longest between two of its ticks so far */
	uint64_t back;    /* how often its clock went back */
	uint64_t checked; /* pages or files */
	uint64_t bad;     /* those of them that were not as written */
	uint64_t cpu;     /* a hash of what CPUID says */
	bool flows;       /* it holds a TCP connection: */
	uint64_t flow;    /* messages that came back over it */
	uint64_t broken;  /* how often it broke, or another message came back */
};

/* The last whole line of that form in a console's text. False when there is none. Any bytes are fine. */
bool soak_beat_last(const char *text, struct soak_beat *ret);
Json *soak_beat_to_json(const struct soak_beat *b);

struct soak_bounds {
	uint64_t downtime; /* us that QEMU says the guest stood still since `before` */
	uint64_t margin;   /* us that a busy host may add */
};

/* `before` may be NULL: then only what `now` says of itself is judged. Array; new reference. */
Json *soak_judge(const struct soak_beat *before, const struct soak_beat *now, const struct soak_bounds *b);
/*
 * `seen` is [{host: {id, name}, processes: [{pid, status}]}], one of each host.
 * Exactly one process in all, on host `id`, running. Array; new reference.
 */
Json *soak_judge_hosts(const Json *seen, const char *id);
