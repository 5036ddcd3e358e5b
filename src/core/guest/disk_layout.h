/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies on a disk inside of a Linux guest, and how it is made to fill a
 * disk that has grown. Pure: reads what the guest's lsblk and sfdisk print, and
 * names the commands that its own tools are asked for.
 *
 * Only what can be grown in place while it is in use is: the last partition of
 * the disk, or a disk without partitions, with a mounted file system of the
 * table below directly on it. For everything else the error says what is there,
 * and the advice what to do by hand.
 */
#pragma once

#include "base/err.h"

/* The guest is asked: `lsblk -J -b -p -o` these; `sfdisk -J DEVICE`. */
#define LSBLK_COLUMNS "NAME,SERIAL,TYPE,SIZE,FSTYPE,MOUNTPOINT,FSSIZE"

/* All but `device` and `size` may be NULL or 0. */
struct guest_disk {
	char *device; /* "/dev/vdb" */
	uint64_t size;
	bool parted;
	char *part; /* what is grown: the device itself when it has no partitions */
	char *fs, *mount;
	uint64_t fs_size;
	bool layered; /* something else lies on `part`: LVM, encryption, RAID */
};

/*
 * The disk of that serial number, with the file system on `part` (NULL: on the
 * disk itself). ERR_NOT_FOUND when the guest shows no such disk or partition.
 */
bool guest_disk_of(const Json *lsblk, const char *serial, const char *part, struct guest_disk *ret,
		   GError **err);
void guest_disk_clear(struct guest_disk *d);

/*
 * The partition that lies last on the disk, and its number as growpart wants
 * it. ERR_AGENT for what is no table of partitions. Caller frees *ret_part.
 */
bool guest_last_partition(const Json *sfdisk, const char *device, char **ret_part, unsigned *ret_number,
			  GError **err);

#define FS_COMMAND_WORDS 6
/*
 * The command that grows the file system; borrows from `d`, NULL at its end.
 * ERR_UNSUPPORTED with advice when there is none for it.
 */
bool guest_fs_command(const struct guest_disk *d, const char *ret_words[FS_COMMAND_WORDS], GError **err);

typedef struct guest_disk GuestDisk;
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(GuestDisk, guest_disk_clear)
