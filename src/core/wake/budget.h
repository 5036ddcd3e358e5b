/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The idle budget: does an idle guest cost more than it may? Pure.
 *
 * A guest works or it idles; only idleness has a budget. It idles while its
 * vcpus use less than BUDGET_IDLE_CPU of one CPU. An idle guest still does a
 * little of its own, and what it does wakes QEMU: disk requests, packets. So
 * BUDGET_EXPLAINED wakeups are forgiven for each second of its vcpus' time,
 * and only what is beyond counts. QEMU's other threads count with their time
 * as it is: nothing of the guest's runs there.
 *
 * Above the budget for BUDGET_RAISE samples in a row: OVER, told once. Below
 * three quarters of it for BUDGET_CLEAR samples in a row: back to WITHIN. What
 * lies between, and samples of a working guest, change nothing.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define BUDGET_IDLE_CPU 50000  /* us of a second: a twentieth of one CPU */
#define BUDGET_EXPLAINED 10000 /* wakeups per second of vcpu time */
#define BUDGET_RAISE 3
#define BUDGET_CLEAR 3

struct idle_budget {
	uint64_t wakeups; /* per second; 0: no limit */
	uint64_t cpu;     /* us per second, of QEMU's threads but the vcpus; 0: no limit */
};

/* The difference of two samples. */
struct idle_sample {
	uint64_t duration; /* us; 0: nothing can be said */
	uint64_t wakeups;  /* of QEMU's threads but the vcpus */
	uint64_t cpu;      /* us, of the same */
	uint64_t vcpu_cpu; /* us */
};

typedef enum BudgetVerdict {
	BUDGET_NOTHING, /* to tell */
	BUDGET_EXCEEDED,
	BUDGET_KEPT_AGAIN,
} BudgetVerdict;

/* Of one guest; zero when it begins. */
struct idle_state {
	bool over;
	unsigned above, below; /* samples in a row */
};

/* What counts of a sample, per second. */
struct idle_cost {
	bool idle; /* false: it works, the rest means nothing */
	uint64_t wakeups, cpu;
};

struct idle_cost idle_cost_of(const struct idle_sample *s);
BudgetVerdict idle_judge(struct idle_state *state, const struct idle_budget *b, const struct idle_sample *s);
