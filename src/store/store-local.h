/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the back ends share that live in this process: the lock, the revision
 * and the watches. For store_mem.c and store_sqlite.c only.
 *
 * A watch is a cursor into the back end's history plus an eventfd. Every commit
 * runs local_committed() under the lock, which rings the watches it concerns and
 * moves the cursor of those it does not and which are up to date; so a quiet
 * watch never falls behind the history.
 *
 * The lock is a pthread mutex and not GLib's, because ThreadSanitizer sees it.
 */
#pragma once

#include "store/store-impl.h"

#include <pthread.h>

/* The history holds at most so many changes and bytes of keys and values. */
#define LOCAL_HISTORY_CHANGES 10000
#define LOCAL_HISTORY_BYTES (INT64_C(64) << 20)
/* When it is longer, it is cut to this part of both, so that not every commit cuts. */
#define LOCAL_HISTORY_KEEP(max) ((max) / 8 * 7)

typedef struct LocalStore LocalStore;

/*
 * Append to `ret` the changes under `prefix` above `after`, up to a whole
 * revision once local_batch_full(), and tell the last revision looked at. Called
 * with the lock held, and only for an `after` that the history reaches.
 */
typedef bool (*LocalChangesFunc)(LocalStore *l, const char *prefix, int64_t after, GPtrArray *ret,
				 int64_t *ret_upto, GError **err);

struct LocalStore {
	Store base;
	pthread_mutex_t lock; /* for everything below and all that the back end adds */
	LocalChangesFunc changes;
	GPtrArray *watch;       /* LocalWatch, borrowed */
	int64_t rev, compacted; /* the history is that of compacted + 1 ... rev */
};

void local_init(LocalStore *l, LocalChangesFunc changes);
void local_done(LocalStore *l);

/* Tell the watches of a commit; sets the revision. Lock held. */
void local_committed(LocalStore *l, const StoreTx *tx, int64_t rev);
/* The items were replaced by those of revision `rev`, without a history. Lock held. */
void local_replaced(LocalStore *l, int64_t rev);
/* Room taken in a piece of changes: true when no further revision should begin. */
bool local_batch_full(const GPtrArray *changes, size_t bytes);
size_t local_item_size(const char *key, const char *value);

int64_t local_revision(Store *s, GError **err);
StoreWatch *local_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err);
int local_watch_fd(const StoreWatch *w);
bool local_watch_next(StoreWatch *w, GPtrArray **ret_changes, GError **err);
void local_watch_close(StoreWatch *w);
int64_t local_watch_seen(const StoreWatch *w);

/* A condition whose timed waits are by the monotonic clock. */
void cond_init_monotonic(pthread_cond_t *c);

/* `_cleanup_unlock_ LocalStore *held = local_lock(l);` holds the lock to the end of the block. */
static inline LocalStore *local_lock(LocalStore *l)
{
	pthread_mutex_lock(&l->lock);
	return l;
}

static inline void local_unlockp(LocalStore **l)
{
	pthread_mutex_unlock(&(*l)->lock);
}

#define _cleanup_unlock_ __attribute__((cleanup(local_unlockp)))
