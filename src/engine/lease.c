/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lease.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/pool-impl.h"

#include <string.h>

#define RETRY_PAUSE UINT64_C(1000000)
#define TAKE_TRIES 20
/* How long a host that was let in may take until it begins anew as a member. */
#define JOIN_TIME UINT64_C(60000000)

struct Lease {
	Engine *engine;
	uint64_t ttl;
	char *key;
	GThread *thread;
	GMutex lock; /* of the members below */
	GCond wake;
	bool ending;
	int64_t rev;    /* of the key that is ours */
	uint64_t until; /* on the monotonic clock */
	/* the thread's own */
	StoreLease *lease;
	bool late;        /* it was told that the lease can't be renewed */
	GHashTable *seen; /* ids of hosts that were alive */
};

static void note(Lease *l, int64_t rev)
{
	g_mutex_lock(&l->lock);
	if (rev > 0)
		l->rev = rev;
	l->until = store_lease_until(l->lease);
	g_mutex_unlock(&l->lock);
}

/* Binds the key to the lease, as long as this host is in the pool's records. */
static bool bind(Lease *l, int64_t *ret_rev, GError **err)
{
	g_autofree char *host = key_host(l->engine->host_id), *now = time_stamp(), *text = NULL;
	_cleanup_json_ Json *j = json_object(), *record = NULL;
	g_autoptr(GError) e = NULL;
	int64_t rev;
	StoreTx *tx;

	record = record_get(l->engine->store, host, &rev, &e);
	if (record == NULL) {
		if (e == NULL)
			fail(&e, ERR_DENIED, "this host was taken out of the pool");
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	json_put_str(j, "since", now);
	text = json_print(j);
	tx = store_tx_new();
	store_tx_expect(tx, host, rev);
	store_tx_bind(tx, l->key, STORE_ANY, text, l->lease);
	return store_commit(l->engine->store, tx, STORE_DURABLE, ret_rev, err);
}

/* A new lease with the key on it. */
static bool take(Lease *l, GError **err)
{
	int64_t rev = 0;

	store_lease_free(l->lease);
	l->lease = store_lease_grant(l->engine->store, l->ttl, err);
	for (int i = 0; l->lease != NULL; i++) {
		g_autoptr(GError) e = NULL;

		if (bind(l, &rev, &e)) {
			note(l, rev);
			return true;
		}
		/* The host's record moved meanwhile. */
		if (store_is_conflict(e) && i < TAKE_TRIES)
			continue;
		store_lease_revoke(l->lease, NULL);
		l->lease = NULL;
		g_propagate_error(err, g_steal_pointer(&e));
	}
	return false;
}

static bool renew(Lease *l, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (l->lease != NULL && store_lease_renew(l->lease, l->ttl / 3, &e)) {
		note(l, 0);
		return true;
	}
	if (l->lease == NULL || g_error_matches(e, ERR, ERR_GONE))
		return take(l, err);
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

bool lease_admit(Lease *l, StoreTx *tx, GError **err)
{
	uint64_t margin = LEASE_MARGIN(l->ttl);
	bool held;

	g_mutex_lock(&l->lock);
	held = l->until > time_monotonic() + margin;
	if (held)
		store_tx_expect(tx, l->key, l->rev);
	g_mutex_unlock(&l->lock);
	return held || fail_advice(err, ERR_UNAVAILABLE,
				   "Look at etcd and at the network between the hosts: `plim pool status`.",
				   "this host can't renew its lease in the pool, so it begins nothing");
}

/* ---- the fence ---- */

/* {pid as text} of the vms that the records give to this host; NULL when they can't be read. */
static GHashTable *own_pids(Engine *e)
{
	g_autoptr(GPtrArray) items = store_list(e->store, KEYS_VMS, NULL, NULL);
	GHashTable *pids;

	if (items == NULL)
		return NULL;
	pids = g_hash_table_new(NULL, NULL);
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = NULL;

		if (!g_str_has_suffix(item->key, "/runtime"))
			continue;
		j = json_parse(item->value, strlen(item->value), NULL);
		if (g_strcmp0(json_str(j, "host"), e->host_id) == 0)
			g_hash_table_add(pids, GINT_TO_POINTER((gint)json_int(j, "pid", 0)));
	}
	return pids;
}

static bool is_own(pid_t pid, void *data)
{
	return g_hash_table_contains(data, GINT_TO_POINTER((gint)pid));
}

/* Held again: what is still ours goes on. */
static void open_fence(Lease *l, uint64_t shut_at)
{
	Engine *e = l->engine;
	g_autoptr(GHashTable) pids = own_pids(e);
	g_autofree char *since = print_duration(fence_now() - MIN(shut_at, fence_now()));
	unsigned n;

	if (pids == NULL)
		return;
	fence_set(e->fence, l->until - LEASE_MARGIN(l->ttl));
	n = fence_release(e->fence, is_own, pids);
	events_emit(
	    e->events, EVENT_HOST_FENCED, "host", e->host_id, e->host_name, NULL,
	    "the lease of host %s was not renewed in time: its guests were held for %s; %u of them go on",
	    e->host_name, since, n);
}

static void tend_fence(Lease *l)
{
	Fence *f = l->engine->fence;
	g_autoptr(GError) e = NULL;
	uint64_t shut_at = f != NULL ? fence_shut_at(f) : 0;

	if (f == NULL)
		return;
	if (shut_at != 0)
		open_fence(l, shut_at);
	else
		fence_set(f, l->until - LEASE_MARGIN(l->ttl));
	if (!fence_check_guard(f, &e))
		log_error("there is no guard that would hold the guests of this host: %s", e->message);
}

/* ---- the others ---- */

/* Who writes it first, tells it. */
static void mark(Lease *l, const StoreItem *item, Json *host, bool lost)
{
	Engine *e = l->engine;
	const char *name = json_str(host, "name"), *id = item->key + strlen(KEYS_HOSTS);
	g_autofree char *now = time_stamp(), *text = NULL;
	StoreTx *tx;

	json_put_str(host, "lost_at", lost ? now : NULL);
	text = json_print(host);
	tx = store_tx_new();
	store_tx_set(tx, item->key, item->rev, text);
	if (!store_commit(e->store, tx, STORE_DURABLE, NULL, NULL))
		return;
	if (lost)
		events_emit(e->events, EVENT_HOST_LOST, "host", id, name, NULL,
			    "host %s does not renew its lease any more", name);
	else
		events_emit(e->events, EVENT_HOST_BACK, "host", id, name, NULL, "host %s is back", name);
}

/* It was let in and has not begun as a member: it has no lease to lose. */
static bool is_arriving(const Lease *l, const char *id, const Json *host)
{
	const char *joined_at = json_str(host, "joined_at");
	uint64_t at;

	return !g_hash_table_contains(l->seen, id) && joined_at != NULL && time_parse(joined_at, &at) &&
	       time_real() < at + JOIN_TIME;
}

static void look_at_host(Lease *l, const StoreItem *item)
{
	_cleanup_json_ Json *host = json_parse(item->value, strlen(item->value), NULL);
	bool lost = json_str(host, "lost_at") != NULL, lives;
	const char *id = item->key + strlen(KEYS_HOSTS);
	g_autoptr(GError) e = NULL;

	if (g_strcmp0(json_str(host, "state"), HOST_MEMBER) != 0 || json_str(host, "name") == NULL)
		return;
	lives = pool_host_lives(l->engine->store, id, &e);
	if (lives)
		g_hash_table_add(l->seen, g_strdup(id));
	if (e == NULL && lives == lost && (lives || !is_arriving(l, id, host)))
		mark(l, item, host, !lives);
}

static void look_around(Lease *l)
{
	g_autoptr(GPtrArray) items = store_list(l->engine->store, KEYS_HOSTS, NULL, NULL);

	for (guint i = 0; items != NULL && i < items->len; i++)
		look_at_host(l, items->pdata[i]);
}

/* ---- the thread ---- */

/* False when it shall end. */
static bool pause_for(Lease *l, uint64_t us)
{
	gint64 until = g_get_monotonic_time() + (gint64)us;
	bool on;

	g_mutex_lock(&l->lock);
	while (!l->ending && g_cond_wait_until(&l->wake, &l->lock, until))
		continue;
	on = !l->ending;
	g_mutex_unlock(&l->lock);
	return on;
}

static void tell_trouble(Lease *l, const GError *e)
{
	if (!l->late)
		log_warning("the lease of this host was not renewed: %s", e->message);
	l->late = true;
}

static gpointer keep(gpointer data)
{
	Lease *l = data;
	uint64_t pause = l->ttl / 3;

	while (pause_for(l, pause)) {
		g_autoptr(GError) e = NULL;

		if (renew(l, &e)) {
			if (l->late)
				log_info("the lease of this host is renewed again");
			l->late = false;
			tend_fence(l);
			look_around(l);
			pause = l->ttl / 3;
		} else if (g_error_matches(e, ERR, ERR_DENIED)) {
			/* The start finds out what this means. */
			log_error("%s", e->message);
			engine_restart(l->engine);
			return NULL;
		} else {
			tell_trouble(l, e);
			pause = MIN(RETRY_PAUSE, l->ttl / 6);
		}
	}
	return NULL;
}

Lease *lease_start(Engine *e, uint64_t ttl, GError **err)
{
	Lease *l = g_new0(Lease, 1);

	g_mutex_init(&l->lock);
	g_cond_init(&l->wake);
	l->engine = e;
	l->ttl = ttl;
	l->key = key_lease(e->host_id);
	l->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	if (!take(l, err))
		return lease_stop(l);
	tend_fence(l);
	l->thread = g_thread_new("lease", keep, l);
	return l;
}

Lease *lease_stop(Lease *l)
{
	if (l == NULL)
		return NULL;
	g_mutex_lock(&l->lock);
	l->ending = true;
	g_cond_broadcast(&l->wake);
	g_mutex_unlock(&l->lock);
	if (l->thread != NULL)
		g_thread_join(l->thread);
	store_lease_free(l->lease);
	g_mutex_clear(&l->lock);
	g_cond_clear(&l->wake);
	g_hash_table_unref(l->seen);
	g_free(l->key);
	g_free(l);
	return NULL;
}
