/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/hash.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdint.h>

struct Hash {
	gnutls_hash_hd_t handle;
	gnutls_digest_algorithm_t algorithm;
};

Hash *hash_new(HashKind kind)
{
	static const gnutls_digest_algorithm_t of[] = { [HASH_SHA512] = GNUTLS_DIG_SHA512,
							[HASH_SHA256] = GNUTLS_DIG_SHA256,
							[HASH_MD5] = GNUTLS_DIG_MD5 };
	Hash *h = g_new0(Hash, 1);

	h->algorithm = of[kind];
	if (gnutls_hash_init(&h->handle, h->algorithm) == 0)
		return h;
	g_free(h);
	return NULL;
}

void hash_update(Hash *h, const void *buf, size_t len)
{
	if (h != NULL)
		g_assert(gnutls_hash(h->handle, buf, len) == 0);
}

void hash_reset(Hash *h)
{
	uint8_t raw[64];

	if (h != NULL)
		gnutls_hash_output(h->handle, raw); /* which begins anew */
}

char *hash_take_hex(Hash *h)
{
	uint8_t raw[64];
	GString *hex;

	if (h == NULL)
		return NULL;
	gnutls_hash_output(h->handle, raw);
	hex = g_string_new(NULL);
	for (unsigned i = 0; i < gnutls_hash_get_len(h->algorithm); i++)
		g_string_append_printf(hex, "%02x", raw[i]);
	return g_string_free(hex, FALSE);
}

Hash *hash_free(Hash *h)
{
	if (h != NULL) {
		gnutls_hash_deinit(h->handle, NULL);
		g_free(h);
	}
	return NULL;
}
