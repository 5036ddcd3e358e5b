/* SPDX-License-Identifier: Apache-2.0 */
#include "api/call.h"
#include "base/log.h"
#include "base/str.h"
#include "core/model/keys.h"
#include "engine/records.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* Each lost race means that another change was made; nobody loses so many in a row. */
#define RETRIES 16
/* Requests that wait at a time, each with a thread. */
#define WAITING_MAX 1000
/* A copy that is older has lost its store, and waiting brings nothing: the store's checker looks every 2 s.
 */
#define AGE_MAX (10 * SECOND)

const char *role_name(Role r)
{
	static const char *const name[] = { "none", "viewer", "operator", "admin", "peer" };

	return name[r];
}

void call_await_revision(ApiCall *c, int64_t rev)
{
	Store *s = engine_store(c->engine);
	g_autoptr(GError) e = NULL;
	bool rested;

	if (store_revision(s, NULL) >= rev || store_age(s) > AGE_MAX)
		return;
	rested = call_rest(c);
	if (!store_catch_up_to(s, rev, &e))
		log_warning("%s", e->message);
	call_wake(c, rested);
}

void call_await_all(ApiCall *c)
{
	call_await_revision(c, INT64_MAX);
}

/* Of the runtime record of the vm that a call in a pool is about; 0: there is none. */
static int64_t vm_revision(ApiCall *c)
{
	const char *ref = g_hash_table_lookup(c->path, "vm");
	g_autofree char *id = NULL, *key = NULL;
	g_autoptr(StoreItem) item = NULL;

	if (ref == NULL || engine_membership(c->engine) == NULL)
		return 0;
	id = record_resolve(engine_store(c->engine), "vms", ref, NULL);
	key = id != NULL ? key_vm_runtime(id) : NULL;
	item = key != NULL ? store_get(engine_store(c->engine), key, NULL) : NULL;
	return item != NULL ? item->rev : 0;
}

/* vm_allows() did: nothing was begun. */
static bool refused_for_state(const GError *e)
{
	return (g_error_matches(e, ERR, ERR_BUSY) && json_str(err_details(e), "operation") != NULL) ||
	       (g_error_matches(e, ERR, ERR_BAD_STATE) && json_str(err_details(e), "state") != NULL);
}

/* An operation of another host may have ended, and the vm was judged by a copy of the records from before. */
static bool is_outdated(ApiCall *c, int64_t seen, const GError *e)
{
	if (seen == 0 || !refused_for_state(e))
		return false;
	call_await_all(c);
	return vm_revision(c) != seen;
}

bool call_run(ApiCall *c, ApiHandler handler, CallForward forward, const void *data, GError **err)
{
	for (unsigned n = 0;; n++) {
		int64_t seen = n == 0 ? vm_revision(c) : 0;
		g_autoptr(GError) e = NULL;
		bool done = false;

		if ((forward == NULL || forward(c, data, &done, &e)) && (done || handler(c, &e)))
			return true;
		if (n == RETRIES || ((done || !store_is_conflict(e)) && !is_outdated(c, seen, e))) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}

const char *call_path(const ApiCall *c, const char *name)
{
	const char *v = g_hash_table_lookup(c->path, name);

	g_assert(v != NULL);
	return v;
}

const char *const *call_queries(const ApiCall *c, const char *name)
{
	static const char *const none[] = { NULL };
	const char *const *v = g_hash_table_lookup(c->query, name);

	return v != NULL ? v : none;
}

const char *call_query(const ApiCall *c, const char *name)
{
	return call_queries(c, name)[0];
}

bool call_flag(const ApiCall *c, const char *name, bool dflt, bool *ret, GError **err)
{
	const char *text = call_query(c, name);

	*ret = dflt;
	return text == NULL || parse_bool(text, ret, err);
}

bool call_number(const ApiCall *c, const char *name, uint64_t min, uint64_t max, uint64_t dflt, uint64_t *ret,
		 GError **err)
{
	const char *text = call_query(c, name);

	*ret = dflt;
	return text == NULL || parse_uint(text, min, max, ret, err);
}

const Json *call_body(ApiCall *c, GError **err)
{
	if (c->body == NULL)
		c->body = json_object();
	if (!json_is_object(c->body)) {
		fail(err, ERR_INVALID, "the body must be a JSON object");
		return NULL;
	}
	return c->body;
}

bool call_known(const Json *body, const char *const *known, GError **err)
{
	const char *key;
	Json *v;

	json_object_foreach((Json *)body, key, v) if (!g_strv_contains(known, key))
	{
		g_autofree char *list = g_strjoinv(", ", (char **)known);

		fail(err, ERR_INVALID, "there is no member '%s' in this request", key);
		return err_advise(err, "Known members are: %s.", list);
	}
	return true;
}

bool call_answer(ApiCall *c, unsigned status, Json *answer)
{
	c->status = status;
	c->answer = answer;
	return true;
}

bool call_answer_object(ApiCall *c, Json *answer, int64_t revision)
{
	json_put_int(answer, "revision", revision);
	c->etag = revision;
	return call_answer(c, 200, answer);
}

bool call_answer_bytes(ApiCall *c, const char *content_type, GBytes *bytes)
{
	c->status = 200;
	c->bytes = bytes;
	c->content_type = content_type;
	return true;
}

bool call_check_match(const ApiCall *c, int64_t revision, GError **err)
{
	g_autofree char *now = g_strdup_printf("%" G_GINT64_FORMAT, (gint64)revision);

	if (c->if_match == NULL || g_str_equal(c->if_match, "*") || g_str_equal(c->if_match, now))
		return true;
	fail_advice(err, ERR_PRECONDITION, "Read it again, look at what changed, and repeat the request.",
		    "somebody changed it since you read revision %s", c->if_match);
	err_detail(err, "revision", json_integer(revision));
	return false;
}

static Json *dry_run_of(const Operation *op)
{
	g_autofree char *text = plan_print(op->plan);
	_cleanup_json_ Json *full = operation_to_api(op);
	Json *j = json_object();

	json_put_bool(j, "dry_run", true);
	json_put_str(j, "kind", op->kind);
	json_put(j, "target", json_incref(json_object_get(full, "target")));
	json_put(j, "plan", plan_to_json(op->plan));
	json_put_str(j, "text", text);
	return j;
}

/* The operation as it stands in the store now. */
static bool answer_operation(ApiCall *c, const char *id, GError **err)
{
	g_autofree char *key = key_operation(id);
	Store *s = engine_store(c->engine);
	g_autoptr(GError) e = NULL;
	Json *j = record_get(s, key, NULL, &e);

	/* This host's copy of the records may be behind what the host itself has just written. */
	if (j == NULL && e == NULL && store_catch_up(s, &e))
		j = record_get(s, key, NULL, &e);
	if (j == NULL && e == NULL)
		fail_advice(&e, ERR_UNAVAILABLE,
			    "`plim operation list` shows it in a moment. Do not ask again.",
			    "operation '%s' was begun, but this host can't read it yet", id);
	if (j == NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	c->location = g_strconcat("/v1/operations/", id, NULL);
	return call_answer(c, 202, operation_record_to_api(j));
}

bool call_rest(ApiCall *c)
{
	return worker_pool_rest(c->pool, WAITING_MAX);
}

void call_wake(ApiCall *c, bool rested)
{
	if (rested)
		worker_pool_wake(c->pool);
}

bool call_is_ending(void *call)
{
	const ApiCall *c = call;

	return worker_pool_is_ending(c->pool);
}

bool call_wait(ApiCall *c, const char *operation, uint64_t us)
{
	bool rested = call_rest(c), ended = exec_wait(engine_exec(c->engine), operation, us);

	call_wake(c, rested);
	return ended;
}

/* What has been told must not be lost in a power cut: by then the begin is on disk, or the end is. */
static bool wait_for_operation(ApiCall *c, const char *id, bool early, uint64_t wait, GError **err)
{
	Exec *e = engine_exec(c->engine);

	if (early && !exec_sync(e, id, err))
		return false;
	return wait == 0 || call_wait(c, id, wait * SECOND) || early || exec_sync(e, id, err);
}

bool call_submit(ApiCall *c, Operation *op, GError **err)
{
	g_autofree char *id = NULL;
	bool dry, early;
	uint64_t wait;

	if (op == NULL)
		return false;
	if (!call_flag(c, "dry_run", false, &dry, err) || !call_number(c, "wait", 0, 3600, 0, &wait, err)) {
		operation_free(op);
		return false;
	}
	if (dry) {
		bool room = engine_has_room(c->engine, op, err) && call_answer(c, 200, dry_run_of(op));

		operation_free(op);
		return room;
	}
	id = g_strdup(op->id);
	early = wait == 0 || operation_replays(op);
	if (!exec_submit(engine_exec(c->engine), op, err))
		return false;
	return wait_for_operation(c, id, early, wait, err) && answer_operation(c, id, err);
}

/* "runtime.state": a member of that very name, or a member of an object member. */
static const Json *member(const Json *obj, const char *key)
{
	const Json *v = json_object_get(obj, key);
	const char *dot;

	for (dot = strchr(key, '.'); v == NULL && dot != NULL; dot = strchr(dot + 1, '.')) {
		g_autofree char *head = g_strndup(key, (size_t)(dot - key));

		v = member(json_object_get(obj, head), dot + 1);
	}
	return v;
}

static char *text_of(const Json *v)
{
	if (v == NULL || json_is_null(v))
		return NULL;
	return json_is_string(v) ? g_strdup(json_string_value(v)) : json_print(v);
}

static bool value_is(const Json *v, const char *want)
{
	g_autofree char *text = text_of(v);
	Json *item;
	size_t i;

	json_array_foreach((Json *)v, i, item) if (value_is(item, want)) return true;
	return text != NULL && g_str_equal(text, want);
}

static bool any_is(const Json *v, const GStrv values)
{
	for (char **w = values; *w != NULL; w++)
		if (value_is(v, *w))
			return true;
	return false;
}

/* KEY=VALUE, KEY!=VALUE, KEY=in:A,B */
static bool filter_holds(const char *filter, const Json *obj, bool *ret, GError **err)
{
	const char *eq = strchr(filter, '=');
	g_autofree char *key = NULL;
	g_auto(GStrv) values = NULL;
	bool negated;

	if (eq == NULL || eq == filter)
		return fail_advice(err, ERR_INVALID, "Write KEY=VALUE, KEY!=VALUE or KEY=in:A,B.",
				   "'%s' is no filter", filter);
	negated = eq[-1] == '!';
	key = g_strndup(filter, (size_t)(eq - filter) - negated);
	if (g_str_has_prefix(eq + 1, "in:"))
		values = g_strsplit(eq + 4, ",", -1);
	else
		values = g_strsplit(eq + 1, "\n", 1);
	if (values[0] == NULL)
		*ret = negated != value_is(member(obj, key), "");
	else
		*ret = negated != any_is(member(obj, key), values);
	return true;
}

static Json *filtered(const ApiCall *c, const Json *list, GError **err)
{
	g_autoptr(GError) e = NULL;
	Json *out = json_array(), *obj;
	size_t i;

	json_array_foreach((Json *)list, i, obj)
	{
		bool all = true, holds;

		for (const char *const *f = call_queries(c, "filter"); all && *f != NULL; f++) {
			if (!filter_holds(*f, obj, &holds, err)) {
				json_unref(out);
				return NULL;
			}
			all = holds;
		}
		if (all)
			json_array_append(out, obj);
	}
	return out;
}

typedef struct SortKey {
	char *name;
	bool down;
} SortKey;

static int compare_values(const Json *a, const Json *b)
{
	g_autofree char *x = text_of(a), *y = text_of(b);

	if (json_is_number(a) && json_is_number(b)) {
		double d = json_number_value(a) - json_number_value(b);

		return d < 0 ? -1 : d > 0;
	}
	return strcmp(x, y);
}

/* What lacks the key comes last in both directions. */
static int compare_by(const SortKey *k, const Json *a, const Json *b)
{
	const Json *x = member(a, k->name), *y = member(b, k->name);
	bool no_x = x == NULL || json_is_null(x), no_y = y == NULL || json_is_null(y);

	if (no_x || no_y)
		return no_x - no_y;
	return k->down ? compare_values(y, x) : compare_values(x, y);
}

static gint compare_objects(gconstpointer a, gconstpointer b, gpointer keys)
{
	const GArray *k = keys;

	for (guint i = 0; i < k->len; i++) {
		int r = compare_by(&g_array_index(k, SortKey, i), *(const Json *const *)a,
				   *(const Json *const *)b);

		if (r != 0)
			return r;
	}
	return 0;
}

static void clear_key(gpointer p)
{
	g_free(((SortKey *)p)->name);
}

static GArray *sort_keys(const char *order, GError **err)
{
	g_auto(GStrv) part = g_strsplit(order, ",", -1);
	GArray *keys = g_array_new(FALSE, FALSE, sizeof(SortKey));

	g_array_set_clear_func(keys, clear_key);
	for (char **p = part; *p != NULL; p++) {
		g_auto(GStrv) kv = g_strsplit(*p, ":", 2);
		bool asc = g_strv_length(kv) == 1 || g_str_equal(kv[1], "asc");

		if (kv[0] == NULL || kv[0][0] == '\0' || (!asc && !g_str_equal(kv[1], "desc"))) {
			fail_advice(err, ERR_INVALID, "Write KEY, KEY:asc or KEY:desc, several with commas.",
				    "'%s' is no order", order);
			g_array_unref(keys);
			return NULL;
		}
		g_array_append_val(keys, ((SortKey){ g_strdup(kv[0]), !asc }));
	}
	return keys;
}

static Json *sorted(const Json *list, const char *order, GError **err)
{
	g_autoptr(GPtrArray) objs = g_ptr_array_new();
	GArray *keys = sort_keys(order, err);
	Json *out, *obj;
	size_t i;

	if (keys == NULL)
		return NULL;
	json_array_foreach((Json *)list, i, obj) g_ptr_array_add(objs, obj);
	g_ptr_array_sort_with_data(objs, compare_objects, keys);
	out = json_array();
	for (guint n = 0; n < objs->len; n++)
		json_array_append(out, objs->pdata[n]);
	g_array_unref(keys);
	return out;
}

Json *call_arrange(const ApiCall *c, Json *list, GError **err)
{
	const char *order = call_query(c, "sort");
	_cleanup_json_ Json *all = list, *some = filtered(c, all, err);

	if (some == NULL)
		return NULL;
	return sorted(some, order != NULL ? order : "name", err);
}
