/* SPDX-License-Identifier: Apache-2.0 */
/* Operations and events, as they are read. */
#include "api/handlers.h"
#include "core/model/keys.h"

#include <string.h>

#define SECOND UINT64_C(1000000)

static Json *operation_view(const char *text, GError **err)
{
	Json *j = json_parse(text, strlen(text), err);

	return j != NULL ? operation_record_to_api(j) : NULL;
}

bool api_operation_list(ApiCall *c, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(engine_store(c->engine), KEYS_OPERATIONS, NULL, err);
	Json *list;

	if (items == NULL)
		return false;
	if (call_query(c, "sort") == NULL) {
		char **newest = g_new0(char *, 2);

		newest[0] = g_strdup("created_at:desc");
		g_hash_table_insert(c->query, g_strdup("sort"), newest);
	}
	list = json_array();
	for (guint i = 0; i < items->len; i++) {
		Json *j = operation_view(((StoreItem *)items->pdata[i])->value, err);

		if (j == NULL) {
			json_unref(list);
			return false;
		}
		json_array_append_new(list, j);
	}
	list = call_arrange(c, list, err);
	return list != NULL && call_answer(c, 200, list);
}

static char *call_operation(ApiCall *c, GError **err)
{
	return record_resolve(engine_store(c->engine), "operations", call_path(c, "operation"), err);
}

static bool answer(ApiCall *c, const char *id, unsigned status, GError **err)
{
	g_autofree char *key = key_operation(id);
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(engine_store(c->engine), key, &e);
	Json *j;

	if (item == NULL) {
		if (e == NULL)
			fail_advice(&e, ERR_NOT_FOUND, "`plim operation list` shows all.",
				    "there is no operation '%s'", id);
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	j = operation_view(item->value, err);
	return j != NULL && call_answer(c, status, j);
}

bool api_operation_show(ApiCall *c, GError **err)
{
	g_autofree char *id = call_operation(c, err);
	uint64_t wait;

	if (id == NULL || !call_number(c, "wait", 0, 3600, 0, &wait, err))
		return false;
	if (wait > 0)
		call_wait(c, id, wait * SECOND);
	return answer(c, id, 200, err);
}

bool api_operation_cancel(ApiCall *c, GError **err)
{
	g_autofree char *id = call_operation(c, err);

	return id != NULL && exec_cancel(engine_exec(c->engine), id, err) && answer(c, id, 202, err);
}

/* The last `limit` events behind the revision `since`, oldest first. */
bool api_event_list(ApiCall *c, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(engine_store(c->engine), KEYS_EVENTS, NULL, err);
	uint64_t since, limit;
	Json *list;

	if (items == NULL || !call_number(c, "since", 0, INT64_MAX, 0, &since, err) ||
	    !call_number(c, "limit", 1, 10000, 1000, &limit, err))
		return false;
	list = json_array();
	for (guint i = items->len > limit ? items->len - (guint)limit : 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		Json *j;

		if (item->rev <= (int64_t)since)
			continue;
		j = json_parse(item->value, strlen(item->value), NULL);
		/* What can't be read hides itself, and nothing else. */
		if (!json_is_object(j)) {
			json_unref(j);
			continue;
		}
		json_put_int(j, "revision", item->rev);
		json_array_append_new(list, j);
	}
	return call_answer(c, 200, list);
}
