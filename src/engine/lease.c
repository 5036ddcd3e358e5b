/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lease.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/owner.h"
#include "engine/pool-impl.h"
#include "engine/qemu_pid.h"
#include "engine/rounds.h"

#include <string.h>

#define RETRY_PAUSE UINT64_C(1000000)
#define TAKE_TRIES 20
/* How long a host that was let in may take until it begins anew as a member. */
#define JOIN_TIME UINT64_C(60000000)

struct Lease {
	Engine *engine;
	uint64_t ttl;
	char *key;
	Rounds *rounds;
	GMutex lock;    /* of the members below */
	int64_t rev;    /* of the key that is ours */
	uint64_t until; /* on the monotonic clock */
	/* the rounds' own */
	StoreLease *lease;
	uint64_t asleep;  /* how long the host has slept, before the lease was asked for */
	uint64_t held_to; /* when the guests must stop, on the fence's clock */
	bool fresh;       /* taken, and not looked yet at what is still ours */
	bool late;        /* it was told that the lease can't be renewed */
	bool dismissed;   /* the pool has no record of this host */
	GHashTable *seen; /* ids of hosts that were alive */
};

static void note(Lease *l, int64_t rev)
{
	g_mutex_lock(&l->lock);
	if (rev > 0)
		l->rev = rev;
	l->until = store_lease_until(l->lease);
	l->held_to = l->until + l->asleep - LEASE_MARGIN(l->ttl);
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
		l->dismissed = e == NULL;
		if (l->dismissed)
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
			l->fresh = true;
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

/*
 * The monotonic clock stands still while the host sleeps, and the fence's does not. Read before the lease is
 * asked for, so that a sleep right behind that makes the end of the lease come sooner, not later.
 */
static void note_clocks(Lease *l)
{
	l->asleep = fence_now() - time_monotonic();
}

/*
 * The lease is gone although its time, as this host counts it, may not be over: the host was frozen together
 * with its clocks, or somebody revoked the lease. Others may run its guests by now.
 */
static void hold(Lease *l)
{
	unsigned n = l->engine->fence != NULL ? fence_hold(l->engine->fence) : 0;

	if (n > 0)
		log_warning("the lease of this host is gone: its %u guests are held until it has another", n);
}

static bool renew(Lease *l, GError **err)
{
	g_autoptr(GError) e = NULL;

	note_clocks(l);
	if (l->lease != NULL && store_lease_renew(l->lease, l->ttl / 3, &e)) {
		note(l, 0);
		return true;
	}
	if (l->lease == NULL || g_error_matches(e, ERR, ERR_GONE)) {
		hold(l);
		return take(l, err);
	}
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

/* What the host has read is no older than the lease: who took a guest from it did so before. */
static bool is_fresh(const Lease *l)
{
	return store_revision(l->engine->store, NULL) >= l->rev;
}

/* Process ids of the QEMUs that the records give to this host; NULL when they can't be read. */
static GHashTable *own_pids(Engine *e)
{
	g_autoptr(OwnerClaims) claims = owner_claims_load(e->store, e->host_id, NULL);
	g_autoptr(GPtrArray) items = claims != NULL ? store_list(e->store, KEYS_VMS, NULL, NULL) : NULL;
	g_autoptr(GPtrArray) aside = items != NULL ? owner_claims_aside(claims, e->store, NULL) : NULL;
	GHashTable *pids;

	if (aside == NULL)
		return NULL;
	pids = g_hash_table_new(NULL, NULL);
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		g_autofree char *c = NULL, *vm = NULL, *rest = NULL;
		_cleanup_json_ Json *j = NULL;

		if (!key_split(item->key, &c, &vm, &rest) || !g_str_equal(rest, "runtime"))
			continue;
		j = json_parse(item->value, strlen(item->value), NULL);
		if (owner_claims_vm(claims, vm, j))
			g_hash_table_add(pids, GINT_TO_POINTER((gint)qemu_pid_of(e->folders.run, vm)));
	}
	for (guint i = 0; i < aside->len; i++)
		g_hash_table_add(pids, GINT_TO_POINTER((gint)qemu_pid_of(e->folders.run, aside->pdata[i])));
	return pids;
}

static bool is_own(pid_t pid, void *data)
{
	return g_hash_table_contains(data, GINT_TO_POINTER((gint)pid));
}

static void tell_release(Engine *e, uint64_t shut_at, struct fence_ends n)
{
	g_autofree char *since = print_duration(fence_now() - MIN(shut_at, fence_now()));
	g_autofree char *ends =
	    n.ended > 0 ? g_strdup_printf("; %u were ended, as they are not this host's any more", n.ended)
			: g_strdup("");

	if (shut_at != 0)
		events_emit(e->events, EVENT_HOST_FENCED, "host", e->host_id, e->host_name, NULL,
			    "the lease of host %s was not renewed in time: its guests were held for %s; %u "
			    "of them go on%s",
			    e->host_name, since, n.go_on, ends);
	else if (n.ended > 0)
		events_emit(e->events, EVENT_HOST_FENCED, "host", e->host_id, e->host_name, NULL,
			    "host %s took its lease anew: %u of its guests go on%s", e->host_name, n.go_on,
			    ends);
}

/* Held again: what is still ours goes on, and the rest ends. False when it is not to be seen what is ours. */
static bool open_fence(Lease *l, uint64_t shut_at)
{
	Engine *e = l->engine;
	g_autoptr(GHashTable) pids = is_fresh(l) ? own_pids(e) : NULL;

	if (pids == NULL)
		return false;
	fence_set(e->fence, l->held_to);
	tell_release(e, shut_at, fence_release(e->fence, is_own, pids));
	l->fresh = false;
	return true;
}

static void check_guard(const Lease *l)
{
	g_autoptr(GError) e = NULL;

	if (!fence_check_guard(l->engine->fence, &e))
		log_error("there is no guard that would hold the guests of this host: %s", e->message);
}

/* The lease is held. False when it must be tried again soon. */
static bool tend_fence(Lease *l)
{
	Fence *f = l->engine->fence;
	uint64_t shut_at = f != NULL ? fence_shut_at(f) : 0;
	bool ok = true;

	if (f == NULL)
		return true;
	if (shut_at != 0 || l->fresh)
		ok = open_fence(l, shut_at);
	else
		fence_set(f, l->held_to);
	check_guard(l);
	return ok;
}

/* It is not. The guard holds the guests in time; it may have been killed, so this looks as well. */
static void watch_fence(const Lease *l)
{
	Fence *f = l->engine->fence;

	if (f == NULL)
		return;
	if (fence_shut_at(f) == 0 && fence_now() >= l->held_to)
		fence_hold(f);
	check_guard(l);
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

bool pool_host_lives(Store *s, const char *host_id, GError **err)
{
	g_autofree char *key = key_lease(host_id);
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(s, key, &e);

	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return item != NULL;
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

/* ---- its rounds ---- */

static void tell_trouble(Lease *l, const GError *e)
{
	if (!l->late)
		log_warning("the lease of this host was not renewed: %s", e->message);
	l->late = true;
}

static uint64_t retry_pause(const Lease *l)
{
	return MIN(RETRY_PAUSE, l->ttl / 6);
}

/* A third of the time after the lease was asked for, however long the answer, and all behind it, took. */
static uint64_t next_pause(const Lease *l)
{
	uint64_t due = l->until - l->ttl / 3 * 2, now = time_monotonic();

	return due > now ? MIN(due - now, l->ttl / 3) : 0;
}

/* Returns when the next renewal is due. */
static uint64_t tend(Lease *l)
{
	bool ok;

	if (l->late)
		log_info("the lease of this host is renewed again");
	l->late = false;
	ok = tend_fence(l);
	look_around(l);
	return ok ? next_pause(l) : retry_pause(l);
}

static uint64_t do_round(void *data)
{
	Lease *l = data;
	g_autoptr(GError) e = NULL;

	if (renew(l, &e))
		return tend(l);
	if (l->dismissed) {
		/* The start finds out what this means. Not so when etcd takes its right away: it may have it
		 * back soon. */
		log_error("%s", e->message);
		engine_restart(l->engine);
		return ROUNDS_OVER;
	}
	tell_trouble(l, e);
	watch_fence(l);
	return retry_pause(l);
}

Lease *lease_start(Engine *e, uint64_t ttl, GError **err)
{
	Lease *l = g_new0(Lease, 1);

	g_mutex_init(&l->lock);
	l->engine = e;
	l->ttl = ttl;
	l->key = key_lease(e->host_id);
	l->seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	note_clocks(l);
	if (!pool_host_lives(e->store, e->host_id, NULL))
		hold(l);
	if (!take(l, err))
		return lease_free(l);
	tend_fence(l);
	l->rounds = rounds_start("lease", l->fresh ? retry_pause(l) : next_pause(l), do_round, l);
	return l;
}

void lease_stop(Lease *l)
{
	if (l != NULL)
		rounds_stop(l->rounds);
}

Lease *lease_free(Lease *l)
{
	if (l == NULL)
		return NULL;
	rounds_free(l->rounds);
	store_lease_free(l->lease);
	g_mutex_clear(&l->lock);
	g_hash_table_unref(l->seen);
	g_free(l->key);
	g_free(l);
	return NULL;
}
