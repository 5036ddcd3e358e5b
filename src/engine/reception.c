/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/reception.h"
#include "base/time.h"
#include "engine/agent_clock.h"

/* Ended ones that are still answered for. */
#define KEEP 64

typedef enum State { PREPARING, OPEN, ENDED } State;

typedef struct Reception {
	char *id, *source;
	State state;
	ReceptionWish wish;
	unsigned memory_port, disk_port;
	Json *error;
	bool has_clock;
	struct agent_clock clock;
	uint64_t ran_at; /* or 0 */
} Reception;

struct Receptions {
	GMutex lock;
	GCond changed;
	GQueue list; /* Reception, the newest first */
};

Receptions *receptions_new(void)
{
	Receptions *r = g_new0(Receptions, 1);

	g_mutex_init(&r->lock);
	g_cond_init(&r->changed);
	g_queue_init(&r->list);
	return r;
}

static void drop(gpointer p)
{
	Reception *x = p;

	g_free(x->id);
	g_free(x->source);
	json_unref(x->error);
	g_free(x);
}

Receptions *receptions_free(Receptions *r)
{
	if (r != NULL) {
		g_queue_clear_full(&r->list, drop);
		g_mutex_clear(&r->lock);
		g_cond_clear(&r->changed);
		g_free(r);
	}
	return NULL;
}

/* Locked. */
static Reception *find(Receptions *r, const char *id)
{
	for (GList *l = r->list.head; l != NULL; l = l->next)
		if (g_str_equal(((Reception *)l->data)->id, id))
			return l->data;
	return NULL;
}

/* Locked. The oldest ended ones go. */
static void prune(Receptions *r)
{
	GList *l = g_queue_peek_tail_link(&r->list);

	while (l != NULL && g_queue_get_length(&r->list) > KEEP) {
		GList *before = l->prev;

		if (((Reception *)l->data)->state == ENDED) {
			drop(l->data);
			g_queue_delete_link(&r->list, l);
		}
		l = before;
	}
}

/* Locked. */
static Reception *add(Receptions *r, const char *id, const char *source)
{
	Reception *x = g_new0(Reception, 1);

	x->id = g_strdup(id);
	x->source = g_strdup(source);
	g_queue_push_head(&r->list, x);
	prune(r);
	return x;
}

void reception_add(Receptions *r, const char *id, const char *source)
{
	g_mutex_lock(&r->lock);
	add(r, id, source);
	g_mutex_unlock(&r->lock);
}

bool reception_resume(Receptions *r, const char *id, const char *source)
{
	bool is_new;

	g_mutex_lock(&r->lock);
	is_new = find(r, id) == NULL;
	if (is_new)
		add(r, id, source)->state = OPEN;
	g_mutex_unlock(&r->lock);
	return is_new;
}

void reception_open(Receptions *r, const char *id, unsigned memory_port, unsigned disk_port)
{
	Reception *x;

	g_mutex_lock(&r->lock);
	x = find(r, id);
	if (x != NULL && x->state == PREPARING) {
		x->state = OPEN;
		x->memory_port = memory_port;
		x->disk_port = disk_port;
		g_cond_broadcast(&r->changed);
	}
	g_mutex_unlock(&r->lock);
}

void reception_end(Receptions *r, const char *id, const GError *e)
{
	Reception *x;

	g_mutex_lock(&r->lock);
	x = find(r, id);
	if (x != NULL && x->state != ENDED) {
		x->state = ENDED;
		x->error = e != NULL ? err_to_json(e) : NULL;
		g_cond_broadcast(&r->changed);
	}
	g_mutex_unlock(&r->lock);
}

void reception_forget(Receptions *r, const char *id)
{
	Reception *x;

	g_mutex_lock(&r->lock);
	x = find(r, id);
	if (x != NULL) {
		g_queue_remove(&r->list, x);
		drop(x);
		g_cond_broadcast(&r->changed);
	}
	g_mutex_unlock(&r->lock);
}

void reception_ran(Receptions *r, const char *id, uint64_t at)
{
	Reception *x;

	g_mutex_lock(&r->lock);
	x = find(r, id);
	if (x != NULL)
		x->ran_at = at;
	g_mutex_unlock(&r->lock);
}

static gint64 until_of(uint64_t timeout)
{
	return g_get_monotonic_time() + (gint64)MIN(timeout, INT64_MAX / 4);
}

ReceptionWish reception_wish(Receptions *r, const char *id, uint64_t timeout)
{
	gint64 until = until_of(timeout);
	ReceptionWish wish;
	Reception *x;

	g_mutex_lock(&r->lock);
	do {
		x = find(r, id);
		wish = x != NULL ? x->wish : RECEPTION_WAIT;
	} while (wish == RECEPTION_WAIT && g_cond_wait_until(&r->changed, &r->lock, until));
	g_mutex_unlock(&r->lock);
	return wish;
}

/* Locked. */
static Reception *need(Receptions *r, const char *id, const char *source, GError **err)
{
	Reception *x = find(r, id);

	if (x != NULL && g_strcmp0(x->source, source) == 0)
		return x;
	fail(err, ERR_NOT_FOUND, "no guest is received here as '%s'", id);
	return NULL;
}

/* Locked. */
static Json *view(const Reception *x)
{
	static const char *const name[] = { "preparing", "open", "ended" };
	Json *j = json_object();

	json_put_str(j, "reception", x->id);
	json_put_str(j, "state", name[x->state]);
	json_put_uint(j, "memory_port", x->memory_port);
	json_put_uint(j, "disk_port", x->disk_port);
	json_put_uint(j, "ran_for", x->ran_at != 0 ? time_monotonic() - x->ran_at : 0);
	json_put(j, "error", x->error != NULL ? json_deep_copy(x->error) : json_null());
	return j;
}

/* Locked. Until it is beyond `last` or the time is over; once it has ended it may be dropped. */
static Reception *wait_while(Receptions *r, const char *id, const char *source, State last, uint64_t timeout,
			     GError **err)
{
	gint64 until = until_of(timeout);
	Reception *x = need(r, id, source, err);
	bool in_time = true;

	while (x != NULL && x->state <= last && in_time) {
		in_time = g_cond_wait_until(&r->changed, &r->lock, until);
		x = need(r, id, source, err);
	}
	return x;
}

Json *reception_wait_open(Receptions *r, const char *id, const char *source, uint64_t timeout, GError **err)
{
	Reception *x;
	Json *j = NULL;

	g_mutex_lock(&r->lock);
	x = wait_while(r, id, source, PREPARING, timeout, err);
	if (x != NULL)
		j = view(x);
	g_mutex_unlock(&r->lock);
	return j;
}

Json *reception_tell(Receptions *r, const char *id, const char *source, ReceptionWish wish, uint64_t timeout,
		     GError **err)
{
	uint64_t asked_at = time_monotonic();
	Reception *x;
	Json *j = NULL;

	g_mutex_lock(&r->lock);
	x = need(r, id, source, err);
	/* What was said once stands: after "go on" there is no way back but through the store. */
	if (x != NULL && x->wish == RECEPTION_WAIT) {
		x->wish = wish;
		g_cond_broadcast(&r->changed);
	}
	x = x != NULL ? wait_while(r, id, source, OPEN, timeout, err) : NULL;
	if (x != NULL && x->state != ENDED)
		fail(err, ERR_TIMEOUT, "the reception '%s' takes too long", id);
	else if (x != NULL)
		j = view(x);
	if (j != NULL)
		json_put_uint(j, "held_for", time_monotonic() - asked_at);
	g_mutex_unlock(&r->lock);
	return j;
}

void reception_set_clock(Receptions *r, const char *id, const char *source, const struct agent_clock *was)
{
	Reception *x;

	g_mutex_lock(&r->lock);
	x = need(r, id, source, NULL);
	if (x != NULL) {
		x->has_clock = true;
		x->clock = *was;
	}
	g_mutex_unlock(&r->lock);
}

bool reception_clock(Receptions *r, const char *id, struct agent_clock *ret)
{
	Reception *x;
	bool has;

	g_mutex_lock(&r->lock);
	x = find(r, id);
	has = x != NULL && x->has_clock;
	if (has)
		*ret = x->clock;
	g_mutex_unlock(&r->lock);
	return has;
}
