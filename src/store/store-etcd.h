/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store in etcd, between its parts: store_etcd.c (reads and commits) and
 * store_etcd_watch.c (streams). For these two and their tests only.
 */
#pragma once

#include "store/etcd_client.h"
#include "store/store-etcd-wire.h"

#include <pthread.h>

typedef struct EtcdWatcher EtcdWatcher;

typedef struct EtcdStore {
	Store base;
	EtcdConfig *config;
	EtcdClient *client;
	EtcdWatcher *watcher; /* made with the first watch, under the lock */
	pthread_mutex_t lock; /* for it and what follows */
	GQueue mark;          /* those that no commit uses now */
	uint64_t cluster;     /* 0 until the first answer */
	int64_t seen;         /* the highest revision in an answer */
	GError *broken;       /* set once, for good: it is another etcd now, or an older one */
} EtcdStore;

/* The revision of the last commit, once `after` (0: any) has happened; sees a store that went back. */
int64_t etcd_revision_now(EtcdStore *s, GError **err);
/*
 * Whether what an answer says of cluster and revision fits what was seen before the question was asked.
 * If not, the store is broken from now on. Sets *err then.
 */
bool etcd_header_fits(EtcdStore *s, const struct wire_header *h, int64_t seen_before, GError **err);
/* What the two above compare with. */
int64_t etcd_seen(EtcdStore *s);
/* False, with the error, once the store is broken. */
bool etcd_usable(EtcdStore *s, GError **err);

/* A call on keys or leases; checks its header, of which `ret_header` gets a copy. New reference. */
Json *etcd_ask(EtcdStore *s, EtcdCall *call, struct wire_header *ret_header, GError **err);
/* A read that only a leader that is one can answer. */
bool etcd_read_now(EtcdStore *s, uint64_t timeout, struct wire_header *ret_header, GError **err);

bool etcd_lease_grant(Store *s, StoreLease *l, uint64_t ttl, GError **err);
bool etcd_lease_renew(Store *s, StoreLease *l, uint64_t timeout, GError **err);
bool etcd_lease_revoke(Store *s, const StoreLease *l, GError **err);

StoreWatch *etcd_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err);
int etcd_watch_fd(const StoreWatch *w);
bool etcd_watch_next(StoreWatch *w, GPtrArray **ret_changes, GError **err);
void etcd_watch_close(StoreWatch *w);
int64_t etcd_watch_seen(const StoreWatch *w);
/* Ends the thread of the watches. NULL is fine. */
void etcd_watcher_free(EtcdWatcher *w);
