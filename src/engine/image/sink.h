/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the bytes of a source go while they come in: a file, sparse where they
 * are zero, and the hashes of all of them on the way.
 *
 * A sink that was left in the middle is opened again and goes on where the
 * file ends; what is there is read once more for the hashes.
 */
#pragma once

#include "engine/image/hash.h"
#include "engine/image/hooks.h"

#include <sys/types.h>

typedef struct Sink Sink;

struct sink_config {
	const char *dir, *path; /* path is in dir */
	bool resume;            /* keep what is there; else begin anew */
	bool sha256;            /* also that one */
	const struct hooks *hooks;
};

Sink *sink_open(const struct sink_config *c, GError **err);
/* Leaves the file. NULL is fine. */
Sink *sink_close(Sink *s);

/* Bytes that came so far: where the next go. */
uint64_t sink_size(const Sink *s);
/* There will be `total` bytes (0: nobody knows), and `need` more of them take room: a full disk is seen
 * early. ERR_NO_SPACE. */
bool sink_expect(Sink *s, uint64_t total, uint64_t need, GError **err);
/* ERR_NO_SPACE, ERR_CANCELLED. */
bool sink_write(Sink *s, const void *buf, size_t len, GError **err);
/* Throw away what came. */
bool sink_restart(Sink *s, GError **err);
/* All came: give the file its length, its owner (root and `gid` when we are root; readable for that group),
 * and make it durable. */
bool sink_finish(Sink *s, gid_t gid, GError **err);

/* After sink_finish(); hex, lower case; borrowed. NULL for SHA-256 unless asked for, and for what the host
 * forbids. */
const char *sink_hash(const Sink *s, HashKind kind);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Sink, sink_close)

/* SHA-512 of a file. Caller frees. */
char *file_sha512(const char *path, const struct hooks *hooks, GError **err);
