/* SPDX-License-Identifier: Apache-2.0 */
/* The table of routes, generated from api/openapi.yaml, and its matching. */
#pragma once

#include "api/call.h"

typedef enum RouteKind {
	ROUTE_PLAIN,     /* the handler runs on a worker thread */
	ROUTE_STREAM,    /* the same, unless the client asks for text/event-stream */
	ROUTE_WEBSOCKET, /* no handler */
} RouteKind;

typedef struct Route {
	const char *method, *path; /* "/v1/vms/{vm}" */
	Role role;
	RouteKind kind;
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
