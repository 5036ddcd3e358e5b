/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a back end of the store is. For back ends only; the rest of the program
 * includes store.h.
 *
 * store.c checks keys, prefixes, values and transactions before it calls a back
 * end, so a back end sees only what the contract allows, and no NULL results.
 */
#pragma once

#include "store/store.h"

typedef struct StoreWrite {
	char *key, *value;
	int64_t rev;
	bool expect_only;
	int64_t lease; /* 0: none */
} StoreWrite;

struct StoreTx {
	GPtrArray *write; /* StoreWrite */
};

typedef struct StoreBackend {
	const char *scheme, *usage;
	size_t size; /* of its own struct, which begins with a Store and comes zeroed */
	bool (*open)(Store *s, const char *where, GError **err);
	void (*close)(Store *s); /* copes with a half-opened one */
	StoreItem *(*get)(Store *s, const char *key, GError **err);
	GPtrArray *(*list)(Store *s, const char *prefix, int64_t *ret_rev, GError **err);
	int64_t (*revision)(Store *s, GError **err);
	bool (*commit)(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err);
	bool (*sync)(Store *s, GError **err); /* NULL when a relaxed commit is no less than a durable one */
	bool (*compact)(Store *s, int64_t upto, GError **err);
	/* Returns its own struct, which begins with a StoreWatch; store.c fills that in. */
	StoreWatch *(*watch_open)(Store *s, const char *prefix, int64_t after_rev, GError **err);
	int (*watch_fd)(const StoreWatch *w);
	bool (*watch_next)(StoreWatch *w, GPtrArray **ret_changes, GError **err);
	void (*watch_close)(StoreWatch *w);
	/* All changes up to this revision were told by watch_next(), or are none of its prefix. */
	int64_t (*watch_seen)(const StoreWatch *w);
	/* NULL where reads are never old. */
	uint64_t (*age)(Store *s);
	/* The same. */
	bool (*catch_up)(Store *s, GError **err);
	/* Moves the revision so that watch_seen() of a watch of everything does; NULL where it always does.
	 */
	bool (*pulse)(Store *s, GError **err);
	/*
	 * All three NULL where there are no leases. The lease comes zeroed but for its store; a wrapper has
	 * only the first, which puts the inner store there.
	 */
	bool (*lease_grant)(Store *s, StoreLease *l, uint64_t ttl, GError **err);
	bool (*lease_renew)(Store *s, StoreLease *l, uint64_t timeout, GError **err);
	bool (*lease_revoke)(Store *s, const StoreLease *l, GError **err);
} StoreBackend;

struct Store {
	const StoreBackend *be;
};

struct StoreWatch {
	Store *store;
};

struct StoreLease {
	Store *store; /* the one that keeps it, below all wrappers */
	int64_t id;
	_Atomic uint64_t until;
};

/* For a wrapper: a lease of `inner`, which is its store from then on. */
bool store_lease_wrap(Store *inner, StoreLease *l, uint64_t ttl, GError **err);

/* Copies; `value` may be NULL. */
StoreItem *store_item_new(const char *key, const char *value, int64_t rev);
/* An array that frees its items. */
GPtrArray *store_items_new(void);
/* Sets the error of a write whose key has revision `found`. Returns false. */
bool store_fail_conflict(const StoreWrite *w, int64_t found, GError **err);

extern const StoreBackend store_cache;
extern const StoreBackend store_etcd;
extern const StoreBackend store_mem;
extern const StoreBackend store_sqlite;
extern const StoreBackend store_trace;
