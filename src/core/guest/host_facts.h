/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a planner knows of a host. Pure.
 *
 * The engine's probe fills it, the daemon keeps it in the host's record
 * (hosts/ID), planners read it from there: they never look at the host
 * themselves, so that a plan is the same wherever it is made.
 *
 * JSON, as members of the host's record (which may have more):
 * {id, name,
 *  accelerators: {kvm: {works, reason}, tcg: {works, reason}}, accel,
 *  qemu: {path, version, machines: [{name, alias}]},
 *  cpu: {count, vendor, model}, memory,
 *  firmware: {uefi: {code, vars} | null, uefi_secure: {code, vars} | null},
 *  swtpm, run_as, vhost_net, direct_io, folders: {state, run, log}, settings: {}}
 */
#pragma once

#include "base/err.h"
#include "core/model/paths.h"

// clang-format off
#define ACCEL_TABLE(X) \
	X(KVM, "kvm")   \
	X(TCG, "tcg")
// clang-format on

typedef enum Accel {
#define X(name, text) ACCEL_##name,
	ACCEL_TABLE(X)
#undef X
	    _ACCEL_MAX,
} Accel;

typedef struct AccelFact {
	bool works;   /* guest code was seen to run under it */
	char *reason; /* why it does not; NULL when it works */
} AccelFact;

typedef struct HostMachine {
	char *name;  /* "pc-q35-7.2" */
	char *alias; /* "q35", or NULL */
} HostMachine;

/* Both paths or none. */
typedef struct HostFirmware {
	char *code, *vars; /* code is shared and read-only, vars is the template of a vm's own */
} HostFirmware;

typedef struct HostFacts {
	char *id, *name;
	AccelFact accel[_ACCEL_MAX];
	char *accel_wanted; /* "auto", "kvm" or "tcg": the host's own choice for vms that leave it open */
	char *qemu, *qemu_version;
	GPtrArray *machine; /* HostMachine */
	unsigned cpus;
	char *cpu_vendor, *cpu_model; /* "GenuineIntel", ...; may be NULL */
	uint64_t memory;
	HostFirmware uefi, uefi_secure;
	char *swtpm;    /* path, or NULL */
	char *run_as;   /* the user that QEMU runs as, or NULL: the daemon's own */
	bool vhost_net; /* /dev/vhost-net opens */
	bool direct_io; /* the file system of the state folder takes O_DIRECT */
	Folders folders;
	Json *settings; /* what an admin set on the host: core/model/settings.h, host_settings; never NULL */
} HostFacts;

const char *accel_name(Accel a);
bool accel_of_name(const char *name, Accel *ret);

HostFacts *host_facts_new(void);
HostFacts *host_facts_free(HostFacts *h);
void host_facts_add_machine(HostFacts *h, const char *name, const char *alias);
/* By name or alias; NULL when QEMU knows none. Borrowed. */
const HostMachine *host_machine_find(const HostFacts *h, const char *name);

/* ERR_INVALID when what planners rely on (name, QEMU's path, folders) is missing or of the wrong type. */
HostFacts *host_facts_of_json(const Json *j, GError **err);
Json *host_facts_to_json(const HostFacts *h);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(HostFacts, host_facts_free)
