/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dynamic memory: between which sizes a guest's memory may move, as its
 * settings say. Pure.
 *
 * A vm has dynamic memory when memory.min or memory.max is set and leaves it
 * room to move. What is not set follows from memory.start: min is a half of it
 * (but not less than 128 MiB, nor more than start), max is start itself.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

/* A Linux of today does not boot in less. */
#define RANGE_MIN_LEAST (UINT64_C(128) << 20)
/* What virtio-mem plugs and unplugs at a time; the guest's sizes are whole ones. */
#define RANGE_BLOCK (UINT64_C(2) << 20)

/* How a guest's memory moves: name in settings, in the API and in explain. */
// clang-format off
#define MEMORY_METHOD_TABLE(X)                                                                 \
	X(FIXED,      "fixed")      /* it does not */                                          \
	X(VIRTIO_MEM, "virtio-mem") /* it boots with start; virtio-mem above, balloon below */ \
	X(DIMM,       "dimm")       /* it boots with start; DIMMs above, which only the balloon takes back */   \
	X(BALLOON,    "balloon")    /* it boots with max, and the balloon takes what is above */
// clang-format on

typedef enum MemoryMethod {
#define X(key, name) MEMORY_##key,
	MEMORY_METHOD_TABLE(X)
#undef X
	    _MEMORY_METHOD_MAX,
} MemoryMethod;

struct memory_range {
	uint64_t min, start, max; /* bytes; min <= start <= max */
	unsigned buffer;          /* percent of what the guest needs that it gets on top */
	unsigned weight;          /* of its share when the host is short */
};

const char *memory_method_name(MemoryMethod m);
/* FIXED when the name is none, or NULL. */
MemoryMethod memory_method_of(const char *name);

/*
 * `own`: an object of settings, each of them checked; NULL: none.
 * ERR_INVALID, with advice that names the setting to change, unless min <=
 * start <= max, and when memory may move and the balloon was taken away.
 */
bool memory_range_of(const Json *own, struct memory_range *ret, GError **err);
/* There is room to move. */
bool memory_range_moves(const struct memory_range *r);
