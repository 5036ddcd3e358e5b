/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a soak does with its guests, made from a seed. Pure.
 *
 * A round trip leads a guest over one or more of the other hosts, each at most
 * once, and back to where it began. Which way, how long the guest is left
 * alone before each move, and which moves are cancelled under way follows from
 * the seed, the guest's number and the trip's number alone: the same seed is
 * the same hunt, whatever came between.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SOAK_HOSTS_MAX 64

struct soak_settings {
	uint64_t seed;
	size_t n_hosts;      /* 2 to SOAK_HOSTS_MAX */
	uint64_t pause_max;  /* us that a guest is left alone before a move, at most */
	unsigned cancel;     /* moves of a hundred that are cancelled and begun again */
	uint64_t cancel_max; /* us after which one is cancelled, at most */
};

struct soak_move {
	size_t host; /* where to */
	uint64_t pause;
	bool cancel;
	uint64_t cancel_after;
};

/* The moves of a trip from `home` and back, into room for SOAK_HOSTS_MAX. Returns how many, 2 to n_hosts. */
size_t soak_trip(const struct soak_settings *s, uint64_t guest, uint64_t trip, size_t home,
		 struct soak_move *ret);
