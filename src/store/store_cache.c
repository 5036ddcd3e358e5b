/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store that keeps a copy of another one: "cache:etcd:...". Reads are answered
 * from the copy, at once and even while the other one can't be reached; writes go
 * to the other one, and return when the copy has them.
 *
 * The follower, a thread, lists the whole of the inner store and then applies
 * what a watch of it tells, revision by revision, as if it were committed here;
 * so watches and their history work as in a local store. A watch from before that
 * history is one of the inner store. After ERR_GONE the follower lists again; what
 * happened in between is not known then, so every watch that had not seen the
 * revision of that list is gone too.
 *
 * The checker, another thread, finds out how old the copy may be: it asks the
 * inner store for its revision every CHECK_US. When the copy has come up to that,
 * it is no older than the question.
 */
#include "base/fd.h"
#include "base/time.h"
#include "store/store-mem.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>

#define CHECK_US UINT64_C(2000000)
#define RETRY_MS 300
/* How long a commit waits to be seen in the copy: the watch needs some seconds to leave a dead endpoint. */
#define SEEN_US UINT64_C(15000000)
/* The same where it is not certain that there is something to see. */
#define CATCH_UP_US UINT64_C(500000)
/* The same where somebody waits: then the revision is moved rather than waited for. */
#define PULSE_US UINT64_C(50000)

typedef struct CacheStore {
	MemStore mem; /* its lock is for all that changes here */
	Store *inner;
	StoreWatch *watch; /* of everything in it; the follower's. NULL: to be opened at the next list */
	pthread_t follower, checker;
	int n_threads; /* that were begun */
	bool quit;
	int wake;             /* eventfd: ends the follower's sleep */
	pthread_cond_t moved; /* the copy has moved on, or quit */
	uint64_t fresh;       /* all that was committed by then is in the copy; monotonic */
	uint64_t pulsed_at;   /* monotonic */
} CacheStore;

typedef struct CacheWatch {
	StoreWatch base;
	StoreWatch *at; /* of the copy, or of the inner store */
	bool is_inner;
} CacheWatch;

static bool wants_quit(CacheStore *c)
{
	_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);

	return c->quit;
}

/* Lock held. False when the time is over. */
static bool wait_moved(CacheStore *c, uint64_t until)
{
	struct timespec ts = { .tv_sec = (time_t)(until / 1000000),
			       .tv_nsec = (long)(until % 1000000) * 1000 };

	return pthread_cond_timedwait(&c->moved, &c->mem.local.lock, &ts) == 0;
}

/* ---- the follower ---- */

/* The next revision of a piece of changes, which is a transaction of the inner store. */
static guint apply_revision(CacheStore *c, const GPtrArray *piece, guint from)
{
	g_autoptr(StoreTx) tx = store_tx_new();
	int64_t rev = ((StoreItem *)piece->pdata[from])->rev;
	guint n = from;

	for (; n < piece->len && ((StoreItem *)piece->pdata[n])->rev == rev; n++) {
		const StoreItem *i = piece->pdata[n];

		store_tx_set(tx, i->key, STORE_ANY, i->value);
	}
	mem_apply(&c->mem, tx, rev);
	return n;
}

/* `seen`: how far the inner watch has come, which may be further than these changes. */
static void apply_piece(CacheStore *c, const GPtrArray *piece, int64_t seen)
{
	g_autoptr(StoreTx) none = store_tx_new();
	_cleanup_unlock_ LocalStore *l = local_lock(&c->mem.local);

	for (guint n = 0; n < piece->len;)
		n = apply_revision(c, piece, n);
	if (seen > l->rev)
		local_committed(l, none, seen);
	pthread_cond_broadcast(&c->moved);
}

/* Lock held. */
static void replace_all(CacheStore *c, GPtrArray *items, int64_t rev)
{
	if (rev == c->mem.local.rev && rev != 0)
		return; /* nothing has happened since */
	mem_replace(&c->mem, items, rev);
	pthread_cond_broadcast(&c->moved);
}

static bool list_anew(CacheStore *c, int64_t *ret_rev, GError **err)
{
	uint64_t began = time_monotonic();
	g_autoptr(GPtrArray) items = store_list(c->inner, "", ret_rev, err);

	if (items == NULL)
		return false;
	_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);
	replace_all(c, items, *ret_rev);
	c->fresh = MAX(c->fresh, began);
	return true;
}

static bool list_and_watch(CacheStore *c, GError **err)
{
	int64_t rev;

	if (list_anew(c, &rev, err))
		c->watch = store_watch_open(c->inner, "", rev, err);
	return c->watch != NULL;
}

static void sleep_until_awake(CacheStore *c)
{
	const StoreWatch *w = c->watch;
	struct pollfd p[] = { { .fd = c->wake, .events = POLLIN },
			      { .fd = w != NULL ? store_watch_fd(w) : -1, .events = POLLIN } };

	poll(p, G_N_ELEMENTS(p), w != NULL ? -1 : RETRY_MS);
}

static void follow(CacheStore *c)
{
	g_autoptr(GPtrArray) piece = NULL;

	if (c->watch == NULL)
		list_and_watch(c, NULL);
	else if (store_watch_next(c->watch, &piece, NULL))
		apply_piece(c, piece, c->inner->be->watch_seen(c->watch));
	else
		c->watch = store_watch_close(c->watch);
}

static void *run_follower(void *data)
{
	CacheStore *c = data;

	while (!wants_quit(c)) {
		follow(c);
		sleep_until_awake(c);
	}
	return NULL;
}

/* ---- the checker ---- */

/* Did the copy come up to `rev`? If not, others may move the revision where the watch does not look. */
static bool comes_up_to(CacheStore *c, int64_t rev, uint64_t asked, uint64_t wait)
{
	_cleanup_unlock_ LocalStore *l = local_lock(&c->mem.local);
	uint64_t end = time_monotonic() + wait;

	while (!c->quit && l->rev < rev)
		if (!wait_moved(c, end))
			break;
	if (l->rev >= rev)
		c->fresh = MAX(c->fresh, asked);
	return c->quit || l->rev >= rev;
}

/* It takes a commit: one is for all who wait. */
static bool pulse(CacheStore *c, GError **err)
{
	uint64_t now = time_monotonic();

	{
		_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);

		if (c->inner->be->pulse == NULL || now - c->pulsed_at < PULSE_US)
			return true;
		c->pulsed_at = now;
	}
	return c->inner->be->pulse(c->inner, err);
}

static void *run_checker(void *data)
{
	CacheStore *c = data;

	while (!wants_quit(c)) {
		uint64_t asked = time_monotonic();
		int64_t rev = store_revision(c->inner, NULL);

		if (rev >= 0 && !comes_up_to(c, rev, asked, CATCH_UP_US))
			pulse(c, NULL);
		_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);
		while (!c->quit && wait_moved(c, asked + CHECK_US))
			;
	}
	return NULL;
}

static uint64_t cache_age(Store *s)
{
	CacheStore *c = (CacheStore *)s;
	_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);

	return time_monotonic() - c->fresh;
}

/*
 * The revision may have moved where the watch does not look. Then a pulse brings the copy there, which takes
 * a commit, so the watch is given time to do without.
 */
static bool cache_catch_up(Store *s, GError **err)
{
	CacheStore *c = (CacheStore *)s;
	uint64_t asked = time_monotonic(), end = asked + SEEN_US;
	int64_t rev = store_revision(c->inner, err);

	if (rev < 0)
		return false;
	while (!comes_up_to(c, rev, asked, PULSE_US)) {
		if (time_monotonic() >= end)
			return fail(err, ERR_TIMEOUT, "the copy of the store does not come up to it");
		if (!pulse(c, err))
			return false;
	}
	return true;
}

/* ---- writing ---- */

/* Does the copy show what `tx` did? Deletions of what it does not have need no waiting. */
static bool shows(CacheStore *c, const StoreTx *tx, int64_t rev)
{
	if (c->mem.local.rev >= rev)
		return true;
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];

		if (!w->expect_only && (w->value != NULL || g_tree_lookup(c->mem.item, w->key) != NULL))
			return false;
	}
	return true;
}

static void wait_until_shown(CacheStore *c, const StoreTx *tx, int64_t rev)
{
	_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);
	uint64_t end = time_monotonic() + SEEN_US;

	while (!shows(c, tx, rev))
		if (!wait_moved(c, end))
			return;
}

/* A conflict means that the copy was behind: whoever reads again must not find the same once more. */
static void wait_for_cause(CacheStore *c, const GError *e)
{
	const char *key = json_str(err_details(e), "key");
	int64_t found = json_int(err_details(e), "revision", 0);
	_cleanup_unlock_ LocalStore *l = local_lock(&c->mem.local);
	uint64_t end = time_monotonic() + (found != 0 ? SEEN_US : CATCH_UP_US);

	while (found != 0 ? l->rev < found : key != NULL && g_tree_lookup(c->mem.item, key) != NULL)
		if (!wait_moved(c, end))
			return;
}

static bool cache_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	CacheStore *c = (CacheStore *)s;
	GError *e = NULL;

	if (c->inner->be->commit(c->inner, tx, flags, ret_rev, &e)) {
		wait_until_shown(c, tx, *ret_rev);
		return true;
	}
	if (g_error_matches(e, ERR, ERR_CONFLICT))
		wait_for_cause(c, e);
	g_propagate_error(err, e);
	return false;
}

static bool cache_compact(Store *s, int64_t upto, GError **err)
{
	CacheStore *c = (CacheStore *)s;

	if (!store_compact(c->inner, upto, err))
		return false;
	_cleanup_unlock_ LocalStore *l = local_lock(&c->mem.local);
	mem_forget_upto(&c->mem, MIN(upto, l->rev));
	return true;
}

static bool cache_lease_grant(Store *s, StoreLease *l, uint64_t ttl, GError **err)
{
	return store_lease_wrap(((CacheStore *)s)->inner, l, ttl, err);
}

/* ---- watches ---- */

/* A revision that the inner store has and the copy not yet: soon. */
static bool come_up_to(CacheStore *c, int64_t rev, GError **err)
{
	int64_t now = local_revision(&c->mem.local.base, NULL);

	if (rev <= now)
		return true;
	now = store_revision(c->inner, err);
	if (now < 0)
		return false;
	if (rev <= now)
		comes_up_to(c, rev, 0, CATCH_UP_US);
	return true;
}

static bool is_forgotten(CacheStore *c, int64_t rev)
{
	_cleanup_unlock_ LocalStore *l = local_lock(&c->mem.local);

	return rev < l->compacted;
}

static StoreWatch *cache_watch_open(Store *s, const char *prefix, int64_t after_rev, GError **err)
{
	CacheStore *c = (CacheStore *)s;
	CacheWatch w = { .is_inner = is_forgotten(c, after_rev) };

	if (!come_up_to(c, after_rev, err))
		return NULL;
	w.at = w.is_inner ? store_watch_open(c->inner, prefix, after_rev, err)
			  : local_watch_open(s, prefix, after_rev, err);
	return w.at != NULL ? g_memdup2(&w, sizeof w) : NULL;
}

static int cache_watch_fd(const StoreWatch *base)
{
	const CacheWatch *w = (const CacheWatch *)base;

	return w->is_inner ? store_watch_fd(w->at) : local_watch_fd(w->at);
}

static bool cache_watch_next(StoreWatch *base, GPtrArray **ret_changes, GError **err)
{
	CacheWatch *w = (CacheWatch *)base;

	return w->is_inner ? store_watch_next(w->at, ret_changes, err)
			   : local_watch_next(w->at, ret_changes, err);
}

static int64_t cache_watch_seen(const StoreWatch *base)
{
	const CacheWatch *w = (const CacheWatch *)base;

	return w->is_inner ? w->at->store->be->watch_seen(w->at) : local_watch_seen(w->at);
}

static void cache_watch_close(StoreWatch *base)
{
	CacheWatch *w = (CacheWatch *)base;

	if (w->is_inner)
		store_watch_close(w->at);
	else
		local_watch_close(w->at);
	g_free(w);
}

/* ---- open and close ---- */

static bool begin_thread(CacheStore *c, pthread_t *ret, void *(*run)(void *), GError **err)
{
	int e = pthread_create(ret, NULL, run, c);

	if (e != 0)
		return fail_errno(err, e, "can't make a thread for the cache");
	c->n_threads++;
	return true;
}

static bool cache_open(Store *s, const char *where, GError **err)
{
	CacheStore *c = (CacheStore *)s;

	mem_init(&c->mem);
	cond_init_monotonic(&c->moved);
	c->wake = eventfd(0, EFD_CLOEXEC);
	if (c->wake < 0)
		return fail_errno(err, errno, "can't make an eventfd");
	if (g_str_has_prefix(where, "cache:") || g_str_has_prefix(where, "trace:cache:"))
		return fail(err, ERR_INVALID, "a cached store can't be cached again");
	c->inner = store_open(where, err);
	/* The first list is made here: opening fails where there is no store, and a watch can be opened at
	 * once. */
	return c->inner != NULL && list_and_watch(c, err) &&
	       begin_thread(c, &c->follower, run_follower, err) &&
	       begin_thread(c, &c->checker, run_checker, err);
}

static void cache_close(Store *s)
{
	CacheStore *c = (CacheStore *)s;

	{
		_cleanup_unlock_ LocalStore *held = local_lock(&c->mem.local);

		c->quit = true;
		pthread_cond_broadcast(&c->moved);
	}
	eventfd_write(c->wake, 1);
	if (c->n_threads > 0)
		pthread_join(c->follower, NULL);
	if (c->n_threads > 1)
		pthread_join(c->checker, NULL);
	store_watch_close(c->watch);
	store_close(c->inner);
	pthread_cond_destroy(&c->moved);
	if (c->wake >= 0)
		close(c->wake);
	mem_done(&c->mem);
}

const StoreBackend store_cache = {
	.scheme = "cache",
	.usage = "cache:URL",
	.size = sizeof(CacheStore),
	.open = cache_open,
	.close = cache_close,
	.get = mem_get,
	.list = mem_list,
	.revision = local_revision,
	.commit = cache_commit,
	.compact = cache_compact,
	.watch_open = cache_watch_open,
	.watch_fd = cache_watch_fd,
	.watch_next = cache_watch_next,
	.watch_close = cache_watch_close,
	.watch_seen = cache_watch_seen,
	.age = cache_age,
	.catch_up = cache_catch_up,
	.lease_grant = cache_lease_grant,
};
