/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool_token.h"
#include "base/time.h"

#include <string.h>

#define SCHEME "plj1"
#define SECRET_LEN 16
#define TEXT_MAX 512
#define FINGERPRINT_LEN 64

PoolToken *pool_token_free(PoolToken *t)
{
	if (t != NULL) {
		g_free(t->secret);
		g_free(t->fingerprint);
		g_free(t->url);
		g_free(t);
	}
	return NULL;
}

/* Base64 with the letters of RFC 4648, section 5, and without padding. */
static char *print_base64url(const void *data, size_t len)
{
	char *text = g_base64_encode(data, len);

	g_strdelimit(text, "+", '-');
	g_strdelimit(text, "/", '_');
	g_strdelimit(text, "=", '\0');
	return text;
}

/* Text, or NULL when it is none. */
static char *parse_base64url(const char *text)
{
	g_autofree char *full = g_strdup_printf("%s%.*s", text, (int)((4 - strlen(text) % 4) % 4), "===");
	g_autofree char *plain = NULL;
	gsize len = 0;

	g_strdelimit(full, "-", '+');
	g_strdelimit(full, "_", '/');
	plain = (char *)g_base64_decode(full, &len);
	return plain != NULL ? g_strndup(plain, len) : NULL;
}

char *pool_token_hash(const char *secret)
{
	return g_compute_checksum_for_string(G_CHECKSUM_SHA256, secret, -1);
}

char *pool_token_print(const char *fingerprint, const char *url, char **ret_hash)
{
	uint8_t bytes[SECRET_LEN];
	g_autofree char *secret = NULL, *address = print_base64url(url, strlen(url));

	random_bytes(bytes, sizeof bytes);
	secret = print_base64url(bytes, sizeof bytes);
	*ret_hash = pool_token_hash(secret);
	return g_strjoin(".", SCHEME, secret, fingerprint, address, NULL);
}

static bool is_fingerprint(const char *text)
{
	return strlen(text) == FINGERPRINT_LEN && strspn(text, "0123456789abcdef") == FINGERPRINT_LEN;
}

PoolToken *pool_token_parse(const char *text, GError **err)
{
	g_auto(GStrv) part = strlen(text) <= TEXT_MAX ? g_strsplit(text, ".", 5) : NULL;
	PoolToken *t;

	if (part == NULL || g_strv_length(part) != 4 || !g_str_equal(part[0], SCHEME) || part[1][0] == '\0' ||
	    !is_fingerprint(part[2])) {
		fail_advice(err, ERR_INVALID,
			    "`plim pool token` on a member prints one; copy it whole. It begins with " SCHEME
			    ".",
			    "this is no token of a pool");
		return NULL;
	}
	t = g_new0(PoolToken, 1);
	t->secret = g_strdup(part[1]);
	t->fingerprint = g_strdup(part[2]);
	t->url = parse_base64url(part[3]);
	return t;
}
