/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the parts of core/guest/argv; nobody else includes this.
 *
 * argv.c          the object, its codec, the order of everything
 * argv_machine.c  machine, CPU, clock, firmware, monitors
 * argv_disk.c     disks, the seed
 * dimm.c          DIMMs that the guest has grown by
 * cd.c            the CD drive
 * argv_device.c   all other devices
 * argv_aside.c    a QEMU without a machine
 *
 * An argument is begun, then gets parts, each with its cause:
 *
 *	arg_begin(b, "-machine");
 *	arg_part(b, profile_cause(p, PROFILE_MACHINE), "%s", name);
 *	arg_part(b, profile_cause(p, PROFILE_HPET), "hpet=off");
 *
 * Parts are joined by commas. Text that may hold commas goes through %s of
 * arg_quoted().
 */
#pragma once

#include "core/guest/argv.h"

typedef struct ArgvBuilder {
	const Profile *p;
	const Vm *vm;
	const HostFacts *host;
	const char *const *disk_path;
	Argv *argv;
} ArgvBuilder;

Argv *argv_new(void);
/* No path of a disk holds a placeholder. */
bool argv_paths_ok(const ArgvBuilder *b, GError **err);
void arg_begin(ArgvBuilder *b, const char *option);
void arg_part(ArgvBuilder *b, const Cause *cause, const char *fmt, ...) G_GNUC_PRINTF(3, 4);
/* A part that is there by default: what for, and a sentence about it or NULL. */
void arg_default(ArgvBuilder *b, const char *key, const char *note, const char *fmt, ...) G_GNUC_PRINTF(4, 5);
/* A whole argument of one part, for the same reason as the profile's point. */
void arg_whole(ArgvBuilder *b, const char *option, ProfileKey because, const char *fmt, ...)
    G_GNUC_PRINTF(4, 5);
/* A flag without a value, there by default. */
void arg_flag(ArgvBuilder *b, const char *option, const char *key, const char *note);
/* Commas doubled, as QEMU's option parsers want them. Caller frees. */
char *arg_quoted(const char *text);
/* A cause that the vm's configuration is: "disks.root.bus". */
Cause *cause_of_vm(const char *key_prefix, const char *name, const char *member, const char *value);
/* The root bus: "pcie.0" or "pci.0". */
const char *argv_root_bus(const ArgvBuilder *b);

/* Its name and id, and what keeps it to itself: needs no profile. */
void argv_add_identity(ArgvBuilder *b);
bool argv_add_machine(ArgvBuilder *b, GError **err);
void argv_add_monitors(ArgvBuilder *b);
void argv_add_firmware(ArgvBuilder *b);
bool argv_add_disks(ArgvBuilder *b, GError **err);
/* A file that is only read, as the block node of this name. */
void argv_add_medium(ArgvBuilder *b, const char *name, const char *path, const char *format,
		     const Cause *because);
void argv_add_cd_port(ArgvBuilder *b);
/* That the guest has grown by; before the CD. */
void argv_add_dimms(ArgvBuilder *b, const Json *sizes);
/* The last of all: see cd.h. */
void argv_add_cd(ArgvBuilder *b);
void argv_add_devices(ArgvBuilder *b);
void argv_add_nics(ArgvBuilder *b);
