/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/backup/freeze.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/engine-impl.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* In the host's own store: {name, at}. */
#define KEYS "frozen/"
/* How exactly a budget is kept, and how soon a thaw that failed is tried again. */
#define TICK (SECOND / 20)
#define AGAIN (SECOND)
/* For one thaw. An agent that hangs in a hook answers to no one; others wait for their turn meanwhile. */
#define THAW_TIMEOUT (5 * SECOND)
#define THREADS 4

typedef struct Frozen {
	char *vm_id, *name;
	uint64_t began, due; /* due: when a thaw is sent without being asked for */
	bool used;           /* what needed the freeze is done, or is not waited for any more */
	bool broken;         /* the time was over before that */
	bool busy;           /* somebody is thawing it */
	bool told;           /* that it does not answer */
	bool late;           /* tell when it has answered */
} Frozen;

struct FreezeKeeper {
	Engine *engine;
	WorkerPool *pool;
	LoopSource *tick; /* loop thread */
	GMutex lock;      /* of the members below */
	GCond changed;
	GHashTable *frozen; /* vm id -> Frozen */
	bool stopped;
};

static void frozen_free(gpointer p)
{
	Frozen *f = p;

	g_free(f->vm_id);
	g_free(f->name);
	g_free(f);
}

FreezeKeeper *freeze_keeper_new(Engine *e)
{
	FreezeKeeper *k = g_new0(FreezeKeeper, 1);

	k->engine = e;
	k->pool = worker_pool_new(THREADS);
	g_mutex_init(&k->lock);
	g_cond_init(&k->changed);
	k->frozen = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, frozen_free);
	return k;
}

void freeze_keeper_stop(FreezeKeeper *k)
{
	g_mutex_lock(&k->lock);
	k->stopped = true;
	g_mutex_unlock(&k->lock);
	worker_pool_drain(k->pool);
}

FreezeKeeper *freeze_keeper_free(FreezeKeeper *k)
{
	if (k == NULL)
		return NULL;
	worker_pool_free(k->pool);
	loop_source_free(k->tick);
	g_hash_table_unref(k->frozen);
	g_mutex_clear(&k->lock);
	g_cond_clear(&k->changed);
	g_free(k);
	return NULL;
}

/* ---- the host's own record ---- */

static bool put_record(FreezeKeeper *k, const char *vm_id, const char *name, GError **err)
{
	g_autofree char *key = g_strconcat(KEYS, vm_id, NULL), *now = time_stamp(), *text = NULL;
	_cleanup_json_ Json *j = json_object();
	StoreTx *tx = store_tx_new();

	json_put_str(j, "name", name);
	json_put_str(j, "at", now);
	text = json_print(j);
	store_tx_set(tx, key, STORE_ANY, text);
	/* A power cut ends the guest, too. */
	return store_commit(k->engine->local, tx, STORE_RELAXED, NULL, err);
}

static void drop_record(FreezeKeeper *k, const char *vm_id)
{
	g_autofree char *key = g_strconcat(KEYS, vm_id, NULL);
	StoreTx *tx = store_tx_new();
	g_autoptr(GError) e = NULL;

	store_tx_set(tx, key, STORE_ANY, NULL);
	if (!store_commit(k->engine->local, tx, STORE_RELAXED, NULL, &e))
		log_warning("that a guest is thawed was not recorded: %s", e->message);
}

/* ---- thawing ---- */

/* True: it stands still no more for us, whatever became of it. */
static bool thaw_once(FreezeKeeper *k, const char *vm_id, GError **err)
{
	g_autoptr(Agent) a = fleet_agent(k->engine->fleet, vm_id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *reply = NULL;

	/* Its QEMU has ended, and nothing stands still any more. */
	if (a == NULL)
		return true;
	reply = agent_call(a, "guest-fsfreeze-thaw", NULL, THAW_TIMEOUT, &e);
	if (reply != NULL || g_error_matches(e, ERR, ERR_UNSUPPORTED))
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

static void tell_waits(FreezeKeeper *k, const char *vm_id, const char *name, const GError *why)
{
	events_emit(
	    k->engine->events, EVENT_VM_THAW_WAITS, "vm", vm_id, name, NULL,
	    "%s: its file systems may stand still, and its agent does not answer: %s. It is asked again "
	    "until it does. If the guest hangs, restart qemu-guest-agent in it, or `plim vm reset %s`.",
	    name, why->message, name);
}

static void tell_thawed(FreezeKeeper *k, const char *vm_id, const char *name, uint64_t began)
{
	g_autofree char *lasted = print_duration(time_monotonic() - began);

	events_emit(k->engine->events, EVENT_VM_THAWED, "vm", vm_id, name, NULL,
		    "%s: its file systems are thawed, %s after they were to be frozen or the daemon began",
		    name, lasted);
}

/* What is to be told of a thaw. */
struct news {
	bool tell;
	char *name;
	uint64_t began;
};

/* The books after an attempt. */
static void settle(FreezeKeeper *k, const char *vm_id, bool done, struct news *ret)
{
	Frozen *f;

	g_mutex_lock(&k->lock);
	f = g_hash_table_lookup(k->frozen, vm_id);
	*ret =
	    (struct news){ .tell = done ? f->late : !f->told, .name = g_strdup(f->name), .began = f->began };
	f->busy = false;
	f->due = time_monotonic() + AGAIN;
	f->told = f->late = true;
	if (done)
		g_hash_table_remove(k->frozen, vm_id);
	g_cond_broadcast(&k->changed);
	g_mutex_unlock(&k->lock);
}

/* By who has set `busy`. */
static bool thaw(FreezeKeeper *k, const char *vm_id, GError **err)
{
	g_autoptr(GError) e = NULL;
	bool done = thaw_once(k, vm_id, &e);
	struct news n;

	if (done)
		drop_record(k, vm_id);
	settle(k, vm_id, done, &n);
	if (n.tell && done)
		tell_thawed(k, vm_id, n.name, n.began);
	else if (n.tell)
		tell_waits(k, vm_id, n.name, e);
	g_free(n.name);
	if (!done)
		g_propagate_error(err, g_steal_pointer(&e));
	return done;
}

typedef struct Job {
	FreezeKeeper *keeper;
	char *vm_id;
} Job;

static void run_job(void *data)
{
	Job *j = data;

	thaw(j->keeper, j->vm_id, NULL);
	g_free(j->vm_id);
	g_free(j);
}

/* Locked. */
static void push_due(FreezeKeeper *k, Frozen *f)
{
	Job *j = g_new(Job, 1);

	f->busy = true;
	f->broken = f->broken || !f->used;
	f->late = true;
	*j = (Job){ k, g_strdup(f->vm_id) };
	worker_pool_push(k->pool, run_job, j);
}

static void on_tick(void *data)
{
	FreezeKeeper *k = data;
	GHashTableIter i;
	gpointer value;
	bool more;

	g_mutex_lock(&k->lock);
	g_hash_table_iter_init(&i, k->frozen);
	while (!k->stopped && g_hash_table_iter_next(&i, NULL, &value)) {
		Frozen *f = value;

		if (!f->busy && f->due <= time_monotonic())
			push_due(k, f);
	}
	more = !k->stopped && g_hash_table_size(k->frozen) > 0;
	g_mutex_unlock(&k->lock);
	if (more)
		loop_timer_set(k->tick, TICK);
}

static void begin_ticks(void *data)
{
	FreezeKeeper *k = data;

	if (k->tick == NULL)
		k->tick = loop_add_timer(k->engine->loop, TICK, on_tick, k);
	else
		loop_timer_set(k->tick, TICK);
}

static void add(FreezeKeeper *k, const char *vm_id, const char *name, uint64_t budget, bool used)
{
	Frozen *f = g_new0(Frozen, 1);

	f->vm_id = g_strdup(vm_id);
	f->name = g_strdup(name);
	f->began = time_monotonic();
	f->due = f->began + budget;
	f->used = f->late = used;
	g_mutex_lock(&k->lock);
	g_hash_table_replace(k->frozen, f->vm_id, f);
	g_mutex_unlock(&k->lock);
	loop_post(k->engine->loop, begin_ticks, k);
}

void freeze_keeper_recover(FreezeKeeper *k)
{
	g_autoptr(GPtrArray) items = store_list(k->engine->local, KEYS, NULL, NULL);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		const char *vm_id = item->key + strlen(KEYS);
		_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);
		const char *name = json_str(j, "name");

		add(k, vm_id, name != NULL ? name : vm_id, 0, true);
	}
}

/* ---- freezing ---- */

/* The freeze is not, or no more, waited for: thaw as soon as it can be. */
static void give_up(FreezeKeeper *k, const char *vm_id)
{
	Frozen *f;

	g_mutex_lock(&k->lock);
	f = g_hash_table_lookup(k->frozen, vm_id);
	if (f != NULL) {
		f->used = true;
		f->due = 0;
	}
	if (f != NULL && !f->busy && !k->stopped)
		push_due(k, f);
	g_mutex_unlock(&k->lock);
}

static bool freeze(Agent *a, uint64_t budget, GError **err)
{
	_cleanup_json_ Json *reply = agent_call(a, "guest-fsfreeze-freeze", NULL, budget, err);

	if (reply == NULL)
		return false;
	return json_integer_value(reply) > 0 ||
	       fail(err, ERR_AGENT, "the guest agent found nothing to freeze");
}

static bool is_booked(FreezeKeeper *k, const char *vm_id)
{
	bool booked;

	g_mutex_lock(&k->lock);
	booked = g_hash_table_contains(k->frozen, vm_id);
	g_mutex_unlock(&k->lock);
	return booked;
}

bool freeze_begin(FreezeKeeper *k, const char *vm_id, const char *name, uint64_t budget, GError **err)
{
	g_autoptr(Agent) a = fleet_agent(k->engine->fleet, vm_id);

	if (a == NULL || !agent_is_open(a))
		return fail(err, ERR_AGENT, "the guest has no agent that answers");
	if (is_booked(k, vm_id))
		return fail(err, ERR_BUSY, "the guest's agent has not answered to the last thaw yet");
	if (!put_record(k, vm_id, name, err))
		return false;
	add(k, vm_id, name, budget, false);
	if (freeze(a, budget, err))
		return true;
	give_up(k, vm_id);
	return false;
}

bool freeze_used(FreezeKeeper *k, const char *vm_id)
{
	bool held;
	Frozen *f;

	g_mutex_lock(&k->lock);
	f = g_hash_table_lookup(k->frozen, vm_id);
	held = f != NULL && !f->broken;
	if (f != NULL)
		f->used = true;
	g_mutex_unlock(&k->lock);
	return held;
}

/* Waits for who thaws it already. True: it is ours to thaw. */
static bool take(FreezeKeeper *k, const char *vm_id)
{
	Frozen *f;

	g_mutex_lock(&k->lock);
	while ((f = g_hash_table_lookup(k->frozen, vm_id)) != NULL && f->busy)
		g_cond_wait(&k->changed, &k->lock);
	if (f != NULL)
		f->used = f->busy = true;
	g_mutex_unlock(&k->lock);
	return f != NULL;
}

bool freeze_end(FreezeKeeper *k, const char *vm_id, GError **err)
{
	return !take(k, vm_id) || thaw(k, vm_id, err);
}
