/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The flattened form of a compressed dump: as QEMU writes "kdump-zlib", so that
 * it can go through a pipe. Pure.
 *
 * A header of 4096 bytes ("makedumpfile", type 1, version 1), then records of an
 * offset, a length and so many bytes, numbers big-endian, and at the end one
 * with both -1. Laid out by their offsets the bytes are the dump that
 * makedumpfile and crash read.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define FLAT_HEAD 4096
#define FLAT_RECORD 16

typedef enum FlatState {
	FLAT_AT_HEAD,
	FLAT_AT_RECORD,
	FLAT_IN_DATA,
	FLAT_ENDED,
} FlatState;

/* All zero but `max` at the beginning. */
struct flat {
	uint64_t max; /* no offset and no length leads beyond */
	FlatState state;
	uint8_t buf[FLAT_HEAD]; /* what has come of a header or a record */
	size_t have;
	uint64_t at, left; /* of the data under way */
};

/* `len` bytes belong to `offset`. False with *err ends the reading. */
typedef bool (*FlatWrite)(uint64_t offset, const uint8_t *bytes, size_t len, void *data, GError **err);

/* The next bytes of the stream, cut anywhere. ERR_QEMU for what is no such stream; errors of `write`. */
bool flat_feed(struct flat *f, const uint8_t *bytes, size_t len, FlatWrite write, void *data, GError **err);
