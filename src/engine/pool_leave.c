/* SPDX-License-Identifier: Apache-2.0 */
/* Out of a pool: by itself, or when the others have taken it out (pool_evict.c). */
#include "base/fd.h"
#include "base/log.h"
#include "core/model/keys.h"
#include "engine/fence.h"
#include "engine/pool-impl.h"
#include "engine/pool_recover.h"

#include <stdio.h>
#include <string.h>

#define STORE_NEW "state.new.db"
#define STORE_FILE "state.db"

static void remove_store(const char *state, const char *name)
{
	static const char *const suffixes[] = { "", "-wal", "-shm" };

	for (size_t i = 0; i < G_N_ELEMENTS(suffixes); i++) {
		g_autofree char *path = g_strconcat(state, "/", name, suffixes[i], NULL);

		unlink(path);
	}
}

static Store *open_as(const char *state, const char *name, GError **err)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/%s", state, name);

	return store_open(url, err);
}

/* All that the host takes with it, in a store of its own, complete before anything is taken out of the
 * pool's. */
static bool write_own(Engine *e, const GPtrArray *items, GError **err)
{
	g_autoptr(Store) own = NULL;

	remove_store(e->folders.state, STORE_NEW);
	own = open_as(e->folders.state, STORE_NEW, err);
	return own != NULL && records_copy(own, items, err);
}

/* Closed before it is renamed: SQLite leaves nothing beside the file then. */
static bool make_current(const char *state, const Membership *m, GError **err)
{
	g_autofree char *from = g_build_filename(state, STORE_NEW, NULL);
	g_autofree char *to = g_build_filename(state, STORE_FILE, NULL);
	g_autofree char *file = g_build_filename(state, MEMBERSHIP_FILE, NULL);

	if (g_file_test(from, G_FILE_TEST_EXISTS)) {
		remove_store(state, STORE_FILE);
		if (rename(from, to) < 0)
			return fail_errno(err, errno, "can't rename '%s'", from);
	}
	if (unlink(file) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", file);
	pool_etcd_leave(state, m);
	pool_forget(state);
	return dir_sync(state, err);
}

static bool take_out(Store *pool, const char *host_id, const GPtrArray *items, GError **err)
{
	g_autofree char *lease = key_lease(host_id);
	StoreTx *tx;

	if (!records_remove(pool, items, err) || !pool_drop_host(pool, host_id, false, err))
		return false;
	tx = store_tx_new();
	store_tx_set(tx, lease, STORE_ANY, NULL);
	return store_commit(pool, tx, STORE_DURABLE, NULL, err);
}

/* What write_own() wrote, before or after it was made current. */
static Store *open_own(const char *state, GError **err)
{
	g_autofree char *path = g_build_filename(state, STORE_NEW, NULL);

	return open_as(state, g_file_test(path, G_FILE_TEST_EXISTS) ? STORE_NEW : STORE_FILE, err);
}

bool pool_leave_finish(const Folders *f, const Membership *m, GError **err)
{
	g_autoptr(Store) pool = pool_etcd_start(f->state, err) ? store_open(m->store, err) : NULL, own = NULL;
	g_autoptr(GPtrArray) items = NULL;

	own = pool != NULL ? open_own(f->state, err) : NULL;
	items = own != NULL ? records_collect(own, m->host_id, RECORDS_ALL, err) : NULL;
	if (items == NULL || !take_out(pool, m->host_id, items, err))
		return err_advise(
		    err, "This host was about to leave the pool '%s'. Make the pool's etcd reachable.",
		    m->pool_name);
	own = store_close(own);
	fence_drop(f->run);
	return make_current(f->state, m, err);
}

/*
 * On failure the next start goes on with what is not done of it. The keeper
 * would note the pool's etcd and make certificates again, and the lease would
 * set a fence that nobody takes away, or end guests that are not in the pool's
 * records any more.
 */
static bool leave(Engine *e, const GPtrArray *items, GError **err)
{
	Membership m = *e->member;
	char step[] = "leave";

	pool_keeper_stop(e->keeper);
	lease_stop(e->lease);
	m.step = step;
	if (!membership_save(&m, e->folders.state, MEMBERSHIP_FILE, err) ||
	    !take_out(e->store, e->host_id, items, err))
		return false;
	fence_drop(e->folders.run);
	if (!make_current(e->folders.state, e->member, err))
		return false;
	events_emit(e->events, EVENT_HOST_LEFT, "host", e->host_id, e->host_name, NULL,
		    "host %s left the pool %s", e->host_name, e->member->pool_name);
	return true;
}

static Json *names_of(const GPtrArray *items)
{
	_cleanup_json_ Json *names = records_names(items);
	Json *vms = json_arr(names, "vms");

	return vms != NULL ? json_incref(vms) : json_array();
}

static Json *left(const Engine *e, const GPtrArray *items)
{
	Json *j = json_object();

	json_put_str(j, "name", e->member->pool_name);
	json_put(j, "vms", names_of(items));
	return j;
}

Json *pool_leave(Engine *e, bool dry_run, GError **err)
{
	g_autoptr(GPtrArray) items = NULL;
	bool ok;

	if (!pool_need_member(e, err))
		return NULL;
	if (dry_run) {
		items = records_collect(e->store, e->host_id, RECORDS_OWN, err);
		return items != NULL ? left(e, items) : NULL;
	}
	if (!exec_freeze(e->exec, POOL_FREEZE_TIME, err))
		return NULL;
	items = records_collect(e->store, e->host_id, RECORDS_OWN, err);
	if (items == NULL || !write_own(e, items, err)) {
		exec_thaw(e->exec);
		return NULL;
	}
	ok = leave(e, items, err);
	engine_restart(e);
	return ok ? left(e, items) : NULL;
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
