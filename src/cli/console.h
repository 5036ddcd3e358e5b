/* SPDX-License-Identifier: Apache-2.0 */
/* A terminal joined to a guest's console, or a viewer to its screen, over the API's WebSocket. */
#pragma once

#include "base/err.h"

/*
 * Until Ctrl-] is typed or the other side ends it: what is typed goes to the
 * guest, what it prints to the terminal, which is put back as it was. `path` is
 * the console's on the API, `name` stands in the greeting.
 */
bool console_attach(const char *socket, const char *path, const char *name, GError **err);

/* The next viewer that connects to `listener` sees the screen, until he or the guest goes. False: nobody can.
 */
bool display_serve(const char *socket, const char *path, int listener, GError **err);
