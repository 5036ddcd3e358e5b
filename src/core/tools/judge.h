/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host can do that a guest cannot, because of its tools. Pure.
 *
 * A version says little: distributions forbid commands, builds lack them. So the
 * judgement is by what the agent can be asked and what the guest drives; the
 * version only tells why something is missing, and whether it drifts from what
 * its host expects.
 *
 * A capability that hangs on commands is there when the agent has all of them
 * enabled. One that hangs on a device is asked of guests that have the device;
 * the others don't lack it.
 */
#pragma once

#include "base/err.h"
#include "core/tools/device.h"

/*
 * key, name, what does not work without it, commands (all are needed), the version of
 * the agent that brought them (QEMU's qga/qapi-schema.json), device
 */
// clang-format off
#define TOOLS_CAPABILITY_TABLE(X)                                                                              \
	X(SHUTDOWN,  "shutdown",  "stop and reboot go by the power button alone",                              \
	  "guest-shutdown", "0.15", _TOOLS_DEVICE_MAX)                                                         \
	X(CLOCK,     "clock",     "its clock is late by the pause after it moved",                             \
	  "guest-get-time guest-set-time", "1.5", _TOOLS_DEVICE_MAX)                                           \
	X(FREEZE,    "freeze",    "its file systems can't be held still for a consistent copy",                \
	  "guest-fsfreeze-status guest-fsfreeze-freeze guest-fsfreeze-thaw", "0.15", _TOOLS_DEVICE_MAX)        \
	X(EXEC,      "exec",      "its file systems don't grow with their disks, and a rollout can't reach it", \
	  "guest-exec guest-exec-status", "2.5", _TOOLS_DEVICE_MAX)                                            \
	X(FILES,     "files",     "its own counts and its drivers are not read",                               \
	  "guest-file-open guest-file-read guest-file-close", "0.15", _TOOLS_DEVICE_MAX)                       \
	X(ADDRESSES, "addresses", "its addresses are not known",                                               \
	  "guest-network-get-interfaces", "1.1", _TOOLS_DEVICE_MAX)                                            \
	X(SYSTEM,    "system",    "its system's name and version are not known",                               \
	  "guest-get-osinfo", "2.10", _TOOLS_DEVICE_MAX)                                                       \
	X(BALLOON,   "balloon",   "its memory does not shrink, and pages that it freed don't come back",       \
	  NULL, NULL, TOOLS_DEVICE_BALLOON)                                                                    \
	X(GROWTH,    "growth",    "its memory does not grow while it runs",                                    \
	  NULL, NULL, TOOLS_DEVICE_MEMORY)                                                                     \
	X(RANDOM,    "random",    "it gets no randomness from its host",                                       \
	  NULL, NULL, TOOLS_DEVICE_RNG)                                                                        \
	X(POINTER,   "pointer",   "its console has no absolute pointer",                                       \
	  NULL, NULL, TOOLS_DEVICE_INPUT)
// clang-format on

typedef enum ToolsCapability {
#define X(key, name, loss, commands, since, device) TOOLS_##key,
	TOOLS_CAPABILITY_TABLE(X)
#undef X
	    _TOOLS_CAPABILITY_MAX,
} ToolsCapability;

const char *tools_capability_name(ToolsCapability c);

/* The guest's version beside its host's. */
// clang-format off
#define TOOLS_DRIFT_TABLE(X)                                                    \
	X(CURRENT, "current")                                                   \
	X(OLDER,   "older")                                                     \
	X(NEWER,   "newer")                                                     \
	X(UNKNOWN, "unknown") /* one of them is no version, or none is wanted */ \
	X(NONE,    "none")    /* no agent was ever heard */
// clang-format on

typedef enum ToolsDrift {
#define X(key, name) TOOLS_DRIFT_##key,
	TOOLS_DRIFT_TABLE(X)
#undef X
	    _TOOLS_DRIFT_MAX,
} ToolsDrift;

const char *tools_drift_name(ToolsDrift d);

/* `record` NULL: none was heard. `expected` NULL: nothing. */
ToolsDrift tools_drift_of(const Json *record, const char *expected);

/*
 * The version that a host expects of a guest: what an admin set, of guests with
 * Windows and of others (core/model/settings.h: host_settings); else for others the
 * version of the host's QEMU, because both come from one source. Windows' agents
 * count on their own (109.0 is one of 2024), so there is nothing to fall back on.
 * `windows`: as the guest's record, or its vm's os_type, says. NULL: nothing. Caller frees.
 */
char *tools_expected(const Json *of_host, const char *qemu_version, bool windows);

/* Changes of a host's settings (NULL: none): is one of these versions among them, and are they versions?
 * ERR_INVALID. */
bool tools_settings_named(const Json *changes);
bool tools_settings_check(const Json *changes, GError **err);

/* All borrowed. */
struct tools_guest {
	const char *name;     /* for advice */
	const Json *record;   /* core/tools/record.h; NULL: no agent was ever heard */
	const char *expected; /* or NULL */
	bool channel;         /* the vm has a port for an agent */
	uint32_t offered;     /* bits of its devices */
};

/*
 * {drift, expected, can: [NAME], cannot: [{capability, loss, because, advice}],
 * unknown: [NAME]}. New reference.
 */
Json *tools_judge(const struct tools_guest *g);
