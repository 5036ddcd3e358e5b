/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where QEMU writes its trace to while the ledger looks: a piece of memory
 * that is bounded by itself.
 *
 * QEMU's log backend writes a line per event and knows no bound; a guest that
 * floods a device would fill a disk, or, through a pipe, wait for a daemon
 * that is stopped. So the log is a memory file whose end lies WAKE_LOG_SIZE
 * before the largest size that a file can have: QEMU appends (its log is always
 * opened so once it has had one, standard error at first), and beyond the end
 * of the world the kernel refuses with EFBIG at once. QEMU ignores that. The
 * daemon takes the lines out and sets the end back. A daemon that dies or stops
 * leaves a QEMU that writes nowhere.
 *
 * Worker threads; one thread at a time.
 */
#pragma once

#include "core/wake/trace.h"
#include "engine/qmp.h"

#define WAKE_LOG_SIZE (UINT64_C(4) << 20)

typedef struct WakeLog WakeLog;

/* Have QEMU log here. ERR_UNSUPPORTED when this QEMU would not append. */
WakeLog *wake_log_open(Qmp *q, GError **err);
/* Take out what is there. True when there was no room for some of it. */
bool wake_log_take(WakeLog *l, Tally *t);
/* QEMU may still have it open; it must have been told off before. NULL is fine; returns NULL. */
WakeLog *wake_log_close(WakeLog *l);

/* Have QEMU log nowhere: its messages go to standard error and are not meant. */
bool wake_log_off(Qmp *q, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(WakeLog, wake_log_close)
