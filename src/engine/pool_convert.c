/* SPDX-License-Identifier: Apache-2.0 */
/* The way from one store to another, forwards and back. */
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"
#include "base/version.h"
#include "core/model/keys.h"
#include "engine/pool-impl.h"
#include "engine/pool_recover.h"

#include <stdio.h>
#include <string.h>

bool pool_need_none(const Engine *e, GError **err)
{
	if (e->member == NULL)
		return true;
	return fail_advice(err, ERR_BAD_STATE, "`plim pool leave` takes it out first.",
			   "this host is in the pool '%s' already", e->member->pool_name);
}

bool pool_need_member(const Engine *e, GError **err)
{
	if (e->member != NULL)
		return true;
	return fail_advice(err, ERR_BAD_STATE,
			   "`plim pool init` makes a pool of it; `plim pool join` lets it join one.",
			   "this host is not in a pool");
}

bool pool_has_etcd(void)
{
	g_autofree char *path = g_find_program_in_path("etcd");

	return path != NULL;
}

Json *pool_host_record(const Engine *e, const char *address, const char *state)
{
	Json *j = host_facts_to_json(engine_facts((Engine *)e));
	g_autofree char *url = g_strconcat("https://", address, NULL), *now = time_stamp();

	json_put_str(j, "url", url);
	json_put_str(j, "version", plimsoll_version);
	json_put_bool(j, "etcd", pool_has_etcd());
	json_put_str(j, "state", state);
	json_put_str(j, "joined_at", now);
	return j;
}

bool pool_folder_make(const char *folder, GError **err)
{
	return dir_remove(folder, err) && dir_make(folder, 0700, err);
}

void pool_forget(const char *state)
{
	g_autofree char *folder = membership_folder(state);
	g_autofree char *file = g_build_filename(state, MEMBERSHIP_JOINING, NULL);
	g_autoptr(GError) e = NULL;

	unlink(file);
	if (!dir_remove(folder, &e))
		log_warning("certificates of a pool that was not joined stay behind: %s", e->message);
}

/* Deletes `key` while it holds the id; absent, and another's, are fine. */
static bool drop_name(Store *s, StoreTx *tx, const char *collection, const char *name, const char *id,
		      GError **err)
{
	g_autofree char *key = key_name(collection, name), *value = g_strdup_printf("\"%s\"", id);
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) there = store_get(s, key, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (there != NULL && g_str_equal(there->value, value))
		store_tx_set(tx, key, there->rev, NULL);
	return true;
}

bool pool_drop_host(Store *s, const char *host_id, bool dead, GError **err)
{
	g_autofree char *key = key_host(host_id), *cpu = key_cpu(host_id), *mask = key_cpu_mask(host_id),
			*lease = key_lease(host_id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *host = record_get(s, key, NULL, &e);
	g_autoptr(StoreTx) tx = NULL;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	tx = store_tx_new();
	store_tx_set(tx, key, STORE_ANY, NULL);
	store_tx_set(tx, cpu, STORE_ANY, NULL);
	store_tx_set(tx, mask, STORE_ANY, NULL);
	if (dead)
		store_tx_expect(tx, lease, 0);
	if (json_str(host, "name") != NULL &&
	    !drop_name(s, tx, "hosts", json_str(host, "name"), host_id, err))
		return false;
	return store_commit(s, g_steal_pointer(&tx), STORE_DURABLE, NULL, err);
}

static RecordsScope scope_of(const Membership *m)
{
	return g_strcmp0(m->step, "init") == 0 ? RECORDS_ALL : RECORDS_JOIN;
}

bool pool_unconvert(Store *from, Store *to, const Membership *m, GError **err)
{
	g_autoptr(GPtrArray) items = records_collect(from, m->host_id, scope_of(m), err);
	StoreTx *tx;

	if (items == NULL || !records_remove(to, items, false, err) ||
	    !pool_drop_host(to, m->host_id, false, err))
		return false;
	if (g_strcmp0(m->step, "init") != 0)
		return true;
	tx = store_tx_new();
	store_tx_set(tx, KEY_POOL, STORE_ANY, NULL);
	return store_commit(to, tx, STORE_DURABLE, NULL, err);
}

static bool spend_token(Store *to, StoreTx *tx, const char *hash, GError **err)
{
	g_autofree char *key = key_pool_token(hash), *text = NULL;
	int64_t rev = 0;
	_cleanup_json_ Json *j = record_get(to, key, &rev, err);

	if (j == NULL)
		return err != NULL && *err != NULL
			   ? false
			   : fail(err, ERR_GONE, "the token was taken back while this host joined");
	json_put_bool(j, "spent", true);
	text = json_print(j);
	store_tx_set(tx, key, rev, text);
	return true;
}

/* The last write of a conversion in the pool's store: from here on the host is a member. */
static bool become_member(Engine *e, Store *to, const Membership *m, GError **err)
{
	_cleanup_json_ Json *j = pool_host_record(e, m->address, HOST_MEMBER);
	g_autofree char *key = key_host(m->host_id), *name = key_name("hosts", json_str(j, "name")),
			*text = json_print(j), *id = g_strdup_printf("\"%s\"", m->host_id);
	g_autoptr(GError) e2 = NULL;
	int64_t rev = 0;
	_cleanup_json_ Json *there = record_get(to, key, &rev, &e2);
	StoreTx *tx;

	if (e2 != NULL) {
		g_propagate_error(err, g_steal_pointer(&e2));
		return false;
	}
	/* It was let in too long ago, and taken away again. */
	if (there == NULL)
		return fail_advice(err, ERR_GONE, "Join again.", "the pool did not wait for this host");
	tx = store_tx_new();
	store_tx_set(tx, key, rev, text);
	store_tx_set(tx, name, STORE_ANY, id);
	if (m->token != NULL && !spend_token(to, tx, m->token, err)) {
		store_tx_free(tx);
		return false;
	}
	return store_commit(to, tx, STORE_DURABLE, NULL, err);
}

static bool make_file_current(const Engine *e, GError **err)
{
	g_autofree char *from = g_build_filename(e->folders.state, MEMBERSHIP_JOINING, NULL);
	g_autofree char *to = g_build_filename(e->folders.state, MEMBERSHIP_FILE, NULL);

	if (rename(from, to) < 0)
		return fail_errno(err, errno, "can't rename '%s'", from);
	return dir_sync(e->folders.state, err);
}

static bool copy_into(Engine *e, Store *to, const Membership *m, RecordsScope scope, GError **err)
{
	g_autoptr(GPtrArray) items = records_collect(e->store, e->host_id, scope, err);

	return items != NULL && records_copy(to, items, err) && become_member(e, to, m, err);
}

bool pool_convert(Engine *e, Membership *m, RecordsScope scope, GError **err)
{
	g_autoptr(Store) to = NULL;
	g_autoptr(GError) e2 = NULL;

	if (!membership_save(m, e->folders.state, MEMBERSHIP_JOINING, err))
		return false;
	to = store_open(m->store, err);
	if (to != NULL && copy_into(e, to, m, scope, err))
		return make_file_current(e, err);
	if (to != NULL && !pool_unconvert(e->store, to, m, &e2)) {
		/* The file stays: the next start asks whether this host is a member, and tries again. */
		log_error("what was copied into the pool's store was not removed yet: %s", e2->message);
		return false;
	}
	pool_forget(e->folders.state);
	return false;
}

bool pool_is_unsettled(const char *state)
{
	g_autofree char *joining = g_build_filename(state, MEMBERSHIP_JOINING, NULL);
	g_autofree char *file = g_build_filename(state, MEMBERSHIP_FILE, NULL);

	return g_file_test(joining, G_FILE_TEST_EXISTS) || g_file_test(file, G_FILE_TEST_EXISTS);
}

void pool_fall_back(Engine *e, GError **err)
{
	if (!pool_is_unsettled(e->folders.state)) {
		exec_thaw(e->exec);
		return;
	}
	err_advise(err,
		   "The daemon begins anew, and asks the pool's store whether this host is a member: see "
		   "`plim pool status`.");
	engine_restart(e);
}

/* ---- at a start ---- */

static bool is_member(Store *s, const char *host_id, bool *ret, GError **err)
{
	g_autofree char *key = key_host(host_id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *host = record_get(s, key, NULL, &e);

	*ret = g_strcmp0(json_str(host, "state"), HOST_MEMBER) == 0;
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return *ret || err == NULL || *err == NULL;
}

static bool finish(const char *state, const Membership *m, GError **err)
{
	g_autofree char *joining = g_build_filename(state, MEMBERSHIP_JOINING, NULL);
	g_autofree char *file = g_build_filename(state, MEMBERSHIP_FILE, NULL);

	log_info("the pool '%s' has this host as a member: the join is ended", m->pool_name);
	if (rename(joining, file) < 0)
		return fail_errno(err, errno, "can't rename '%s'", joining);
	return dir_sync(state, err);
}

static bool take_back(const char *state, Store *to, const Membership *m, char **ret_undone, GError **err)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/state.db", state);
	g_autoptr(Store) from = store_open(url, err);

	if (from == NULL || !pool_unconvert(from, to, m, err))
		return false;
	if (g_strcmp0(m->step, "init") == 0)
		pool_etcd_abandon(state);
	pool_forget(state);
	*ret_undone = g_strdup(m->pool_name);
	return true;
}

/* A leave that was interrupted is ended. */
static bool end_leave(const Folders *f, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(Membership) m = membership_load(f->state, MEMBERSHIP_FILE, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	return m == NULL || pool_leave_finish(f, m, err);
}

bool pool_recover(const Folders *f, char **ret_undone, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(Membership) m = membership_load(f->state, MEMBERSHIP_JOINING, &e);
	g_autoptr(Store) to = NULL;
	bool member = false;

	*ret_undone = NULL;
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (!end_leave(f, err))
		return false;
	if (m == NULL)
		return true;
	to = pool_etcd_start(f->state, err) ? pool_store_open_patiently(m->store, err) : NULL;
	if (to == NULL || !is_member(to, m->host_id, &member, err))
		return err_advise(
		    err,
		    "This host was about to join the pool '%s' when its daemon ended. Make the "
		    "pool's etcd reachable; or, if the pool is no more, move " MEMBERSHIP_JOINING
		    " out of '%s'.",
		    m->pool_name, f->state);
	return member ? finish(f->state, m, err) : take_back(f->state, to, m, ret_undone, err);
}
