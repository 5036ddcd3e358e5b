/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/vmm_events.h"
#include "base/time.h"
#include "engine/vmm-impl.h"

/* An event that came later than this was not late: the clock was set. */
#define LATE_MAX UINT64_C(10000000)

struct VmmEvents {
	Vmm *vmm;
	/* under the vmm's lock */
	GQueue queue; /* VmmEvent */
	GCond more;
	bool lost;
};

VmmEvents *vmm_events_open(Vmm *v)
{
	VmmEvents *e = g_new0(VmmEvents, 1);

	e->vmm = vmm_ref(v);
	g_queue_init(&e->queue);
	g_cond_init(&e->more);
	g_mutex_lock(&v->lock);
	g_ptr_array_add(v->listeners, e);
	g_mutex_unlock(&v->lock);
	return e;
}

void vmm_event_clear(VmmEvent *ev)
{
	g_free(ev->name);
	json_unref(ev->args);
	*ev = (VmmEvent){ 0 };
}

static void drop(gpointer p)
{
	vmm_event_clear(p);
	g_free(p);
}

VmmEvents *vmm_events_close(VmmEvents *e)
{
	if (e == NULL)
		return NULL;
	g_mutex_lock(&e->vmm->lock);
	g_ptr_array_remove_fast(e->vmm->listeners, e);
	g_mutex_unlock(&e->vmm->lock);
	g_queue_clear_full(&e->queue, drop);
	g_cond_clear(&e->more);
	vmm_unref(e->vmm);
	g_free(e);
	return NULL;
}

/* On our clock. QEMU says when it was, and this thread may have come late to it. */
static uint64_t happened_at(uint64_t real_us)
{
	uint64_t now = time_monotonic(), real = time_real(), age = real_us < real ? real - real_us : 0;

	return real_us != 0 && age < LATE_MAX ? now - age : now;
}

void vmm_tell_listeners(Vmm *v, const char *name, const Json *args, uint64_t real_us)
{
	uint64_t at = happened_at(real_us);

	g_mutex_lock(&v->lock);
	for (guint i = 0; i < v->listeners->len; i++) {
		VmmEvents *e = v->listeners->pdata[i];
		VmmEvent *ev;

		if (name != NULL) {
			ev = g_new(VmmEvent, 1);
			/* A copy: what jansson counts is not for two threads. */
			*ev = (VmmEvent){ g_strdup(name), json_deep_copy(args), at };
			g_queue_push_tail(&e->queue, ev);
		} else {
			e->lost = true;
		}
		if (g_queue_get_length(&e->queue) > VMM_EVENTS_MAX)
			drop(g_queue_pop_head(&e->queue));
		g_cond_signal(&e->more);
	}
	g_mutex_unlock(&v->lock);
}

/* Locked. */
static bool fail_end(VmmEvents *e, GError **err)
{
	if (e->vmm->state == VMM_ENDED)
		return fail(err, ERR_GONE, "QEMU of '%s' has ended", e->vmm->name);
	return fail(err, ERR_UNAVAILABLE, "the monitor of '%s' was lost", e->vmm->name);
}

bool vmm_events_next(VmmEvents *e, uint64_t timeout, VmmEvent *ret, GError **err)
{
	gint64 until = g_get_monotonic_time() + (gint64)MIN(timeout, INT64_MAX / 4);
	VmmEvent *ev;
	bool ok = true, in_time = true;

	*ret = (VmmEvent){ 0 };
	g_mutex_lock(&e->vmm->lock);
	while (g_queue_is_empty(&e->queue) && !e->lost && e->vmm->state < VMM_ENDED && in_time)
		in_time = g_cond_wait_until(&e->more, &e->vmm->lock, until);
	ev = g_queue_pop_head(&e->queue);
	if (ev != NULL)
		*ret = *ev;
	else if (e->lost || e->vmm->state >= VMM_ENDED)
		ok = fail_end(e, err);
	g_mutex_unlock(&e->vmm->lock);
	g_free(ev);
	return ok;
}
