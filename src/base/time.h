/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clocks and randomness. Core never calls these: it is given times and ids.
 * Times are microseconds; stamps in records are RFC 3339, UTC, whole seconds
 * or microseconds.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

uint64_t time_monotonic(void);
/* Since 1970-01-01 UTC. */
uint64_t time_real(void);

/* "2026-11-21T09:30:00Z"; with microseconds when they are not zero. Pure. Caller frees. */
char *time_print(uint64_t real_us);
/* The way back; false when it is none. Pure. */
bool time_parse(const char *text, uint64_t *ret);
/* time_print(time_real()) */
char *time_stamp(void);

/* Fill with random bytes of the kernel; never fails. */
void random_bytes(void *buf, uint64_t len);
/* A new random uuid. Caller frees. */
char *uuid_new(void);
