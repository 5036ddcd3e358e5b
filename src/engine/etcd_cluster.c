/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/etcd_cluster.h"

#include <inttypes.h>
#include <string.h>

static void drop_peer(gpointer data)
{
	EtcdPeer *p = data;

	g_free(p->name);
	g_strfreev(p->peer);
	g_strfreev(p->client);
	g_free(p);
}

static bool read_id(const Json *member, uint64_t *ret, GError **err)
{
	const char *text = json_str(member, "ID");
	char *end = NULL;

	*ret = text != NULL ? g_ascii_strtoull(text, &end, 10) : 0;
	return (*ret != 0 && *end == '\0') ||
	       fail(err, ERR_STORE, "etcd sent something odd: a member without an id");
}

static EtcdPeer *peer_of_json(const Json *j, GError **err)
{
	const char *name = json_str(j, "name");
	EtcdPeer *p;
	uint64_t id;

	if (!read_id(j, &id, err))
		return NULL;
	p = g_new0(EtcdPeer, 1);
	p->id = id;
	p->name = g_strdup(name != NULL ? name : "");
	p->peer = json_strv(json_arr(j, "peerURLs"));
	p->client = json_strv(json_arr(j, "clientURLs"));
	p->learner = json_bool(j, "isLearner", false);
	return p;
}

static gint compare_ids(gconstpointer a, gconstpointer b)
{
	const EtcdPeer *x = *(const EtcdPeer *const *)a, *y = *(const EtcdPeer *const *)b;

	return x->id < y->id ? -1 : x->id > y->id;
}

static GPtrArray *peers_of_json(const Json *answer, GError **err)
{
	g_autoptr(GPtrArray) all = g_ptr_array_new_with_free_func(drop_peer);
	const Json *members = json_arr(answer, "members");

	for (size_t i = 0; i < json_array_size(members); i++) {
		EtcdPeer *p = peer_of_json(json_array_get(members, i), err);

		if (p == NULL)
			return NULL;
		g_ptr_array_add(all, p);
	}
	g_ptr_array_sort(all, compare_ids);
	return g_steal_pointer(&all);
}

GPtrArray *etcd_cluster_list(EtcdClient *c, GError **err)
{
	_cleanup_json_ Json *answer =
	    etcd_client_call(c, &(EtcdCall){ .path = "cluster/member/list", .body = "{}" }, err);

	return answer != NULL ? peers_of_json(answer, err) : NULL;
}

/* "NAME=URL,NAME=URL" of all; a member without a name yet has any, but for the one at `url`. */
static char *join_text(const GPtrArray *all, const char *name, const char *url)
{
	GString *s = g_string_new(NULL);

	for (guint i = 0; i < all->len; i++) {
		const EtcdPeer *p = all->pdata[i];
		bool own = g_strv_contains((const char *const *)p->peer, url);

		for (char **u = p->peer; *u != NULL; u++) {
			g_string_append(s, s->len > 0 ? "," : "");
			if (own || p->name[0] != '\0')
				g_string_append_printf(s, "%s=%s", own ? name : p->name, *u);
			else
				g_string_append_printf(s, "%016" PRIx64 "=%s", p->id, *u);
		}
	}
	return g_string_free(s, FALSE);
}

static const EtcdPeer *find_url(const GPtrArray *all, const char *url)
{
	for (guint i = 0; i < all->len; i++) {
		const EtcdPeer *p = all->pdata[i];

		if (g_strv_contains((const char *const *)p->peer, url))
			return p;
	}
	return NULL;
}

static bool ask_to_add(EtcdClient *c, const char *peer_url, GError **err)
{
	_cleanup_json_ Json *ask = json_object(), *answer = NULL;
	g_autofree char *body = NULL;
	g_autoptr(GError) e = NULL;

	json_put(ask, "peerURLs", json_pack("[s]", peer_url));
	json_put_bool(ask, "isLearner", true);
	body = json_print(ask);
	answer = etcd_client_call(c, &(EtcdCall){ .path = "cluster/member/add", .body = body }, &e);
	/* It is in: the answer of a first try was lost. */
	if (answer != NULL || g_error_matches(e, ERR, ERR_CONFLICT))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* Takes it in unless it is in, which a try before may have done. */
static GPtrArray *list_with(EtcdClient *c, const char *peer_url, GError **err)
{
	g_autoptr(GPtrArray) all = etcd_cluster_list(c, err);

	if (all == NULL || find_url(all, peer_url) != NULL)
		return g_steal_pointer(&all);
	return ask_to_add(c, peer_url, err) ? etcd_cluster_list(c, err) : NULL;
}

bool etcd_cluster_add(EtcdClient *c, const char *name, const char *peer_url, uint64_t *ret_id,
		      char **ret_join, GError **err)
{
	g_autoptr(GPtrArray) all = list_with(c, peer_url, err);
	const EtcdPeer *own;

	if (all == NULL)
		return false;
	own = find_url(all, peer_url);
	if (own == NULL)
		return fail_advice(err, ERR_CONFLICT, "Try again.",
				   "the new member of etcd was removed at once");
	if (own->name[0] != '\0' && !g_str_equal(own->name, name))
		return fail_advice(err, ERR_CONFLICT, "Remove that member first.",
				   "the member '%s' of etcd is at %s already", own->name, peer_url);
	*ret_id = own->id;
	*ret_join = join_text(all, name, peer_url);
	return true;
}

/* `fine`: an error that says that it is done already. */
static bool change(EtcdClient *c, const char *path, uint64_t id, ErrCode fine, GError **err)
{
	g_autofree char *body = g_strdup_printf("{\"ID\":\"%" PRIu64 "\"}", id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *answer = etcd_client_call(c, &(EtcdCall){ .path = path, .body = body }, &e);

	if (answer != NULL || g_error_matches(e, ERR, (gint)fine))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

bool etcd_cluster_promote(EtcdClient *c, uint64_t id, GError **err)
{
	return change(c, "cluster/member/promote", id, ERR_BAD_STATE, err);
}

bool etcd_cluster_remove(EtcdClient *c, uint64_t id, GError **err)
{
	return change(c, "cluster/member/remove", id, ERR_NOT_FOUND, err);
}

/* ---- health ---- */

static void read_status(const Json *status, const EtcdPeer *p, EtcdHealth *h)
{
	const char *leader = json_str(status, "leader"), *version = json_str(status, "version"),
		   *size = json_str(status, "dbSize");
	uint64_t leader_id = leader != NULL ? g_ascii_strtoull(leader, NULL, 10) : 0;
	g_auto(GStrv) errors = json_strv(json_arr(status, "errors"));

	h->reachable = true;
	h->version = g_strdup(version != NULL ? version : "");
	h->db_size = size != NULL ? g_ascii_strtoull(size, NULL, 10) : 0;
	h->has_leader = leader_id != 0;
	h->leader = leader_id == p->id;
	if (errors[0] != NULL)
		h->problem = g_strjoinv("; ", errors);
	else if (!h->has_leader)
		h->problem = g_strdup("it has no leader: too few members reach each other");
}

void etcd_cluster_health(const EtcdConfig *config, const EtcdPeer *p, uint64_t timeout, EtcdHealth *ret)
{
	g_autoptr(GPtrArray) one = g_ptr_array_new();
	EtcdConfig at = *config;
	g_autoptr(EtcdClient) c = NULL;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *status = NULL;

	*ret = (EtcdHealth){ 0 };
	if (p->client[0] == NULL) {
		ret->problem = g_strdup("it was never started");
		return;
	}
	g_ptr_array_add(one, p->client[0]);
	at.endpoint = one;
	c = etcd_client_new(&at, &e);
	if (c != NULL)
		status = etcd_client_call(
		    c, &(EtcdCall){ .path = "maintenance/status", .body = "{}", .timeout = timeout }, &e);
	if (status != NULL)
		read_status(status, p, ret);
	else
		ret->problem = g_strdup(e->message);
}

void etcd_health_clear(EtcdHealth *h)
{
	g_clear_pointer(&h->version, g_free);
	g_clear_pointer(&h->problem, g_free);
}

char **etcd_cluster_alarms(EtcdClient *c, GError **err)
{
	_cleanup_json_ Json *answer = etcd_client_call(
	    c, &(EtcdCall){ .path = "maintenance/alarm", .body = "{\"action\":\"GET\"}" }, err);
	const Json *alarms = json_arr(answer, "alarms");
	g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

	if (answer == NULL)
		return NULL;
	for (size_t i = 0; i < json_array_size(alarms); i++) {
		const char *name = json_str(json_array_get(alarms, i), "alarm");

		if (name != NULL && !g_ptr_array_find_with_equal_func(names, name, g_str_equal, NULL))
			g_ptr_array_add(names, g_strdup(name));
	}
	g_ptr_array_add(names, NULL);
	return (char **)g_ptr_array_free(g_steal_pointer(&names), FALSE);
}
