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

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Events, events_close)
