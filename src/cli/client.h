/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's API as the command line uses it: one connection, one request at
 * a time, blocking. Errors are the daemon's own, with code and advice.
 */
#pragma once

#include "base/err.h"

typedef struct Client Client;

/* `socket` is the path of the daemon's socket. `debug` prints each exchange on stderr. */
Client *client_new(const char *socket, bool debug);
Client *client_free(Client *c);
const char *client_socket(const Client *c);

/*
 * `path` with its query; `body` may be NULL (borrowed). The answer's JSON, or
 * null for an answer without a body. ERR_UNAVAILABLE with advice when no
 * daemon listens. New reference.
 */
Json *client_call(Client *c, const char *method, const char *path, const Json *body, GError **err);
/* An error of the API, whose words may be a guest's: harmless for a terminal. */
GError *client_error(const Json *error);
/* The answer as it came. */
GBytes *client_fetch(Client *c, const char *path, GError **err);

/* Streams end with ERR_TIMEOUT after so many microseconds; 0: never. */
void client_set_timeout(Client *c, uint64_t us);

/* False ends the stream without an error. */
typedef bool (*ClientEventFunc)(const Json *event, void *data);
/* Follow a stream of Server-Sent Events; each one's data is given as JSON. */
bool client_stream(Client *c, const char *path, ClientEventFunc func, void *data, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Client, client_free)
