/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a new backup of a running guest can rest on. Pure.
 *
 * An incremental backup needs four things: the last backup in the repository
 * with all that it rests on, the same disks, on each disk the dirty bitmap
 * that has recorded every write since then, and the same key, or none in both. QEMU keeps bitmaps in qcow2
 * files over its end; one that it could not write back (QEMU or the host crashed) is marked as inconsistent.
 * Whatever is missing, the answer is a full backup and a sentence that says why, never a guess.
 */
#pragma once

#include "core/backup/key.h"

/* The bitmaps of backups that a disk may keep: each of them costs memory, and time at every write. */
#define BACKUP_BITMAPS_MAX 4

/*
 * The newest of `backups` (of this vm, sorted newest first) when the next one
 * can rest on it, else NULL with a sentence in *ret_why (caller frees).
 * `blocks` is QEMU's query-block; NULL: nobody could ask it. `names`: the disks
 * to be backed up, NULL-terminated. `key`: of the next one, or NULL.
 */
const Backup *backup_follow(const GPtrArray *backups, const Json *blocks, const char *const *names,
			    const BackupKey *key, char **ret_why);

/*
 * For a backup without a key that nobody asked to be plain: ERR_CONFLICT when the newest of `backups` is
 * encrypted. The host's setting may be missing, as on one that the guest was moved to.
 */
bool backup_check_plain(const GPtrArray *backups, GError **err);

/* The size of a disk as query-block tells; 0 when it has no such disk. */
uint64_t backup_disk_size(const Json *blocks, const char *disk);

/*
 * Bitmaps that have no use once the new backup is there, [{disk, bitmap}]: the
 * one of the newest of `backups`, those that are inconsistent, and of ours the
 * oldest where there would be more than BACKUP_BITMAPS_MAX. New reference.
 */
Json *backup_spare_bitmaps(const GPtrArray *backups, const Json *blocks, const char *const *names);
