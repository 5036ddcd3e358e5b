/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store: where the program keeps what must outlive it.
 *
 * Keys are paths ("/plimsoll/v1/vms/ID/config"), values are JSON text. The
 * store has one revision, which grows with every commit that changes
 * something; an item carries the revision of the commit that wrote it. All
 * writes go through one transaction, which holds only if each key it names
 * still has the revision the caller saw. A watch tells every change behind a
 * revision, in order, once. These rules are enough for SQLite on one host and
 * for etcd in a pool, and they are all that callers may rely on.
 *
 * A handle may be used by any number of threads at once; a watch by one thread
 * at a time, which need not be the one that commits. Calls block for as long
 * as the disk or the network takes.
 *
 * Back ends, chosen by URL:
 *   mem:          forgets; for tests, and the plainest statement of the rules
 *   sqlite:PATH   one file, one process at a time; the default
 *   etcd:URL      etcd 3.4 or newer, shared by the hosts of a pool (store/etcd_config.h has the form)
 *   cache:URL     keeps a copy of another one: reads are local, and go on when that can't be reached
 *   trace:URL     wraps another one and logs each call
 * tests/store/test_suite.c runs the same tests on each of them.
 *
 * Errors, beside those named below: ERR_INVALID for a key, prefix or value out
 * of bounds (nothing was asked of the back end); ERR_STORE when the back end
 * broke; ERR_BUSY, ERR_UNAVAILABLE or ERR_TIMEOUT when it did not answer.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/* Bytes of 0x21 to 0x7e, at least one in a key; a prefix may be empty. */
#define STORE_KEY_MAX 512
/* A value, and all values of one transaction together; with the keys it stays below etcd's 1.5 MiB. */
#define STORE_VALUE_MAX ((size_t)1 << 20)
/* Keys in one transaction; etcd's own bound (--max-txn-ops). */
#define STORE_TX_MAX 128

typedef struct Store Store;
typedef struct StoreTx StoreTx;
typedef struct StoreWatch StoreWatch;
typedef struct StoreLease StoreLease;

/* In what a watch tells, `value` is NULL when the key was deleted. */
typedef struct StoreItem {
	char *key, *value;
	int64_t rev;
} StoreItem;

/*
 * ERR_INVALID for an unknown URL and for what is no store of ours (which is
 * left untouched), ERR_UNSUPPORTED for a store that a newer program wrote,
 * ERR_CONFLICT when another process has it open.
 */
Store *store_open(const char *url, GError **err);
/* Every watch must have been closed before. NULL is fine; returns NULL. */
Store *store_close(Store *s);

/* NULL with *err unset means: no such key. Free with store_item_free(). */
StoreItem *store_get(Store *s, const char *key, GError **err);
/*
 * The items whose key begins with the bytes of `prefix`, in byte order of their
 * keys, all as of one revision. That goes to `ret_rev`, which may be NULL: a
 * watch opened there misses nothing and repeats nothing. The array frees its items.
 */
GPtrArray *store_list(Store *s, const char *prefix, int64_t *ret_rev, GError **err);
StoreItem *store_item_free(StoreItem *item);
/* The revision of the last commit; 0 in a new store, -1 on failure. */
int64_t store_revision(Store *s, GError **err);

/*
 * Microseconds: reads see everything that was committed, by anyone, until that long ago. 0 but for a cache,
 * whose age is some seconds at most while its store can be reached, and grows while it can't.
 */
uint64_t store_age(Store *s);
/*
 * Reads that follow see everything that was committed before this call, by anyone. Nothing to do but for a
 * cache, which asks its store how far that is. ERR_TIMEOUT when the copy has not come up to it in some
 * seconds.
 */
bool store_catch_up(Store *s, GError **err);
/* The same of all up to `rev`, which another handle of this store has seen; reads mostly see it already. */
bool store_catch_up_to(Store *s, int64_t rev, GError **err);

/*
 * A transaction names each key once (else ERR_INVALID) and says what revision
 * it must have: one that was read, 0 for "must not exist", or STORE_ANY.
 */
#define STORE_ANY INT64_C(-1)
StoreTx *store_tx_new(void);
/* `value` NULL deletes. Deleting what does not exist, where `rev` allows it, changes nothing. */
void store_tx_set(StoreTx *tx, const char *key, int64_t rev, const char *value);
/* The key must have that revision, and is not written. */
void store_tx_expect(StoreTx *tx, const char *key, int64_t rev);
/* store_tx_set() of a key that goes when the lease ends; a later store_tx_set() unbinds it again. */
void store_tx_bind(StoreTx *tx, const char *key, int64_t rev, const char *value, const StoreLease *lease);
/* Only for a transaction that is not committed. NULL is fine; returns NULL. */
StoreTx *store_tx_free(StoreTx *tx);

typedef enum StoreFlags {
	STORE_DURABLE = 0,
	/* Outlives a crash of the program, but perhaps not a power cut: for what can be found out again. */
	STORE_RELAXED = 1,
} StoreFlags;

/*
 * All or nothing; true means that it is on disk (unless STORE_RELAXED). Frees
 * tx in any case. `ret_rev`, which may be NULL, gets the new revision, or the
 * current one if nothing changed.
 *
 * Nothing changed: ERR_CONFLICT when a revision moved (details: `key` and the
 * `revision` it has), ERR_INVALID, ERR_NO_SPACE, ERR_DENIED, and ERR_GONE when a
 * lease that it binds a key to has ended. After any other error it may
 * have happened or not: read again.
 *
 * A revision is never given twice. After a power cut, relaxed commits at the
 * end may be missing; never one from the middle, and none before a durable one.
 *
 * In etcd a commit whose answer was lost is decided by asking again, so "may have
 * happened" remains only where no endpoint answers in time.
 */
bool store_commit(Store *s, StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err);
/* The ERR_CONFLICT of a commit: reading again may help. NULL is fine. */
bool store_is_conflict(const GError *e);
/* An error of a commit that certainly came to nothing. */
bool store_came_to_nothing(const GError *e);
/* One try of a change, which reads what it relies on. */
typedef bool (*StoreTry)(void *data, GError **err);
/* Tries until `try` succeeds or fails with another error than such a conflict, which is the error then. */
bool store_retry(StoreTry try, void *data, GError **err);
/* All commits that have returned so far, the relaxed ones too, are on disk. Other commits need not wait for
 * it. */
bool store_sync(Store *s, GError **err);

/*
 * Changes under `prefix` of all revisions above `after_rev`, from a history
 * whose length is bounded. ERR_GONE when the history no longer reaches back to
 * after_rev, or after_rev has not happened in this store: list again and watch
 * from there. A watch that keeps up is never gone, however quiet its prefix is.
 */
StoreWatch *store_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err);
/* Readable (EPOLLIN) when there may be something; belongs to the watch. */
int store_watch_fd(const StoreWatch *w);
/*
 * What is there now, perhaps nothing; never blocks on other commits. In order of
 * revision, a transaction is never torn apart, and in pieces of bounded size:
 * the descriptor stays readable while there is more. After ERR_GONE the watch can only be closed.
 */
bool store_watch_next(StoreWatch *w, GPtrArray **ret_changes, GError **err);
/* NULL is fine; returns NULL. */
StoreWatch *store_watch_close(StoreWatch *w);

/*
 * Forget the history of revisions below and including `upto`; the items stay.
 * Back ends do it by themselves when the history grows too long.
 */
bool store_compact(Store *s, int64_t upto, GError **err);

/*
 * A lease is a sign of life: the keys bound to it are deleted, all in one commit
 * that watches tell, some time after it was not renewed for `ttl`, or at once when it
 * is revoked. Only stores that several hosts share have leases: ERR_UNSUPPORTED
 * elsewhere.
 *
 * The store counts from when it received a renewal, the holder from when it
 * sent it; so the holder's time, store_lease_until(), always ends first, by as
 * much as the clocks of both run equally fast. Whoever must have stopped when
 * the keys go leaves a margin for that.
 *
 * A lease may be used by one thread at a time; store_lease_until() by any.
 */
#define STORE_LEASE_MIN UINT64_C(1000000)
#define STORE_LEASE_MAX UINT64_C(86400000000)
/* `ttl` is microseconds, rounded up to whole seconds; the store may give more. */
StoreLease *store_lease_grant(Store *s, uint64_t ttl, GError **err);
/*
 * Blocks for at most about `timeout`. ERR_GONE: it has ended, and its keys with it; take a new one. After
 * any other error it goes on to store_lease_until(), and renewing may be tried again.
 */
bool store_lease_renew(StoreLease *l, uint64_t timeout, GError **err);
/* On the monotonic clock: the lease holds until then at least. */
uint64_t store_lease_until(const StoreLease *l);
/* The number by which the store knows it, for the eyes of people. */
int64_t store_lease_id(const StoreLease *l);
/* Ends it: its keys are gone when this returns true. One that has ended already is fine. Then free it. */
bool store_lease_revoke(StoreLease *l, GError **err);
/* Forgets it without ending it. Before the store is closed. NULL is fine; returns NULL. */
StoreLease *store_lease_free(StoreLease *l);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Store, store_close)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreItem, store_item_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreLease, store_lease_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreTx, store_tx_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(StoreWatch, store_watch_close)
