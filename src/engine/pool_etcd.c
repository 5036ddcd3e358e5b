/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The etcd that the hosts of a pool run themselves.
 *
 * core/place/voters.h says who shall have a vote, from the same records on every
 * host; each host takes the steps that are its own, and the first host that is
 * online takes out the members of those that are away. What an etcd refuses
 * (it changes one member at a time, and only while enough are healthy) is tried
 * again at the next look.
 */
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/place/voters.h"
#include "engine/etcd_cluster.h"
#include "engine/etcd_member.h"
#include "engine/pool-impl.h"
#include "engine/pool_recover.h"

#include <string.h>

#define START_TIME UINT64_C(60000000)
/* A host that is away for so long counts as offline: a reboot is no reason to copy the data. */
#define AWAY_TIME UINT64_C(300000000)

static char *etcd_folder(const char *state)
{
	return g_build_filename(state, "etcd", NULL);
}

/* ---- a member of this host's own ---- */

static EtcdMember *member_of(const Membership *m, const char *join)
{
	EtcdMember *em = g_new0(EtcdMember, 1);

	em->name = g_strdup(m->host_id);
	em->address = pool_address_host(m->address);
	em->client_port = ETCD_CLIENT_PORT;
	em->peer_port = ETCD_PEER_PORT;
	em->ca = g_build_filename(m->folder, PKI_CA, NULL);
	em->cert = g_build_filename(m->folder, PKI_CERT, NULL);
	em->key = g_build_filename(m->folder, PKI_KEY, NULL);
	em->cluster = g_strdup(m->pool_id);
	em->join = g_strdup(join);
	return em;
}

bool pool_etcd_found(Engine *e, Membership *m, Json *access, GError **err)
{
	g_autofree char *folder = etcd_folder(e->folders.state), *url = NULL;
	g_autoptr(EtcdMember) em = NULL;
	Json *endpoints;

	if (!json_bool(access, "own", false))
		return true;
	em = member_of(m, NULL);
	if (!etcd_member_make(folder, em, err) || !etcd_member_start(folder, START_TIME, err))
		return false;
	url = etcd_member_client_url(em);
	endpoints = json_array();
	json_array_append_new(endpoints, json_string(url));
	json_put(access, "endpoints", endpoints);
	return true;
}

void pool_etcd_abandon(const char *state)
{
	g_autofree char *folder = etcd_folder(state);
	g_autoptr(GError) e = NULL;

	if (g_file_test(folder, G_FILE_TEST_EXISTS) && !etcd_member_remove(folder, &e))
		log_warning("a member of etcd stays behind in '%s': %s", folder, e->message);
}

bool pool_etcd_start(const char *state, GError **err)
{
	g_autofree char *folder = etcd_folder(state);
	g_autoptr(GError) e = NULL;
	g_autoptr(EtcdMember) em = etcd_member_load(folder, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (em == NULL || etcd_member_start(folder, START_TIME, &e))
		return true;
	/* It waits for the others; the store is opened by whoever of them is there. */
	if (g_error_matches(e, ERR, ERR_TIMEOUT))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* ---- the cluster ---- */

typedef struct Cluster {
	EtcdConfig *config;
	EtcdClient *client;
	GPtrArray *peers; /* EtcdPeer */
} Cluster;

static void cluster_done(Cluster *c)
{
	if (c->peers != NULL)
		g_ptr_array_unref(c->peers);
	etcd_client_free(c->client);
	etcd_config_free(c->config);
}

static bool cluster_open(Cluster *c, const char *store, GError **err)
{
	if (!g_str_has_prefix(store, POOL_STORE_PREFIX))
		return fail(err, ERR_UNSUPPORTED, "the pool's store is no etcd");
	c->config = etcd_config_parse(store + strlen(POOL_STORE_PREFIX), err);
	c->client = c->config != NULL ? etcd_client_new(c->config, err) : NULL;
	c->peers = c->client != NULL ? etcd_cluster_list(c->client, err) : NULL;
	return c->peers != NULL;
}

static bool is_of(const EtcdPeer *p, const char *host_id, const char *peer_url)
{
	return g_str_equal(p->name, host_id) || (p->name[0] == '\0' && peer_url != NULL &&
						 g_strv_contains((const char *const *)p->peer, peer_url));
}

/* A member that was taken in and has not started yet has no name: its address tells whose it is. */
static const EtcdPeer *peer_of(const Cluster *c, const char *host_id, const char *address)
{
	g_autofree char *plain = address != NULL ? pool_address_host(address) : NULL;
	EtcdMember at = { .address = plain, .peer_port = ETCD_PEER_PORT, .ca = plain };
	g_autofree char *url = plain != NULL ? etcd_member_peer_url(&at) : NULL;

	for (guint i = 0; i < c->peers->len; i++)
		if (is_of(c->peers->pdata[i], host_id, url))
			return c->peers->pdata[i];
	return NULL;
}

/* ---- who votes ---- */

typedef struct Voters {
	Cluster cluster;
	GPtrArray *record; /* Json of the hosts */
	GArray *host;      /* struct voter_host */
} Voters;

static void drop_json(gpointer p)
{
	json_unref(p);
}

static void voters_done(Voters *v)
{
	cluster_done(&v->cluster);
	g_clear_pointer(&v->record, g_ptr_array_unref);
	g_clear_pointer(&v->host, g_array_unref);
}

static bool is_online(const Json *host)
{
	const char *lost = json_str(host, "lost_at");
	uint64_t since;

	return lost == NULL || !time_parse(lost, &since) || time_real() < since + AWAY_TIME;
}

static const char *address_of(const Json *host)
{
	const char *url = json_str(host, "url");

	return url != NULL && g_str_has_prefix(url, "https://") ? url + strlen("https://") : NULL;
}

static void add_voter(Voters *v, Json *host)
{
	const char *id = json_str(host, "id"), *joined = json_str(host, "joined_at");
	struct voter_host h = { .id = id, .online = is_online(host), .able = json_bool(host, "etcd", false) };
	const EtcdPeer *p;

	g_ptr_array_add(v->record, host);
	if (id == NULL || g_strcmp0(json_str(host, "state"), HOST_MEMBER) != 0)
		return;
	if (joined != NULL)
		time_parse(joined, &h.joined);
	p = peer_of(&v->cluster, id, address_of(host));
	if (p != NULL)
		h.part = p->learner ? VOTER_LEARNER : VOTER_FULL;
	g_array_append_val(v->host, h);
}

static bool voters_load(Voters *v, Engine *e, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(e->store, KEYS_HOSTS, NULL, err);

	if (items == NULL || !cluster_open(&v->cluster, e->member->store, err))
		return false;
	v->record = g_ptr_array_new_with_free_func(drop_json);
	v->host = g_array_new(FALSE, FALSE, sizeof(struct voter_host));
	for (guint i = 0; i < items->len; i++) {
		const char *text = ((StoreItem *)items->pdata[i])->value;
		Json *j = json_parse(text, strlen(text), NULL);

		if (j != NULL)
			add_voter(v, j);
	}
	voters_choose((struct voter_host *)(void *)v->host->data, v->host->len);
	return true;
}

/* The first host that is online, by the order of their ids. */
static bool am_first(const Voters *v, const char *host_id)
{
	const char *first = NULL;

	for (guint i = 0; i < v->host->len; i++) {
		const struct voter_host *h = &g_array_index(v->host, struct voter_host, i);

		if (h->online && (first == NULL || strcmp(h->id, first) < 0))
			first = h->id;
	}
	return g_strcmp0(first, host_id) == 0;
}

static bool take_part(Engine *e, Cluster *c, GError **err)
{
	g_autofree char *folder = etcd_folder(e->folders.state), *url = NULL, *join = NULL;
	g_autoptr(EtcdMember) em = member_of(e->member, NULL);
	uint64_t id;

	url = etcd_member_peer_url(em);
	if (!etcd_cluster_add(c->client, em->name, url, &id, &join, err))
		return false;
	em->join = g_steal_pointer(&join);
	if (!etcd_member_make(folder, em, err) || !etcd_member_start(folder, START_TIME, err))
		return false;
	log_info("this host keeps a copy of the pool's records");
	return true;
}

static bool take_out(Engine *e, Cluster *c, const EtcdPeer *p, GError **err)
{
	if (!etcd_cluster_remove(c->client, p->id, err))
		return false;
	log_info("the member of etcd on host %s was taken out", p->name);
	if (g_str_equal(p->name, e->host_id))
		pool_etcd_abandon(e->folders.state);
	return true;
}

/* One step, if it is this host's to take. */
static bool take_step(Engine *e, Voters *v, GError **err)
{
	const struct voter_host *hosts = (const struct voter_host *)(void *)v->host->data;
	size_t who = 0;
	VoterStep step = voters_step(hosts, v->host->len, &who);
	const EtcdPeer *p;
	bool mine;

	if (step == VOTERS_DONE || step == VOTERS_WAIT)
		return true;
	mine = g_str_equal(hosts[who].id, e->host_id);
	p = peer_of(&v->cluster, hosts[who].id, mine ? e->member->address : NULL);
	if (step == VOTERS_ADD)
		return !mine || take_part(e, &v->cluster, err);
	if (p == NULL)
		return true;
	if (step == VOTERS_PROMOTE)
		return !mine || etcd_cluster_promote(v->cluster.client, p->id, err);
	if (mine || (!hosts[who].online && am_first(v, e->host_id)))
		return take_out(e, &v->cluster, p, err);
	return true;
}

/* A learner that was taken in but whose process never came, because its host died in between, is made again.
 */
static bool finish_part(Engine *e, Voters *v, GError **err)
{
	g_autofree char *folder = etcd_folder(e->folders.state);
	const EtcdPeer *own = peer_of(&v->cluster, e->host_id, e->member->address);

	if (own == NULL || etcd_member_running(folder) != 0)
		return true;
	if (own->name[0] == '\0')
		return take_part(e, &v->cluster, err);
	return etcd_member_start(folder, START_TIME, err);
}

/* Of the members that vote; those of learners don't answer. */
static Json *endpoints_of(const Cluster *c)
{
	Json *list = json_array();

	for (guint i = 0; i < c->peers->len; i++) {
		const EtcdPeer *p = c->peers->pdata[i];

		for (char **u = p->client; !p->learner && u != NULL && *u != NULL; u++)
			json_array_append_new(list, json_string(*u));
	}
	return list;
}

/* Notes where the store is now; the daemon uses it from its next start on. True when it is news. */
static bool note_endpoints(Engine *e, const Cluster *c)
{
	_cleanup_json_ Json *access = pool_store_load(e->member->folder, NULL), *now = endpoints_of(c);
	Membership next = *e->member;
	g_autofree char *store = NULL;
	g_autoptr(GError) err = NULL;

	if (access == NULL || json_array_size(now) == 0)
		return false;
	json_put(access, "endpoints", json_incref(now));
	next.store = store = pool_store_url(access, e->member->folder);
	if (g_str_equal(store, e->member->store))
		return false;
	if (!pool_store_save(access, e->member->folder, &err) ||
	    !membership_save(&next, e->folders.state, MEMBERSHIP_FILE, &err)) {
		log_warning("where the pool's etcd is was not noted: %s", err->message);
		return false;
	}
	return true;
}

/* False with *err unset: no. */
static bool is_of_a_host(Engine *e, const EtcdPeer *p, GError **err)
{
	g_autofree char *key = key_host(p->name);
	_cleanup_json_ Json *host =
	    store_catch_up(e->store, err) ? record_get(e->store, key, NULL, err) : NULL;

	return host != NULL;
}

static bool is_known(const Voters *v, const EtcdPeer *p)
{
	for (guint i = 0; i < v->record->len; i++)
		if (g_strcmp0(json_str(v->record->pdata[i], "id"), p->name) == 0)
			return true;
	return false;
}

/* A host that left, or was evicted, and whose member etcd did not let go at once. */
static void drop_strangers(Engine *e, const Voters *v)
{
	bool first = am_first(v, e->host_id);

	for (guint i = 0; first && i < v->cluster.peers->len; i++) {
		const EtcdPeer *p = v->cluster.peers->pdata[i];
		g_autoptr(GError) err = NULL;

		if (p->name[0] == '\0' || is_known(v, p) || is_of_a_host(e, p, &err))
			continue;
		if (err == NULL && etcd_cluster_remove(v->cluster.client, p->id, &err))
			log_info("a member of etcd that was of no host any more was taken out");
		else
			log_warning("a member of etcd that is of no host stays for now: %s", err->message);
	}
}

bool pool_etcd_tend(Engine *e)
{
	_cleanup_json_ Json *access = pool_store_load(e->member->folder, NULL);
	g_autoptr(GError) err = NULL;
	Voters v = { 0 };
	bool news = false;

	if (!json_bool(access, "own", false))
		return false;
	if (voters_load(&v, e, &err)) {
		news = note_endpoints(e, &v.cluster);
		drop_strangers(e, &v);
		if (finish_part(e, &v, &err))
			take_step(e, &v, &err);
	}
	if (err != NULL && !g_error_matches(err, ERR, ERR_BUSY))
		log_warning("the members of the pool's etcd stay as they are for now: %s", err->message);
	voters_done(&v);
	return news;
}

/* ---- the end of a member ---- */

/* Of the members that vote, without this host's. */
typedef struct Rest {
	size_t all, online;
	GString *away; /* names of hosts */
} Rest;

static void count_rest(Store *s, const Voters *v, const EtcdPeer *own, Rest *r)
{
	for (guint i = 0; i < v->cluster.peers->len; i++) {
		const EtcdPeer *p = v->cluster.peers->pdata[i];

		r->all += p != own && !p->learner;
	}
	for (guint i = 0; i < v->record->len; i++) {
		const Json *host = v->record->pdata[i];
		const char *id = json_str(host, "id"), *name = json_str(host, "name");
		const EtcdPeer *p = id != NULL ? peer_of(&v->cluster, id, address_of(host)) : NULL;

		if (p == NULL || p == own || p->learner)
			continue;
		if (pool_host_lives(s, id, NULL))
			r->online++;
		else
			g_string_append_printf(r->away, "%s%s", r->away->len > 0 ? ", " : "",
					       name != NULL ? name : id);
	}
}

/* Others come with a copy only when they are three; what is under way ends by itself. */
static bool check_rest(const Voters *v, const Rest *r, GError **err)
{
	if (r->all == 0)
		return fail_advice(
		    err, ERR_BAD_STATE,
		    v->record->len > 2
			? "`plim pool status` shows when others, which need etcd, have a copy."
			: "Let the other host leave first, or add a third: then each keeps a copy.",
		    "this host alone keeps the pool's records, and there are other hosts in it");
	return r->online * 2 > r->all ||
	       fail_advice(err, ERR_BAD_STATE,
			   "Have them come back, or take them out with `plim pool evict`, first.",
			   "of the %zu other hosts that keep the pool's records too few are there to go on "
			   "without this one; away: %s",
			   r->all, r->away->len > 0 ? r->away->str : "a member of etcd that is of no host");
}

bool pool_etcd_may_leave(Engine *e, GError **err)
{
	_cleanup_json_ Json *access = pool_store_load(e->member->folder, NULL);
	Rest r = { .away = g_string_new(NULL) };
	const EtcdPeer *own;
	Voters v = { 0 };
	bool ok = true;

	if (json_bool(access, "own", false)) {
		ok = store_catch_up(e->store, err) && voters_load(&v, e, err);
		own = ok ? peer_of(&v.cluster, e->host_id, e->member->address) : NULL;
		/* The last host takes the cluster with it. */
		if (own != NULL && !own->learner && v.record->len > 1) {
			count_rest(e->store, &v, own, &r);
			ok = check_rest(&v, &r, err);
		}
		voters_done(&v);
	}
	g_string_free(r.away, TRUE);
	return ok;
}

void pool_etcd_leave(const char *state, const Membership *m)
{
	g_autofree char *folder = etcd_folder(state);
	Cluster c = { 0 };
	g_autoptr(GError) err = NULL;
	const EtcdPeer *own = NULL;

	if (!g_file_test(folder, G_FILE_TEST_EXISTS))
		return;
	if (cluster_open(&c, m->store, &err))
		own = peer_of(&c, m->host_id, m->address);
	/* The last one takes the cluster with it. */
	if (own != NULL && c.peers->len > 1)
		etcd_cluster_remove(c.client, own->id, &err);
	if (err != NULL && g_file_test(state, G_FILE_TEST_IS_DIR))
		log_warning("this host's member of etcd was not taken out: %s", err->message);
	cluster_done(&c);
	pool_etcd_abandon(state);
}

bool pool_etcd_drop(Engine *e, const char *host_id, GError **err)
{
	_cleanup_json_ Json *access = pool_store_load(e->member->folder, NULL);
	Cluster c = { 0 };
	const EtcdPeer *p;
	bool ok = true;

	if (!json_bool(access, "own", false))
		return true;
	ok = cluster_open(&c, e->member->store, err);
	p = ok ? peer_of(&c, host_id, NULL) : NULL;
	if (p != NULL)
		ok = etcd_cluster_remove(c.client, p->id, err);
	cluster_done(&c);
	return ok;
}

void pool_etcd_put_status(Engine *e, Json *hosts)
{
	_cleanup_json_ Json *access = pool_store_load(e->member->folder, NULL);
	g_autoptr(GError) err = NULL;
	Cluster c = { 0 };
	Json *h;
	size_t i;

	if (!json_bool(access, "own", false) || !cluster_open(&c, e->member->store, &err)) {
		cluster_done(&c);
		return;
	}
	json_array_foreach(hosts, i, h)
	{
		const char *url = json_str(h, "url");
		const EtcdPeer *p =
		    peer_of(&c, json_str(h, "id"), url != NULL ? url + strlen("https://") : NULL);

		json_put_str(h, "etcd", p == NULL ? NULL : p->learner ? "learner" : "voter");
	}
	cluster_done(&c);
}
