/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes, generated from api/openapi.yaml, and its matching. */
#pragma once

#include "api/call.h"

typedef enum RouteKind {
	ROUTE_PLAIN,     /* the handler runs on a worker thread */
	ROUTE_STREAM,    /* the same, unless the client asks for text/event-stream */
	ROUTE_WEBSOCKET, /* no handler */
} RouteKind;

/* Which host of a pool carries it out (forward.h). */
typedef enum RouteAt {
	ROUTE_AT_HERE,
	ROUTE_AT_VM,        /* that runs the vm, or ran it last */
	ROUTE_AT_START,     /* that shall run it */
	ROUTE_AT_FILES,     /* that has the files of a vm that is off */
	ROUTE_AT_CREATE,    /* that shall have a new one */
	ROUTE_AT_HOST,      /* that the path names */
	ROUTE_AT_OPERATION, /* that carries out the operation, until it has ended */
	ROUTE_AT_IMAGE,     /* that has the file */
	ROUTE_AT_VOLUME,    /* the same */
} RouteAt;

typedef struct Route {
	const char *method, *path; /* "/v1/vms/{vm}" */
	Role role;
	RouteKind kind;
	RouteAt at;
	ApiHandler handler;
} Route;

extern const Route routes[];
extern const size_t n_routes;

/*
 * The route of a request, with the path's variables put into `path`. NULL:
 * ERR_NOT_FOUND for a path that is not ours, ERR_INVALID with the methods
 * that the path has for another method.
 */
const Route *route_find(const char *method, const char *const *segments, GHashTable *path, GError **err);
