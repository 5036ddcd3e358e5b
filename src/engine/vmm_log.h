/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a vm's QEMU: what it printed, bounded.
 *
 * QEMU writes into the file itself (O_APPEND), so it needs no daemon to print.
 * Each start begins with a line of ours that names the time and the command;
 * what follows the last such line are the words of the present QEMU.
 *
 * A guest can make QEMU print. Beyond VMM_LOG_MAX the file is moved to NAME.1
 * before a start, and copied there and emptied while QEMU runs (LogKeeper).
 */
#pragma once

#include "base/loop.h"

#define VMM_LOG_MAX (UINT64_C(1) << 20)

/* Open for appending, after moving a long one away. Descriptor, or -EBADF with *err. */
int vmm_log_open(const char *path, GError **err);
/* The line that begins a start. */
bool vmm_log_begin(int fd, const char *name, const char *const *argv, GError **err);
/*
 * The last lines of the present QEMU, at most 2 KiB, valid UTF-8 without
 * control characters but newlines; "" when it said nothing. Caller frees.
 */
char *vmm_log_last_words(const char *path);
/* The same without QEMU's warnings and notes: after a clean end they explain nothing. */
char *vmm_log_last_words_of_clean_end(const char *path);

/*
 * Bounds the logs of all running QEMUs with one inotify. Loop thread only.
 */
typedef struct LogKeeper LogKeeper;

LogKeeper *log_keeper_new(Loop *l, GError **err);
LogKeeper *log_keeper_free(LogKeeper *k);
/* A number for log_keeper_unwatch(); -1 when the file can't be watched (it is bounded at the next start
 * then). */
int log_keeper_watch(LogKeeper *k, const char *path);
void log_keeper_unwatch(LogKeeper *k, int watch);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(LogKeeper, log_keeper_free)
