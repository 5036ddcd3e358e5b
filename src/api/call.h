/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of the API, between its request and its answer.
 *
 * Handlers are plain functions on a worker thread: they may block, see a copy
 * of the request, and leave the answer here. A handler that fails sets *err;
 * the dispatcher makes the error's JSON and status of it.
 */
#pragma once

#include "engine/engine.h"

typedef enum Role { ROLE_NONE, ROLE_VIEWER, ROLE_OPERATOR, ROLE_ADMIN, ROLE_PEER } Role;

const char *role_name(Role r);

typedef struct ApiCall {
	/* the request */
	Engine *engine;
	WorkerPool *pool; /* on a thread of which this call runs */
	Role role;
	char *user;        /* who asks, for records: "root", a certificate's name */
	char *peer;        /* id of the host that asks or passes this on (it goes no further), or NULL */
	GHashTable *path;  /* variable of the route -> text */
	GHashTable *query; /* name -> GStrv of its values */
	char *if_match;    /* the revision in it, or NULL */
	Json *body;        /* parsed, or NULL */
	int64_t seen;      /* revision of the records that the peer asks by; 0: none */
	/* the answer */
	unsigned status;
	Json *answer; /* or bytes: */
	GBytes *bytes;
	const char *content_type; /* of bytes */
	int64_t etag;             /* -1: none */
	char *location;
} ApiCall;

typedef bool (*ApiHandler)(ApiCall *c, GError **err);

/*
 * Before each run of a handler: is the call another host's? *ret_done: then that was asked, and has answered,
 * or the error is its own.
 */
typedef bool (*CallForward)(ApiCall *c, const void *data, bool *ret_done, GError **err);

/*
 * Run a handler. Between its reading of records and its commit somebody else
 * may write one of them (the supervisor writes what guests do): then it is run
 * again, some times, on what is there now. It checks If-Match anew, so nobody
 * overwrites what he has not seen; a handler that failed has left nothing.
 * So it is, once, when a vm is refused for its state, and another host of the
 * pool has changed that already. A vm that has moved meanwhile is that host's:
 * `forward`, which may be NULL, finds out.
 */
bool call_run(ApiCall *c, ApiHandler handler, CallForward forward, const void *data, GError **err);
/*
 * Wait until this host's copy of the pool's records has this revision, or all that was committed before; not
 * for a lost store.
 */
void call_await_revision(ApiCall *c, int64_t rev);
void call_await_all(ApiCall *c);

/* A variable of the route; never NULL for a name that the route has. */
const char *call_path(const ApiCall *c, const char *name);
/* The first value, or NULL. */
const char *call_query(const ApiCall *c, const char *name);
/* All values; an empty vector when there are none. Borrowed. */
const char *const *call_queries(const ApiCall *c, const char *name);
/* ERR_INVALID when it is there and is neither true nor false. */
bool call_flag(const ApiCall *c, const char *name, bool dflt, bool *ret, GError **err);
bool call_number(const ApiCall *c, const char *name, uint64_t min, uint64_t max, uint64_t dflt, uint64_t *ret,
		 GError **err);
/* The body as an object; an empty one when there is none. Borrowed. ERR_INVALID when it is something else. */
const Json *call_body(ApiCall *c, GError **err);
/* ERR_INVALID for members that are not in the NULL-terminated list. */
bool call_known(const Json *body, const char *const *known, GError **err);

/* Take `answer`. Always true, so that handlers can end with them. */
bool call_answer(ApiCall *c, unsigned status, Json *answer);
bool call_answer_object(ApiCall *c, Json *answer, int64_t revision);
/* Takes `bytes`; `content_type` is static. */
bool call_answer_bytes(ApiCall *c, const char *content_type, GBytes *bytes);

/* ERR_PRECONDITION unless If-Match is absent or names this revision. */
bool call_check_match(const ApiCall *c, int64_t revision, GError **err);

/*
 * While a call waits for a guest, another host or another thread, its own counts as free: what waits must not
 * hold up the rest of the API. call_wake() takes what call_rest() gave.
 */
bool call_rest(ApiCall *c);
void call_wake(ApiCall *c, bool rested);
/* Is it to give up what it waits for elsewhere, because the daemon ends? For peer_request.ended. */
bool call_is_ending(void *call);
/* Until the operation has ended, or `us` are over; rests meanwhile. */
bool call_wait(ApiCall *c, const char *operation, uint64_t us);

/*
 * Carry out an operation (taken; NULL: *err is set already): with dry_run the
 * plan is the answer, else it is submitted, waited for as `wait` says, and the
 * operation is the answer.
 */
bool call_submit(ApiCall *c, Operation *op, GError **err);

/*
 * Sort and filter a list of objects by query parameters `sort` and `filter`,
 * as in core/image/catalogue.h, keys with dots reaching into objects
 * ("runtime.state", "settings.vcpus"). Takes `list`; NULL on failure.
 */
Json *call_arrange(const ApiCall *c, Json *list, GError **err);
