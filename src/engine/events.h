/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where events are written: one record each in the pool's store, numbered
 * without gaps, the oldest dropped beyond a bound. Any thread may emit.
 */
#pragma once

#include "core/model/event.h"
#include "store/store.h"

typedef struct Events Events;

/* Continues the numbers found in the store. */
Events *events_open(Store *store, GError **err);
Events *events_close(Events *ev);

/*
 * Write one event; it is logged as well. A store that refuses it is logged, no
 * more: what happened has happened. `message` is a printf format.
 * `details` is taken and may be NULL; object_type NULL: the daemon itself.
 */
void events_emit(Events *ev, EventType type, const char *object_type, const char *object_id,
		 const char *object_name, Json *details, const char *message, ...) G_GNUC_PRINTF(7, 8);

/*
 * The same in one transaction with another write, so that who does something
 * that several daemons may do at once also tells it, and nobody else: `key`
 * must have the revision `rev` and gets `value`. ERR_CONFLICT when it moved;
 * nothing is written or told then. Takes `details`.
 */
bool events_emit_with(Events *ev, const char *key, int64_t rev, const char *value, EventType type,
		      const char *object_type, const char *object_id, const char *object_name, Json *details,
		      const char *text, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Events, events_close)
