/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Parsing and printing of the small values that people type: numbers, sizes,
 * durations, booleans, names. Every parser checks the whole string and the
 * range, and its error says what was wrong with which text.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

bool parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret, GError **err);
/*
 * Bytes: "512", "64K", "1.5GiB", "2G", "10TB". K/Ki/KiB are 1024; KB, MB, GB,
 * TB are powers of 1000. ERR_INVALID for negatives, fractions of a byte,
 * other suffixes and what exceeds INT64_MAX.
 */
bool parse_size(const char *text, uint64_t *ret, GError **err);
/* Microseconds: "10" (seconds), "500ms", "2s", "5min", "1h", "1d". */
bool parse_duration(const char *text, uint64_t *ret, GError **err);
/* true/false, yes/no, on/off, 1/0. */
bool parse_bool(const char *text, bool *ret, GError **err);

/* "1.5 GiB": for people. Caller frees. */
char *print_size(uint64_t bytes);
/* "3d 4h", "12 s", "350 ms": for people. */
char *print_duration(uint64_t us);

/*
 * A name of a vm, image, volume or host: 1 to 63 characters of [A-Za-z0-9._-],
 * beginning with a letter or digit. No slash, so that it can be part of a path.
 */
bool name_check(const char *kind, const char *name, GError **err);
/* 8-4-4-4-12 lower-case hex. */
bool uuid_valid(const char *text);
/* UTF-8 without control characters, of which a line end would begin a line of its own. */
bool text_is_plain(const char *text);
/*
 * In place: what would move a terminal's cursor, change its colours or talk to
 * it (control characters, those of C1 too) becomes spaces; `lines` keeps line
 * ends. For texts of guests and users. Returns `text`; NULL is fine.
 */
char *text_harmless(char *text, bool lines);
/* A random version 4 uuid of 16 random bytes; the caller brings the randomness. Caller frees. */
char *uuid_of_bytes(const uint8_t bytes[16]);
