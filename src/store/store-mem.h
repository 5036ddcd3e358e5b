/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items in memory, with their history: what store_mem.c is, and what
 * store_cache.c keeps of another store. For these two only.
 */
#pragma once

#include "store/store-local.h"

typedef struct MemStore {
	LocalStore local;
	GTree *item;    /* key -> StoreItem */
	GQueue history; /* StoreItem, oldest first */
	int64_t history_bytes;
} MemStore;

void mem_init(MemStore *m);
void mem_done(MemStore *m);

StoreItem *mem_get(Store *s, const char *key, GError **err);
GPtrArray *mem_list(Store *s, const char *prefix, int64_t *ret_rev, GError **err);

/*
 * Write what a transaction says, without asking what it expects, as revision `rev`, which becomes the
 * store's, and tell the watches. False, and no new revision, if nothing changed. Lock held.
 */
bool mem_apply(MemStore *m, const StoreTx *tx, int64_t rev);
/* Take these items, as of revision `rev`, for all there is; empties the array. Lock held. */
void mem_replace(MemStore *m, GPtrArray *items, int64_t rev);
/* Forget the history up to and including `rev`. Lock held. */
void mem_forget_upto(MemStore *m, int64_t rev);
