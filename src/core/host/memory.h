/* SPDX-License-Identifier: Apache-2.0 */
/*
 * May one more guest start on a host, as far as memory goes? Pure.
 *
 * Each guest has a claim: all the memory that it can come to take, its own and
 * what QEMU needs beside it. The host keeps a reserve for itself. Guests may be
 * promised what is left, times the over-commit; who asks for more is refused
 * before it has taken a page, and those that run never notice.
 *
 * A claim is a promise and not a measurement: it counts from the moment a start
 * is accepted, so that starts at the same time can't be promised the same
 * memory. What is measured is the memory that the host has available now: when
 * that is below the reserve, something else than guests has taken it, or the
 * over-commit was too bold, and no guest starts either.
 */
#pragma once

#include "core/guest/host_facts.h"
#include "core/guest/profile.h"

/* percent */
#define MEMORY_OVERCOMMIT_MIN 50
#define MEMORY_OVERCOMMIT_MAX 1000

struct memory_host {
	uint64_t total;      /* bytes that the machine has, or that its control group lets us have */
	uint64_t reserve;    /* bytes kept for the host */
	uint64_t overcommit; /* percent of the rest that guests may be promised; 100: none twice */
	uint64_t available;  /* bytes that could be had now, as the kernel estimates; 0: not known */
};

struct memory_claims {
	uint64_t bytes;  /* of all guests that run or are being started */
	unsigned guests; /* how many they are */
};

/* The facts and settings of a host; `available` is left 0. */
struct memory_host memory_host_of(const HostFacts *host);
/* A sixteenth of all, at least 256 MiB (but never more than a quarter of all) and at most 4 GiB. */
uint64_t memory_reserve_default(uint64_t total);
/* What guests may be promised altogether. */
uint64_t memory_limit(const struct memory_host *h);
/*
 * What QEMU can come to take beside the guest's memory: itself, stacks and
 * queues for each vcpu, page tables, the display, code that TCG translates.
 */
uint64_t memory_overhead_of(const Profile *p);
/* The memory that the guest begins with, and the overhead; of what may come later the keeper decides. */
uint64_t memory_claim_of(const Profile *p);

/*
 * ERR_LIMIT when the guest `name`, which would claim `need`, does not fit
 * beside the others. Message and advice have the numbers; details are those of
 * memory_to_json() with `needed` and `missing`.
 */
bool memory_admit(const struct memory_host *h, const struct memory_claims *others, const char *name,
		  uint64_t need, GError **err);
/* {total, reserve, overcommit, limit, claimed, guests, free, available}; available is null when not known. */
Json *memory_to_json(const struct memory_host *h, const struct memory_claims *claims);
