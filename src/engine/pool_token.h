/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The token with which a host joins a pool, once:
 *
 *   plj1.SECRET.FINGERPRINT.ADDRESS
 *
 * a random secret (base64url of 16 bytes), the SHA-256 of the pool's authority
 * (so that the host knows whom to believe before it has anything), and the
 * address of a member (base64url). The pool keeps only the secret's hash.
 */
#pragma once

#include "base/err.h"

typedef struct PoolToken {
	char *secret, *fingerprint, *url;
} PoolToken;

/* A new one. Caller frees. */
char *pool_token_print(const char *fingerprint, const char *url, char **ret_hash);
/* ERR_INVALID for what is none; sizes are bounded. */
PoolToken *pool_token_parse(const char *text, GError **err);
PoolToken *pool_token_free(PoolToken *t);
/* What the pool keeps of a secret: 64 hex digits. Caller frees. */
char *pool_token_hash(const char *secret);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(PoolToken, pool_token_free)
