/* SPDX-License-Identifier: Apache-2.0 */
/* For vmm.c, vmm_launch.c and vmm_adopt.c only: the parts of engine/vmm.h. */
#pragma once

#include "engine/vmm.h"

struct VmmHost {
	Loop *loop;
	bool change_user;
	SpawnUser user;
	LogKeeper *logs;
};

/* In this order; see engine/vmm.h. */
typedef enum VmmState {
	VMM_STARTING,
	VMM_READY,
	VMM_LIVE,
	VMM_ENDED,
	VMM_FORGOTTEN,
} VmmState;

struct Vmm {
	gint refs;
	/* never change */
	VmmHost *host;
	char *name, *uuid, *dir, *log_path;
	const VmmHandler *handler;
	void *data;
	int pidfd;
	pid_t pid;
	uint64_t pid_start;
	Qmp *qmp;     /* closed by the loop's thread at the end */
	Agent *agent; /* the same; made by the loop's thread before READY */

	GMutex lock; /* guards what follows, up to the next gap */
	GCond changed;
	VmmState state;
	bool late; /* it was LIVE before its monitor was ready: that this is ready now is news */
	VmmExit exit;
	GPtrArray *listeners; /* VmmEvents, borrowed */

	/* the loop's thread only */
	LoopSource *end_source, *retry_source;
	uint64_t retry_delay;
	int log_watch;
	Console *console;
	bool told_lost; /* `monitor` said false last */
	bool fresh;     /* launched, and its guest has not run yet: it can't have opened the agent's port */
	char *shutdown;
	bool panicked;
};

/* Takes pidfd. STARTING; nothing is watched yet. */
Vmm *vmm_new(VmmHost *h, const char *name, const char *uuid, const char *dir, const char *log_path, pid_t pid,
	     int pidfd, const VmmHandler *handler, void *data);
/* Connect the monitor and have the loop watch. From any thread; it keeps a reference until ENDED or
 * FORGOTTEN. */
void vmm_watch(Vmm *v);
/* Fails with ERR_CONFLICT when a QEMU with this uuid runs on the folder: two would write to the same disks.
 */
bool vmm_check_free(const char *name, const char *uuid, const char *dir, GError **err);
/* Until it is not STARTING any more. False when `timeout` is over. */
bool vmm_wait_started(Vmm *v, uint64_t timeout);
/* From READY, or with `late` from STARTING, to LIVE. False when it is neither: it has ended. */
bool vmm_go_live(Vmm *v, bool late);
/* Ask the loop's thread to forget it, and drop the reference. */
void vmm_abandon(Vmm *v);
/* An event, of that real time (0: unknown), or NULL: events were lost, or none come any more. Loop thread.
 * Part of vmm_events.c. */
void vmm_tell_listeners(Vmm *v, const char *name, const Json *args, uint64_t real_us);
