/* SPDX-License-Identifier: Apache-2.0 */
/* For the parts of the API's front: api.c, stream.c, console.c. */
#pragma once

#include "api/api.h"
#include "api/http.h"
#include "api/stream.h"

struct Api {
	Engine *engine;
	Loop *loop;
	HttpServer *server, *pool_server;
	WorkerPool *pool;
	unsigned jobs; /* under way; the loop thread's */
	EventStreams *streams;
	GPtrArray *console; /* ConsoleLink, open ones */
	gid_t group;        /* of plimsoll, or (gid_t)-1 */
};

/* A WebSocket between a client and a guest's console; refuses with an error when there is none. */
void console_link_open(Api *a, HttpRequest *req, const char *vm_ref, const char *port);
/* Closes those that are open. */
void console_links_close(Api *a);
