/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a pool any daemon takes any request: one that another host must carry out
 * is passed on to it, for the user who asked, and its answer comes back. Reads
 * of records are answered here. Worker threads.
 */
#pragma once

#include "api/route.h"
#include "base/ws.h"

/*
 * True and *ret_done set: another host was asked, its answer is the call's.
 * True and not set: it is for this host. False: nobody can carry it out, or the
 * other host refused.
 */
bool forward_call(ApiCall *c, const Route *route, bool *ret_done, GError **err);

/* The same for a WebSocket: *ret is one to the other host, or NULL when it is for this one. */
bool forward_socket(ApiCall *c, const Route *route, Ws **ret, GError **err);

/* Its daemon holds its lease. */
bool host_is_alive(Store *s, const char *host_id);
