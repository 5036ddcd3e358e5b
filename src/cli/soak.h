/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A soak: guests go round between hosts, again and again, and after each move
 * everything that can be looked at is. One thread; each guest is a machine of
 * few states that is looked at in turn, so that many move at the same time.
 *
 * States of a guest, and who moves it on:
 *     REST    until its pause is over     -> MOVE    the operation was begun
 *     MOVE    the operation goes on       -> LOOK    it ended (cancelled on purpose or not)
 *     LOOK    waits for a sign of life    -> REST    it is as it must be
 *     DONE    it has made all its trips
 * A deviation ends all of it (`deviation` is set).
 */
#pragma once

#include "cli/command.h"
#include "cli/soak_flow.h"
#include "core/soak/check.h"
#include "core/soak/histogram.h"
#include "core/soak/schedule.h"

typedef enum SoakState { SOAK_REST, SOAK_MOVE, SOAK_LOOK, SOAK_DONE } SoakState;

typedef struct SoakHost {
	char *id, *name;
} SoakHost;

typedef struct SoakGuest {
	char *id, *name;
	unsigned number;
	bool agent;      /* watched through its agent; else by its serial console */
	size_t home, at; /* hosts */
	SoakState state;
	uint64_t due, deadline; /* monotonic us: when to look again, when to stop waiting */
	uint64_t trip, trips;   /* made, to make */
	size_t move, n_moves;   /* of this trip */
	bool cancel;            /* this one is to be cancelled at `cancel_at` */
	uint64_t cancel_at;
	struct soak_move way[SOAK_HOSTS_MAX];
	Json *op;              /* the last move */
	uint64_t downtime;     /* us since `beat` */
	struct soak_beat beat; /* the last one that was good */
	bool arrived;          /* it was listened to since its move ended, and then: */
	uint64_t flow;         /* so many messages had come back */
} SoakGuest;

typedef struct Soak {
	Cli *cli;
	struct soak_settings settings;
	uint64_t count, margin, began, ended; /* monotonic us */
	SoakHost host[SOAK_HOSTS_MAX];
	GPtrArray *guest; /* SoakGuest */
	SoakFlow *flow;   /* NULL: none is watched */
	Histogram *downtime, *total;
	uint64_t trips, moves, cancelled;
	bool interrupted;
	Json *deviation; /* {vm, trip, move, at, reasons, evidence} */
} Soak;

/* What the guest says of itself now; false without an error: nothing yet. Start it first. */
bool soak_watch_start(Soak *s, SoakGuest *g, GError **err);
bool soak_watch(Soak *s, const SoakGuest *g, struct soak_beat *ret, GError **err);
/* A command of the user's in the guest, through its agent; it must succeed. */
bool soak_run_check(Soak *s, const SoakGuest *g, const char *command, GError **err);
/* [{host, vm, processes}] of all hosts. New reference. */
Json *soak_hosts_look(Soak *s, const SoakGuest *g, GError **err);

/*
 * Stops the guest as it is and writes into a new folder what each host and the
 * guest's QEMU can tell. What can't be had leaves a file NAME.error. False
 * when there is no folder.
 */
bool soak_evidence_write(Soak *s, const SoakGuest *g, const char *folder, GError **err);

/* {status, seed, trips, moves, ...}: the result. New reference. */
Json *soak_summary(Soak *s);
