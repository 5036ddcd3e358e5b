/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records on their way from one store to another: what a host takes into a
 * pool, and takes away with it.
 *
 * Copying may be interrupted at any point and begun again: what is there
 * already as it should be is left alone. Only names can be in the way, as all
 * else stands under random ids. Blocking; any thread but the loop's.
 */
#pragma once

#include "store/store.h"

typedef enum RecordsScope {
	RECORDS_ALL,  /* into a new pool: everything, events too */
	RECORDS_JOIN, /* into a pool: everything that is an object; all of it is this host's */
	RECORDS_OWN,  /* out of a pool: what belongs to this host */
} RecordsScope;

/*
 * The items (StoreItem) of `from` that belong to the scope, as they shall be
 * over there: operations, volumes and images name the host. What lives only as
 * long as the pool (leases, tokens, its level) is left out. Revisions are those of `from`. The array frees
 * its items.
 *
 * RECORDS_OWN: a vm belongs to the host that runs it or ran it last, unless it
 * is off and a volume of it lies elsewhere. ERR_CONFLICT when a vm that runs
 * here has a volume that does not; ERR_BUSY when another host has an operation
 * of one.
 */
GPtrArray *records_collect(Store *from, const char *host_id, RecordsScope scope, GError **err);
/* {collection: [names]} of the items' objects. New reference. */
Json *records_names(const GPtrArray *items);

/*
 * ERR_CONFLICT when one of the names (as records_names() says them) is taken by
 * another object in `to`; details: clashes, [{kind, name}].
 */
bool records_check_names(Store *to, const Json *names, GError **err);
bool records_copy(Store *to, const GPtrArray *items, GError **err);
/*
 * Delete those of the items that are in `from`; a name only while it is still of the same object. `as_read`:
 * they were collected from `from`, and a conflict (store_is_conflict()) when one has moved since; some may be
 * deleted then.
 */
bool records_remove(Store *from, const GPtrArray *items, bool as_read, GError **err);
/* Delete of `own` all objects that are in `pool` too, with the names that they have here. */
bool records_drop_shared(Store *own, Store *pool, GError **err);
/* Those of the items that are no records of the host itself. The array frees its items. */
GPtrArray *records_of_objects(const GPtrArray *items, const char *host_id);
