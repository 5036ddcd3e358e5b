/* SPDX-License-Identifier: Apache-2.0 */
/*
 * In a pool any daemon takes any request: one that another host must carry out
 * is passed on to it, for the user who asked, and its answer comes back. Reads
 * of records are answered here. Worker threads.
 */
#pragma once

#include "api/route.h"

/*
 * True and *ret_done set: another host was asked, its answer is the call's.
 * True and not set: it is for this host. False: nobody can carry it out, or the
 * other host refused.
 */
bool forward_call(ApiCall *c, const Route *route, bool *ret_done, GError **err);

/* Of a vm that runs on another host: ERR_UNSUPPORTED with the host's name, for what can't be passed on. */
bool forward_check_here(Engine *e, const Json *runtime, const char *what, GError **err);
