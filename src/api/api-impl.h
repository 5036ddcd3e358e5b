/* SPDX-License-Identifier: Apache-2.0 */
/* For the parts of the API's front: api.c, stream.c, console.c, relay.c. */
#pragma once

#include "api/api.h"
#include "api/call.h"
#include "api/http.h"
#include "api/stream.h"
#include "base/ws.h"

struct Api {
	Engine *engine;
	Loop *loop;
	HttpServer *server, *pool_server;
	WorkerPool *pool;
	unsigned jobs; /* under way; the loop thread's */
	EventStreams *streams;
	GPtrArray *console; /* ConsoleLink, open ones */
	GPtrArray *display; /* DisplayLink, open ones */
	GPtrArray *relay;   /* Relay, open ones */
	gid_t group;        /* of plimsoll, or (gid_t)-1 */
};

/* Whose console: found on a worker thread, opened on the loop's. */
typedef struct ConsoleTarget ConsoleTarget;
ConsoleTarget *console_target_find(ApiCall *c, GError **err);
ConsoleTarget *console_target_free(ConsoleTarget *t);
/* A WebSocket between a client and a guest's console; false when the guest has no such console. */
bool console_link_open(Api *a, HttpRequest *req, const ConsoleTarget *t, GError **err);
/* Closes those that are open. */
void console_links_close(Api *a);

/* The vm's screen (vm_display_open()), or -EBADF. Worker thread. */
int display_find(ApiCall *c, GError **err);
/* A WebSocket between a client and it. Takes `fd`, and answers the request in any case. */
void display_link_open(Api *a, HttpRequest *req, int fd);
void display_links_close(Api *a);

/* A WebSocket of a client that another daemon serves. Takes it, and answers the request in any case. */
typedef struct Relay Relay;
void relay_open(Api *a, HttpRequest *req, Ws *take);
void relay_say_goodbye(Relay *r, const char *reason);
/* Closes at once. */
void relay_free(Relay *r);
