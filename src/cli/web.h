/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's pages for a browser on this machine. A browser can't use a unix
 * socket, so this program listens on loopback and passes requests on, with the
 * authority of who runs it: to browsers that came with the secret of the link
 * that it prints, to browsers of the user who came with it first, and to nobody else.
 */
#pragma once

#include "base/err.h"

/*
 * Print the link to `page` ("console.html?vm=web1") and serve it until the
 * program is ended. `port` 0: any that is free. Returns on failure only.
 */
bool web_serve(const char *socket, const char *page, unsigned port, GError **err);

/* Of a request's head, for tests: does it come from a page of this server with its secret? */
bool web_head_allowed(const char *head, const char *key, unsigned port);
/* The head with "Connection: close" in place of what it says of the connection, but for WebSockets. Caller
 * frees. */
char *web_head_single(const char *head);
