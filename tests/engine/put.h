/* SPDX-License-Identifier: Apache-2.0 */
/* Records that a test finds in its store. */
#pragma once

#include "store/store.h"

/* Fails the test when the store refuses it. */
static inline void put(Store *s, const char *key, const char *value)
{
	g_autoptr(GError) e = NULL;
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, value);
	store_commit(s, tx, STORE_DURABLE, NULL, &e);
	g_assert_no_error(e);
}
