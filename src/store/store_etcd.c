/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store of a pool: etcd, by its JSON gateway.
 *
 * The revision of the store is etcd's own; that of an item its mod_revision.
 * Other users of the same etcd move the revision too, which the contract allows.
 *
 * What is ours is marked by a schema key below the root, whose value is
 * {"program", "schema", "created_at"}. Without it, a root below which there is
 * nothing becomes ours; anything else is left alone.
 *
 * Whether a commit happened is decided even if the connection broke before the
 * answer came. Each commit that writes also compares and overwrites a mark: a
 * hidden key that no other commit uses at the same time. When the answer is
 * lost, a second transaction overwrites the mark if it is still the old one. If
 * that succeeds, the commit had not happened and, since it compares the mark,
 * can't happen any more, whichever queue it is stuck in. If it fails, the mark's
 * value tells that it did. Only when no endpoint answers this question either,
 * or for deletions without a write and for transactions of STORE_TX_MAX keys, is
 * it left open. Marks are small, a handle has as many as it had commits at once,
 * and they are swept when they are a day old.
 *
 * An etcd whose revision went back was restored from a backup: revisions are
 * given twice then, and what callers know is void. So is it when the cluster's id
 * changed. From then on every call fails with ERR_STORE and every watch with
 * ERR_GONE, until the store is opened anew.
 */
#include "base/time.h"
#include "store/store-etcd.h"

#include <inttypes.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define PAGE_ITEMS 1000
#define SWEEP_AGE UINT64_C(86400000000)
#define NONCE_MAX 64

typedef struct Mark {
	char *key;
	int64_t rev;
} Mark;

static void mark_free(gpointer p)
{
	Mark *m = p;

	g_free(m->key);
	g_free(m);
}

static void lock(EtcdStore *s)
{
	pthread_mutex_lock(&s->lock);
}

static void unlock(EtcdStore *s)
{
	pthread_mutex_unlock(&s->lock);
}

/* ---- is it still the same etcd? ---- */

static GError *went_back(const EtcdStore *s, const struct wire_header *h, int64_t seen_before)
{
	static const char advice[] =
	    "If etcd was restored from a backup, restart the daemon on every host; else check its endpoints.";
	GError *e = NULL;

	if (h->cluster != s->cluster)
		fail_advice(&e, ERR_STORE, advice,
			    "this is another etcd cluster (%" PRIx64
			    ") than the one that was opened (%" PRIx64 ")",
			    h->cluster, s->cluster);
	else if (h->rev < seen_before)
		fail_advice(&e, ERR_STORE, advice, "etcd went back from revision %" PRId64 " to %" PRId64,
			    seen_before, h->rev);
	return e;
}

bool etcd_header_fits(EtcdStore *s, const struct wire_header *h, int64_t seen_before, GError **err)
{
	lock(s);
	if (s->cluster == 0)
		s->cluster = h->cluster;
	if (s->broken == NULL)
		s->broken = went_back(s, h, seen_before);
	if (s->broken == NULL)
		s->seen = MAX(s->seen, h->rev);
	unlock(s);
	return etcd_usable(s, err);
}

int64_t etcd_seen(EtcdStore *s)
{
	int64_t seen;

	lock(s);
	seen = s->seen;
	unlock(s);
	return seen;
}

bool etcd_usable(EtcdStore *s, GError **err)
{
	bool ok;

	lock(s);
	ok = s->broken == NULL;
	if (!ok && err != NULL)
		*err = g_error_copy(s->broken);
	unlock(s);
	return ok;
}

/* A call on keys: its answer has a header that must fit. `maybe` of the call tells more about a failure. */
Json *etcd_ask(EtcdStore *s, EtcdCall *call, struct wire_header *ret_header, GError **err)
{
	_cleanup_json_ Json *answer = NULL;
	int64_t seen_before = etcd_seen(s);

	if (!etcd_usable(s, err))
		return NULL;
	answer = etcd_client_call(s->client, call, err);
	if (answer == NULL)
		return NULL;
	call->maybe = true; /* of what comes now, the answer can't be trusted */
	if (!wire_header_read(answer, ret_header, err) || !etcd_header_fits(s, ret_header, seen_before, err))
		return NULL;
	call->maybe = false;
	return g_steal_pointer(&answer);
}

static Json *ask_range(EtcdStore *s, char *take_body, struct wire_header *ret_header, GError **err)
{
	g_autofree char *body = take_body;

	return etcd_ask(s, &(EtcdCall){ .path = "kv/range", .body = body }, ret_header, err);
}

bool etcd_read_now(EtcdStore *s, uint64_t timeout, struct wire_header *ret_header, GError **err)
{
	g_autofree char *body = wire_range(s->config->root, WIRE_SCHEMA_KEY, WIRE_KEYS_ONLY, 0, 0);
	_cleanup_json_ Json *answer =
	    etcd_ask(s, &(EtcdCall){ .path = "kv/range", .body = body, .timeout = timeout }, ret_header, err);

	return answer != NULL;
}

int64_t etcd_revision_now(EtcdStore *s, GError **err)
{
	struct wire_header h;

	return etcd_read_now(s, 0, &h, err) ? h.rev : -1;
}

static int64_t etcd_revision(Store *base, GError **err)
{
	return etcd_revision_now((EtcdStore *)base, err);
}

/* ---- reading ---- */

static StoreItem *etcd_get(Store *base, const char *key, GError **err)
{
	EtcdStore *s = (EtcdStore *)base;
	g_autoptr(GPtrArray) items = store_items_new();
	struct wire_header h;
	_cleanup_json_ Json *answer = ask_range(s, wire_range(s->config->root, key, 0, 0, 0), &h, err);

	if (answer == NULL || !wire_items_read(answer, s->config->root, items, NULL, err) || items->len == 0)
		return NULL;
	return g_ptr_array_steal_index(items, 0);
}

struct listing {
	const char *prefix;
	int64_t rev, limit;
	struct wire_page page;
};

static bool list_page(EtcdStore *s, struct listing *l, GPtrArray *items, GError **err)
{
	const char *root = s->config->root;
	g_autofree char *after = g_steal_pointer(&l->page.last);
	struct wire_header h;
	_cleanup_json_ Json *answer =
	    ask_range(s, wire_page(root, l->prefix, after, l->rev, l->limit), &h, err);

	if (answer == NULL) {
		l->page.last = g_steal_pointer(&after);
		return false;
	}
	if (l->rev == 0)
		l->rev = h.rev;
	return wire_items_read(answer, root, items, &l->page, err);
}

/* All pages are of the revision of the first. Pages shrink when their values are too large for one answer. */
static bool list_all(EtcdStore *s, struct listing *l, GPtrArray *items, GError **err)
{
	do {
		g_autoptr(GError) e = NULL;

		if (list_page(s, l, items, &e))
			continue;
		if (!g_error_matches(e, ERR, ERR_LIMIT) || l->limit == 1) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
		l->limit = MAX(l->limit / 8, 1);
		l->page.more = true;
	} while (l->page.more);
	return true;
}

static GPtrArray *etcd_list(Store *base, const char *prefix, int64_t *ret_rev, GError **err)
{
	/* A compaction may overtake a listing; the next one begins at a newer revision. */
	for (int left = 3;; left--) {
		struct listing l = { .prefix = prefix, .limit = PAGE_ITEMS };
		g_autoptr(GPtrArray) items = store_items_new();
		g_autoptr(GError) e = NULL;
		bool ok = list_all((EtcdStore *)base, &l, items, &e);

		g_free(l.page.last);
		if (ok) {
			*ret_rev = l.rev;
			return g_steal_pointer(&items);
		}
		if (left > 0 && g_error_matches(e, ERR, ERR_GONE) && etcd_usable((EtcdStore *)base, NULL))
			continue;
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
}

/* ---- writing ---- */

static Mark *mark_take(EtcdStore *s)
{
	Mark *m;

	lock(s);
	m = g_queue_pop_tail(&s->mark);
	unlock(s);
	if (m == NULL) {
		g_autofree char *id = uuid_new();

		m = g_new0(Mark, 1);
		m->key = g_strconcat(WIRE_MARK_PREFIX, id, NULL);
	}
	return m;
}

static void mark_give(EtcdStore *s, Mark *m)
{
	lock(s);
	g_queue_push_tail(&s->mark, m);
	unlock(s);
}

/* Begins with the time, for the sweep. */
static char *nonce_new(void)
{
	g_autofree char *id = uuid_new();

	return g_strdup_printf("%" PRIu64 " %s", time_real() / 1000000, id);
}

/* A commit on its way. */
struct commit {
	EtcdStore *s;
	const StoreTx *tx;
	Mark *mark;     /* NULL: undecidable when the answer is lost */
	char *nonce;    /* that the mark gets with this try */
	int64_t rev;    /* result */
	bool mark_lost; /* nobody knows what it is now */
};

typedef enum Step { STEP_DONE, STEP_FAILED, STEP_AGAIN, STEP_UNKNOWN } Step;

static Step done_at(struct commit *c, int64_t rev)
{
	c->rev = rev;
	if (c->mark != NULL)
		c->mark->rev = rev;
	return STEP_DONE;
}

static Step judge(struct commit *c, const Json *answer, const struct wire_mark *mark, int64_t rev,
		  GError **err)
{
	struct wire_outcome o;
	g_autofree char *found = NULL;

	if (!wire_outcome_read(answer, c->tx, mark, &o, err)) {
		c->mark_lost = true;
		return STEP_FAILED;
	}
	found = o.mark_value;
	if (o.succeeded)
		return done_at(c, rev);
	/* libcurl had sent it twice. */
	if (mark != NULL && g_strcmp0(found, mark->value) == 0)
		return done_at(c, o.mark_rev);
	if (mark != NULL)
		c->mark->rev = o.mark_rev;
	if (o.conflict == NULL)
		return STEP_AGAIN; /* the mark had been swept */
	store_fail_conflict(o.conflict, o.found, err);
	return STEP_FAILED;
}

static Step try_commit(struct commit *c, GError **err)
{
	g_autofree char *body = NULL;
	struct wire_mark mark;
	EtcdCall call = { .path = "kv/txn", .once = true, .fresh = c->mark == NULL };
	struct wire_header h;
	_cleanup_json_ Json *answer = NULL;

	g_free(c->nonce);
	c->nonce = nonce_new();
	if (c->mark != NULL)
		mark = (struct wire_mark){ .key = c->mark->key, .value = c->nonce, .rev = c->mark->rev };
	body = wire_tx(c->s->config->root, c->tx, c->mark != NULL ? &mark : NULL);
	call.body = body;
	answer = etcd_ask(c->s, &call, &h, err);
	if (answer != NULL)
		return judge(c, answer, c->mark != NULL ? &mark : NULL, h.rev, err);
	return call.maybe ? STEP_UNKNOWN : STEP_FAILED;
}

/* Did the commit happen? STEP_AGAIN: it did not, and never will. */
static Step settle(struct commit *c, GError **err)
{
	g_autoptr(StoreTx) none = store_tx_new();
	g_autofree char *fence = nonce_new(), *body = NULL, *found = NULL;
	struct wire_mark mark = { .key = c->mark->key, .value = fence, .rev = c->mark->rev };
	struct wire_header h;
	struct wire_outcome o;
	_cleanup_json_ Json *answer = NULL;

	body = wire_tx(c->s->config->root, none, &mark);
	answer = etcd_ask(c->s, &(EtcdCall){ .path = "kv/txn", .body = body }, &h, err);
	if (answer == NULL || !wire_outcome_read(answer, none, &mark, &o, err))
		return STEP_UNKNOWN;
	found = o.mark_value;
	c->mark->rev = o.succeeded ? h.rev : o.mark_rev;
	if (o.succeeded || g_strcmp0(found, fence) == 0)
		return STEP_AGAIN;
	if (g_strcmp0(found, c->nonce) == 0)
		return done_at(c, o.mark_rev);
	fail(err, ERR_STORE, "the mark of a commit is gone from etcd");
	return STEP_UNKNOWN;
}

static bool fail_unknown(struct commit *c, GError **err)
{
	g_autofree char *advice = err != NULL ? g_strdup(err_advice(*err)) : NULL;
	bool told = advice != NULL && !etcd_usable(c->s, NULL); /* what broke it, and what helps */

	c->mark_lost = true;
	return err_advise(err, "It may have been done or not: read again before you repeat it. %s",
			  told ? advice
			       : "Then check that more than half of etcd's members run and are reachable.");
}

static bool run_commit(struct commit *c, GError **err)
{
	uint64_t end = time_monotonic() + c->s->config->timeout;

	for (;;) {
		g_autoptr(GError) e = NULL, e2 = NULL;
		Step step = try_commit(c, &e);

		if (step == STEP_UNKNOWN && c->mark != NULL && etcd_usable(c->s, NULL))
			step = settle(c, &e2);
		if (step == STEP_DONE)
			return true;
		if (step == STEP_AGAIN && time_monotonic() < end)
			continue;
		if (step == STEP_AGAIN && e == NULL)
			return fail(err, ERR_TIMEOUT, "etcd did not get to this change in time");
		g_propagate_error(err, g_steal_pointer(&e));
		return step == STEP_UNKNOWN ? fail_unknown(c, err) : false;
	}
}

/* A mark changes the revision, so it must not go with what perhaps changes nothing. */
static bool may_be_marked(const StoreTx *tx)
{
	if (tx->write->len == STORE_TX_MAX)
		return false;
	for (guint i = 0; i < tx->write->len; i++)
		if (((StoreWrite *)tx->write->pdata[i])->value != NULL)
			return true;
	return false;
}

static bool etcd_commit(Store *base, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	EtcdStore *s = (EtcdStore *)base;
	struct commit c = { .s = s, .tx = tx, .mark = may_be_marked(tx) ? mark_take(s) : NULL };
	bool ok = run_commit(&c, err);

	(void)flags; /* etcd has one durability */
	if (c.mark != NULL && c.mark_lost)
		mark_free(c.mark);
	else if (c.mark != NULL)
		mark_give(s, c.mark);
	g_free(c.nonce);
	if (ok)
		*ret_rev = c.rev;
	return ok;
}

static bool etcd_compact(Store *base, int64_t upto, GError **err)
{
	EtcdStore *s = (EtcdStore *)base;
	int64_t now = etcd_revision_now(s, err);
	g_autofree char *body = wire_compaction(MIN(upto, now));
	_cleanup_json_ Json *answer = NULL;
	g_autoptr(GError) e = NULL;

	if (now < 0 || upto == 0)
		return now >= 0;
	answer = etcd_client_call(s->client, &(EtcdCall){ .path = "kv/compaction", .body = body }, &e);
	if (answer != NULL || g_error_matches(e, ERR, ERR_GONE)) /* gone: it had been compacted */
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* Where other users of the same etcd move the revision, only an own write shows how far a watch has come. */
static bool etcd_pulse(Store *base, GError **err)
{
	EtcdStore *s = (EtcdStore *)base;
	g_autofree char *now = time_stamp(), *body = wire_put(s->config->root, WIRE_PULSE_KEY, now);
	struct wire_header h;
	_cleanup_json_ Json *answer = etcd_ask(s, &(EtcdCall){ .path = "kv/put", .body = body }, &h, err);

	return answer != NULL;
}

/* ---- open and close ---- */

static bool fail_foreign(GError **err)
{
	return fail_advice(err, ERR_INVALID, "Give the store a place of its own with '?root=/NAME'.",
			   "this part of etcd holds what is no store of this program");
}

static bool schema_judge(const char *text, GError **err)
{
	_cleanup_json_ Json *j = json_parse(text, strlen(text), NULL);
	int64_t version = json_int(j, "schema", -1);

	if (g_strcmp0(json_str(j, "program"), "plimsoll") != 0 || version < 1)
		return fail_foreign(err);
	if (version > SCHEMA_VERSION)
		return fail_advice(
		    err, ERR_UNSUPPORTED, "Upgrade this host to the version of the others in its pool.",
		    "the store in etcd has schema version %" PRId64 "; this program knows those up to %d",
		    version, SCHEMA_VERSION);
	return true;
}

static bool is_empty(EtcdStore *s, bool *ret, GError **err)
{
	struct wire_header h;
	_cleanup_json_ Json *answer =
	    ask_range(s, wire_range(s->config->root, "", WIRE_PREFIX | WIRE_KEYS_ONLY, 0, 1), &h, err);

	*ret = json_array_size(json_arr(answer, "kvs")) == 0;
	return answer != NULL;
}

static char *schema_text(void)
{
	_cleanup_json_ Json *j = json_object();
	g_autofree char *now = time_stamp();

	json_put_str(j, "program", "plimsoll");
	json_put_int(j, "schema", SCHEMA_VERSION);
	json_put_str(j, "created_at", now);
	return json_print(j);
}

/* The schema key is made like a mark: only if it is not there. Another host may be first, which is fine. */
static bool schema_create(EtcdStore *s, GError **err)
{
	g_autoptr(StoreTx) none = store_tx_new();
	g_autofree char *text = schema_text(), *body = NULL, *found = NULL;
	struct wire_mark key = { .key = WIRE_SCHEMA_KEY, .value = text };
	struct wire_header h;
	struct wire_outcome o;
	_cleanup_json_ Json *answer = NULL;

	body = wire_tx(s->config->root, none, &key);
	answer = etcd_ask(s, &(EtcdCall){ .path = "kv/txn", .body = body }, &h, err);
	if (answer == NULL || !wire_outcome_read(answer, none, &key, &o, err))
		return false;
	found = o.mark_value;
	return o.succeeded || schema_judge(found != NULL ? found : "", err);
}

static bool schema_check(EtcdStore *s, GError **err)
{
	g_autofree char *text = NULL;
	struct wire_header h;
	int64_t rev;
	bool empty;
	_cleanup_json_ Json *answer =
	    ask_range(s, wire_range(s->config->root, WIRE_SCHEMA_KEY, 0, 0, 0), &h, err);

	if (answer == NULL || !wire_one_read(answer, &rev, &text, err))
		return false;
	if (rev != 0)
		return schema_judge(text != NULL ? text : "", err);
	if (!is_empty(s, &empty, err))
		return false;
	return empty ? schema_create(s, err) : fail_foreign(err);
}

/* Old ones only, by their value; if one is in use after all, its commit notices and takes it anew. */
static void sweep_one(EtcdStore *s, const Json *kv)
{
	g_autofree guchar *key = NULL, *value = NULL;
	_cleanup_json_ Json *answer = NULL, *ask = json_object();
	g_autofree char *body = NULL, *text = NULL;
	gsize n_key = 0, n_value = 0;
	uint64_t made;

	if (json_str(kv, "key") == NULL || json_str(kv, "value") == NULL)
		return;
	value = g_base64_decode(json_str(kv, "value"), &n_value);
	text = g_strndup((char *)value, MIN(n_value, NONCE_MAX));
	made = g_ascii_strtoull(text, NULL, 10);
	if (made == 0 || made + SWEEP_AGE / 1000000 > time_real() / 1000000)
		return;
	key = g_base64_decode(json_str(kv, "key"), &n_key);
	json_put_str(ask, "key", json_str(kv, "key"));
	body = json_print(ask);
	answer = etcd_client_call(s->client, &(EtcdCall){ .path = "kv/deleterange", .body = body }, NULL);
}

static bool sweep(EtcdStore *s, GError **err)
{
	struct wire_header h;
	_cleanup_json_ Json *answer =
	    ask_range(s, wire_range(s->config->root, WIRE_MARK_PREFIX, WIRE_PREFIX, 0, PAGE_ITEMS), &h, err);
	const Json *kvs = json_arr(answer, "kvs");

	for (size_t i = 0; i < json_array_size(kvs); i++)
		sweep_one(s, json_array_get(kvs, i));
	return answer != NULL;
}

static bool etcd_open(Store *base, const char *where, GError **err)
{
	EtcdStore *s = (EtcdStore *)base;

	pthread_mutex_init(&s->lock, NULL);
	g_queue_init(&s->mark);
	s->config = etcd_config_parse(where, err);
	if (s->config == NULL)
		return false;
	s->client = etcd_client_new(s->config, err);
	return s->client != NULL && schema_check(s, err) && sweep(s, err);
}

static void etcd_close(Store *base)
{
	EtcdStore *s = (EtcdStore *)base;

	etcd_watcher_free(s->watcher);
	etcd_client_free(s->client);
	etcd_config_free(s->config);
	g_queue_clear_full(&s->mark, mark_free);
	g_clear_error(&s->broken);
	pthread_mutex_destroy(&s->lock);
}

const StoreBackend store_etcd = {
	.scheme = "etcd",
	.usage = "etcd:http://HOST:2379",
	.size = sizeof(EtcdStore),
	.open = etcd_open,
	.close = etcd_close,
	.get = etcd_get,
	.list = etcd_list,
	.revision = etcd_revision,
	.commit = etcd_commit,
	.compact = etcd_compact,
	.watch_open = etcd_watch_open,
	.watch_fd = etcd_watch_fd,
	.watch_next = etcd_watch_next,
	.watch_close = etcd_watch_close,
	.watch_seen = etcd_watch_seen,
	.pulse = etcd_pulse,
	.lease_grant = etcd_lease_grant,
	.lease_renew = etcd_lease_renew,
	.lease_revoke = etcd_lease_revoke,
};
