/* SPDX-License-Identifier: Apache-2.0 */
#include "core/backup/key.h"

#include <string.h>

/* Of 32 random bytes and of 64 random hex digits fewer are different once in more than 10^9 times. */
#define DIFFERENT_MIN 8

static unsigned count_different(const uint8_t *data, size_t len)
{
	bool seen[256] = { false };
	unsigned n = 0;

	for (size_t i = 0; i < len; i++) {
		n += !seen[data[i]];
		seen[data[i]] = true;
	}
	return n;
}

BackupKey *backup_key_of_bytes(const void *data, size_t len, GError **err)
{
	BackupKey *k;

	if (len < BACKUP_KEY_MIN || len > BACKUP_KEY_MAX) {
		fail(err, ERR_INVALID, "a key has %d to %d bytes", BACKUP_KEY_MIN, BACKUP_KEY_MAX);
		return NULL;
	}
	if (count_different(data, len) < DIFFERENT_MIN) {
		fail(err, ERR_INVALID, "a key is random, and this one is not");
		return NULL;
	}
	k = g_new0(BackupKey, 1);
	k->len = len;
	memcpy(k->data, data, len);
	return k;
}

BackupKey *backup_key_free(BackupKey *k)
{
	if (k != NULL)
		explicit_bzero(k, sizeof *k);
	g_free(k);
	return NULL;
}

void backup_secret_free(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	g_free(text);
}

static char *hmac(const BackupKey *k, const char *use, const char *id, const char *more)
{
	g_autofree char *text = g_strconcat("plimsoll backup ", use, " ", id, more, NULL);

	return g_compute_hmac_for_string(G_CHECKSUM_SHA256, k->data, k->len, text, -1);
}

char *backup_key_passphrase(const BackupKey *k, const char *id)
{
	return hmac(k, "passphrase", id, NULL);
}

char *backup_key_check(const BackupKey *k, const char *id)
{
	char *check = hmac(k, "check", id, NULL);

	check[BACKUP_CHECK_LENGTH] = '\0';
	return check;
}

char *backup_key_mac(const BackupKey *k, const char *id, const char *digest)
{
	g_autofree char *more = g_strconcat(" ", digest, NULL);

	return hmac(k, "manifest", id, more);
}

/* In the same time for all of that length: it tells nobody how much of a guess is right. */
static bool is_same(const char *a, const char *b)
{
	size_t len = strlen(a);
	volatile uint8_t different = 0;

	if (strlen(b) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		different |= (uint8_t)(a[i] ^ b[i]);
	return different == 0;
}

static bool check_mac(const BackupKey *k, const Backup *b, GError **err)
{
	g_autofree char *mac = b->digest != NULL ? backup_key_mac(k, b->id, b->digest) : NULL;

	if (b->mac == NULL)
		return fail_advice(
		    err, ERR_CONFLICT,
		    "Bring the file back from a copy of the repository, or take another backup.",
		    BACKUP_MANIFEST_MAC " of backup %s can't be read: %s", b->id,
		    b->no_mac != NULL ? b->no_mac : "it was not looked for");
	return (mac != NULL && is_same(mac, b->mac)) ||
	       fail_advice(err, ERR_CONFLICT,
			   "The key is the right one. Bring " BACKUP_MANIFEST " and " BACKUP_MANIFEST_MAC
			   " back from a copy of the repository, or take another backup.",
			   "the manifest of backup %s was changed since it was written", b->id);
}

bool backup_key_fits(const BackupKey *k, const Backup *b, GError **err)
{
	g_autofree char *check = NULL;

	if (b->key_check == NULL)
		return k == NULL || fail(err, ERR_INVALID, "backup %s is not encrypted", b->id);
	if (k == NULL)
		return fail(err, ERR_INVALID, "backup %s is encrypted", b->id);
	check = backup_key_check(k, b->id);
	if (!g_str_equal(check, b->key_check))
		return fail(err, ERR_INVALID, "backup %s was encrypted with another key", b->id);
	return check_mac(k, b, err);
}
