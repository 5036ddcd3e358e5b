/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/events.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"

#include <string.h>

#define KEEP 10000

struct Events {
	Store *store;
	GMutex lock;
	uint64_t next;
};

Events *events_open(Store *store, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(store, KEYS_EVENTS, NULL, err);
	const StoreItem *last;
	Events *ev;

	if (items == NULL)
		return NULL;
	ev = g_new0(Events, 1);
	ev->store = store;
	ev->next = 1;
	g_mutex_init(&ev->lock);
	if (items->len > 0) {
		last = items->pdata[items->len - 1];
		ev->next = g_ascii_strtoull(last->key + strlen(KEYS_EVENTS), NULL, 16) + 1;
	}
	return ev;
}

Events *events_close(Events *ev)
{
	if (ev != NULL) {
		g_mutex_clear(&ev->lock);
		g_free(ev);
	}
	return NULL;
}

struct emission {
	EventType type;
	const char *object_type, *object_id, *object_name, *message;
	Json *details; /* taken */
};

/* Under the lock, so that numbers become visible in their order. */
static bool append(Events *ev, const struct emission *e, GError **err)
{
	g_autofree char *key = key_event(ev->next), *now = time_stamp(), *text = NULL;
	_cleanup_json_ Json *j = event_new(ev->next, now, e->type, e->object_type, e->object_id,
					   e->object_name, e->message, e->details);
	StoreTx *tx = store_tx_new();

	text = json_print(j);
	store_tx_set(tx, key, 0, text);
	if (ev->next > KEEP) {
		g_autofree char *old = key_event(ev->next - KEEP);

		store_tx_set(tx, old, STORE_ANY, NULL);
	}
	ev->next++;
	return store_commit(ev->store, tx, STORE_RELAXED, NULL, err);
}

static LogLevel level_of(EventType type)
{
	const char *severity = event_severity(type);

	if (g_str_equal(severity, "error"))
		return LOG_LEVEL_ERROR;
	return g_str_equal(severity, "warning") ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO;
}

void events_emit(Events *ev, EventType type, const char *object_type, const char *object_id,
		 const char *object_name, Json *details, const char *message, ...)
{
	g_autofree char *text = NULL;
	g_autoptr(GError) err = NULL;
	struct emission e;
	va_list ap;
	bool ok;

	va_start(ap, message);
	text = g_strdup_vprintf(message, ap);
	va_end(ap);
	e = (struct emission){ type, object_type, object_id, object_name, text, details };
	g_mutex_lock(&ev->lock);
	ok = append(ev, &e, &err);
	g_mutex_unlock(&ev->lock);
	log_line(level_of(type), "%s: %s", event_type_name(type), text);
	if (!ok)
		log_warning("event %s was not stored: %s", event_type_name(type), err->message);
}
