/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that are on their way from this host: what the steps of one
 * vm.migrate share beyond its record. In memory only: a move whose daemon died
 * before the owner changed is undone. Any thread; one step of a move at a time.
 */
#pragma once

#include "engine/peer.h"

typedef struct Moves Moves;

typedef struct Move {
	PeerLink *link; /* to the daemon of the other host */
	char *reception;
	unsigned memory_port, disk_port;
	GStrv node;         /* the disks that are copied, as block nodes */
	Json *copied;       /* [{volume, path}]: where they will be */
	Json *applied;      /* what the vm's record will be */
	bool takes_promise; /* the other host knows what one is */
	bool promised;      /* promise.h: it goes on over there without a word */
} Move;

Moves *moves_new(void);
Moves *moves_free(Moves *m);
/* A new one, empty; one that was there is replaced. Borrowed. */
Move *move_begin(Moves *m, const char *operation);
/* NULL when there is none. Borrowed. */
Move *move_find(Moves *m, const char *operation);
void move_end(Moves *m, const char *operation);

/*
 * Whether two hosts see the same folder is found out: one writes a file with a
 * name and a text that nobody can guess, the other looks for it.
 * {path, token} or, where nothing can be written, null. New reference.
 */
Json *marker_make(const char *folder);
void marker_remove(const Json *marker);
/* Is it here as well? False for null. */
bool marker_seen(const Json *marker);

#define RECEPTIONS "/v1/peer/receptions"

/*
 * The body of a request to receive a guest, without operation and key: from the
 * arguments of MIGRATE_PREPARE and the vm's record. It makes markers:
 * move_request_done() removes them. New reference.
 */
Json *move_request(Engine *e, const Json *args, GError **err);
void move_request_done(const Json *body);
