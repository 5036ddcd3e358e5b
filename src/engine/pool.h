/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hosts form a pool, and leave it.
 *
 * What changes the store under the daemon goes like this: the executor is
 * frozen, so that nothing is under way; what shall be true is written beside
 * what is; one rename of a file makes it so; the daemon executes itself anew
 * and adopts its guests, which have run all the time. Killed at any point, the
 * next start finds MEMBERSHIP_JOINING and ends or undoes what was begun
 * (pool_recover.h).
 *
 * All functions block; any thread but the loop's. Answers are objects for the
 * API; new references.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

typedef struct Engine Engine;

struct pool_init {
	const char *name;
	const char *address; /* of this host for the others; NULL: ERR_INVALID unless there is one to find */
	/* An etcd that is there already; NULL: a member of our own. */
	const char *etcd;                           /* "https://192.0.2.9:2379[,...]" */
	const char *etcd_ca, *etcd_cert, *etcd_key; /* paths of PEM files, or NULL */
	const char *etcd_user, *etcd_password_file; /* or NULL */
};

/*
 * Make a pool of this one host, its records and guests included. ERR_BAD_STATE
 * when it is in one. The daemon begins anew after the answer: {id, name}. With
 * `dry_run` nothing is changed, only what can fail is looked at: {name, address,
 * etcd: [URL] or null, vms: [name]}.
 */
Json *pool_init(Engine *e, const struct pool_init *r, bool dry_run, GError **err);

/* A token that one host may join with, for `life` (us). {token, expires_at}. */
Json *pool_token_make(Engine *e, const char *user, uint64_t life, GError **err);

/* {id, name, ca}: for whoever asks, who checks it by the fingerprint in the token. */
Json *pool_authority(Engine *e, GError **err);

/*
 * The member's side of a join: let the host of this application in, or say why
 * not. What it answers is all that the host needs: certificates and where the
 * store is. A token that was used is good again only for the host that used it
 * and has not become a member, so that a join that broke can be repeated.
 *
 * application: {token, request (PEM), address, version, host (its record), names, cpu, dry_run}; with
 * dry_run the answer is {id, name} and nothing is changed.
 */
Json *pool_admit(Engine *e, const Json *application, GError **err);

/*
 * The other side: join the pool of which `token` is, at `url` (NULL: the one in
 * the token). The daemon begins anew after the answer: {id, name}. With
 * `dry_run` the pool is asked whether it would let the host in, and why not;
 * the token stays good and nothing is changed on either side.
 */
Json *pool_join(Engine *e, const char *url, const char *token, const char *address, bool dry_run,
		GError **err);

/*
 * Leave, with the vms and volumes that are on this host; the others stay. The
 * daemon begins anew after the answer: {name, vms}. With `dry_run` nothing is
 * changed, only told.
 */
Json *pool_leave(Engine *e, bool dry_run, GError **err);

/*
 * Take a dead host out: its lease must be gone. Its vms are stopped in the
 * records, with the reason; those whose disks other hosts reach can be started
 * there. ERR_BAD_STATE while it lives. {name, vms: [{id, name, state}]}. With
 * `dry_run` nothing is changed, only told.
 */
Json *pool_evict(Engine *e, const char *host_id, const char *user, bool dry_run, GError **err);

/* As `GET /v1/pool` shows it. */
Json *pool_status(Engine *e, GError **err);
