/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk of tools of a rollout: a CD that a guest has for the time of its
 * upgrade. A CD that somebody else put in is never taken out. Our own one that
 * is there already, left by a rollout that ended in the middle, is used.
 */
#pragma once

#include "cli/command.h"

typedef struct ToolsDisk {
	Cli *cli;
	char *path, *image; /* one of them: a file of the vms' hosts, the id of an image */
	uint64_t timeout;   /* us, for an operation on a drive */
	uint64_t patience;  /* us, while no daemon answers */
} ToolsDisk;

/* `cd` as `plim vm cdrom insert` takes it; NULL: there is none, and no other function is called.
 * ERR_NOT_FOUND. */
bool tools_disk_init(ToolsDisk *d, Cli *cli, const char *cd, GError **err);
void tools_disk_done(ToolsDisk *d);
bool tools_disk_is_set(const ToolsDisk *d);

/*
 * Nothing is changed. False: the guest can't take it, and the error says what
 * to do, in one sentence: it has no drive and takes none, or uses it for another CD.
 */
bool tools_disk_check(const ToolsDisk *d, const char *vm_id, GError **err);
bool tools_disk_insert(const ToolsDisk *d, const char *vm_id, GError **err);
/*
 * Out again, unless the guest uses it. True as well when it is not in, or
 * another one is. Goes on while the daemon begins anew, for `patience`.
 */
bool tools_disk_eject(const ToolsDisk *d, const char *vm_id, GError **err);
