/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A member of etcd on this host: Debian's `etcd`, as a process of its own that
 * lasts longer than the daemon, as QEMU does. The daemon finds it again, ends it,
 * and starts it anew after a crash or a boot; all that is needed for that stands in
 * FOLDER/member.json.
 *
 *   FOLDER/member.json   how it runs, below
 *   FOLDER/data          etcd's own: never touched while it runs
 *   FOLDER/etcd.pid      its process id, while it runs
 *   FOLDER/etcd.log      what it printed, bounded at each start
 *
 * With certificates (always, but for tests) everything is mutual TLS: clients and
 * other members must show a certificate that `ca` signed. Both ends of a connection
 * use the same certificate, so it must be good for server and client; and
 * its common name is not a login (etcd's own users are not used).
 *
 * History is cut every hour (auto-compaction), and the quota is 2 GiB.
 *
 * Membership is changed with etcd_cluster.h, by a host that is in already. A
 * new member is started only when the others have taken it in.
 *
 * Everything blocks; for worker threads, one at a time for a folder.
 */
#pragma once

#include "engine/spawn.h"

#define ETCD_CLIENT_PORT 2379
#define ETCD_PEER_PORT 2380

typedef struct EtcdMember {
	char *name;    /* its name in the cluster: the host's id */
	char *address; /* where the others reach it: "192.0.2.1", "2001:db8::1" */
	uint16_t client_port, peer_port;
	char *ca, *cert, *key; /* paths; all NULL for plain HTTP */
	char *cluster;         /* the pool's id: members of different clusters refuse each other */
	/* NULL: the first member of a new cluster; else what etcd_cluster_add() said. */
	char *join;
} EtcdMember;

EtcdMember *etcd_member_free(EtcdMember *m);

/* "https://ADDRESS:PORT" for clients and for members. Caller frees. */
char *etcd_member_client_url(const EtcdMember *m);
char *etcd_member_peer_url(const EtcdMember *m);

/*
 * Make the folder ready for a member that was never started; replaces what is left of one before, its data
 * included. ERR_CONFLICT when one runs there. Starts nothing.
 */
bool etcd_member_make(const char *folder, const EtcdMember *m, GError **err);
/* NULL without error: there is none. */
EtcdMember *etcd_member_load(const char *folder, GError **err);

/* The path of the program; NULL and ERR_NOT_FOUND when it is not installed. Caller frees. */
char *etcd_member_program(GError **err);

/*
 * Start it unless it runs, and wait until it takes clients (for as long as `timeout`); a member that joins
 * takes them when the others have caught it up. ERR_NOT_FOUND: etcd is not installed. A failure that ended it
 * tells etcd's last words; after ERR_TIMEOUT it goes on trying by itself.
 */
bool etcd_member_start(const char *folder, uint64_t timeout, GError **err);
/* The process, or 0. */
pid_t etcd_member_running(const char *folder);
/* End it; one that does not run is fine. Its data stays, and it stays a member. */
bool etcd_member_stop(const char *folder, GError **err);
/* End it and remove the folder. Take it out of the cluster first (etcd_cluster_remove). */
bool etcd_member_remove(const char *folder, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(EtcdMember, etcd_member_free)
