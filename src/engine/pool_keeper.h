/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member does for its pool from time to time, on a thread of its own:
 * the pool's etcd has the members that it should have, the host's certificate
 * is made anew long before it expires, and what a host left behind that died in
 * the middle of joining is taken away.
 *
 * A daemon uses the addresses of etcd and the certificate that it began with;
 * when they changed it begins anew, in a moment without operations.
 */
#pragma once

typedef struct Engine Engine;
typedef struct PoolKeeper PoolKeeper;

PoolKeeper *pool_keeper_start(Engine *e);
/* Nothing more of it, behind what it is about, which is waited for. NULL is fine. Any thread. */
void pool_keeper_stop(PoolKeeper *k);
/* Stops it first. NULL is fine; returns NULL. */
PoolKeeper *pool_keeper_free(PoolKeeper *k);
