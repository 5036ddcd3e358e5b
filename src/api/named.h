/* SPDX-License-Identifier: Apache-2.0 */
/* What a call goes by, and whether this host's copy of the pool's records is as far. */
#pragma once

#include "api/call.h"

/*
 * In a pool this host's copy of the records may be milliseconds behind what another host has just written and
 * answered for. A call that names what the copy doesn't have waits until the copy shows all that was
 * committed before; then what is still not there is not there. For a store that was
 * lost nobody waits: the call is answered from the copy, as every other one. Worker threads.
 */
void call_await_named(ApiCall *c);
/* Until the copy is as far as the records that the host had that asks, or passes the call on. */
void call_await_seen(ApiCall *c);
