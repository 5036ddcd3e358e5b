/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QMP commands and events that this program uses: names, what is sent,
 * what is read of the answer, how long it may take. Pure.
 *
 * A command that is not in the table is not sent. tests/qmp checks every line
 * of it against recorded schemas of QEMU and against the one installed, so a
 * member that some QEMU does not know is found there and not by a user.
 *
 * Forms are those of engine/form.h. To use another command, add its line.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "engine/form.h"

/* QEMU answers at once unless its main loop waits for storage. */
#define QMP_SOON (UINT64_C(30) * 1000000)
/* Those that do work before they answer. */
#define QMP_LATER (UINT64_C(120) * 1000000)

// clang-format off
#define QMP_CMD_TABLE(X)                                                                              \
	/* the monitor itself */                                                                      \
	X("qmp_capabilities", "{enable?:[s(oob)]}", "{}", QMP_SOON)                                   \
	X("query-qmp-schema", "{}", "[{name:s meta-type:s}]", QMP_SOON)                               \
	X("query-version", "{}", "{qemu:{major:i minor:i micro:i} package:s}", QMP_SOON)              \
	X("query-uuid", "{}", "{UUID:s}", QMP_SOON)                                                   \
	X("quit", "{}", "{}", QMP_SOON)                                                               \
	/* running */                                                                                 \
	X("query-status", "{}", "{running:b status:s(running|paused|prelaunch|inmigrate|shutdown|"    \
			       "guest-panicked|internal-error|io-error|suspended|watchdog|save-vm)}", \
	  QMP_SOON)                                                                                   \
	X("cont", "{}", "{}", QMP_SOON)                                                               \
	X("stop", "{}", "{}", QMP_SOON)                                                               \
	X("system_reset", "{}", "{}", QMP_SOON)                                                       \
	X("system_powerdown", "{}", "{}", QMP_SOON)                                                   \
	X("inject-nmi", "{}", "{}", QMP_SOON)                                                         \
	/* descriptors that travel beside a command */                                                \
	X("add-fd", "{fdset-id?:i opaque?:s}", "{fdset-id:i fd:i}", QMP_SOON)                         \
	X("remove-fd", "{fdset-id:i fd?:i}", "{}", QMP_SOON)                                          \
	X("getfd", "{fdname:s}", "{}", QMP_SOON)                                                      \
	X("closefd", "{fdname:s}", "{}", QMP_SOON)                                                    \
	X("add_client", "{protocol:s fdname:s skipauth?:b}", "{}", QMP_SOON)                          \
	/* what the guest has */                                                                      \
	X("query-chardev", "{}", "[{label:s filename:s frontend-open:b}]", QMP_SOON)                  \
	X("query-stats", "{target:s(vcpu|vm)}", "[{provider:s stats:[{name:s value:*}]}]", QMP_SOON)  \
	X("query-vnc-servers", "{}", "[{id:s clients:[*]}]", QMP_SOON)                                \
	X("trace-event-set-state", "{name:s enable:b ignore-unavailable?:b}", "{}", QMP_SOON)         \
	X("query-cpus-fast", "{}", "[{cpu-index:i qom-path:s thread-id:i}]", QMP_SOON)                \
	X("query-block", "{}", "[{device:s qdev?:s locked:b tray_open?:b io-status?:s "               \
			      "inserted?:{node-name?:s drv:s ro:b "                                   \
			      "file:s image:{virtual-size:i actual-size?:i} "                         \
			      "dirty-bitmaps?:[{name?:s recording:b busy:b persistent:b "             \
			      "inconsistent?:b}]}}]",                                                 \
	  QMP_SOON)                                                                                   \
	X("query-blockstats", "{query-nodes?:b}",                                                     \
	  "[{device?:s qdev?:s node-name?:s stats:{rd_bytes:i wr_bytes:i rd_operations:i "            \
	  "wr_operations:i}}]",                                                                       \
	  QMP_SOON)                                                                                   \
	X("query-memory-devices", "{}", "[{type:s ...}]", QMP_SOON)                                   \
	X("query-memory-size-summary", "{}", "{base-memory:i plugged-memory?:i}", QMP_SOON)           \
	X("query-vnc-servers", "{}", "[{id:s}]", QMP_SOON)                                            \
	X("screendump", "{filename:s device?:s head?:i format?:s(png|ppm)}", "{}", QMP_LATER)         \
	/* what a guest was at when something went wrong */                                           \
	X("human-monitor-command", "{command-line:s}", "s", QMP_SOON)                                 \
	X("dump-guest-memory", "{paging:b protocol:s detach?:b format?:s(elf|kdump-zlib|win-dmp)}",   \
	  "{}", QMP_SOON)                                                                             \
	X("query-dump", "{}", "{status:s(none|active|completed|failed) completed:i total:i}",         \
	  QMP_SOON)                                                                                   \
	X("qom-get", "{path:s property:s}", "*", QMP_SOON)                                            \
	X("qom-set", "{path:s property:s value:*}", "{}", QMP_SOON)                                   \
	X("qom-list", "{path:s}", "[{name:s type:s}]", QMP_SOON)                                      \
	/* changes while it runs */                                                                   \
	X("device_add", "{driver:s id?:s bus?:s ...}", "{}", QMP_SOON)                                \
	X("device_del", "{id:s}", "{}", QMP_SOON)                                                     \
	X("blockdev-open-tray", "{id:s force?:b}", "{}", QMP_SOON)                                    \
	X("blockdev-close-tray", "{id:s}", "{}", QMP_SOON)                                            \
	X("blockdev-remove-medium", "{id:s}", "{}", QMP_SOON)                                         \
	X("blockdev-insert-medium", "{id:s node-name:s}", "{}", QMP_SOON)                             \
	X("block_resize", "{device?:s node-name?:s size:i}", "{}", QMP_SOON)                          \
	X("set_link", "{name:s up:b}", "{}", QMP_SOON)                                                \
	X("balloon", "{value:i}", "{}", QMP_SOON)                                                     \
	X("query-balloon", "{}", "{actual:i}", QMP_SOON)                                              \
	/* moving to another QEMU */                                                                  \
	X("migrate", "{uri:s}", "{}", QMP_SOON)                                                       \
	X("migrate_cancel", "{}", "{}", QMP_SOON)                                                     \
	X("yank", "{instances:[{type:s(migration)}]}", "{}", QMP_SOON)                                \
	X("migrate-continue", "{state:s(pre-switchover)}", "{}", QMP_SOON)                            \
	X("migrate-incoming", "{uri:s}", "{}", QMP_SOON)                                              \
	X("migrate-start-postcopy", "{}", "{}", QMP_SOON)                                             \
	X("migrate-set-capabilities", "{capabilities:[{capability:s(events|auto-converge|return-path|" \
				      "pause-before-switchover|late-block-activate|postcopy-ram) "    \
				      "state:b}]}",                                                   \
	  "{}", QMP_SOON)                                                                             \
	X("migrate-set-parameters", "{max-bandwidth?:i downtime-limit?:i max-cpu-throttle?:i "        \
				    "cpu-throttle-initial?:i cpu-throttle-increment?:i "              \
				    "tls-creds?:* tls-hostname?:*}",                                  \
	  "{}", QMP_SOON)                                                                             \
	X("query-migrate", "{}", "{status?:s total-time?:i downtime?:i setup-time?:i error-desc?:s "  \
				"cpu-throttle-percentage?:i ram?:{transferred:i remaining:i total:i " \
				"dirty-pages-rate:i mbps:n dirty-sync-count:i page-size:i} "          \
				"socket-address?:[{type:s ...}]}",                                    \
	  QMP_SOON)                                                                                   \
	X("announce-self", "{initial:i max:i rounds:i step:i}", "{}", QMP_SOON)                       \
	X("object-add", "{qom-type:s id:s ...}", "{}", QMP_SOON)                                      \
	X("object-del", "{id:s}", "{}", QMP_SOON)                                                     \
	X("nbd-server-start", "{addr:* tls-creds?:s max-connections?:i}", "{}",                     \
	  QMP_SOON)                                                                                   \
	X("nbd-server-stop", "{}", "{}", QMP_SOON)                                                    \
	X("block-export-add", "{type:s(nbd) id:s node-name:s writable?:b ...}", "{}", QMP_SOON)       \
	X("blockdev-add", "{driver:s node-name?:s ...}", "{}", QMP_LATER)                             \
	X("blockdev-del", "{node-name:s}", "{}", QMP_SOON)                                            \
	X("blockdev-mirror", "{job-id?:s device:s target:s sync:s(full|top) speed?:i "                \
			     "copy-mode?:s(background|write-blocking)}",                              \
	  "{}", QMP_SOON)                                                                             \
	/* copies of what disks were at one moment */                                                 \
	X("transaction", "{actions:[{type:s(block-dirty-bitmap-add) ...}] }", "{}", QMP_SOON)       \
	X("blockdev-backup", "{job-id?:s device:s target:s sync:s(full|bitmap) bitmap?:s "            \
			     "bitmap-mode?:s(never) speed?:i auto-dismiss?:b}",                       \
	  "{}", QMP_SOON)                                                                             \
	X("block-dirty-bitmap-add", "{node:s name:s persistent?:b disabled?:b}", "{}", QMP_SOON)      \
	X("block-dirty-bitmap-merge", "{node:s target:s bitmaps:[*]}", "{}", QMP_SOON)                \
	X("block-dirty-bitmap-remove", "{node:s name:s}", "{}", QMP_SOON)                             \
	X("query-fdsets", "{}", "[{fdset-id:i fds:[{fd:i opaque?:s}]}]", QMP_SOON)                    \
	X("query-jobs", "{}", "[{id:s type:s status:s current-progress:i total-progress:i error?:s}]",\
	  QMP_SOON)                                                                                   \
	X("job-cancel", "{id:s}", "{}", QMP_SOON)                                                     \
	X("job-dismiss", "{id:s}", "{}", QMP_SOON)                                                    \
	X("block-job-set-speed", "{device:s speed:i}", "{}", QMP_SOON)                                \
	X("block-job-cancel", "{device:s force?:b}", "{}", QMP_SOON)                                  \
	X("query-block-jobs", "{}", "[{type:s device:s len:i offset:i ready:b}]", QMP_SOON)           \
	/* what this QEMU can do */                                                                   \
	X("query-kvm", "{}", "{enabled:b present:b}", QMP_SOON)                                       \
	X("query-machines", "{}",                                                                     \
	  "[{name:s alias?:s is-default?:b cpu-max:i hotpluggable-cpus:b deprecated:b}]", QMP_SOON)   \
	X("query-cpu-definitions", "{}",                                                              \
	  "[{name:s typename:s unavailable-features?:[s] migration-safe?:b static:b deprecated:b "    \
	  "alias-of?:s}]",                                                                            \
	  QMP_SOON)                                                                                   \
	X("query-cpu-model-expansion", "{type:s(static|full) model:{name:s props?:*}}",               \
	  "{model:{name:s props?:*}}", QMP_SOON)                                                      \
	X("qom-list-types", "{implements?:s abstract?:b}", "[{name:s parent?:s}]", QMP_SOON)          \
	X("device-list-properties", "{typename:s}", "[{name:s type:s}]", QMP_SOON)

/* Why QEMU ends or resets; the names it gives. */
#define QMP_SHUTDOWN_CAUSES                                                                           \
	"s(none|host-error|host-qmp-quit|host-qmp-system-reset|host-signal|host-ui|guest-shutdown|"   \
	"guest-reset|guest-panic|subsystem-reset|snapshot-load)"

#define QMP_EVENT_TABLE(X)                                                                            \
	X("SHUTDOWN", "{guest:b reason:" QMP_SHUTDOWN_CAUSES "}")                                     \
	X("RESET", "{guest:b reason:" QMP_SHUTDOWN_CAUSES "}")                                        \
	X("POWERDOWN", "{}")                                                                          \
	X("STOP", "{}")                                                                               \
	X("RESUME", "{}")                                                                             \
	X("SUSPEND", "{}")                                                                            \
	X("SUSPEND_DISK", "{}")                                                                       \
	X("WAKEUP", "{}")                                                                             \
	X("GUEST_PANICKED", "{action:s(pause|poweroff|run) info?:{type:s ...}}")                      \
	X("GUEST_CRASHLOADED", "{action:s(pause|poweroff|run) info?:{type:s ...}}")                   \
	X("VSERPORT_CHANGE", "{id:s open:b}")                                                         \
	X("BLOCK_IO_ERROR", "{device:s node-name?:s operation:s(read|write) action:s nospace?:b "     \
			    "reason:s}")                                                              \
	X("WATCHDOG", "{action:s}")                                                                   \
	X("DEVICE_DELETED", "{device?:s path:s}")                                                     \
	X("DEVICE_TRAY_MOVED", "{device:s id:s tray-open:b}")                                         \
	X("MEMORY_FAILURE", "{recipient:s(hypervisor|guest) action:s}")                               \
	X("RTC_CHANGE", "{offset:i}")                                                                 \
	X("BALLOON_CHANGE", "{actual:i}")                                                             \
	X("MIGRATION", "{status:s}")                                                                  \
	X("MIGRATION_PASS", "{pass:i}")                                                               \
	X("BLOCK_JOB_READY", "{type:s device:s len:i offset:i speed:i}")                              \
	X("BLOCK_JOB_COMPLETED", "{type:s device:s len:i offset:i speed:i error?:s}")                 \
	X("BLOCK_JOB_CANCELLED", "{type:s device:s len:i offset:i speed:i}")                          \
	X("BLOCK_JOB_ERROR", "{device:s operation:s(read|write) action:s}")
// clang-format on

typedef struct QmpCmd {
	const char *name, *args, *reply;
	uint64_t timeout;
} QmpCmd;

typedef struct QmpEvent {
	const char *name, *data;
} QmpEvent;

/* NULL: not in the table. */
const QmpCmd *qmp_cmd_find(const char *name);
const QmpEvent *qmp_event_find(const char *name);

/* For tests that walk the tables. */
const QmpCmd *qmp_cmd_table(size_t *ret_n);
const QmpEvent *qmp_event_table(size_t *ret_n);
