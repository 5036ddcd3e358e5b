/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder where backups are kept (core/backup/manifest.h says how it looks).
 *
 * A backup is made in a folder whose name begins with a dot and gets its name
 * when all of it is on disk: whatever interrupts it, nothing that looks like a
 * backup is left, and the next backup of the same vm removes the rest. Two
 * daemons may use one repository: what depends on which backups are there is
 * done under a lock of the vm's folder.
 *
 * Blocking; worker threads.
 */
#pragma once

#include "core/backup/key.h"
#include "engine/image/hooks.h"

/* One backup in a repository. Borrows. */
struct backup_place {
	const char *repository, *vm, *id;
};

/* From a step's arguments {repository, vm, backup}. ERR_INVALID for names that would lead elsewhere. */
bool backup_place_of_args(const Json *args, struct backup_place *ret, GError **err);

/*
 * An absolute path of a folder that is there: one that is not is never made, for
 * it may be what is not mounted. ERR_INVALID, ERR_NOT_FOUND.
 */
bool repository_check(const char *path, GError **err);
/*
 * All backups, of `vm` (an id; NULL: of all), newest first: Backup. A folder
 * whose manifest can't be used is told in *ret_broken ([{path, error}]; may be
 * NULL; new reference).
 */
GPtrArray *repository_list(const char *path, const char *vm, Json **ret_broken, GError **err);

/*
 * The folder in which the backup is made, with an empty qcow2 file for each of
 * `disks` ([{name, size}]) that rests on that of `parent` (or NULL). Removes
 * what interrupted backups of the vm left. `secrets`: the one passphrase of all
 * files; NULL: they are not encrypted. ERR_NO_SPACE, ERR_DENIED, ...
 */
bool backup_prepare(const struct backup_place *p, const Json *disks, const char *parent,
		    const char *const *secrets, GError **err);
/* The file of a disk in that folder. Caller frees. */
char *backup_path_begun(const struct backup_place *p, const char *disk);
bool backup_prepare_undo(const struct backup_place *p, GError **err);
/*
 * Hash the files, complete the manifest with sizes and hashes, and give the
 * folder its name. ERR_CONFLICT when its parent is gone. *ret_bytes: of the
 * files. One that has its name already is left as it is. `key`: of a manifest
 * that has its check value; the manifest gets its MAC; else NULL.
 */
bool backup_seal(const struct backup_place *p, Json *manifest, const BackupKey *key,
		 const struct hooks *hooks, uint64_t *ret_bytes, GError **err);
/* Absent is fine. ERR_CONFLICT when another backup rests on it. */
bool backup_delete(const struct backup_place *p, GError **err);

/*
 * Read what a disk is made of (backup_sources(), the full one first): each file
 * must have its hash, name no file but the one before it, and be encrypted or
 * not as it should be. ERR_INVALID, ERR_NOT_FOUND with the file's path. Before all
 * that, the key has to be there: as backup_key_of_args(). `check`: qemu-img looks at
 * the last of them, too.
 */
bool backup_sources_verify(const Json *sources, bool check, const struct hooks *hooks, GError **err);
