/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/events.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"

#include <string.h>

#define KEEP 10000
#define TRIES 50

struct Events {
	Store *store;
	GMutex lock;
	uint64_t next;
	int64_t last_rev; /* of the one before `next`; 0: there is none */
};

/* All that are kept are read: for when nothing is known of their numbers. */
static bool seek_end(Events *ev, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(ev->store, KEYS_EVENTS, NULL, err);
	const StoreItem *last;

	if (items == NULL)
		return false;
	last = items->len > 0 ? items->pdata[items->len - 1] : NULL;
	ev->next = last != NULL ? g_ascii_strtoull(last->key + strlen(KEYS_EVENTS), NULL, 16) + 1 : 1;
	ev->last_rev = last != NULL ? last->rev : 0;
	return true;
}

Events *events_open(Store *store, GError **err)
{
	Events *ev = g_new0(Events, 1);

	ev->store = store;
	g_mutex_init(&ev->lock);
	return seek_end(ev, err) ? ev : events_close(ev);
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
	Json *details; /* borrowed, or NULL */
	/* a write that belongs to it; key NULL: none */
	const char *key, *value;
	int64_t rev;
};

/*
 * One try with the number that is thought to be free. That of one that others have left far behind is free
 * once more, as what had it was deleted: the one before must be there still.
 */
static bool append_once(Events *ev, const struct emission *e, GError **err)
{
	g_autofree char *key = key_event(ev->next), *now = time_stamp(), *text = NULL;
	_cleanup_json_ Json *j =
	    event_new(ev->next, now, e->type, e->object_type, e->object_id, e->object_name, e->message,
		      e->details != NULL ? json_incref(e->details) : NULL);
	StoreTx *tx = store_tx_new();

	text = json_print(j);
	store_tx_set(tx, key, 0, text);
	if (ev->last_rev != 0) {
		g_autofree char *before = key_event(ev->next - 1);

		store_tx_expect(tx, before, ev->last_rev);
	}
	if (e->key != NULL)
		store_tx_set(tx, e->key, e->rev, e->value);
	if (ev->next > KEEP) {
		g_autofree char *old = key_event(ev->next - KEEP);

		store_tx_set(tx, old, STORE_ANY, NULL);
	}
	if (!store_commit(ev->store, tx, STORE_RELAXED, &ev->last_rev, err))
		return false;
	ev->next++;
	return true;
}

/* Goes on to `number` when that is taken; *ret says whether. */
static bool advance(Events *ev, uint64_t number, bool *ret, GError **err)
{
	g_autofree char *key = key_event(number);
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(ev->store, key, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	*ret = item != NULL;
	if (item != NULL) {
		ev->next = number + 1;
		ev->last_rev = item->rev;
	}
	return true;
}

/*
 * The number behind the last one that others have taken meanwhile. There are
 * no gaps behind one that is there still, so doubling steps and then halves
 * find the end.
 */
static bool find_end(Events *ev, GError **err)
{
	bool doubling = true, taken = true;
	uint64_t step = 1;

	if (ev->next > 1 && !advance(ev, ev->next - 1, &taken, err))
		return false;
	if (!taken)
		return seek_end(ev, err);
	while (step > 0) {
		if (!advance(ev, ev->next - 1 + step, &taken, err))
			return false;
		doubling = doubling && taken;
		step = doubling ? step * 2 : step / 2;
	}
	return true;
}

/* It was the other write that found something else, not the number. */
static bool conflict_is_other(const struct emission *e, const GError *error)
{
	return e->key != NULL && g_strcmp0(json_str(err_details(error), "key"), e->key) == 0;
}

/*
 * Under the lock, so that numbers become visible in their order. The daemons
 * of a pool number their events together: who finds his number taken looks for
 * the end and tries again.
 */
static bool append(Events *ev, const struct emission *e, GError **err)
{
	for (unsigned tries = 0;; tries++) {
		g_autoptr(GError) e2 = NULL;

		if (append_once(ev, e, &e2))
			return true;
		if (tries == TRIES || !store_is_conflict(e2) || conflict_is_other(e, e2)) {
			g_propagate_error(err, g_steal_pointer(&e2));
			return false;
		}
		if (!find_end(ev, err))
			return false;
	}
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
	e = (struct emission){ type, object_type, object_id, object_name, text, details, NULL, NULL, 0 };
	g_mutex_lock(&ev->lock);
	ok = append(ev, &e, &err);
	g_mutex_unlock(&ev->lock);
	json_unref(details);
	log_line(level_of(type), "%s: %s", event_type_name(type), text);
	if (!ok)
		log_warning("event %s was not stored: %s", event_type_name(type), err->message);
}

bool events_emit_with(Events *ev, const char *key, int64_t rev, const char *value, EventType type,
		      const char *object_type, const char *object_id, const char *object_name, Json *details,
		      const char *text, GError **err)
{
	_cleanup_json_ Json *own = details;
	const struct emission e = { type, object_type, object_id,      object_name, text,
				    own,  .key = key,  .value = value, .rev = rev };
	bool ok;

	g_mutex_lock(&ev->lock);
	ok = append(ev, &e, err);
	g_mutex_unlock(&ev->lock);
	if (ok)
		log_line(level_of(type), "%s: %s", event_type_name(type), text);
	return ok;
}
