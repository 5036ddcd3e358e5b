/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a running QEMU copies the content that its guest's disks had at one
 * moment, while the guest goes on writing.
 *
 * Of each disk NAME, whose node is disk-NAME:
 *
 *     bt-NAME  the backup's file, opened before the moment
 *     bo-NAME  a scratch file on the host, without a name: what the guest overwrites goes here first
 *     bf-NAME  the filter (copy-before-write) that sees to that; the guest's device is put above it,
 *              and that is the moment
 *     bv-NAME  the view (snapshot-access) of the disk as it was; the job backup-NAME copies it to bt-NAME
 *
 * So a guest never waits for the repository, however slow it is, and none of its
 * writes can fail because of it: a scratch file that can't be written breaks the
 * view, and with it the backup, and nothing else. QEMU gets descriptors of both
 * files, no right to open anything. The passphrase of encrypted files it gets by
 * its monitor, in a secret object that goes as soon as they are open; what they
 * rest on is not opened, so that it gets no other.
 *
 * Of a guest that is off the disks are opened by a QEMU without a machine
 * (core/guest/argv_aside.h); the job copies disk-NAME itself.
 *
 * The bitmap of the new backup begins just before the moment and the one since
 * the last ends nowhere: both may have a little more than is needed, never less.
 */
#pragma once

#include "engine/backup/repository.h"
#include "engine/vmm.h"

struct backup_copy {
	const struct backup_place *place;
	const Json *disks;  /* [{name, size, qcow2}] */
	const char *work;   /* folder for scratch files */
	const char *bitmap; /* the new one */
	const char *since;  /* copy only what this one has; NULL: everything */
	const char *secret; /* the passphrase of the backup's files; NULL: they are not encrypted */
	bool off;           /* nobody writes to the disks: no scratch, filter and view are needed */
	uint64_t bandwidth; /* bytes a second altogether; 0: no bound */
	const struct hooks *hooks;
};

/* All but the moment. On failure call backup_copy_drop(). */
bool backup_copy_open(Vmm *v, const struct backup_copy *c, GError **err);
/*
 * The moment. `still`: have the guest stand still meanwhile, so that it is one
 * moment for all disks; it runs on when this returns.
 */
bool backup_copy_hold(Vmm *v, const struct backup_copy *c, bool still, GError **err);
/* Copy, until all is in the backup's files. ERR_NO_SPACE, ERR_CANCELLED, ERR_QEMU. */
bool backup_copy_run(Vmm *v, const struct backup_copy *c, GError **err);
/* Ends jobs and takes away what was added, whatever there is of it. */
bool backup_copy_close(Vmm *v, const struct backup_copy *c, GError **err);
/* The same, and the new bitmap goes, too. */
bool backup_copy_drop(Vmm *v, const struct backup_copy *c, GError **err);

/*
 * QEMU refuses to make a disk larger that has a bitmap which is not whole: those of backups go. `blocks` is
 * its query-block.
 */
void backup_bitmaps_remove_broken(Vmm *v, const Json *blocks, const char *disk);
/* [{disk, bitmap}]; those that are not there are fine. */
void backup_bitmaps_remove(Vmm *v, const Json *list);
