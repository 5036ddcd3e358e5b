/* SPDX-License-Identifier: Apache-2.0 */
#include "core/soak/schedule.h"

#include <glib.h>

/* splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014) */
static uint64_t rng_next(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Up to `max`. The modulo prefers some numbers by less than one in 2^40 here. */
static uint64_t rng_upto(uint64_t *state, uint64_t max)
{
	return max == UINT64_MAX ? rng_next(state) : rng_next(state) % (max + 1);
}

static uint64_t rng_of(const struct soak_settings *s, uint64_t guest, uint64_t trip)
{
	uint64_t state = s->seed;

	state = rng_next(&state) ^ guest;
	state = rng_next(&state) ^ trip;
	return rng_next(&state);
}

/* All hosts but `home`, in some order. */
static void shuffle(uint64_t *rng, size_t n_hosts, size_t home, size_t *host)
{
	size_t n = 0;

	for (size_t i = 0; i < n_hosts; i++)
		if (i != home)
			host[n++] = i;
	for (; n > 1; n--) {
		size_t other = (size_t)rng_upto(rng, n - 1), t = host[n - 1];

		host[n - 1] = host[other];
		host[other] = t;
	}
}

size_t soak_trip(const struct soak_settings *s, uint64_t guest, uint64_t trip, size_t home,
		 struct soak_move *ret)
{
	uint64_t rng = rng_of(s, guest, trip);
	size_t host[SOAK_HOSTS_MAX], stops;

	g_assert(s->n_hosts >= 2 && s->n_hosts <= SOAK_HOSTS_MAX && home < s->n_hosts);
	shuffle(&rng, s->n_hosts, home, host);
	stops = 1 + (size_t)rng_upto(&rng, s->n_hosts - 2);
	host[stops] = home;
	for (size_t i = 0; i <= stops; i++) {
		ret[i].host = host[i];
		ret[i].pause = rng_upto(&rng, s->pause_max);
		ret[i].cancel = rng_upto(&rng, 99) < s->cancel;
		ret[i].cancel_after = rng_upto(&rng, s->cancel_max);
	}
	return stops + 1;
}
