/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of the TCP connections that guests hold through all their
 * moves: whatever comes in goes back. It runs in a thread of its own, which
 * shares nothing with others, so that no answer waits for a move.
 */
#pragma once

#include "base/err.h"

typedef struct SoakFlow SoakFlow;

/* `address` is a numeric one of this machine; the port is chosen. */
SoakFlow *soak_flow_open(const char *address, GError **err);
/* Ends all connections. NULL is fine. */
SoakFlow *soak_flow_close(SoakFlow *f);
const char *soak_flow_address(const SoakFlow *f);
unsigned soak_flow_port(const SoakFlow *f);
