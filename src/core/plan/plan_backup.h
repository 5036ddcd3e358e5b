/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plans of backups. Pure. See plan_vm.h for the rules of planners.
 *
 *     BACKUP_PREPARE  makes the folder REPOSITORY/VM/.ID with an empty file for each disk
 *     BACKUP_COPY     freezes the guest's file systems, has QEMU hold on to that moment on all disks,
 *                     thaws, and copies; undone: nothing of it is left in QEMU, new bitmaps included
 *     BACKUP_SEAL     hashes the files, writes the manifest, and renames the folder to REPOSITORY/VM/ID
 *     BACKUP_SETTLE   removes the bitmaps that have no use any more
 *
 * Of a vm that is off a QEMU without a machine opens the disks (plan_aside.h): around the same steps.
 *
 * Each backup begins a bitmap of its own and leaves those before it alone: what
 * fails, at whatever step, leaves the guest and its bitmaps as they were.
 *
 * A restore writes the disk of a backup with VOLUME_RESTORE: into a new volume,
 * or, of a vm that is there, beside its volume, which VOLUME_SWAP then replaces.
 */
#pragma once

#include "core/backup/key.h"
#include "core/plan/plan_vm.h"

struct plan_backup {
	const char *repository; /* absolute path */
	bool incremental;       /* asked for: one that rests on the last if it can */
	bool crash_consistent;  /* asked for: no freeze */
	uint64_t budget;        /* us that the guest's file systems may stand still */
	uint64_t bandwidth;     /* bytes a second of all disks together; 0: as fast as it goes */
	/* QEMU's query-block, or of a vm that is off what its files say in that form; NULL: nobody could be
	 * asked */
	const Json *blocks;
	const GPtrArray *backups; /* Backup, of this vm in the repository, newest first */
	bool has_agent;           /* a guest agent is there now */
	/* The files are encrypted with that key, which is in that file on the host; or both NULL. */
	const char *key_file;
	const BackupKey *key;
};

/*
 * ERR_BAD_STATE for one that is suspended, ERR_BUSY, ERR_UNSUPPORTED for a vm without a
 * disk. The result is {backup, repository, kind, parent, encryption, warning, consistency,
 * note, freeze, bytes}; `warning` says why an incremental one became full.
 */
Operation *plan_vm_backup(const PlanRequest *req, const VmSeen *seen, const struct plan_backup *p,
			  GError **err);

/*
 * What a disk of a backup is made of: [{path, backing, sha512}], the full one first; of one that is encrypted
 * also {backup, key_file, key_check}. `key_file`: of those that are; NULL when none is. New reference.
 */
Json *backup_sources(const char *repository, const GPtrArray *chain, const char *disk, const char *key_file);
/* REPOSITORY/VM/BACKUP. Caller frees. */
char *backup_folder(const char *repository, const char *vm, const char *backup);

/*
 * Read all files of a chain: hashes, headers, and qemu-img check. ERR_INVALID names the file that is wrong.
 * With `boot` (us; 0: not) a copy of it boots then, alone, and its agent must answer within that time; the
 * result has {booted_in, agent}. ERR_UNSUPPORTED for a vm without an agent's channel, and what a start fails
 * with.
 */
Operation *plan_backup_verify(const PlanRequest *req, const char *repository, const GPtrArray *chain,
			      const char *key_file, uint64_t boot, GError **err);
/*
 * Show it through NBD until it is unmounted; the result is {repository, backup, disks: [{name, size, uri}]}.
 * Nothing is hashed first: plan_backup_verify() does that.
 */
Operation *plan_backup_mount(const PlanRequest *req, const char *repository, const GPtrArray *chain,
			     const char *key_file);
/* `mounts`: of that backup, as engine/backup/mounts.h lists them. The result is {repository, backup}. */
Operation *plan_backup_unmount(const PlanRequest *req, const Json *mounts);
/* The result is {repository, deleted: [ids]}. */
Operation *plan_backup_delete(const PlanRequest *req, const char *repository, const Backup *b);
/* The same of several, in that order; of none it is an operation without steps. */
Operation *plan_backup_prune(const PlanRequest *req, const char *repository, const GPtrArray *backups);

/* As plan_vm_create(), of volumes whose wishes have a `backup`. */
Operation *plan_backup_restore_new(const PlanRequest *req, const Vm *vm, GPtrArray *wish);
/*
 * Over the volumes of a vm that is off: the disks of the last of `chain`.
 * ERR_BAD_STATE while it runs, ERR_CONFLICT when its disks are not those of the
 * backup, ERR_UNSUPPORTED for disks that are no volumes.
 */
Operation *plan_backup_restore_over(const PlanRequest *req, const VmSeen *seen, const char *repository,
				    const GPtrArray *chain, const char *key_file, GError **err);
