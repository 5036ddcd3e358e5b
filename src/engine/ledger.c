/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/ledger.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/engine-impl.h"
#include "engine/wake_probe.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
#define NOTES "ledger/"
/* For the daemon's own look to end that is in the way of somebody's. */
#define GLANCE_TIMEOUT (10 * SECOND)
/* Results of guests that are gone are dropped when there are so many. */
#define KEPT_MAX 1024

typedef enum MeasureState {
	MEASURE_RUNNING,
	MEASURE_DONE,
	MEASURE_STOPPED, /* somebody wished it */
	MEASURE_ENDED,   /* the guest went away */
} MeasureState;

static const char *const state_names[] = { "running", "done", "stopped", "ended" };

typedef struct Measure {
	/* never change */
	Ledger *ledger;
	char *vm_id, *started_at;
	struct ledger_order order;
	Vmm *vmm;
	GThread *thread;
	/* under the ledger's lock */
	bool stop;
	MeasureState state;
	const char *reason;  /* static; NULL: it went as planned */
	GPtrArray *interval; /* WakeInterval, never changed once here */
	Json *could_not;     /* as of the last interval */
} Measure;

struct Ledger {
	Engine *engine;
	GMutex lock;
	GCond changed;
	GHashTable *measure; /* vm id -> Measure */
	GHashTable *glanced; /* vm id -> Measure of ledger_glance(), borrowed */
	bool ending;
};

static void interval_free(gpointer p)
{
	wake_interval_free(p);
}

/* Of one whose thread was joined. */
static void measure_free(gpointer p)
{
	Measure *m = p;

	g_assert(m->thread == NULL);
	vmm_unref(m->vmm);
	g_ptr_array_unref(m->interval);
	json_unref(m->could_not);
	g_free(m->started_at);
	g_free(m->vm_id);
	g_free(m);
}

Ledger *ledger_new(Engine *e)
{
	Ledger *l = g_new0(Ledger, 1);

	l->engine = e;
	g_mutex_init(&l->lock);
	g_cond_init(&l->changed);
	l->measure = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, measure_free);
	l->glanced = g_hash_table_new(g_str_hash, g_str_equal);
	return l;
}

Ledger *ledger_free(Ledger *l)
{
	if (l != NULL) {
		g_hash_table_unref(l->measure);
		g_hash_table_unref(l->glanced);
		g_cond_clear(&l->changed);
		g_mutex_clear(&l->lock);
		g_free(l);
	}
	return NULL;
}

/*
 * The note that something is switched on
 */

static bool put_note(Ledger *l, const char *vm_id, const char *value, GError **err)
{
	g_autofree char *key = g_strconcat(NOTES, vm_id, NULL);
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, key, STORE_ANY, value);
	/* Relaxed: after a power cut no QEMU is left either. */
	return store_commit(l->engine->local, tx, STORE_RELAXED, NULL, err);
}

void ledger_recover(Ledger *l)
{
	g_autoptr(GPtrArray) items = store_list(l->engine->local, NOTES, NULL, NULL);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		const char *vm_id = ((const StoreItem *)items->pdata[i])->key + strlen(NOTES);
		g_autoptr(Vmm) v = fleet_vmm(l->engine->fleet, vm_id);
		g_autoptr(GError) err = NULL;

		if ((v != NULL && !wake_probe_switch_off(v, &err)) || !put_note(l, vm_id, NULL, &err))
			log_warning("a measurement of vm %s that was interrupted is still on: %s", vm_id,
				    err->message);
	}
}

/*
 * The thread of a measurement
 */

/* Until `when`, with a look at the log each second. False when it shall stop. */
static bool wait_until(Measure *m, WakeProbe *p, uint64_t when)
{
	Ledger *l = m->ledger;
	bool stop = false;

	while (!stop && time_monotonic() < when && vmm_alive(m->vmm)) {
		gint64 tick = (gint64)MIN(when, time_monotonic() + SECOND);

		g_mutex_lock(&l->lock);
		while (!m->stop && !l->ending && g_cond_wait_until(&l->changed, &l->lock, tick))
			;
		stop = m->stop || l->ending;
		g_mutex_unlock(&l->lock);
		wake_probe_tick(p);
	}
	return !stop;
}

/* Takes `w`. */
static void keep(Measure *m, WakeInterval *w, const Json *could_not)
{
	Json *copy = json_deep_copy(could_not), *old;

	g_mutex_lock(&m->ledger->lock);
	g_ptr_array_add(m->interval, w);
	old = m->could_not;
	m->could_not = copy;
	g_cond_broadcast(&m->ledger->changed);
	g_mutex_unlock(&m->ledger->lock);
	json_unref(old);
}

/* What became of it. */
static MeasureState run_intervals(Measure *m, WakeProbe *p, const Json *could_not, const char **ret_reason)
{
	uint64_t begin = time_monotonic();

	for (unsigned i = 0; i < m->order.intervals; i++) {
		bool gone, go_on;

		wake_probe_mark(p, time_monotonic() - begin);
		go_on = wait_until(m, p, time_monotonic() + m->order.seconds * SECOND);
		keep(m, wake_probe_interval(p, &gone), could_not);
		if (gone) {
			*ret_reason =
			    "QEMU ended here; the last interval is shorter and has only what QEMU told "
			    "before";
			return MEASURE_ENDED;
		}
		if (!go_on) {
			*ret_reason = "it was stopped; the last interval is shorter";
			return MEASURE_STOPPED;
		}
	}
	return MEASURE_DONE;
}

static gpointer measure_run(gpointer data)
{
	Measure *m = data;
	Ledger *l = m->ledger;
	_cleanup_json_ Json *could_not = json_array();
	g_autoptr(GError) err = NULL;
	const char *reason = NULL;
	MeasureState state;
	WakeProbe *p;

	if (!put_note(l, m->vm_id, "1", &err))
		log_warning("a measurement could not be noted: %s", err->message);
	p = wake_probe_begin(m->vmm, could_not);
	state = run_intervals(m, p, could_not, &reason);
	wake_probe_end(p);
	g_clear_error(&err);
	if (!put_note(l, m->vm_id, NULL, &err))
		log_warning("a measurement that ended is still noted: %s", err->message);
	g_mutex_lock(&l->lock);
	m->state = state;
	m->reason = reason;
	g_clear_pointer(&m->vmm, vmm_unref);
	g_cond_broadcast(&l->changed);
	g_mutex_unlock(&l->lock);
	return NULL;
}

/*
 * Requests
 */

/* Locked. Takes the threads that ended; they can't wait for the lock any more, or are about to leave. */
static unsigned running(Ledger *l)
{
	GHashTableIter it;
	gpointer v;
	unsigned n = 0;

	g_hash_table_iter_init(&it, l->measure);
	while (g_hash_table_iter_next(&it, NULL, &v))
		n += ((Measure *)v)->state == MEASURE_RUNNING;
	return n;
}

/* Locked. Join one that is not running any more: its thread has left the lock for good. */
static void settle(Measure *m)
{
	if (m->thread != NULL)
		g_thread_join(g_steal_pointer(&m->thread));
}

static gboolean is_over(gpointer key, gpointer value, gpointer data)
{
	Measure *m = value;

	(void)key, (void)data;
	if (m->state == MEASURE_RUNNING)
		return FALSE;
	settle(m);
	return TRUE;
}

/* Locked. */
static bool may_start(Ledger *l, const char *vm_id, GError **err)
{
	const Measure *m = g_hash_table_lookup(l->measure, vm_id);

	if (l->ending)
		return fail(err, ERR_UNAVAILABLE, "the daemon is about to end");
	if (g_hash_table_contains(l->glanced, vm_id))
		return fail_advice(err, ERR_CONFLICT, "Try again in some seconds.",
				   "the daemon itself looks at who wakes this vm");
	if (m != NULL && m->state == MEASURE_RUNNING)
		return fail_advice(
		    err, ERR_CONFLICT,
		    "`plim vm wakeups --follow VM` shows it, `plim vm wakeups --stop VM` ends it.",
		    "the wakeups of this vm are being counted already");
	if (running(l) >= LEDGER_MAX)
		return fail_advice(err, ERR_LIMIT, "Wait until one of them ends, or stop one.",
				   "the wakeups of %d vms are being counted on this host already",
				   LEDGER_MAX);
	return true;
}

static Measure *measure_new(Ledger *l, const char *vm_id, const struct ledger_order *o, Vmm *v)
{
	Measure *m = g_new0(Measure, 1);

	m->ledger = l;
	m->vm_id = g_strdup(vm_id);
	m->started_at = time_stamp();
	m->order = *o;
	m->vmm = vmm_ref(v);
	m->interval = g_ptr_array_new_with_free_func(interval_free);
	m->could_not = json_array();
	return m;
}

/* Locked, and not while it waits. The daemon's own look ends with what it has by now. */
static void end_glance(Ledger *l, const char *vm_id)
{
	gint64 until = (gint64)(time_monotonic() + GLANCE_TIMEOUT);
	bool in_time = true;
	Measure *m;

	while (in_time && (m = g_hash_table_lookup(l->glanced, vm_id)) != NULL) {
		m->stop = true;
		g_cond_broadcast(&l->changed);
		in_time = g_cond_wait_until(&l->changed, &l->lock, until);
	}
}

bool ledger_start(Ledger *l, const char *vm_id, const struct ledger_order *o, GError **err)
{
	g_autoptr(Vmm) v = l->engine->fleet != NULL ? fleet_vmm(l->engine->fleet, vm_id) : NULL;
	Measure *m;
	bool ok;

	if (v == NULL)
		return fail_advice(err, ERR_BAD_STATE, "Start the vm first.",
				   "the vm has no running QEMU on this host");
	g_mutex_lock(&l->lock);
	end_glance(l, vm_id);
	ok = may_start(l, vm_id, err);
	if (ok) {
		if (g_hash_table_size(l->measure) >= KEPT_MAX)
			g_hash_table_foreach_remove(l->measure, is_over, NULL);
		m = g_hash_table_lookup(l->measure, vm_id);
		if (m != NULL)
			settle(m);
		m = measure_new(l, vm_id, o, v);
		g_hash_table_replace(l->measure, m->vm_id, m);
		m->thread = g_thread_new("ledger", measure_run, m);
	}
	g_mutex_unlock(&l->lock);
	return ok;
}

static bool glance_begin(Ledger *l, Measure *m)
{
	bool ok;

	g_mutex_lock(&l->lock);
	ok = may_start(l, m->vm_id, NULL);
	if (ok)
		g_hash_table_insert(l->glanced, m->vm_id, m);
	g_mutex_unlock(&l->lock);
	return ok;
}

static void glance_end(Ledger *l, const Measure *m)
{
	g_mutex_lock(&l->lock);
	g_hash_table_remove(l->glanced, m->vm_id);
	g_cond_broadcast(&l->changed);
	g_mutex_unlock(&l->lock);
}

Json *ledger_glance(Ledger *l, const char *vm_id, unsigned seconds)
{
	g_autoptr(Vmm) v = fleet_vmm(l->engine->fleet, vm_id);
	struct ledger_order order = { .seconds = seconds, .intervals = 1 };
	Json *advice = NULL;
	Measure *m;

	if (v == NULL)
		return NULL;
	m = measure_new(l, vm_id, &order, v);
	if (glance_begin(l, m)) {
		measure_run(m);
		advice = wake_advice(m->interval);
		glance_end(l, m);
	}
	measure_free(m);
	return advice;
}

bool ledger_stop(Ledger *l, const char *vm_id, GError **err)
{
	Measure *m;
	bool found;

	g_mutex_lock(&l->lock);
	m = g_hash_table_lookup(l->measure, vm_id);
	found = m != NULL;
	if (found) {
		m->stop = true;
		g_cond_broadcast(&l->changed);
	}
	/* One that is begun meanwhile is not meant. */
	while (m != NULL && m->stop && m->state == MEASURE_RUNNING) {
		g_cond_wait(&l->changed, &l->lock);
		m = g_hash_table_lookup(l->measure, vm_id);
	}
	g_mutex_unlock(&l->lock);
	return found || fail(err, ERR_NOT_FOUND, "nobody counts the wakeups of this vm");
}

void ledger_wait(Ledger *l, const char *vm_id, uint64_t timeout)
{
	gint64 until = (gint64)(time_monotonic() + timeout);
	const Measure *m;
	bool more = true;
	guint had = UINT_MAX;

	g_mutex_lock(&l->lock);
	while (more && (m = g_hash_table_lookup(l->measure, vm_id)) != NULL && m->state == MEASURE_RUNNING &&
	       m->interval->len <= had) {
		had = m->interval->len;
		more = g_cond_wait_until(&l->changed, &l->lock, until);
	}
	g_mutex_unlock(&l->lock);
}

/* Why it is not what was asked for; NULL: it is. Caller frees. */
static char *reason_of(const Measure *m)
{
	uint64_t paused = 0;

	for (guint i = 0; i < m->interval->len; i++)
		paused += ((const WakeInterval *)m->interval->pdata[i])->paused;
	if (paused == 0)
		return g_strdup(m->reason);
	return g_strdup_printf("the guest stood still for %.1f s of it%s%s", (double)paused / (double)SECOND,
			       m->reason != NULL ? "; " : "", m->reason != NULL ? m->reason : "");
}

static Json *report(const Measure *m)
{
	g_autofree char *reason = reason_of(m);
	Json *j = json_object(), *list = json_array();

	json_put_str(j, "state", state_names[m->state]);
	json_put_str(j, "reason", reason);
	json_put_str(j, "started_at", m->started_at);
	json_put_int(j, "seconds", m->order.seconds);
	json_put_int(j, "planned", m->order.intervals);
	for (guint i = 0; i < m->interval->len; i++)
		json_array_append_new(list, wake_interval_to_json(m->interval->pdata[i], i));
	json_put(j, "intervals", list);
	json_put(j, "could_not", json_deep_copy(m->could_not));
	json_put(j, "advice", wake_advice(m->interval));
	return j;
}

Json *ledger_report(Ledger *l, const char *vm_id)
{
	const Measure *m;
	Json *j;

	g_mutex_lock(&l->lock);
	m = g_hash_table_lookup(l->measure, vm_id);
	j = m != NULL ? report(m) : NULL;
	g_mutex_unlock(&l->lock);
	return j;
}

void ledger_stop_all(Ledger *l)
{
	GHashTableIter it;
	gpointer v;

	g_mutex_lock(&l->lock);
	l->ending = true;
	g_hash_table_iter_init(&it, l->measure);
	while (g_hash_table_iter_next(&it, NULL, &v))
		((Measure *)v)->stop = true;
	g_cond_broadcast(&l->changed);
	while (running(l) > 0 || g_hash_table_size(l->glanced) > 0)
		g_cond_wait(&l->changed, &l->lock);
	g_hash_table_foreach_remove(l->measure, is_over, NULL);
	g_mutex_unlock(&l->lock);
}
