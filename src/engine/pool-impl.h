/* SPDX-License-Identifier: Apache-2.0 */
/* For the parts of pool.h: pool_*.c. */
#pragma once

#include "engine/engine-impl.h"
#include "engine/pki.h"
#include "engine/pool.h"
#include "engine/pool_records.h"
#include "engine/pool_store.h"
#include "engine/records.h"

/* How long operations that are under way are waited for. */
#define POOL_FREEZE_TIME UINT64_C(60000000)
#define POOL_CALL_TIME UINT64_C(30000000)
/* Of what hosts tell each other at the join; a newer daemon that changes it counts up. */
#define POOL_FORMAT 1

/* "state" of a host's record: let in but not complete, or a member. */
#define HOST_JOINING "joining"
#define HOST_MEMBER "member"

/* ERR_BAD_STATE with the advice what to do first. */
bool pool_need_none(const Engine *e, GError **err);
bool pool_need_member(const Engine *e, GError **err);

/* This host as a record of the pool, reached at `address`. New reference. */
Json *pool_host_record(const Engine *e, const char *address, const char *state);

/* Can this host keep a copy of the records? */
bool pool_has_etcd(void);
/* An empty folder for the certificates. */
bool pool_folder_make(const char *folder, GError **err);

/*
 * From MEMBERSHIP_JOINING to a member: copy the records, become a member, make
 * the file what the next start reads. On failure nothing of it is left in the
 * store nor here (the folder of the certificates included), or it is unsettled.
 */
bool pool_convert(Engine *e, Membership *m, RecordsScope scope, GError **err);
/* A file says that this host is to become a member, or is one: its next start finds out. */
bool pool_is_unsettled(const char *state);
/*
 * Behind a pool_convert() that failed: exec_thaw(), and the host goes on as what it was. Unsettled, it stays
 * frozen and its daemon begins anew, to ask the pool's store: what was changed until then would be lost with
 * a join that is ended, and another join would remove the files that tell of this one.
 */
void pool_fall_back(Engine *e, GError **err);
/*
 * The etcd that the hosts run themselves (pool_etcd.c); nothing is done for one
 * that was there before.
 */
/* Begin the first member, whose address goes into `access`. */
bool pool_etcd_found(Engine *e, Membership *m, Json *access, GError **err);
/* End this host's member and forget its data; it is in no cluster any more. */
void pool_etcd_abandon(const char *state);
/* At a start: have this host's member run, if it has one. */
bool pool_etcd_start(const char *state, GError **err);
/*
 * Take the step, if there is one, that brings the members closer to what they should be. True when the
 * members' addresses are others than those that this daemon uses. Blocks, for a minute at the worst.
 */
bool pool_etcd_tend(Engine *e);
/*
 * Can this host's member be taken out? ERR_BAD_STATE when the pool's records would be lost with it, or could
 * not be changed any more.
 */
bool pool_etcd_may_leave(Engine *e, GError **err);
/* Take this host's member out, if it has one. What fails is logged. */
void pool_etcd_leave(const char *state, const Membership *m);
/* Take out the member of a dead host. */
bool pool_etcd_drop(Engine *e, const char *host_id, GError **err);
/* "voter", "learner" or null as `etcd` of each host. */
void pool_etcd_put_status(Engine *e, Json *hosts);

/* Renews its lease? False with *err unset: no. */
bool pool_host_lives(Store *s, const char *host_id, GError **err);

/*
 * Take back what a conversion has left behind in `to`: the records, the host,
 * and the pool itself if it was to be a new one.
 */
bool pool_unconvert(Store *from, Store *to, const Membership *m, GError **err);
/* At a start: end a leave, if there is one that was interrupted (pool_leave.c). */
bool pool_leave_finish(const Folders *f, const Membership *m, GError **err);
/* The file and the folder of a conversion that came to nothing. */
void pool_forget(const char *state);

/*
 * The host's record, its name and its CPU out of the store; absent is fine. With `dead` only while it has no
 * lease: one that came back must not go on without a record. Else a conflict.
 */
bool pool_drop_host(Store *s, const char *host_id, bool dead, GError **err);
