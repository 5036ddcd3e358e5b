/* SPDX-License-Identifier: Apache-2.0 */
/* A pool out of a single host. */
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/etcd_member.h"
#include "engine/pool-impl.h"
#include "store/etcd_client.h"

#include <string.h>

/* Makes the authority and this host's own certificate. */
static bool make_certificates(const Engine *e, const Membership *m, GError **err)
{
	g_autofree char *host = pool_address_host(m->address);
	const char *const names[] = { host, NULL };
	uint64_t now = time_real();
	const struct pki_subject s = { e->host_id, names, now, now + PKI_HOST_LIFE };

	return pool_folder_make(m->folder, err) && pki_ca_make(m->folder, m->pool_id, now, err) &&
	       pki_host_make(m->folder, &s, err);
}

static Membership *membership_of_request(const Engine *e, const struct pool_init *r, GError **err)
{
	g_autoptr(Membership) m = g_new0(Membership, 1);

	if (!name_check("a pool", r->name, err))
		return NULL;
	m->address = r->address != NULL ? pool_address_parse(r->address, err) : pool_address_find(NULL, err);
	if (m->address == NULL)
		return NULL;
	m->pool_id = uuid_new();
	m->pool_name = g_strdup(r->name);
	m->host_id = g_strdup(e->host_id);
	m->folder = membership_folder(e->folders.state);
	m->step = g_strdup("init");
	return g_steal_pointer(&m);
}

/* The store must be empty: a pool that is there already is not overwritten. */
static bool claim(const Membership *m, GError **err)
{
	g_autoptr(Store) to = store_open(m->store, err);
	_cleanup_json_ Json *pool = json_object();
	g_autofree char *now = time_stamp(), *text = NULL, *ca = NULL;
	g_autoptr(GError) e = NULL;
	StoreTx *tx;

	ca = to != NULL ? pki_file_read(m->folder, PKI_CA, err) : NULL;
	if (ca == NULL)
		return false;
	json_put_str(pool, "id", m->pool_id);
	json_put_str(pool, "name", m->pool_name);
	json_put_str(pool, "created_at", now);
	json_put_str(pool, "ca", ca);
	text = json_print(pool);
	tx = store_tx_new();
	store_tx_set(tx, KEY_POOL, 0, text);
	if (store_commit(to, tx, STORE_DURABLE, NULL, &e))
		return true;
	if (store_is_conflict(e))
		return fail_advice(err, ERR_CONFLICT, "Give the pool an etcd of its own.",
				   "that etcd has a pool already");
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static bool found(Engine *e, Membership *m, const struct pool_init *r, GError **err)
{
	_cleanup_json_ Json *access = pool_store_of_request(r, m->pool_id, err);

	if (access == NULL || !make_certificates(e, m, err) || !pool_etcd_found(e, m, access, err) ||
	    !pool_store_save(access, m->folder, err))
		return false;
	m->store = pool_store_url(access, m->folder);
	return claim(m, err) && pool_convert(e, m, RECORDS_ALL, err);
}

/* An etcd of its own that nobody else is in goes with all that is in it: nothing is left to be asked. */
static void give_up(Engine *e, bool own_etcd, GError **err)
{
	g_autofree char *file = g_build_filename(e->folders.state, MEMBERSHIP_FILE, NULL);

	if (own_etcd ? !g_file_test(file, G_FILE_TEST_EXISTS) : !pool_is_unsettled(e->folders.state)) {
		pool_etcd_abandon(e->folders.state);
		pool_forget(e->folders.state);
	}
	pool_fall_back(e, err);
}

/* ---- tried out ---- */

/* Reads one key of the etcd that is there already: nothing answers that, or refuses, without a reason. */
static bool ask_etcd(const char *url, const char *root, GError **err)
{
	g_autoptr(EtcdConfig) config = etcd_config_parse(url + strlen(POOL_STORE_PREFIX), err);
	g_autoptr(EtcdClient) client = config != NULL ? etcd_client_new(config, err) : NULL;
	g_autofree char *key = g_base64_encode((const guchar *)root, strlen(root)),
			*body = g_strdup_printf("{\"key\":\"%s\",\"limit\":1}", key);
	EtcdCall call = { .path = "kv/range", .body = body };
	_cleanup_json_ Json *answer = client != NULL ? etcd_client_call(client, &call, err) : NULL;

	return answer != NULL;
}

/* With its certificates in a folder that goes again. */
static bool try_etcd(const Engine *e, const Json *access, GError **err)
{
	g_autofree char *folder = g_build_filename(e->folders.run, "pool-trial-XXXXXX", NULL), *url = NULL;
	bool ok;

	if (json_bool(access, "own", false)) {
		g_autofree char *program = etcd_member_program(err);

		return program != NULL;
	}
	if (g_mkdtemp(folder) == NULL)
		return fail_errno(err, errno, "can't make a folder in '%s'", e->folders.run);
	url = pool_store_url(access, folder);
	ok = pool_store_save(access, folder, err) && ask_etcd(url, json_str(access, "root"), err);
	dir_remove(folder, NULL);
	return ok;
}

static Json *would_be(const Engine *e, const Membership *m, const Json *access, GError **err)
{
	g_autoptr(GPtrArray) items = records_collect(e->store, e->host_id, RECORDS_ALL, err);
	_cleanup_json_ Json *names = items != NULL ? records_names(items) : NULL;
	Json *vms = json_arr(names, "vms"), *j;

	if (items == NULL)
		return NULL;
	j = json_object();
	json_put_str(j, "name", m->pool_name);
	json_put_str(j, "address", m->address);
	json_put(j, "etcd",
		 json_bool(access, "own", false) ? json_null() : json_ref(json_arr(access, "endpoints")));
	json_put(j, "vms", vms != NULL ? json_ref(vms) : json_array());
	return j;
}

static Json *try_out(Engine *e, const Membership *m, const struct pool_init *r, GError **err)
{
	_cleanup_json_ Json *access = pool_store_of_request(r, m->pool_id, err);

	return access != NULL && try_etcd(e, access, err) ? would_be(e, m, access, err) : NULL;
}

Json *pool_init(Engine *e, const struct pool_init *r, bool dry_run, GError **err)
{
	g_autoptr(Membership) m = NULL;
	Json *j;

	if (!pool_need_none(e, err))
		return NULL;
	m = membership_of_request(e, r, err);
	if (m != NULL && dry_run)
		return try_out(e, m, r, err);
	if (m == NULL || !exec_freeze(e->exec, POOL_FREEZE_TIME, err))
		return NULL;
	if (!found(e, m, r, err)) {
		give_up(e, r->etcd == NULL, err);
		return NULL;
	}
	engine_restart(e);
	j = json_object();
	json_put_str(j, "id", m->pool_id);
	json_put_str(j, "name", m->pool_name);
	return j;
}
