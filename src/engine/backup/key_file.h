/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files with the keys of encrypted backups (core/backup/key.h), and what is derived for a step.
 *
 * A step's arguments name the file and the key's check value, never the key: a file that is another one by
 * then is found. Keys and passphrases live for as long as a step needs them. The key and the texts that these
 * functions give are wiped; copies of a passphrase on its way to QEMU, in JSON texts, buffers of QMP and of
 * sockets, are freed and not wiped.
 *
 * Any thread; reads one small file.
 */
#pragma once

#include "base/json.h"
#include "core/backup/key.h"

/*
 * ERR_INVALID or ERR_DENIED with advice, for what is no regular file, not random enough (core/backup/key.h),
 * not the daemon's user's or root's own, or open to anybody else. A link is not followed. ERR_NOT_FOUND when
 * there is none; those of fail_errno() when it can't be opened or read.
 */
BackupKey *backup_key_read(const char *path, GError **err);

/*
 * Of a step's {backup, key_file?, key_check?}: its key, and NULL in *ret without key_file. ERR_CONFLICT when
 * the file has another one by now.
 */
bool backup_key_of_args(const Json *args, BackupKey **ret, GError **err);
/* The same as a NULL-terminated list of one passphrase, or NULL. Free it with backup_secrets_free(). */
bool backup_secrets_of_args(const Json *args, char ***ret, GError **err);
/* Of each of backup_sources(), in their order. NULL in *ret when they are not encrypted. */
bool backup_secrets_of_sources(const Json *sources, char ***ret, GError **err);
/* Wipes them. */
void backup_secrets_free(char **secrets);

static inline void backup_secrets_cleanup(char ***secrets)
{
	backup_secrets_free(*secrets);
}

#define _cleanup_secrets_ __attribute__((cleanup(backup_secrets_cleanup)))
