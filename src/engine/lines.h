/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts a stream of bytes into lines, with a bound. Pure: no socket, no clock.
 *
 * A line ends with "\n"; a "\r" before it belongs to the end (QMP sends CR LF).
 * Bytes are not looked at otherwise.
 */
#pragma once

#include "base/err.h"

typedef struct LineReader {
	GByteArray *rest; /* of a line that has no end yet */
	size_t max;
} LineReader;

/* False ends line_reader_feed() at once: the reader may be gone then. */
typedef bool (*LineFunc)(const char *line, size_t len, void *data);

void line_reader_init(LineReader *r, size_t max);
void line_reader_done(LineReader *r);
/* Forget the line that has begun. */
void line_reader_clear(LineReader *r);

/*
 * Calls func for each line that is whole now; `line` is valid during the call.
 * Fails with ERR_LIMIT for a line longer than `max`; the reader is of no use
 * then until it is cleared. Returns true when func ended it.
 */
bool line_reader_feed(LineReader *r, const char *bytes, size_t len, LineFunc func, void *data, GError **err);
