/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/pool_records.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"

#include <string.h>

/* Of one transaction: well below STORE_TX_MAX and STORE_VALUE_MAX. */
#define BATCH_KEYS 64
#define BATCH_BYTES ((size_t)512 << 10)
#define CLASHES_TOLD 20

typedef struct Collecting {
	const char *host_id;
	RecordsScope scope;
	GPtrArray *out;   /* StoreItem */
	GHashTable *mine; /* ids of objects; only for RECORDS_OWN */
} Collecting;

/* ---- what is mine ---- */

typedef struct Parts {
	char *collection, *id, *rest;
} Parts;

static void parts_done(Parts *p)
{
	g_free(p->collection);
	g_free(p->id);
	g_free(p->rest);
}

static bool is_in(const Parts *p, const char *collection)
{
	return g_strcmp0(p->collection, collection) == 0;
}

static Json *parse(const StoreItem *item)
{
	return json_parse(item->value, strlen(item->value), NULL);
}

static bool names_host(const Json *record, const char *member, const char *host_id)
{
	return g_strcmp0(json_str(record, member), host_id) == 0;
}

static bool is_my_object(const Parts *p, const StoreItem *item, const char *host_id)
{
	static const struct {
		const char *collection, *rest, *member;
	} owners[] = {
		{ "vms", "runtime", "host" },
		{ "volumes", "", "host" },
		{ "images", "", "stored_on" },
		{ "operations", "", "host" },
	};
	_cleanup_json_ Json *j = NULL;

	if (g_strcmp0(p->id, host_id) == 0)
		return true;
	for (size_t i = 0; i < G_N_ELEMENTS(owners); i++)
		if (is_in(p, owners[i].collection) && g_strcmp0(p->rest, owners[i].rest) == 0) {
			j = parse(item);
			return names_host(j, owners[i].member, host_id);
		}
	return false;
}

static void find_mine(Collecting *c, const GPtrArray *all)
{
	for (guint i = 0; i < all->len; i++) {
		const StoreItem *item = all->pdata[i];
		Parts p = { 0 };

		if (key_split(item->key, &p.collection, &p.id, &p.rest) && is_my_object(&p, item, c->host_id))
			g_hash_table_add(c->mine, g_strdup(p.id));
		parts_done(&p);
	}
}

static const StoreItem *find_item(const GPtrArray *all, const char *key)
{
	for (guint i = 0; i < all->len; i++)
		if (g_str_equal(((StoreItem *)all->pdata[i])->key, key))
			return all->pdata[i];
	return NULL;
}

static bool runs(const GPtrArray *all, const char *vm_id)
{
	g_autofree char *key = key_vm_runtime(vm_id);
	const StoreItem *item = find_item(all, key);
	_cleanup_json_ Json *j = item != NULL ? parse(item) : NULL;
	VmState state = vm_runtime_state(j);

	return state == VM_RUNNING || state == VM_PAUSED;
}

/* A vm goes where its disks are: one that is off stays behind if a disk of it does. */
static bool settle_vm(Collecting *c, const GPtrArray *all, const Json *volume, GError **err)
{
	const char *vm = json_str(volume, "vm"), *host = json_str(volume, "host");

	if (vm == NULL || !g_hash_table_contains(c->mine, vm) || g_strcmp0(host, c->host_id) == 0)
		return true;
	if (!runs(all, vm)) {
		g_hash_table_remove(c->mine, vm);
		return true;
	}
	return fail_advice(err, ERR_CONFLICT, "Migrate the vm to another host, or shut it down, first.",
			   "a vm runs on this host whose volume '%s' is not on it", json_str(volume, "name"));
}

/* A start of it there, say, which places it there at its end. */
static bool check_lock(const Collecting *c, const GPtrArray *all, const StoreItem *item, GError **err)
{
	_cleanup_json_ Json *runtime = parse(item), *operation = NULL;
	const char *lock = json_str(runtime, "operation");
	g_autofree char *key = lock != NULL ? key_operation(lock) : NULL;
	const StoreItem *found = key != NULL ? find_item(all, key) : NULL;

	operation = found != NULL ? parse(found) : NULL;
	return json_str(operation, "host") == NULL || json_str(operation, "finished_at") != NULL ||
	       names_host(operation, "host", c->host_id) ||
	       fail_advice(
		   err, ERR_BUSY,
		   "Wait for its end: `plim operation list`. Of a host that is lost: `plim pool evict`.",
		   "another host is at work on a vm that would go along: %s", json_str(operation, "kind"));
}

static bool check_locks(const Collecting *c, const GPtrArray *all, GError **err)
{
	for (guint i = 0; i < all->len; i++) {
		const StoreItem *item = all->pdata[i];
		Parts p = { 0 };
		bool ok = !key_split(item->key, &p.collection, &p.id, &p.rest) || !is_in(&p, "vms") ||
			  g_strcmp0(p.rest, "runtime") != 0 || !g_hash_table_contains(c->mine, p.id) ||
			  check_lock(c, all, item, err);

		parts_done(&p);
		if (!ok)
			return false;
	}
	return true;
}

static bool settle_vms(Collecting *c, const GPtrArray *all, GError **err)
{
	for (guint i = 0; i < all->len; i++) {
		const StoreItem *item = all->pdata[i];
		_cleanup_json_ Json *j = g_str_has_prefix(item->key, KEYS_VOLUMES) ? parse(item) : NULL;

		if (j != NULL && !settle_vm(c, all, j, err))
			return false;
	}
	return true;
}

/* ---- what goes, and as what ---- */

static bool is_of_the_pool(const Parts *p)
{
	static const char *const collections[] = { "leases", "pool-tokens", NULL };

	return g_strv_contains(collections, p->collection);
}

static bool goes(const Collecting *c, const Parts *p, const StoreItem *item)
{
	g_autofree char *named = NULL;

	if (is_of_the_pool(p) || (c->scope != RECORDS_ALL && is_in(p, "events")))
		return false;
	/* The pool wrote the host's own record and name when it let the host in. */
	if (c->scope == RECORDS_JOIN &&
	    (is_in(p, "hosts") || (is_in(p, "names") && g_str_equal(p->id, "hosts"))))
		return false;
	if (c->scope != RECORDS_OWN)
		return true;
	if (!is_in(p, "names"))
		return g_hash_table_contains(c->mine, p->id);
	named = g_strndup(item->value + 1, strlen(item->value) > 2 ? strlen(item->value) - 2 : 0);
	return g_hash_table_contains(c->mine, named);
}

/* What was written before there was a pool does not say whose it is. */
static char *marked(const Collecting *c, const Parts *p, const StoreItem *item)
{
	static const struct {
		const char *collection, *rest, *member;
	} marks[] = {
		{ "volumes", "", "host" },
		{ "images", "", "stored_on" },
		{ "operations", "", "host" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(marks); i++)
		if (is_in(p, marks[i].collection) && g_strcmp0(p->rest, marks[i].rest) == 0) {
			_cleanup_json_ Json *j = parse(item);

			if (json_str(j, marks[i].member) != NULL)
				break;
			json_put_str(j, marks[i].member, c->host_id);
			return json_print(j);
		}
	return g_strdup(item->value);
}

static StoreItem *item_new(const char *key, char *value, int64_t rev)
{
	StoreItem *item = g_new0(StoreItem, 1);

	item->key = g_strdup(key);
	item->value = value;
	item->rev = rev;
	return item;
}

static void free_item(gpointer p)
{
	store_item_free(p);
}

static void take_item(Collecting *c, const StoreItem *item)
{
	Parts p = { 0 };

	if (key_split(item->key, &p.collection, &p.id, &p.rest) && goes(c, &p, item))
		g_ptr_array_add(c->out, item_new(item->key, marked(c, &p, item), item->rev));
	parts_done(&p);
}

GPtrArray *records_collect(Store *from, const char *host_id, RecordsScope scope, GError **err)
{
	g_autoptr(GPtrArray) all = store_list(from, KEY_ROOT, NULL, err);
	Collecting c = { .host_id = host_id, .scope = scope };
	bool ok = true;

	if (all == NULL)
		return NULL;
	c.out = g_ptr_array_new_with_free_func(free_item);
	c.mine = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	if (scope == RECORDS_OWN) {
		find_mine(&c, all);
		ok = settle_vms(&c, all, err) && check_locks(&c, all, err);
	}
	for (guint i = 0; ok && i < all->len; i++)
		take_item(&c, all->pdata[i]);
	g_hash_table_unref(c.mine);
	if (!ok)
		g_clear_pointer(&c.out, g_ptr_array_unref);
	return c.out;
}

/* ---- names ---- */

/* "/plimsoll/v1/names/vms/web1" -> "vms", "web1" */
static bool split_name(const char *key, char **ret_collection, char **ret_name)
{
	Parts p = { 0 };
	bool is_name = key_split(key, &p.collection, &p.id, &p.rest) && is_in(&p, "names");

	if (is_name) {
		*ret_collection = g_strdup(p.id);
		*ret_name = g_uri_unescape_string(p.rest, NULL);
	}
	parts_done(&p);
	return is_name;
}

Json *records_names(const GPtrArray *items)
{
	Json *all = json_object();

	for (guint i = 0; i < items->len; i++) {
		g_autofree char *collection = NULL, *name = NULL;

		if (!split_name(((StoreItem *)items->pdata[i])->key, &collection, &name) || name == NULL)
			continue;
		if (json_arr(all, collection) == NULL)
			json_put(all, collection, json_array());
		json_array_append_new(json_arr(all, collection), json_string(name));
	}
	return all;
}

static bool fail_clashes(Json *clashes, GError **err)
{
	g_autoptr(GString) text = g_string_new(NULL);
	Json *c;
	size_t i;

	json_array_foreach(clashes, i, c) if (i < CLASHES_TOLD) g_string_append_printf(
	    text, "%s%s '%s'", i > 0 ? ", " : "", json_str(c, "kind"), json_str(c, "name"));
	fail_advice(
	    err, ERR_CONFLICT,
	    "Rename them on this host (`plim vm rename`) or there, and join again. Nothing was changed.",
	    "the pool has other objects of the same names: %s%s", text->str,
	    json_array_size(clashes) > CLASHES_TOLD ? " and more" : "");
	err_detail(err, "clashes", json_incref(clashes));
	return false;
}

static bool add_clash(Store *to, const char *collection, const char *name, Json *clashes, GError **err)
{
	g_autofree char *key = key_name(collection, name), *kind = NULL;
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(to, key, &e);
	Json *c;

	if (item == NULL) {
		if (e != NULL)
			g_propagate_error(err, g_steal_pointer(&e));
		return e == NULL;
	}
	kind = g_strndup(collection, strlen(collection) - 1);
	c = json_object();
	json_put_str(c, "kind", kind);
	json_put_str(c, "name", name);
	json_array_append_new(clashes, c);
	return true;
}

bool records_check_names(Store *to, const Json *names, GError **err)
{
	_cleanup_json_ Json *clashes = json_array();
	const char *collection;
	Json *list, *name;
	size_t i;

	json_object_foreach((Json *)names, collection, list)
	{
		if (collection[0] == '\0' || !json_is_array(list))
			return fail(err, ERR_INVALID, "the names of a host's objects are not a list");
		json_array_foreach(list, i, name)
		{
			if (!json_is_string(name))
				return fail(err, ERR_INVALID, "a name is not text");
			if (!add_clash(to, collection, json_string_value(name), clashes, err))
				return false;
		}
	}
	return json_array_size(clashes) == 0 || fail_clashes(clashes, err);
}

/* ---- copying ---- */

/* Where the batch that begins at `from` ends. */
static guint batch_end(const GPtrArray *items, guint from)
{
	size_t bytes = 0;
	guint i = from;

	while (i < items->len && i - from < BATCH_KEYS) {
		bytes += strlen(((StoreItem *)items->pdata[i])->value);
		if (bytes > BATCH_BYTES && i > from)
			break;
		i++;
	}
	return i;
}

static bool put_one(Store *to, const StoreItem *item, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) there = NULL;
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, item->key, 0, item->value);
	if (store_commit(to, tx, STORE_DURABLE, NULL, &e))
		return true;
	if (store_is_conflict(e))
		there = store_get(to, item->key, NULL);
	if (there != NULL && g_str_equal(there->value, item->value))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static bool put_batch(Store *to, const GPtrArray *items, guint from, guint end, GError **err)
{
	g_autoptr(GError) e = NULL;
	StoreTx *tx = store_tx_new();

	for (guint i = from; i < end; i++) {
		const StoreItem *item = items->pdata[i];

		store_tx_set(tx, item->key, 0, item->value);
	}
	if (store_commit(to, tx, STORE_DURABLE, NULL, &e))
		return true;
	if (!store_is_conflict(e)) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	/* A copy that was interrupted: some of them are there. */
	for (guint i = from; i < end; i++)
		if (!put_one(to, items->pdata[i], err))
			return false;
	return true;
}

static bool fail_taken(GError **err)
{
	g_autofree char *collection = NULL, *name = NULL;
	const char *key = err != NULL && *err != NULL ? json_str(err_details(*err), "key") : NULL;

	if (key == NULL || !split_name(key, &collection, &name))
		return false;
	g_clear_error(err);
	return fail_advice(err, ERR_CONFLICT, "Choose another name for one of the two, and try again.",
			   "the name '%s' (%s) was taken meanwhile", name, collection);
}

bool records_copy(Store *to, const GPtrArray *items, GError **err)
{
	for (guint i = 0; i < items->len;) {
		guint end = batch_end(items, i);

		if (!put_batch(to, items, i, end, err))
			return fail_taken(err);
		i = end;
	}
	return true;
}

/* Only what is still the same object's name may go; all else stands under an id of ours. */
static bool remove_batch(Store *from, const GPtrArray *items, guint begin, guint end, bool as_read,
			 GError **err)
{
	g_autoptr(StoreTx) tx = store_tx_new();
	bool some = false;

	for (guint i = begin; i < end; i++) {
		const StoreItem *item = items->pdata[i];
		bool is_name = g_str_has_prefix(item->key, KEYS_NAMES);
		g_autoptr(GError) e = NULL;
		g_autoptr(StoreItem) there = is_name ? store_get(from, item->key, &e) : NULL;

		if (e != NULL) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		if (is_name && (there == NULL || !g_str_equal(there->value, item->value)))
			continue;
		store_tx_set(tx, item->key, is_name ? there->rev : as_read ? item->rev : STORE_ANY, NULL);
		some = true;
	}
	return !some || store_commit(from, g_steal_pointer(&tx), STORE_DURABLE, NULL, err);
}

bool records_remove(Store *from, const GPtrArray *items, bool as_read, GError **err)
{
	for (guint i = 0; i < items->len;) {
		guint end = MIN(i + BATCH_KEYS, items->len);

		if (!remove_batch(from, items, i, end, as_read, err))
			return false;
		i = end;
	}
	return true;
}

/* "names/vms/web1": "ID" */
static char *named_id(const StoreItem *item)
{
	size_t len = strlen(item->value);

	return g_str_has_prefix(item->key, KEYS_NAMES) && len > 2 ? g_strndup(item->value + 1, len - 2)
								  : NULL;
}

static void add_id(GHashTable *ids, const char *key)
{
	Parts p = { 0 };

	if (key_split(key, &p.collection, &p.id, &p.rest) && p.id != NULL)
		g_hash_table_add(ids, g_strdup(p.id));
	parts_done(&p);
}

bool records_drop_shared(Store *own, Store *pool, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(own, KEY_ROOT, NULL, err), theirs = NULL, shared = NULL;
	g_autoptr(GHashTable) keys = g_hash_table_new(g_str_hash, g_str_equal);
	g_autoptr(GHashTable) ids = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

	theirs = items != NULL ? store_list(pool, KEY_ROOT, NULL, err) : NULL;
	if (theirs == NULL)
		return false;
	for (guint i = 0; i < theirs->len; i++) {
		const StoreItem *item = theirs->pdata[i];

		g_hash_table_add(keys, item->key);
		add_id(ids, item->key);
	}
	shared = g_ptr_array_new();
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		g_autofree char *id = named_id(item);

		/* A name goes with what it names, which may have another one by now; and another object may
		 * have the name. */
		if (id != NULL ? g_hash_table_contains(ids, id) : g_hash_table_contains(keys, item->key))
			g_ptr_array_add(shared, (gpointer)item);
	}
	return records_remove(own, shared, false, err);
}

GPtrArray *records_of_objects(const GPtrArray *items, const char *host_id)
{
	GPtrArray *some = g_ptr_array_new_with_free_func(free_item);
	g_autofree char *name = g_strdup_printf("\"%s\"", host_id);

	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		Parts p = { 0 };

		if (key_split(item->key, &p.collection, &p.id, &p.rest) && g_strcmp0(p.id, host_id) != 0 &&
		    !g_str_equal(item->value, name))
			g_ptr_array_add(some, item_new(item->key, g_strdup(item->value), item->rev));
		parts_done(&p);
	}
	return some;
}
