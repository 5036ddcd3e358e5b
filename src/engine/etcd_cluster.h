/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The members of an etcd cluster, asked and changed from outside, through the
 * endpoints of a client (store/etcd_client.h). One change at a time: core/place/voters.h
 * says which is next and safe.
 *
 * Everything blocks; for worker threads.
 */
#pragma once

#include "store/etcd_client.h"

typedef struct EtcdPeer {
	uint64_t id;
	char *name;            /* "" until it has started for the first time */
	char **peer, **client; /* URLs; no client URL until it has started */
	bool learner;          /* has no vote yet */
} EtcdPeer;

/* EtcdPeer, in the order of their ids; the array frees them. */
GPtrArray *etcd_cluster_list(EtcdClient *c, GError **err);

/*
 * Take in a member that will be at `peer_url`, as a learner: it gets the data and has no vote, so that
 * nothing depends on it before it is ready. Gives its id and what its EtcdMember.join must be. One that is in
 * already under this URL is told again, so a host that died in the middle can repeat it. ERR_BUSY: another
 * learner is in (etcd allows one); ERR_UNAVAILABLE: not enough members are healthy for a change now.
 */
bool etcd_cluster_add(EtcdClient *c, const char *name, const char *peer_url, uint64_t *ret_id,
		      char **ret_join, GError **err);
/* Give a learner its vote. ERR_BUSY until it has caught up: try again. One that has it already is fine. */
bool etcd_cluster_promote(EtcdClient *c, uint64_t id, GError **err);
/* Take a member out; one that is not in is fine. ERR_UNAVAILABLE when the rest could not decide alone. */
bool etcd_cluster_remove(EtcdClient *c, uint64_t id, GError **err);

typedef struct EtcdHealth {
	bool reachable;
	char *version;    /* "3.4.23" */
	bool leader;      /* it is the leader */
	bool has_leader;  /* it knows one */
	uint64_t db_size; /* bytes */
	char *problem;    /* a sentence, or NULL */
} EtcdHealth;

/*
 * How one member is, asked at its client URL with the certificates of `config`. Never fails: what is wrong is
 * said in it. Clear with etcd_health_clear().
 */
void etcd_cluster_health(const EtcdConfig *config, const EtcdPeer *p, uint64_t timeout, EtcdHealth *ret);
void etcd_health_clear(EtcdHealth *h);

/* "NOSPACE", "CORRUPT": the alarms that are raised, each once; an empty vector when all is well.
 * g_strfreev(). */
char **etcd_cluster_alarms(EtcdClient *c, GError **err);
