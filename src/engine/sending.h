/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose a guest is while it moves, as the host that it leaves sees it: the moment at which it becomes the
 * other host's, what became of it there, and how it comes back when it can't run there. For steps_migrate.c.
 * Nothing here ends before that is known, but for a daemon that is stopped: the next one goes on.
 */
#pragma once

#include "engine/move.h"
#include "engine/owner.h"
#include "engine/peer.h"
#include "engine/steps-impl.h"
#include "engine/vmm.h"

/* Fact: the other host was taken out of the pool, and what stayed here is all that is left of the guest. */
#define SENDING_LEFT_ALONE "left_alone"
/* Facts of a guest that is promised: QEMU may have been told to send it; it will not run over there. */
#define SENDING_BEGUN "sending_begun"
#define SENDING_OURS_AGAIN "ours_again"

typedef struct Sending {
	StepContext *ctx;
	const Json *args;
	Move *move;
	PeerLink *link; /* to the other host's daemon */
	PeerLink *late; /* the same, when it is this step's own */
	Vmm *vmm;       /* NULL: its QEMU has ended */
	uint64_t looked_at;
	OwnerSeen seen;
	bool stands;       /* the guest does: nothing may take long */
	bool owned;        /* by the other host; or it may run there, when it is promised */
	bool promised;     /* promise.h */
	bool may_have_run; /* over there, and does not any more */
	bool interrupted;  /* this daemon ends before it is known what became of it */
	bool rests;        /* its thread counts as free */
	uint64_t ran_at;
	Json *finish; /* what goes with the word to go on; NULL: nothing */
} Sending;

/* The arguments of MIGRATE_PREPARE, the first step of the move, which know the guest's disks. Borrowed. */
const Json *sending_prepare_args(StepContext *ctx);
/* The member of `disks` of that name, or NULL. Borrowed. */
Json *sending_disk_named(const Json *disks, const char *name);
/* Fails with what `view`, of the other host's operation, says; `args` name host and vm. Always false. */
bool sending_fail_as_told(const Json *args, const Json *view, GError **err);

/* The guest is the other host's from here on, or, on failure, still ours, unless s->owned. */
bool sending_hand_over(Sending *s, GError **err);
/*
 * The other host's daemon is told to let it go on, for as long as it takes to know what came of that. On
 * failure the guest is ours again, or, with s->owned, it may not go on here; s->interrupted: this daemon
 * ends, and nothing is known.
 */
bool sending_conclude(Sending *s, GError **err);
/*
 * Something went wrong with a guest that is promised: whether it may go on here. True: it went over all the
 * same, and *err is cleared. Else *err stays, or says better what happened; the rest as for
 * sending_conclude(), s->owned also for one that was given away when this host was evicted.
 */
bool sending_settle(Sending *s, GError **err);
/*
 * Nothing comes of the promise any more, and that is sure: the guest is as ours as before. A promise that
 * stays on record, because the store can't be reached, is in nobody's way.
 */
void sending_withdraw(StepContext *ctx, const Json *args);
