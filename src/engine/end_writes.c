/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/end_writes.h"

#include <string.h>

/*
 * A merge that ends the operation's hold on a record, when that is no longer the operation's: the host was
 * away for so long that the pool went on without it. Such an end must change nothing.
 */
static bool is_lost(const Operation *op, const Json *record, const Json *members)
{
	return json_object_get(members, "operation") != NULL &&
	       g_strcmp0(json_str(record, "operation"), op->id) != 0;
}

static bool fail_lost(const Operation *op, GError **err)
{
	return fail_advice(err, ERR_GONE,
			   "Look at it again: `plim pool status` and the events say what happened.",
			   "%s went on without this host: what it did is not recorded",
			   op->target_name != NULL ? op->target_name : op->kind);
}

/* A merge reads the record and holds only if nobody changes it meanwhile. */
static bool add_merge(Store *s, StoreTx *tx, const Operation *op, const char *key, const Json *members,
		      bool *ret_lost, GError **err)
{
	g_autoptr(GError) e2 = NULL;
	g_autoptr(StoreItem) item = store_get(s, key, &e2);
	_cleanup_json_ Json *record = NULL;
	g_autofree char *text = NULL;

	if (item == NULL) {
		if (e2 != NULL)
			g_propagate_error(err, g_steal_pointer(&e2));
		return e2 == NULL && (err == NULL || *err == NULL);
	}
	record = json_parse(item->value, strlen(item->value), err);
	if (record == NULL)
		return false;
	if (is_lost(op, record, members)) {
		if (ret_lost == NULL)
			return true;
		*ret_lost = true;
		return fail_lost(op, err);
	}
	json_object_update(record, (Json *)members);
	text = json_print(record);
	store_tx_set(tx, key, item->rev, text);
	return true;
}

bool end_writes_add(Store *s, StoreTx *tx, const Operation *op, bool *ret_lost, GError **err)
{
	_cleanup_json_ Json *writes = operation_end_writes(op);
	Json *w;
	size_t i;

	json_array_foreach(writes, i, w)
	{
		const char *key = json_str(w, "key");
		const Json *merge = json_object_get(w, "merge"), *value = json_object_get(w, "value");

		if (merge != NULL) {
			if (!add_merge(s, tx, op, key, merge, ret_lost, err))
				return false;
		} else {
			g_autofree char *text = json_is_null(value) ? NULL : json_print(value);

			store_tx_set(tx, key, STORE_ANY, text);
		}
	}
	return true;
}
