/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys of encrypted backups. Pure.
 *
 * A key is the content of a file, as it is. All that leaves it is HMAC-SHA256 of a text that has the
 * backup's id, so that each backup has a passphrase of its own:
 *
 *     "plimsoll backup passphrase ID"         what QEMU gets: of the LUKS headers in the backup's files
 *     "plimsoll backup check ID"              the first half stands in the manifest: which key it is
 *     "plimsoll backup manifest ID SHA256"    stands beside the manifest: who wrote that text had the key
 *
 * in hex digits of lower case. None of them leads to the key or to another of them. But whoever sees one can
 * try keys as fast as he can hash: so a key has to be random, and what can't be is refused.
 */
#pragma once

#include "core/backup/manifest.h"

/* Shorter ones are typed by people. */
#define BACKUP_KEY_MIN 32
#define BACKUP_KEY_MAX 4096

typedef struct BackupKey {
	size_t len;
	uint8_t data[BACKUP_KEY_MAX];
} BackupKey;

/* ERR_INVALID for a size that is none of a key, and for bytes that are not random. */
BackupKey *backup_key_of_bytes(const void *data, size_t len, GError **err);
/* Wipes it. */
BackupKey *backup_key_free(BackupKey *k);

/* 64 hex digits. Free with backup_secret_free(). */
char *backup_key_passphrase(const BackupKey *k, const char *id);
/* BACKUP_CHECK_LENGTH hex digits. Caller frees. */
char *backup_key_check(const BackupKey *k, const char *id);
/* `digest`: SHA-256 of the manifest's text, in hex. 64 hex digits; caller frees. */
char *backup_key_mac(const BackupKey *k, const char *id, const char *digest);
/* Wipes it. NULL is fine. */
void backup_secret_free(char *text);

/*
 * Is that the key (NULL: none) of the backup? ERR_INVALID, without advice: it is not. ERR_CONFLICT: it is,
 * and the manifest is not what was written with it, or what tells that is not there.
 */
bool backup_key_fits(const BackupKey *k, const Backup *b, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BackupKey, backup_key_free)
