/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that moves, as the host sees it that it comes to: it is waited for, its promise (promise.h) is
 * taken, it goes on, and is this host's on record; or it never runs here, and the other host has it back. For
 * steps_receive.c. Nothing here ends before that is known, but for a daemon that is stopped: the next one
 * goes on.
 */
#pragma once

#include "engine/engine-impl.h"
#include "engine/steps-impl.h"
#include "engine/vmm.h"

typedef struct Arrival {
	StepContext *ctx;
	Engine *engine;
	const char *own;    /* the operation that receives */
	const Json *args;   /* of RECEIVE_GUEST */
	Vmm *vmm;           /* NULL: its QEMU has ended */
	uint64_t missed_at; /* when the source's lease was missed; 0: it is there */
	/* Since the source has said that all of it is on its way, as far as this host was awake; 0: not yet.
	 */
	uint64_t rest, rest_at;
	bool taken;  /* PROMISE_TAKEN is on record */
	bool doubt;  /* by an earlier daemon here: the guest may have run, and written to disks */
	bool unsure; /* the same, and its QEMU has ended */
	bool ran;    /* it has, or may have: nobody may be told that it never did */
} Arrival;

/* All is borrowed. Asks what an earlier daemon here knew of it. */
void arrival_init(Arrival *a, StepContext *ctx, const Json *args, Vmm *v);
/*
 * True: it runs here, or a->unsure: it has ended here; the records say that it is this host's. On failure
 * arrival_back() comes next.
 */
bool arrival_receive(Arrival *a, GError **err);
/*
 * It does not run here, because of *why: until the source has taken it back, or nobody is left who could.
 * *why becomes arrival_fail_lost()'s when that is what its QEMU ended of. False: this daemon ends before
 * that.
 */
bool arrival_back(Arrival *a, GError **why);

/* ---- what the records say of it ---- */

typedef enum GuestVerdict { GUEST_UNDECIDED, GUEST_OURS, GUEST_THEIRS } GuestVerdict;

/* Whose it is by now; what can't be read is undecided. */
GuestVerdict arrival_look(const Arrival *a);
/* Will nothing come any more, because the source is gone? */
bool arrival_is_lost(Arrival *a);
/* For people. Caller frees. */
char *arrival_source_name(const Arrival *a);
/* Both: always false. */
bool arrival_fail_given_up(const Arrival *a, GError **err);
bool arrival_fail_lost(const Arrival *a, GError **err);
