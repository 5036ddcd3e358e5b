/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets by path. All cope with paths longer than the 107 bytes that a
 * socket address holds, as long as the folder can be opened. They return the
 * descriptor, or -EBADF with *err set.
 */
#pragma once

#include "base/err.h"

/* Replaces a socket that lies there; only the owner may connect. */
int socket_listen(const char *path, GError **err);
/* Never blocks, nor does what it returns: ERR_UNAVAILABLE when nobody listens there or its backlog is full.
 */
int socket_connect(const char *path, GError **err);
/* The same, but waits while the backlog is full; a socket that blocks. */
int socket_connect_wait(const char *path, GError **err);
