/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's command line, each argument with what caused it. Pure.
 *
 * argv_of() writes down a profile: it decides nothing but the form. The result
 * is data: stored with the runtime record of a vm that was started, compared
 * with what the next start would use, shown by `vm explain`.
 *
 * Descriptors: "@fd:NAME@" stands for the number that the inherited descriptor
 * NAME has in QEMU's process; engine/vmm puts it in. Text of users that holds
 * "@fd:" is refused, so every placeholder is this module's. Names:
 *   qmp, qmp2, console, agent, serial, parallel   listening unix sockets
 *   tap-NIC-N, vhost-NIC-N                        queue N of a nic on a bridge
 * Everything else is a path: see core/model/paths.h.
 *
 * QEMU starts paused (-S) and ends when the guest powers off; a guest that
 * panics is paused until the daemon decides.
 */
#pragma once

#include "core/guest/profile.h"

typedef struct ArgCause {
	char *part; /* of the argument's value: "hpet=off" */
	Cause *cause;
} ArgCause;

typedef struct Arg {
	char *option;     /* "-device"; the first of all is QEMU's path */
	char *value;      /* NULL when it has none */
	GPtrArray *cause; /* ArgCause; at least one */
} Arg;

typedef struct Argv {
	GPtrArray *arg; /* Arg */
} Argv;

/*
 * The vm has its id, and its nics have their MACs. `disk_path`: the file or block device of each disk, in the
 * order of vm->disk. ERR_UNSUPPORTED for what can't be attached together, ERR_INVALID for text that can't be
 * part of a command line.
 */
Argv *argv_of(const Profile *p, const Vm *vm, const HostFacts *host, const char *const *disk_path,
	      GError **err);
/*
 * A QEMU without a machine that has the disks open to which the guest writes, as the nodes disk-NAME: for
 * work on them while the guest is off.
 */
Argv *argv_aside(const Vm *vm, const HostFacts *host, const char *const *disk_path, GError **err);
/* Only what of it is about the CD drive: its end. */
Argv *argv_cd(const Profile *p, const Vm *vm, const HostFacts *host);
/* Only DIMMs of these sizes, which come right before that. */
Argv *argv_dimms(const Json *sizes);
Argv *argv_free(Argv *a);

/* QEMU's path, then option and value by turns; placeholders as they are. g_strfreev(). */
GStrv argv_words(const Argv *a);
/* The names of the descriptors it needs, in order, each once. g_strfreev(). */
GStrv argv_fds(const Argv *a);

/* [{option, value, causes: [{part, source, key, value, note}]}]: as stored in runtime.applied.argv */
Json *argv_to_json(const Argv *a);
Argv *argv_of_json(const Json *j, GError **err);

/* One argument a line, its causes indented below: the golden text of tests. Caller frees. */
char *argv_print(const Argv *a);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Argv, argv_free)
