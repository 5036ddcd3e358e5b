/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/boot.h"
#include "base/fd.h"
#include "base/log.h"

static const char boot_key[] = "host/boot";

/* A uuid that the kernel draws when it starts; NULL when it does not tell. Caller frees. */
static char *boot_id(void)
{
	char *id = file_read("/proc/sys/kernel/random/boot_id", 128, NULL, NULL);

	return id != NULL ? g_strstrip(id) : NULL;
}

bool boot_is_new(Store *local)
{
	g_autofree char *id = boot_id();
	g_autoptr(StoreItem) known = store_get(local, boot_key, NULL);

	return id == NULL || known == NULL || !g_str_equal(known->value, id);
}

void boot_remember(Store *local)
{
	g_autofree char *id = boot_id();
	g_autoptr(GError) err = NULL;
	StoreTx *tx;

	if (id == NULL)
		return;
	tx = store_tx_new();
	store_tx_set(tx, boot_key, STORE_ANY, id);
	if (!store_commit(local, tx, STORE_DURABLE, NULL, &err))
		log_warning("vms that start with the host may be started again: %s", err->message);
}
