/* SPDX-License-Identifier: Apache-2.0 */
#include "store/store-etcd-wire.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOT "/r"

/* Nothing that breaks the contract of the store may come out as an item. */
static void check_items(const GPtrArray *items, bool may_delete)
{
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];

		g_assert_nonnull(item->key);
		g_assert_cmpuint(strlen(item->key), >, 0);
		g_assert_cmpuint(strlen(item->key), <=, STORE_KEY_MAX);
		for (const char *p = item->key; *p != '\0'; p++)
			g_assert_true(g_ascii_isgraph(*p));
		g_assert_true(item->value != NULL || may_delete);
		g_assert_true(item->value == NULL || g_utf8_validate(item->value, -1, NULL));
	}
}

static void check_line(const char *text, size_t size)
{
	g_autoptr(GError) err = NULL;
	struct wire_event e;

	if (!wire_event_read(text, size, ROOT, &e, &err)) {
		g_assert_error(err, ERR, ERR_STORE);
		return;
	}
	g_assert_no_error(err);
	check_items(e.items, true);
	for (guint i = 1; i < e.items->len; i++)
		g_assert_cmpint(((StoreItem *)e.items->pdata[i - 1])->rev, <=,
				((StoreItem *)e.items->pdata[i])->rev);
	g_assert_true(e.items->len == 0 || e.last > 0);
	wire_event_clear(&e);
}

static void check_range(const Json *j)
{
	g_autoptr(GPtrArray) items = store_items_new();
	struct wire_page page = { 0 };
	g_autofree char *value = NULL;
	struct wire_header h;
	int64_t rev, id, ttl;

	wire_header_read(j, &h, NULL);
	wire_one_read(j, &rev, &value, NULL);
	wire_lease_read(j, &id, &ttl, NULL);
	if (wire_items_read(j, ROOT, items, &page, NULL))
		g_assert_true(!page.more || page.last != NULL);
	check_items(items, false);
	g_free(page.last);
}

static void check_outcome(const Json *j)
{
	g_autoptr(StoreTx) tx = store_tx_new();
	struct wire_mark mark = { .key = WIRE_MARK_PREFIX "x", .value = "1 x", .rev = 3 };
	struct wire_outcome o;

	store_tx_set(tx, "a", 1, "1");
	store_tx_set(tx, "b", STORE_ANY, "1");
	store_tx_expect(tx, "c", 0);
	if (!wire_outcome_read(j, tx, &mark, &o, NULL))
		return;
	/* A refusal says why, or it is none. */
	g_assert_true(o.succeeded || o.conflict != NULL || o.mark_rev != mark.rev);
	g_assert_true(o.conflict == NULL || o.found != o.conflict->rev);
	g_free(o.mark_value);
}

/* Whatever etcd, or what pretends to be one, answers. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	g_autofree char *text = g_strndup((const char *)data, size);
	_cleanup_json_ Json *j = json_parse(text, size, NULL);

	check_line(text, size);
	if (json_is_object(j)) {
		check_range(j);
		check_outcome(j);
	}
	return 0;
}
