/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool_keeper.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/pool-impl.h"
#include "engine/rounds.h"

#include <string.h>

#define FIRST_LOOK UINT64_C(1000000)
#define LOOK UINT64_C(5000000)
/* A join takes seconds; who is not complete after this time died. */
#define JOIN_TIME UINT64_C(600000000)

struct PoolKeeper {
	Engine *engine;
	Rounds *rounds;
	bool news; /* kept while operations are in the way: a new certificate is told once */
};

/* ---- the certificate ---- */

/* True when there is a new one. */
static bool renew_certificate(const Engine *e)
{
	const Membership *m = e->member;
	g_autofree char *host = pool_address_host(m->address);
	const char *const names[] = { host, NULL };
	uint64_t now = time_real(), until = 0;
	const struct pki_subject s = { m->host_id, names, now, now + PKI_HOST_LIFE };
	g_autoptr(GError) err = NULL;

	if (pki_check(m->folder, m->host_id, now, &until, NULL) && until > now + PKI_RENEW)
		return false;
	if (pki_host_make(m->folder, &s, &err)) {
		log_info("this host has a new certificate");
		return true;
	}
	log_warning("this host's certificate was not renewed: %s", err->message);
	return false;
}

/* ---- joins that came to nothing ---- */

static bool is_stale(const Json *host)
{
	const char *since = json_str(host, "joined_at");
	uint64_t at;

	return g_strcmp0(json_str(host, "state"), HOST_JOINING) == 0 && since != NULL &&
	       time_parse(since, &at) && time_real() > at + JOIN_TIME;
}

static void sweep(Engine *e, const char *host_id, const char *name)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(GPtrArray) items = records_collect(e->store, host_id, RECORDS_OWN, &err);

	if (items == NULL || !records_remove(e->store, items, false, &err) ||
	    !pool_drop_host(e->store, host_id, true, &err))
		log_warning("what host %s left behind was not removed yet: %s", name, err->message);
	else
		events_emit(e->events, EVENT_HOST_JOIN_UNDONE, "host", host_id, name, NULL,
			    "host %s began to join and never ended; what it had brought is removed", name);
}

static void sweep_joins(Engine *e)
{
	g_autoptr(GPtrArray) items = store_list(e->store, KEYS_HOSTS, NULL, NULL);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);

		if (is_stale(j) && json_str(j, "name") != NULL)
			sweep(e, item->key + strlen(KEYS_HOSTS), json_str(j, "name"));
	}
}

/* ---- its rounds ---- */

static uint64_t do_round(void *data)
{
	PoolKeeper *k = data;
	Engine *e = k->engine;

	k->news = pool_etcd_tend(e) || k->news;
	k->news = renew_certificate(e) || k->news;
	sweep_joins(e);
	if (!k->news || !exec_freeze(e->exec, 0, NULL))
		return LOOK;
	log_info("where the pool's etcd is, or this host's certificate, changed");
	engine_restart(e);
	return ROUNDS_OVER;
}

PoolKeeper *pool_keeper_start(Engine *e)
{
	PoolKeeper *k = g_new0(PoolKeeper, 1);

	k->engine = e;
	k->rounds = rounds_start("pool", FIRST_LOOK, do_round, k);
	return k;
}

void pool_keeper_stop(PoolKeeper *k)
{
	if (k != NULL)
		rounds_stop(k->rounds);
}

PoolKeeper *pool_keeper_free(PoolKeeper *k)
{
	if (k != NULL) {
		rounds_free(k->rounds);
		g_free(k);
	}
	return NULL;
}
