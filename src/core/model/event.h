/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Events: what happened, for people and for programs that watch.
 *
 * The type is stable ("vm.started"), the message a sentence, the object names
 * what it happened to. Pure: the caller brings time and number.
 */
#pragma once

#include "base/err.h"

// clang-format off
#define EVENT_TABLE(X)                                      \
	X(DAEMON_STARTED,    "daemon.started",    "info")    \
	X(DAEMON_STOPPED,    "daemon.stopped",    "info")    \
	X(HOST_PROBED,       "host.probed",       "info")    \
	X(HOST_ACCEL_UNUSABLE, "host.accel-unusable", "warning") \
	X(HOST_KSM_UNUSABLE, "host.ksm-unusable", "warning") \
	X(HOST_MEMORY_SHORT, "host.memory-short", "warning") \
	X(HOST_MEMORY_ENOUGH, "host.memory-enough", "info") \
	X(HOST_CPU_FOUND,    "host.cpu-found",    "info")    \
	X(HOST_CPU_CHANGED,  "host.cpu-changed",  "warning") \
	X(HOST_CPU_UNKNOWN,  "host.cpu-unknown",  "warning") \
	X(HOST_CPU_MASKED,   "host.cpu-masked",   "info")    \
	X(POOL_LEVEL_CHANGED, "pool.level-changed", "info")  \
	X(HOST_JOINING,      "host.joining",      "info")    \
	X(HOST_JOINED,       "host.joined",       "info")    \
	X(HOST_JOIN_UNDONE,  "host.join-undone",  "warning") \
	X(HOST_LEFT,         "host.left",         "info")    \
	X(HOST_EVICTED,      "host.evicted",      "warning") \
	X(HOST_LOST,         "host.lost",         "error")   \
	X(HOST_BACK,         "host.back",         "info")    \
	X(HOST_FENCED,       "host.fenced",       "error")   \
	X(HOST_UNFENCED,     "host.unfenced",     "error")   \
	X(POOL_CREATED,      "pool.created",      "info")    \
	X(VM_CREATED,        "vm.created",        "info")    \
	X(VM_CHANGED,        "vm.changed",        "info")    \
	X(VM_RENAMED,        "vm.renamed",        "info")    \
	X(VM_DELETED,        "vm.deleted",        "info")    \
	X(VM_STARTED,        "vm.started",        "info")    \
	X(VM_ADOPTED,        "vm.adopted",        "info")    \
	X(VM_LOST,           "vm.lost",           "error")   \
	X(VM_STOPPED,        "vm.stopped",        "info")    \
	X(VM_CRASHED,        "vm.crashed",        "error")   \
	X(VM_PANICKED,       "vm.panicked",       "error")   \
	X(VM_CRASH_KERNEL,   "vm.crash-kernel",   "warning") \
	X(VM_EVIDENCE,       "vm.evidence",       "info")    \
	X(VM_HUNG,           "vm.hung",           "error")   \
	X(VM_AGENT_SILENT,   "vm.agent-silent",   "warning") \
	X(VM_PAUSED,         "vm.paused",         "info")    \
	X(VM_SUSPENDED,      "vm.suspended",      "info")    \
	X(VM_RESUMED,        "vm.resumed",        "info")    \
	X(VM_RESET,          "vm.reset",          "info")    \
	X(VM_REBOOTED,       "vm.rebooted",       "info")    \
	X(VM_MIGRATED,       "vm.migrated",       "info")    \
	X(VM_MOVE_WAITS,     "vm.move-waits",     "error")   \
	X(VM_RELEVELED,      "vm.releveled",      "info")    \
	X(VM_RESTARTED,      "vm.restarted",      "warning") \
	X(VM_AGENT_CONNECTED, "vm.agent-connected", "info")  \
	X(VM_AGENT_GONE,     "vm.agent-gone",     "info")    \
	X(VM_TOOLS_OLD,      "vm.tools-old",      "warning") \
	X(VM_BACKED_UP,      "vm.backed-up",      "info")    \
	X(VM_FREEZE_FAILED,  "vm.freeze-failed",  "warning") \
	X(VM_THAWED,         "vm.thawed",         "info")    \
	X(VM_THAW_WAITS,     "vm.thaw-waits",     "error")   \
	X(VM_RESTORED,       "vm.restored",       "info")    \
	X(BACKUP_VERIFIED,   "backup.verified",   "info")    \
	X(BACKUP_DELETED,    "backup.deleted",    "info")    \
	X(VM_DISK_ERROR,     "vm.disk-error",     "error")   \
	X(VM_MEMORY_IGNORED, "vm.memory-ignored", "warning") \
	X(VM_IDLE_COSTLY,    "vm.idle-costly",    "warning") \
	X(VM_IDLE_KEPT,      "vm.idle-kept",      "info")    \
	X(VM_DISK_STOPPED,   "vm.disk-stopped",   "error")   \
	X(IMAGE_IMPORTED,    "image.imported",    "info")    \
	X(IMAGE_CHANGED,     "image.changed",     "info")    \
	X(IMAGE_VERIFIED,    "image.verified",    "info")    \
	X(IMAGE_DELETED,     "image.deleted",     "info")    \
	X(VOLUME_CREATED,    "volume.created",    "info")    \
	X(VOLUME_GROWN,      "volume.grown",      "info")    \
	X(VOLUME_DELETED,    "volume.deleted",    "info")    \
	X(OPERATION_RECOVERED, "operation.recovered", "warning") \
	X(OPERATION_FAILED,  "operation.failed",  "error")
// clang-format on

typedef enum EventType {
#define X(name, type, severity) EVENT_##name,
	EVENT_TABLE(X)
#undef X
	    _EVENT_MAX,
} EventType;

const char *event_type_name(EventType type);
const char *event_severity(EventType type);

/*
 * {id, time, type, severity, object:{type,id,name}, message, details}.
 * `object_type` is "vm", "image", ... or NULL for the daemon itself; takes
 * `details`, which may be NULL. New reference.
 */
Json *event_new(uint64_t seq, const char *now, EventType type, const char *object_type, const char *object_id,
		const char *object_name, const char *message, Json *details);
