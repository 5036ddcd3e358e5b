/* SPDX-License-Identifier: Apache-2.0 */
/* Out of a pool: by itself, or when the others have taken it out (pool_evict.c). */
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/fence.h"
#include "engine/pool-impl.h"
#include "engine/pool_recover.h"
#include "engine/qemu_pid.h"

#include <stdio.h>
#include <string.h>

#define STORE_NEW "state.new.db"
#define STORE_FILE "state.db"
/* How long an operation that another host has of a vm is waited for. */
#define BUSY_TRIES 60
#define BUSY_PAUSE UINT64_C(1000000)

static void remove_store(const char *state, const char *name)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };

	for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
		g_autofree char *path = g_strconcat(state, "/", name, suffixes[i], NULL);

		unlink(path);
	}
}

/* ---- what goes along ---- */

/* Where all that the host takes with it is put together. It is there from the step "leave" on. */
static Store *open_own(const char *state, GError **err)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/" STORE_NEW, state);

	return store_open(url, err);
}

/* NULL with *err unset: the pool has no record of this host. */
static GPtrArray *collect(Store *pool, const char *host_id, GError **err)
{
	g_autofree char *key = key_host(host_id);
	_cleanup_json_ Json *host = NULL;

	if (!store_catch_up(pool, err))
		return NULL;
	host = record_get(pool, key, NULL, err);
	return host != NULL ? records_collect(pool, host_id, RECORDS_OWN, err) : NULL;
}

typedef struct Moving {
	Store *pool, *own;
	const char *host_id;
	bool evicted; /* the pool has taken the host out, and may run elsewhere what is in its records */
} Moving;

/*
 * From whatever a try before this one has left: what is not in the pool any more was moved already, what is
 * there is read again. The host's own record stays: as long as it is there, all that names it is its own.
 */
static bool move_once(void *data, GError **err)
{
	Moving *m = data;
	g_autoptr(GError) e = NULL;
	g_autoptr(GPtrArray) items = collect(m->pool, m->host_id, &e), objects = NULL;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	m->evicted = items == NULL;
	if (!records_drop_shared(m->own, m->pool, err))
		return false;
	if (m->evicted)
		return true;
	objects = records_of_objects(items, m->host_id);
	return records_copy(m->own, items, err) && records_remove(m->pool, objects, true, err);
}

/* Another host may have an operation of a vm, which ends. */
static bool move_records(Moving *m, GError **err)
{
	for (unsigned tries = 0;; tries++) {
		g_autoptr(GError) e = NULL;

		if (store_retry(move_once, m, &e))
			return true;
		if (!g_error_matches(e, ERR, ERR_BUSY) || tries == BUSY_TRIES) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		g_usleep(BUSY_PAUSE);
	}
}

static bool take_out_host(Store *pool, const char *host_id, GError **err)
{
	g_autofree char *lease = key_lease(host_id);
	StoreTx *tx;

	if (!pool_drop_host(pool, host_id, false, err))
		return false;
	tx = store_tx_new();
	store_tx_set(tx, lease, STORE_ANY, NULL);
	return store_commit(pool, tx, STORE_DURABLE, NULL, err);
}

static bool is_runtime(const StoreItem *item, char **ret_vm)
{
	g_autofree char *collection = NULL, *rest = NULL;

	return key_split(item->key, &collection, ret_vm, &rest) && g_str_equal(rest, "runtime");
}

static bool stop_vm(Store *own, const StoreItem *item, GError **err)
{
	_cleanup_json_ Json *is = json_parse(item->value, strlen(item->value), err), *stopped = NULL;
	VmState state = vm_runtime_state(is);
	g_autofree char *now = time_stamp(), *text = NULL;
	StoreTx *tx;

	if (is == NULL || (state != VM_RUNNING && state != VM_PAUSED))
		return is != NULL;
	stopped =
	    vm_runtime_moved(is, VM_STOPPED, "its host was taken out of the pool as it was leaving it", now);
	text = json_print(stopped);
	tx = store_tx_new();
	store_tx_set(tx, item->key, STORE_ANY, text);
	return store_commit(own, tx, STORE_DURABLE, NULL, err);
}

/* What was moved before the eviction may have come into the pool's hands since, and gone from there again. */
static bool stop_vms(Store *own, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(own, KEYS_VMS, NULL, err);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		g_autofree char *vm = NULL;

		if (is_runtime(items->pdata[i], &vm) && !stop_vm(own, items->pdata[i], err))
			return false;
	}
	return items != NULL;
}

/* ---- the fence ---- */

static bool is_in(pid_t pid, void *data)
{
	return g_hash_table_contains(data, GINT_TO_POINTER((gint)pid));
}

static bool drop_fence(const char *run, Store *own, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(own, KEYS_VMS, NULL, err);
	g_autoptr(GHashTable) pids = g_hash_table_new(NULL, NULL);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		g_autofree char *vm = NULL;

		if (is_runtime(items->pdata[i], &vm))
			g_hash_table_add(pids, GINT_TO_POINTER((gint)qemu_pid_of(run, vm)));
	}
	if (items != NULL)
		fence_drop(run, is_in, pids);
	return items != NULL;
}

/* ---- from step to step ---- */

static bool save_step(const Membership *m, const char *state, const char *step, GError **err)
{
	Membership next = *m;
	g_autofree char *copy = g_strdup(step);

	next.step = copy;
	return membership_save(&next, state, MEMBERSHIP_FILE, err);
}

static bool rename_store(const char *state, GError **err)
{
	g_autofree char *from = g_build_filename(state, STORE_NEW, NULL);
	g_autofree char *to = g_build_filename(state, STORE_FILE, NULL);

	if (!g_file_test(from, G_FILE_TEST_EXISTS))
		return true;
	remove_store(state, STORE_FILE);
	return rename(from, to) == 0 || fail_errno(err, errno, "can't rename '%s'", from);
}

/* All is in a store of this host's own. It is a member no more when the file is gone. */
static bool end_membership(const char *state, const Membership *m, GError **err)
{
	g_autofree char *file = g_build_filename(state, MEMBERSHIP_FILE, NULL);

	if (!rename_store(state, err) || !dir_sync(state, err))
		return false;
	pool_etcd_leave(state, m);
	pool_forget(state);
	if (unlink(file) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", file);
	return dir_sync(state, err);
}

/*
 * From the step "leave" to "moved": as long as that was not reached, a host that has no record in the pool
 * was evicted.
 */
static bool move(const Folders *f, const Membership *m, Store *pool, Store *own, GError **err)
{
	Moving moving = { .pool = pool, .own = own, .host_id = m->host_id };

	if (!move_records(&moving, err))
		return false;
	if (moving.evicted)
		fence_kill_all(f->run);
	return (moving.evicted ? stop_vms(own, err) : drop_fence(f->run, own, err)) &&
	       save_step(m, f->state, "moved", err);
}

/* To "left". `ret_items`, if not NULL, gets what went along. */
static bool go(const Folders *f, const Membership *m, const char *step, Store *pool, GPtrArray **ret_items,
	       GError **err)
{
	g_autoptr(Store) own = open_own(f->state, err);

	if (own == NULL || (g_str_equal(step, "leave") && !move(f, m, pool, own, err)) ||
	    !take_out_host(pool, m->host_id, err))
		return false;
	if (ret_items != NULL)
		*ret_items = store_list(own, KEY_ROOT, NULL, NULL);
	/* SQLite leaves nothing beside the file then. */
	own = store_close(own);
	return save_step(m, f->state, "left", err);
}

/* A member of etcd that does not start, as it was taken out, is not the only way to the records. */
static Store *open_pool(const char *state, const Membership *m, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (!pool_etcd_start(state, &e))
		log_warning("this host's member of the pool's etcd does not run: %s", e->message);
	return pool_store_open_patiently(m->store, err);
}

static bool finish_going(const Folders *f, const Membership *m, GError **err)
{
	g_autoptr(Store) pool = open_pool(f->state, m, err);

	return (pool != NULL && go(f, m, m->step, pool, NULL, err)) ||
	       err_advise(err, "This host was about to leave the pool '%s'. Make the pool's etcd reachable.",
			  m->pool_name);
}

bool pool_leave_finish(const Folders *f, const Membership *m, GError **err)
{
	bool left = g_strcmp0(m->step, "left") == 0;

	if (!left && g_strcmp0(m->step, "leave") != 0 && g_strcmp0(m->step, "moved") != 0)
		return true;
	return (left || finish_going(f, m, err)) && end_membership(f->state, m, err);
}

/* ---- a leave ---- */

static Json *left(const Engine *e, const GPtrArray *items)
{
	_cleanup_json_ Json *names = records_names(items);
	Json *vms = json_arr(names, "vms"), *j = json_object();

	json_put_str(j, "name", e->member->pool_name);
	json_put(j, "vms", vms != NULL ? json_ref(vms) : json_array());
	return j;
}

static GPtrArray *collect_own(Engine *e, GError **err)
{
	g_autoptr(GError) e2 = NULL;
	GPtrArray *items = collect(e->store, e->host_id, &e2);

	if (items == NULL && e2 == NULL)
		fail_advice(&e2, ERR_DENIED, "Its daemon finds that out in a moment: `plim pool status`.",
			    "this host was taken out of the pool '%s'", e->member->pool_name);
	if (e2 != NULL)
		g_propagate_error(err, g_steal_pointer(&e2));
	return items;
}

/* Complete before the step is saved: a disk that is full is told while nothing has changed. */
static bool write_own(Engine *e, GError **err)
{
	g_autoptr(GPtrArray) items = collect_own(e, err);
	g_autoptr(Store) own = NULL;

	if (items == NULL)
		return false;
	remove_store(e->folders.state, STORE_NEW);
	own = open_own(e->folders.state, err);
	return own != NULL && records_copy(own, items, err);
}

/*
 * The keeper would note the pool's etcd and make certificates again, and the
 * lease would set a fence that nobody takes away, or end guests that are not in
 * the pool's records any more. What fails behind the first step is ended by the
 * daemon's next start.
 */
static Json *leave(Engine *e, GError **err)
{
	g_autoptr(GPtrArray) items = NULL;

	pool_keeper_stop(e->keeper);
	/* Others may have joined, or gone away, while operations were waited for. */
	if (!pool_etcd_may_leave(e, err) || !write_own(e, err))
		return NULL;
	lease_stop(e->lease);
	if (!save_step(e->member, e->folders.state, "leave", err) ||
	    !go(&e->folders, e->member, "leave", e->store, &items, err) ||
	    !end_membership(e->folders.state, e->member, err))
		return NULL;
	events_emit(e->events, EVENT_HOST_LEFT, "host", e->host_id, e->host_name, NULL,
		    "host %s left the pool %s", e->host_name, e->member->pool_name);
	return items != NULL ? left(e, items) : json_object();
}

Json *pool_leave(Engine *e, bool dry_run, GError **err)
{
	g_autoptr(GPtrArray) items = NULL;
	Json *j;

	if (!pool_need_member(e, err) || !pool_etcd_may_leave(e, err))
		return NULL;
	items = collect_own(e, err);
	if (items == NULL || dry_run)
		return items != NULL ? left(e, items) : NULL;
	if (!exec_freeze(e->exec, POOL_FREEZE_TIME, err))
		return NULL;
	j = leave(e, err);
	engine_restart(e);
	return j;
}

/* ---- dismissed ---- */

static bool set_aside(const char *state, const char *name, const char *as, GError **err)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };

	for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
		g_autofree char *from = g_strconcat(state, "/", name, suffixes[i], NULL);
		g_autofree char *to = g_strconcat(state, "/", as, suffixes[i], NULL);

		if (rename(from, to) < 0 && errno != ENOENT)
			return fail_errno(err, errno, "can't rename '%s'", from);
	}
	return true;
}

bool pool_dismiss(const Folders *f, GError **err)
{
	log_warning("the pool has no record of this host any more: its guests end");
	fence_kill_all(f->run);
	if (!set_aside(f->state, STORE_FILE, "state.before-pool.db", err) ||
	    !set_aside(f->state, MEMBERSHIP_FILE, "pool.dismissed.json", err))
		return false;
	pool_etcd_abandon(f->state);
	pool_forget(f->state);
	return dir_sync(f->state, err);
}
