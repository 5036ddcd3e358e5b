/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hashes of much data. GLib's are written for small data: GnuTLS, which is in
 * the process for TLS anyway, is two to five times as fast.
 */
#pragma once

#include <glib.h>
#include <stddef.h>

typedef enum HashKind { HASH_SHA512, HASH_SHA256, HASH_MD5 } HashKind;

typedef struct Hash Hash;

/* NULL where the host forbids it (MD5 in FIPS mode). All others take NULL. */
Hash *hash_new(HashKind kind);
void hash_update(Hash *h, const void *buf, size_t len);
/* Begin anew. */
void hash_reset(Hash *h);
/* Of all that came since it was made or reset, which it is again then: hex in lower case. NULL for NULL.
 * Caller frees. */
char *hash_take_hex(Hash *h);
Hash *hash_free(Hash *h);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Hash, hash_free)
