/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last bytes of a console, in a file that is mapped, so that they outlive
 * the daemon. One writer; the loop's thread only.
 *
 * The file, in the host's byte order:
 *     0   8   "PLMRING1"
 *     8   8   bytes of data: CONSOLE_RING_SIZE
 *     16  8   W, bytes ever written
 *     24  40  zero
 *     64  ..  data; byte number N of the console is at N modulo the size
 * Bytes are in place before W counts them. Bytes W - size up to W are there; a
 * daemon that dies in the middle of a write has at worst overwritten some of the oldest.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define CONSOLE_RING_SIZE UINT64_C(65536)

typedef struct ConsoleRing ConsoleRing;

/* Opens or makes it; a file that is no ring is made new. ERR_NO_SPACE when its folder is full. */
ConsoleRing *console_ring_open(const char *path, GError **err);
/* Keeps the file. NULL is fine; returns NULL. */
ConsoleRing *console_ring_close(ConsoleRing *r);

void console_ring_write(ConsoleRing *r, const void *bytes, size_t len);
/* The number of the byte that will be written next, and of the oldest that is there. */
uint64_t console_ring_end(const ConsoleRing *r);
uint64_t console_ring_begin(const ConsoleRing *r);
/*
 * Copy from byte *at on, at most `size`; moves *at behind what was copied. Bytes
 * that are not there any more are passed over and counted in *ret_lost.
 */
size_t console_ring_read(const ConsoleRing *r, uint64_t *at, void *buf, size_t size, uint64_t *ret_lost);
