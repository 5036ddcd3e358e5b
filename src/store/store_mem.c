/* SPDX-License-Identifier: Apache-2.0 */
/* A store that forgets: for tests, and as the plainest statement of the rules. */
#include "store/store-mem.h"

#include <string.h>

static gint cmp_key(gconstpointer a, gconstpointer b, gpointer unused)
{
	(void)unused;
	return strcmp(a, b);
}

static void drop_item(gpointer p)
{
	store_item_free(p);
}

static bool mem_changes(LocalStore *l, const char *prefix, int64_t after, GPtrArray *ret, int64_t *ret_upto,
			GError **err)
{
	GList *n = ((MemStore *)l)->history.tail;
	int64_t last = after;
	size_t bytes = 0;

	(void)err;
	while (n != NULL && n->prev != NULL && ((StoreItem *)n->prev->data)->rev > after)
		n = n->prev;
	if (n != NULL && ((StoreItem *)n->data)->rev <= after)
		n = NULL;
	for (; n != NULL; n = n->next) {
		const StoreItem *i = n->data;

		if (i->rev != last && local_batch_full(ret, bytes))
			break;
		last = i->rev;
		if (!g_str_has_prefix(i->key, prefix))
			continue;
		bytes += local_item_size(i->key, i->value);
		g_ptr_array_add(ret, store_item_new(i->key, i->value, i->rev));
	}
	*ret_upto = n != NULL ? last : l->rev;
	return true;
}

void mem_init(MemStore *m)
{
	local_init(&m->local, mem_changes);
	m->item = g_tree_new_full(cmp_key, NULL, NULL, drop_item);
	g_queue_init(&m->history);
}

static bool mem_open(Store *s, const char *where, GError **err)
{
	mem_init((MemStore *)s);
	if (where[0] != '\0')
		return fail(err, ERR_INVALID, "a store in memory has no place: 'mem:' is the whole URL");
	return true;
}

void mem_done(MemStore *m)
{
	g_tree_unref(m->item);
	g_queue_clear_full(&m->history, drop_item);
	local_done(&m->local);
}

static void mem_close(Store *s)
{
	mem_done((MemStore *)s);
}

StoreItem *mem_get(Store *s, const char *key, GError **err)
{
	MemStore *m = (MemStore *)s;
	_cleanup_unlock_ LocalStore *held = local_lock(&m->local);
	const StoreItem *i = g_tree_lookup(m->item, key);

	(void)err;
	return i != NULL ? store_item_new(i->key, i->value, i->rev) : NULL;
}

GPtrArray *mem_list(Store *s, const char *prefix, int64_t *ret_rev, GError **err)
{
	MemStore *m = (MemStore *)s;
	_cleanup_unlock_ LocalStore *held = local_lock(&m->local);
	GPtrArray *ret = store_items_new();

	(void)err;
	for (GTreeNode *n = g_tree_lower_bound(m->item, prefix); n != NULL; n = g_tree_node_next(n)) {
		const StoreItem *i = g_tree_node_value(n);

		if (!g_str_has_prefix(i->key, prefix))
			break;
		g_ptr_array_add(ret, store_item_new(i->key, i->value, i->rev));
	}
	*ret_rev = m->local.rev;
	return ret;
}

static int64_t rev_of(MemStore *m, const char *key)
{
	const StoreItem *i = g_tree_lookup(m->item, key);

	return i != NULL ? i->rev : 0;
}

static void forget_oldest(MemStore *m)
{
	StoreItem *i = g_queue_pop_head(&m->history);

	m->history_bytes -= (int64_t)local_item_size(i->key, i->value);
	m->local.compacted = i->rev;
	store_item_free(i);
}

void mem_forget_upto(MemStore *m, int64_t rev)
{
	StoreItem *i;

	while ((i = g_queue_peek_head(&m->history)) != NULL && i->rev <= rev)
		forget_oldest(m);
	m->local.compacted = MAX(m->local.compacted, rev);
}

static void bound_history(MemStore *m)
{
	if (m->history.length <= LOCAL_HISTORY_CHANGES && m->history_bytes <= LOCAL_HISTORY_BYTES)
		return;
	while (m->history.length > LOCAL_HISTORY_KEEP(LOCAL_HISTORY_CHANGES) ||
	       m->history_bytes > LOCAL_HISTORY_KEEP(LOCAL_HISTORY_BYTES))
		forget_oldest(m);
	mem_forget_upto(m, m->local.compacted); /* the rest of the revision that was begun */
}

/* True when it changed something. */
static bool apply(MemStore *m, const StoreWrite *w, int64_t rev)
{
	if (w->expect_only || (w->value == NULL && rev_of(m, w->key) == 0))
		return false;
	if (w->value == NULL) {
		g_tree_remove(m->item, w->key);
	} else {
		StoreItem *i = store_item_new(w->key, w->value, rev);

		g_tree_replace(m->item, i->key, i);
	}
	g_queue_push_tail(&m->history, store_item_new(w->key, w->value, rev));
	m->history_bytes += (int64_t)local_item_size(w->key, w->value);
	return true;
}

bool mem_apply(MemStore *m, const StoreTx *tx, int64_t rev)
{
	bool changed = false;

	for (guint i = 0; i < tx->write->len; i++)
		changed |= apply(m, tx->write->pdata[i], rev);
	if (changed) {
		local_committed(&m->local, tx, rev);
		bound_history(m);
	}
	return changed;
}

void mem_replace(MemStore *m, GPtrArray *items, int64_t rev)
{
	g_tree_remove_all(m->item);
	g_queue_clear_full(&m->history, drop_item);
	m->history_bytes = 0;
	while (items->len > 0) {
		StoreItem *i = g_ptr_array_steal_index_fast(items, items->len - 1);

		g_tree_insert(m->item, i->key, i);
	}
	local_replaced(&m->local, rev);
}

static bool mem_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	MemStore *m = (MemStore *)s;
	_cleanup_unlock_ LocalStore *held = local_lock(&m->local);

	(void)flags;
	for (guint i = 0; i < tx->write->len; i++) {
		const StoreWrite *w = tx->write->pdata[i];
		int64_t found = rev_of(m, w->key);

		if (w->rev != STORE_ANY && w->rev != found)
			return store_fail_conflict(w, found, err);
	}
	mem_apply(m, tx, m->local.rev + 1);
	*ret_rev = m->local.rev;
	return true;
}

static bool mem_compact(Store *s, int64_t upto, GError **err)
{
	MemStore *m = (MemStore *)s;
	_cleanup_unlock_ LocalStore *held = local_lock(&m->local);

	(void)err;
	mem_forget_upto(m, MIN(upto, m->local.rev));
	return true;
}

const StoreBackend store_mem = {
	.scheme = "mem",
	.usage = "mem:",
	.size = sizeof(MemStore),
	.open = mem_open,
	.close = mem_close,
	.get = mem_get,
	.list = mem_list,
	.revision = local_revision,
	.commit = mem_commit,
	.compact = mem_compact,
	.watch_open = local_watch_open,
	.watch_fd = local_watch_fd,
	.watch_next = local_watch_next,
	.watch_close = local_watch_close,
	.watch_seen = local_watch_seen,
};
