/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/guest_dimm.h"
#include "core/guest/dimm.h"
#include "core/model/keys.h"
#include "engine/records.h"

#include <stdlib.h>

#define SECOND UINT64_C(1000000)
/* A QEMU whose main loop waits for storage is left for a later round. */
#define TIMEOUT (5 * SECOND)
#define TRIES 5

Json *guest_dimm_list(Vmm *v, size_t *ret_free, GError **err)
{
	_cleanup_json_ Json *devices = qmp_call(vmm_qmp(v), "query-memory-devices", NULL, TIMEOUT, err);

	return devices != NULL ? dimm_list_of(devices, ret_free) : NULL;
}

static bool order(Vmm *v, const char *command, Json *args, GError **err)
{
	_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), command, args, TIMEOUT, err);

	return reply != NULL;
}

static Json *memory_args(const char *id, uint64_t size)
{
	return json_pack("{s:s, s:s, s:I, s:b}", "qom-type", "memory-backend-ram", "id", id, "size",
			 (json_int_t)size, "reserve", false);
}

bool guest_dimm_plug(Vmm *v, size_t n, uint64_t size, GError **err)
{
	g_autofree char *id = dimm_id(n), *memory = dimm_memory_id(n);

	/* Of a try before that was cut off in the middle. */
	order(v, "object-del", json_pack("{s:s}", "id", memory), NULL);
	if (!order(v, "object-add", memory_args(memory, size), err))
		return false;
	if (order(v, "device_add",
		  json_pack("{s:s, s:s, s:s}", "driver", "pc-dimm", "id", id, "memdev", memory), err))
		return true;
	order(v, "object-del", json_pack("{s:s}", "id", memory), NULL);
	return false;
}

/* False without an error: it was changed meanwhile. */
static bool record_once(Store *s, const char *key, const Json *sizes, GError **err)
{
	int64_t rev;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *applied = record_get(s, key, &rev, err), *arguments = NULL;
	const Json *has;
	g_autofree char *text = NULL;
	StoreTx *tx;

	if (applied == NULL)
		return false;
	has = json_arr(applied, DIMMS);
	if (has != NULL ? json_equal(has, sizes) : json_array_size(sizes) == 0)
		return true;
	arguments = dimm_arguments(json_arr(applied, "arguments"), sizes);
	json_put(applied, DIMMS, json_deep_copy(sizes));
	json_put(applied, "arguments", json_ref(arguments));
	text = json_print(applied);
	tx = store_tx_new();
	store_tx_set(tx, key, rev, text);
	if (store_commit(s, tx, STORE_DURABLE, NULL, &e))
		return true;
	if (!store_is_conflict(e))
		g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

bool guest_dimm_record(Store *s, const char *vm_id, const Json *sizes, GError **err)
{
	g_autofree char *key = key_vm_applied(vm_id);

	for (int i = 0; i < TRIES; i++) {
		g_autoptr(GError) e = NULL;

		if (record_once(s, key, sizes, &e))
			return true;
		if (e != NULL) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
	return fail(err, ERR_CONFLICT, "the record of what runs changes all the time");
}
