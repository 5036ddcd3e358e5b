/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The API of the daemon: requests in, answers out.
 *
 * A request passes these steps: its route is found in the generated table; the
 * peer is known from the socket and gets a role; the handler runs on a worker
 * thread; its answer or error goes back through the loop. Streams and
 * consoles stay on the loop (stream.h, console.h).
 *
 * Who may do what: on the unix socket root and the members of the group
 * `plimsoll` are admins, all others are refused. On TLS a client certificate
 * that the configured authority signed makes an admin of its bearer, unless
 * its organisation says otherwise. On the address of the pool the pool's own
 * authority is trusted instead: a host's certificate makes a peer, as long as
 * the host is in the pool's records, and what a peer passes on for a user has
 * that user's role. Whoever shows none may only ask to join. Loop thread only.
 */
#pragma once

#include "engine/engine.h"

typedef struct Api Api;

/* The sockets on which the API listens: the unix socket, the configured address, the pool's. None: <= 0. */
struct api_sockets {
	int local, tls, pool;
};

struct api_config {
	Engine *engine;
	Loop *loop;
	const char *socket;
	/* All four or none. */
	const char *tls_address, *tls_cert, *tls_key, *tls_client_ca;
	/* The pool that this host is a member of, or NULL: its address is served as well. */
	const Membership *member;
	/* From api_hand_over() of the daemon before this one. Taken. */
	struct api_sockets sockets;
};

Api *api_new(const struct api_config *config, GError **err);
/* The daemon is about to stop: those at consoles and screens are told. While the loop runs. NULL is fine. */
void api_say_goodbye(Api *a);
/* Takes no more connections: who comes waits for the daemon that the sockets are handed to. NULL is fine. */
void api_rest(Api *a);
/*
 * Are there requests that nobody has answered yet, or connections that have
 * yet to ask? Streams and consoles do not count. NULL is fine.
 */
bool api_is_busy(const Api *a);
/*
 * Who waits for another host is told that the daemon stops: it would stop only when that host has answered,
 * and renews no lease meanwhile. False when nobody waits for an answer. While the loop runs. NULL is fine.
 */
bool api_give_up(Api *a);
/* Gives up the listening sockets, which are the caller's now. Before api_free(). NULL is fine. */
struct api_sockets api_hand_over(Api *a);
/* Closes. NULL is fine; returns NULL. */
Api *api_free(Api *a);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Api, api_free)
