/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls to the daemons of other hosts: HTTP over TLS, both ends with the
 * certificates of the pool (pki.h).
 *
 * A call blocks until its deadline: worker threads only. What the other side
 * refuses comes back as its own error, with the host's name in front. That a
 * call failed does not say that nothing happened over there: ask again.
 */
#pragma once

#include "base/ws.h"

#include <stdint.h>

typedef struct Engine Engine;

/*
 * One exchange with the daemon of host `host_id`, as this host. `path` begins
 * with "/v1/" and is encoded; `body` may be NULL. The answer's JSON, an empty
 * object when it has none; new reference.
 *
 * ERR_NOT_FOUND for a host that the pool does not have, ERR_UNSUPPORTED on a
 * host without a pool, ERR_UNAVAILABLE or ERR_TIMEOUT when nobody answers,
 * ERR_DENIED when who answers is not that host or does not want us; else what
 * the other daemon says.
 */
Json *peer_call(Engine *e, const char *host_id, const char *method, const char *path, const Json *body,
		uint64_t timeout, GError **err);

/*
 * Several calls to one host, on a connection that stays: for where the time of
 * a handshake counts. One thread at a time.
 */
typedef struct PeerLink PeerLink;

/* Nothing is connected yet. Fails as peer_call() does for hosts that are not known. */
PeerLink *peer_link_open(Engine *e, const char *host_id, GError **err);
PeerLink *peer_link_free(PeerLink *l);
Json *peer_link_call(PeerLink *l, const char *method, const char *path, const Json *body, uint64_t timeout,
		     GError **err);
/* Without a word to it: false when the other daemon closed the connection of the last call, or died. */
bool peer_link_lives(const PeerLink *l);

/*
 * A connection to the daemon of a host, for what is no exchange: TLS is agreed
 * on and nothing was said yet. It never blocks from now on; its close() ends
 * it. One thread at a time. Fails as peer_call() does for who does not answer.
 */
bool peer_connect(Engine *e, const char *host_id, uint64_t timeout, struct ws_connection *ret, GError **err);

/*
 * Each host reads from a copy of the pool's records. Who asks another one, but on a PeerLink, says how far
 * its own copy is, and is answered from one that is as far; the answer says how far that was.
 */
#define PEER_REVISION "Plimsoll-Revision"

/* ---- for the pool's own parts: below peer_call() ---- */

/* Whom to call. */
struct peer_target {
	const char *url;     /* "https://ADDRESS:PORT" */
	const char *host_id; /* whose certificate it must show; NULL: one for the address in `url` */
	const char *name;    /* of the host, for messages; NULL: the url */
	const char *folder; /* of pki.h; as whom, and whom to believe. NULL: a host of no pool of ours, and */
	const char *ca;     /* PEM file of whom to believe; NULL: the machine's authorities */
	const char *cert, *key; /* PEM files of what to show, or NULL */
	bool stranger;          /* show no certificate of ours, there is none yet */
	bool unverified;        /* believe anybody: only to fetch what is checked by its fingerprint */
};

struct peer_request {
	const char *method, *path;
	const char *body, *content_type; /* text, or NULL; NULL: application/json */
	const char *if_match;            /* or NULL */
	const char *user, *role;         /* on whose behalf, or NULL: our own */
	int64_t revision;                /* that it must be answered from at least; 0: any */
	uint64_t timeout;
	/* Asked about once a second: true gives the exchange up, with ERR_UNAVAILABLE. NULL: nobody does. */
	bool (*ended)(void *data);
	void *data;
};

typedef struct PeerAnswer {
	unsigned status;
	char *content_type, *etag, *location; /* NULL when absent */
	int64_t revision;                     /* that it was answered from, 0 when absent */
	GBytes *body;
} PeerAnswer;

/* The answer, whatever its status. NULL and an error when there was none. */
PeerAnswer *peer_exchange(const struct peer_target *t, const struct peer_request *r, GError **err);
PeerAnswer *peer_answer_free(PeerAnswer *a);
/* peer_exchange() whose answer is JSON or an error object, as peer_call() gives it back. */
Json *peer_json(const struct peer_target *t, const struct peer_request *r, GError **err);

/* peer_connect() to this target. */
bool peer_connect_to(const struct peer_target *t, uint64_t timeout, struct ws_connection *ret, GError **err);
/* Copies `t`. */
PeerLink *peer_link_new(const struct peer_target *t);

/* The same with what the store knows of a host, and of the revision. */
PeerAnswer *peer_exchange_host(Engine *e, const char *host_id, const struct peer_request *r, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(PeerAnswer, peer_answer_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(PeerLink, peer_link_free)
