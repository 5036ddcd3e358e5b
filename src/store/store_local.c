/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "store/store-local.h"

#include <inttypes.h>
#include <string.h>
#include <sys/eventfd.h>

/* One piece of changes for a watch: whole revisions until either is reached. */
#define BATCH_CHANGES 256
#define BATCH_BYTES ((size_t)1 << 20)

typedef struct LocalWatch {
	StoreWatch base;
	LocalStore *local;
	char *prefix;
	int fd;
	int64_t seen; /* all changes up to here were told, or were not its own */
	bool behind;  /* there may be some of its own above `seen` */
} LocalWatch;

void local_init(LocalStore *l, LocalChangesFunc changes)
{
	pthread_mutex_init(&l->lock, NULL);
	l->changes = changes;
	l->watch = g_ptr_array_new();
}

void cond_init_monotonic(pthread_cond_t *c)
{
	pthread_condattr_t a;

	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(c, &a);
	pthread_condattr_destroy(&a);
}

void local_done(LocalStore *l)
{
	g_assert(l->watch->len == 0);
	g_ptr_array_unref(l->watch);
	pthread_mutex_destroy(&l->lock);
}

int64_t local_revision(Store *s, GError **err)
{
	_cleanup_unlock_ LocalStore *l = local_lock((LocalStore *)s);

	(void)err;
	return l->rev;
}

size_t local_item_size(const char *key, const char *value)
{
	return strlen(key) + (value != NULL ? strlen(value) : 0);
}

bool local_batch_full(const GPtrArray *changes, size_t bytes)
{
	return changes->len >= BATCH_CHANGES || bytes >= BATCH_BYTES;
}

static void ring(const LocalWatch *w)
{
	eventfd_write(w->fd, 1);
}

static bool concerns(const StoreTx *tx, const char *prefix)
{
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];

		if (!w->expect_only && g_str_has_prefix(w->key, prefix))
			return true;
	}
	return false;
}

void local_committed(LocalStore *l, const StoreTx *tx, int64_t rev)
{
	l->rev = rev;
	for (guint i = 0; i < l->watch->len; i++) {
		LocalWatch *w = l->watch->pdata[i];

		if (concerns(tx, w->prefix)) {
			w->behind = true;
			ring(w);
		} else if (!w->behind) {
			w->seen = rev;
		}
	}
}

void local_replaced(LocalStore *l, int64_t rev)
{
	l->rev = l->compacted = rev;
	for (guint i = 0; i < l->watch->len; i++) {
		LocalWatch *w = l->watch->pdata[i];

		w->behind = w->seen != rev;
		if (w->behind)
			ring(w);
	}
}

static bool reaches(const LocalStore *l, int64_t after, GError **err)
{
	static const char advice[] = "List again, and watch from the revision of that list.";

	if (after < l->compacted)
		return fail_advice(err, ERR_GONE, advice,
				   "the changes after revision %" PRId64
				   " are forgotten; the history begins at %" PRId64,
				   after, l->compacted);
	if (after > l->rev)
		return fail_advice(err, ERR_GONE, advice,
				   "revision %" PRId64 " has not happened here; the last one is %" PRId64,
				   after, l->rev);
	return true;
}

static LocalWatch *watch_new(LocalStore *l, const char *prefix, int64_t after, GError **err)
{
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	LocalWatch *w;

	if (fd < 0) {
		fail_errno(err, errno, "can't make an eventfd");
		return NULL;
	}
	w = g_new(LocalWatch, 1);
	*w = (LocalWatch){
		.local = l, .prefix = g_strdup(prefix), .fd = fd, .seen = after, .behind = after < l->rev
	};
	return w;
}

StoreWatch *local_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err)
{
	_cleanup_unlock_ LocalStore *l = local_lock((LocalStore *)s);
	LocalWatch *w;

	if (!reaches(l, after_rev, err))
		return NULL;
	w = watch_new(l, prefix, after_rev, err);
	if (w == NULL)
		return NULL;
	if (w->behind)
		ring(w);
	g_ptr_array_add(l->watch, w);
	return &w->base;
}

int local_watch_fd(const StoreWatch *w)
{
	return ((const LocalWatch *)w)->fd;
}

bool local_watch_next(StoreWatch *base, GPtrArray **ret_changes, GError **err)
{
	LocalWatch *w = (LocalWatch *)base;
	_cleanup_unlock_ LocalStore *l = local_lock(w->local);
	g_autoptr(GPtrArray) changes = store_items_new();
	eventfd_t rings;

	eventfd_read(w->fd, &rings);
	if (w->behind) {
		if (!reaches(l, w->seen, err) || !l->changes(l, w->prefix, w->seen, changes, &w->seen, err)) {
			ring(w); /* a caller that waits must see the failure again, not sleep on it */
			return false;
		}
		w->behind = w->seen < l->rev;
		if (w->behind)
			ring(w);
	}
	*ret_changes = g_steal_pointer(&changes);
	return true;
}

int64_t local_watch_seen(const StoreWatch *base)
{
	const LocalWatch *w = (const LocalWatch *)base;
	_cleanup_unlock_ LocalStore *l = local_lock(w->local);

	return w->seen;
}

void local_watch_close(StoreWatch *base)
{
	LocalWatch *w = (LocalWatch *)base;

	{
		_cleanup_unlock_ LocalStore *l = local_lock(w->local);

		g_ptr_array_remove_fast(l->watch, w);
	}
	close(w->fd);
	g_free(w->prefix);
	g_free(w);
}
