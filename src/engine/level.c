/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/level.h"
#include "base/log.h"
#include "base/time.h"
#include "core/cpu/record.h"
#include "core/model/keys.h"
#include "engine/records.h"

#include <string.h>
#include <sys/epoll.h>

#define NAMES_SHOWN 16
#define TRIES 20

/* A host whose record was taken. */
typedef struct Known {
	char *name;
	int64_t rev; /* of the record; changes come again when they were listed before */
} Known;

/* Why the level may be another one now: the last record that moved. */
typedef struct LevelCause {
	char *host, *name; /* NULL: many records at once */
	const char *what;
} LevelCause;

struct LevelKeeper {
	Loop *loop;
	WorkerPool *pool;
	Store *store;
	Events *events;
	void (*followed)(void *data);
	void *data;  /* of followed */
	GMutex work; /* held by whoever reads the watch and writes the record */
	StoreWatch *watch;
	GMutex lock; /* of what follows */
	Level *level[GUEST_TYPES];
	GHashTable *host; /* id -> Known */
	LevelCause cause;
	LoopSource *source; /* loop thread */
};

static void known_free(gpointer p)
{
	Known *n = p;

	g_free(n->name);
	g_free(n);
}

LevelKeeper *level_keeper_new(Loop *l, WorkerPool *pool, Store *store, Events *events)
{
	LevelKeeper *k = g_new0(LevelKeeper, 1);

	k->loop = l;
	k->pool = pool;
	k->store = store;
	k->events = events;
	g_mutex_init(&k->work);
	g_mutex_init(&k->lock);
	for (int t = 0; t < GUEST_TYPES; t++)
		k->level[t] = level_new((GuestType)t);
	k->host = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, known_free);
	return k;
}

static void cause_set(LevelCause *c, const char *host, const char *name, const char *what)
{
	g_free(c->host);
	g_free(c->name);
	*c = (LevelCause){ g_strdup(host), g_strdup(name), what };
}

LevelKeeper *level_keeper_free(LevelKeeper *k)
{
	if (k == NULL)
		return NULL;
	loop_source_free(k->source);
	store_watch_close(k->watch);
	for (int t = 0; t < GUEST_TYPES; t++)
		level_free(k->level[t]);
	g_hash_table_unref(k->host);
	cause_set(&k->cause, NULL, NULL, NULL);
	g_mutex_clear(&k->work);
	g_mutex_clear(&k->lock);
	g_free(k);
	return NULL;
}

/* ---- the hosts' records ---- */

/* Locked. A default set that can't be counted counts as it did before: it never raises the level. */
static void count(LevelKeeper *k, const char *id, const struct host_record *r)
{
	for (int t = 0; t < GUEST_TYPES; t++) {
		g_autoptr(GError) e = NULL;

		if (!r->guest[t].there)
			level_remove(k->level[t], id);
		else if (!level_add(k->level[t], id, &r->guest[t].dflt, &e))
			log_warning("host %s does not count for the level of %s guests: %s", r->host,
				    guest_type_name((GuestType)t), e->message);
	}
}

/* Locked. */
static void take_record(LevelKeeper *k, const char *id, const StoreItem *item)
{
	_cleanup_host_record_ struct host_record r = { 0 };
	Known *known = g_hash_table_lookup(k->host, id);
	g_autoptr(GError) e = NULL;

	if (known != NULL && known->rev >= item->rev)
		return;
	if (!host_record_parse(item->value, strlen(item->value), &r, &e)) {
		log_warning("the CPU record of host %s is passed over: %s", id, e->message);
		return;
	}
	count(k, id, &r);
	cause_set(&k->cause, id, r.host, known != NULL ? "changed" : "joined");
	known = g_new(Known, 1);
	*known = (Known){ g_strdup(r.host), item->rev };
	g_hash_table_replace(k->host, g_strdup(id), known);
}

/* Locked. */
static void drop_record(LevelKeeper *k, const char *id, int64_t rev)
{
	const Known *known = g_hash_table_lookup(k->host, id);

	if (known == NULL || known->rev >= rev)
		return;
	for (int t = 0; t < GUEST_TYPES; t++)
		level_remove(k->level[t], id);
	cause_set(&k->cause, id, known->name, "left");
	g_hash_table_remove(k->host, id);
}

static void take_items(LevelKeeper *k, const GPtrArray *items)
{
	bool first;

	g_mutex_lock(&k->lock);
	first = g_hash_table_size(k->host) == 0;
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		const char *id = item->key + strlen(KEYS_CPUS);

		if (item->value != NULL)
			take_record(k, id, item);
		else
			drop_record(k, id, item->rev);
	}
	/* Of what changed while nobody looked nobody can say who did it. */
	if (first && items->len > 1)
		cause_set(&k->cause, NULL, NULL, NULL);
	g_mutex_unlock(&k->lock);
}

/* Who is not among the items any more is gone. */
static void drop_others(LevelKeeper *k, const GPtrArray *items)
{
	g_autoptr(GHashTable) there = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(g_free);
	GHashTableIter i;
	gpointer id;

	for (guint n = 0; n < items->len; n++)
		g_hash_table_add(there, ((const StoreItem *)items->pdata[n])->key + strlen(KEYS_CPUS));
	g_mutex_lock(&k->lock);
	g_hash_table_iter_init(&i, k->host);
	while (g_hash_table_iter_next(&i, &id, NULL))
		if (!g_hash_table_contains(there, id))
			g_ptr_array_add(gone, g_strdup(id));
	for (guint n = 0; n < gone->len; n++)
		drop_record(k, gone->pdata[n], INT64_MAX);
	g_mutex_unlock(&k->lock);
}

static bool read_all(LevelKeeper *k, int64_t *ret_rev, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(k->store, KEYS_CPUS, ret_rev, err);

	if (items == NULL)
		return false;
	take_items(k, items);
	drop_others(k, items);
	return true;
}

/* What the watch tells; a watch that is new, or was left behind, begins with all records. */
static bool read_changes(LevelKeeper *k, GError **err)
{
	g_autoptr(GError) e = NULL;
	bool more = true;
	int64_t rev;

	while (k->watch != NULL && more && e == NULL) {
		g_autoptr(GPtrArray) items = NULL;

		if (store_watch_next(k->watch, &items, &e))
			take_items(k, items);
		more = items != NULL && items->len > 0;
	}
	if (k->watch != NULL && e == NULL)
		return true;
	k->watch = store_watch_close(k->watch);
	if (e != NULL && !g_error_matches(e, ERR, ERR_GONE)) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (!read_all(k, &rev, err))
		return false;
	k->watch = store_watch_open(k->store, KEYS_CPUS, rev, err);
	return k->watch != NULL;
}

/* ---- the pool's record ---- */

/* {feature -> since} of what was lost before. */
static const char *since(const Json *old, const char *feature)
{
	const Json *item;
	size_t i;

	json_array_foreach(json_arr(old, "lost"), i,
			   item) if (g_strcmp0(json_str(item, "feature"), feature) ==
				     0) return json_str(item, "since");
	return NULL;
}

/* Locked. */
static Json *hosts_that_lack(LevelKeeper *k, const Level *l, FeatureId f)
{
	g_autofree const char **id = level_lost_hosts(l, f);
	Json *list = json_array();

	for (size_t i = 0; id[i] != NULL; i++) {
		const Known *known = g_hash_table_lookup(k->host, id[i]);

		json_array_append_new(list, json_string(known != NULL ? known->name : id[i]));
	}
	return list;
}

/* Locked. What some host has and the level has not, and who is to blame. */
static Json *lost_to_json(LevelKeeper *k, const Level *l, const Json *old, const char *now)
{
	Json *list = json_array();
	struct cpu_bits lost;

	level_lost(l, &lost);
	for (unsigned b = cpu_bits_next(&lost, 0); b < CPU_BITS; b = cpu_bits_next(&lost, b + 1)) {
		g_autofree char *name = feature_print(b);
		const char *before = since(old, name);
		Json *j = json_object();

		json_put_str(j, "feature", name);
		json_put(j, "hosts", hosts_that_lack(k, l, (FeatureId)b));
		json_put_str(j, "since", before != NULL ? before : now);
		json_array_append_new(list, j);
	}
	return list;
}

/* What the members and the old record come to. */
static Json *record_now(LevelKeeper *k, const Json *old, const char *now)
{
	Json *j = json_object(), *cause = json_object();

	g_mutex_lock(&k->lock);
	for (int t = 0; t < GUEST_TYPES; t++) {
		const struct featureset *s = level_get(k->level[t]);
		const char *name = guest_type_name((GuestType)t);
		Json *set = s != NULL ? featureset_to_json(s) : json_null();

		if (s != NULL)
			json_put(set, "lost", lost_to_json(k, k->level[t], json_obj(old, name), now));
		json_put(j, name, set);
	}
	json_put_str(cause, "host", k->cause.host);
	json_put_str(cause, "name", k->cause.name);
	json_put_str(cause, "what", k->cause.what);
	g_mutex_unlock(&k->lock);
	json_put_str(j, "at", now);
	json_put(j, "cause", cause);
	return j;
}

static bool same(const Json *a, const Json *b)
{
	bool equal = true;

	for (int t = 0; t < GUEST_TYPES; t++) {
		const char *name = guest_type_name((GuestType)t);
		const Json *x = json_object_get(a, name), *y = json_object_get(b, name);

		equal = equal && x != NULL && y != NULL && json_equal(x, y);
	}
	return equal;
}

/* ---- telling ---- */

static bool bits_of(const Json *set, struct cpu_bits *ret)
{
	struct featureset s;

	*ret = (struct cpu_bits){ 0 };
	if (!json_is_object(set) || !featureset_of_json(set, &s, NULL))
		return false;
	*ret = s.has;
	return true;
}

/* "tcg guests lose avx2, fma", or NULL when nothing changed for them. Fills details. */
static char *tell_type(GuestType type, const Json *was, const Json *is, Json *details)
{
	const char *name = guest_type_name(type);
	struct cpu_bits a, b, added, removed;
	g_autofree char *gains = NULL, *losses = NULL;
	bool before = bits_of(was, &a), after = bits_of(is, &b);
	Json *j;

	cpu_bits_minus(&added, &b, &a);
	cpu_bits_minus(&removed, &a, &b);
	if (cpu_bits_empty(&added) && cpu_bits_empty(&removed))
		return NULL;
	j = json_object();
	json_put(j, "added", cpu_bits_names_json(&added));
	json_put(j, "removed", cpu_bits_names_json(&removed));
	json_put(details, name, j);
	if (!before)
		return g_strdup_printf("%s guests can have %u features", name, cpu_bits_count(&b));
	if (!after)
		return g_strdup_printf("no host offers %s guests any more", name);
	gains = cpu_bits_empty(&added) ? NULL : cpu_bits_names_print(&added, NAMES_SHOWN);
	losses = cpu_bits_empty(&removed) ? NULL : cpu_bits_names_print(&removed, NAMES_SHOWN);
	return g_strdup_printf("%s guests %s%s%s%s%s", name, losses != NULL ? "lose " : "",
			       losses != NULL ? losses : "", losses != NULL && gains != NULL ? " and " : "",
			       gains != NULL ? "gain " : "", gains != NULL ? gains : "");
}

/* NULL when features are as they were. Fills details. */
static char *tell(const Json *old, const Json *now, Json *details)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const Json *cause = json_obj(now, "cause");

	for (int t = 0; t < GUEST_TYPES; t++) {
		const char *name = guest_type_name((GuestType)t);
		g_autofree char *one =
		    tell_type((GuestType)t, json_object_get(old, name), json_object_get(now, name), details);

		if (one != NULL)
			g_string_append_printf(text, "%s%s", text->len > 0 ? "; " : "", one);
	}
	json_put(details, "cause", json_deep_copy(cause));
	if (text->len == 0)
		return NULL;
	if (json_str(cause, "name") != NULL)
		return g_strdup_printf("the pool's CPU level: %s (host %s %s)", text->str,
				       json_str(cause, "name"), json_str(cause, "what"));
	return g_strdup_printf("the pool's CPU level: %s", text->str);
}

static bool write_record(LevelKeeper *k, const Json *old, int64_t rev, const Json *now, GError **err)
{
	_cleanup_json_ Json *details = json_object();
	g_autofree char *text = json_print(now), *message = tell(old, now, details);
	const Json *cause = json_obj(now, "cause");
	StoreTx *tx;

	if (message != NULL)
		return events_emit_with(k->events, KEY_LEVEL, rev, text, EVENT_POOL_LEVEL_CHANGED,
					json_str(cause, "host") != NULL ? "host" : NULL,
					json_str(cause, "host"), json_str(cause, "name"),
					json_incref(details), message, err);
	tx = store_tx_new();
	store_tx_set(tx, KEY_LEVEL, rev, text);
	return store_commit(k->store, tx, STORE_RELAXED, NULL, err);
}

/* Somebody else may write the same: then there is nothing left to do. */
static bool reconcile(LevelKeeper *k, GError **err)
{
	for (unsigned tries = 0;; tries++) {
		g_autofree char *at = time_stamp();
		g_autoptr(GError) e = NULL;
		int64_t rev = 0;
		_cleanup_json_ Json *old = record_get(k->store, KEY_LEVEL, &rev, &e), *now = NULL;

		if (e == NULL) {
			now = record_now(k, old, at);
			if (same(old, now) || write_record(k, old, old != NULL ? rev : 0, now, &e))
				return true;
		}
		if (tries == TRIES || !g_error_matches(e, ERR, ERR_CONFLICT)) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}

bool level_keeper_refresh(LevelKeeper *k, GError **err)
{
	bool ok;

	g_mutex_lock(&k->work);
	ok = read_all(k, NULL, err) && reconcile(k, err);
	g_mutex_unlock(&k->work);
	return ok;
}

/* ---- following ---- */

/* Not before the store answers again, and not all the time when it does not. */
#define RETRY UINT64_C(1000000)

static void follow_job(void *data);

/* The watch's descriptor stays readable until its changes were taken: no looking meanwhile. */
static void on_change(int fd, uint32_t events, void *data)
{
	LevelKeeper *k = data;

	(void)fd, (void)events;
	k->source = loop_source_free(k->source);
	worker_pool_push(k->pool, follow_job, k);
}

static void on_retry(void *data)
{
	LevelKeeper *k = data;

	k->source = loop_source_free(k->source);
	worker_pool_push(k->pool, follow_job, k);
}

static void listen_again(void *data)
{
	LevelKeeper *k = data;

	if (k->watch != NULL)
		k->source = loop_add_fd(k->loop, store_watch_fd(k->watch), EPOLLIN, on_change, k);
	else
		k->source = loop_add_timer(k->loop, RETRY, on_retry, k);
}

static void follow_job(void *data)
{
	LevelKeeper *k = data;
	g_autoptr(GError) e = NULL;
	bool ok;

	g_mutex_lock(&k->work);
	ok = read_changes(k, &e) && reconcile(k, &e);
	g_mutex_unlock(&k->work);
	if (!ok)
		log_warning("the pool's CPU level may be old: %s", e->message);
	else if (k->followed != NULL)
		k->followed(k->data);
	loop_post(k->loop, listen_again, k);
}

void level_keeper_begin(LevelKeeper *k, void (*followed)(void *data), void *data)
{
	k->followed = followed;
	k->data = data;
	worker_pool_push(k->pool, follow_job, k);
}

/* ---- answers ---- */

bool level_keeper_get(LevelKeeper *k, GuestType type, struct featureset *ret)
{
	const struct featureset *s;

	g_mutex_lock(&k->lock);
	s = level_get(k->level[type]);
	if (s != NULL)
		*ret = *s;
	g_mutex_unlock(&k->lock);
	return s != NULL;
}

void level_keeper_sole(LevelKeeper *k, GuestType type, const char *host_id, struct cpu_bits *ret)
{
	g_mutex_lock(&k->lock);
	level_sole(k->level[type], host_id, ret);
	g_mutex_unlock(&k->lock);
}
