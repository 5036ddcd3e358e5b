/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member's sign of life: the key leases/hosts/ID, which goes when the host
 * does not renew it in time.
 *
 * While the lease is not held the host begins nothing: every operation's
 * beginning holds only if the key is still the one that was taken. What runs
 * is fenced off in time (fence.h). The thread that renews also looks at the
 * other hosts and tells, once for the pool, who was lost and who is back.
 */
#pragma once

#include "store/store.h"

typedef struct Engine Engine;
typedef struct Lease Lease;

#define LEASE_TTL UINT64_C(30000000)
/* Whoever takes over waits for the whole time; who must have stopped by then does so earlier. */
#define LEASE_MARGIN(ttl) ((ttl) / 5)

/*
 * Takes the lease; from then on it is renewed by a thread. ERR_DENIED when the
 * pool has no record of this host any more.
 */
Lease *lease_start(Engine *e, uint64_t ttl, GError **err);
/*
 * No more renewals, and the fence is left alone. The key stays until its time is over, so that a daemon that
 * begins anew is not missed. Waits for what is under way. NULL is fine. Any thread.
 */
void lease_stop(Lease *l);
/* Stops it first. NULL is fine; returns NULL. */
Lease *lease_free(Lease *l);
/* Adds to a transaction that the lease is held. ERR_UNAVAILABLE when it is not. Any thread. */
bool lease_admit(Lease *l, StoreTx *tx, GError **err);
