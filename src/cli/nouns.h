/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of each noun, and what their files share. */
#pragma once

#include "cli/command.h"

extern const Command vm_commands[], vm_create_commands[], vm_device_commands[], vm_guest_commands[],
    image_commands[], volume_commands[], host_commands[], pool_commands[], host_cpu_commands[],
    operation_commands[], event_commands[], cpu_commands[], move_commands[], soak_commands[],
    wakeup_commands[], tools_commands[], rollout_commands[], evidence_commands[], balance_commands[],
    backup_commands[], cdrom_commands[];

/* "/v1/hosts/HOST" and `rest`; without a name the host of the daemon that is asked. Caller frees. */
char *host_path_of(Cli *c, const char *host, const char *rest, GError **err);
/* Call `one` for each argument; tells every error, returns the first. */
bool each_name(Cli *c, bool (*one)(Cli *c, const char *name, GError **err), GError **err);
/* A verb on many vms: those whose names are the arguments, or with --all and --filter. */
struct many {
	const char *verb, *past; /* "start", "started" */
	const char *states;      /* of --all only those in one of these: "stopped,crashed" */
	const char *query;       /* "?host=h2", or NULL */
	Json *body;              /* borrowed; NULL: none */
};
/* Asks for all of them, then waits for each; tells every failure, returns the first. */
bool vm_many(Cli *c, const struct many *m, GError **err);
/* The names of --all and --filter; of those in one of `states`, or in any when that is NULL. g_strfreev(). */
GStrv vm_names_of_all(Cli *c, const char *states, GError **err);
/* "memory" -> "memory.start" */
const char *setting_key(const char *typed);
/* KEY=VALUE into settings, property.KEY=VALUE into properties (NULL: there are none, as of hosts). */
bool put_assignment(Cli *c, Json *settings, Json *properties, const char *text, GError **err);
/* The table of settings that `path` answers. */
bool print_settings(Cli *c, const char *path, GError **err);
/* What a path answers, to a file, or to the standard output when `file` is NULL or "-". */
bool print_bytes_of(Cli *c, const char *path, const char *file, GError **err);
/* A disk or card as people write it, --disk's and --nic's value, as the API takes it. New reference. */
Json *disk_of_text(const char *text, GError **err);
Json *nic_of_text(const char *text, GError **err);
/* "applied now: ..." and "at the next start: ..." of an answer to a change. */
void print_change_report(const Json *answer);
