/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CD drive of a guest and what is in it. Pure.
 *
 * A drive without a medium is polled by every guest that has one, so a guest
 * has none until a CD is inserted. There are two kinds (PROFILE_CD_DRIVE):
 *
 *   scsi   comes with its medium and goes with it, also while the guest runs:
 *          a disk controller that is there for disks takes it, else one of its
 *          own, behind the port of PROFILE_CD_PORT. Its own controller stays until the
 *          guest's next start: it wakes nobody, and to take it away the guest
 *          would have to agree.
 *   sata   platform.cdrom, and Windows: there since the start. Media change in it.
 *
 * A command line ends with the CD: what a running guest got or lost since its
 * start is put to, or taken from, the end of its recorded one, which is then
 * what a start with the changed configuration would say.
 */
#pragma once

#include "core/guest/argv.h"

/* Names of the block node with the medium and of its file; of the two drives; of the controller; of the port.
 */
#define CD_NAME "cdrom"
#define CD_SATA "cdrom"
#define CD_SCSI "cd"
#define CD_FILE "cdrom-file"
#define CD_CONTROLLER "cd-scsi"
#define CD_PORT "cd-port"

/* The medium that the configuration puts into the drive; NULL: none. Caller frees. */
char *cd_path(const Vm *vm, const Folders *f);
/* QEMU's name of its format: an image of the store is qcow2, a path is read as it is. */
const char *cd_format(const Vm *vm);

/* {driver, id, bus, ...} as device_add takes it; NULL when the drive needs no controller of its own. */
Json *cd_controller(const Profile *p, const Vm *vm);
/* The same of the drive, which is there. */
Json *cd_device(const Profile *p, const Vm *vm);

/* Of recorded arguments (argv_to_json()): is there a device with this id? */
bool cd_arguments_have(const Json *arguments, const char *id);
/* Where the part about the CD drive begins in them: at their end, if there is none. */
size_t cd_arguments_begin(const Json *arguments);
/* Recorded arguments with the CD, its drive and controller as `p` and `vm` have them now. New reference. */
Json *cd_arguments(const Json *arguments, const Profile *p, const Vm *vm, const HostFacts *host);
