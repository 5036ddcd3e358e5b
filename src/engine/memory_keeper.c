/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/memory_keeper.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "core/guest/dimm.h"
#include "core/memory/balance.h"
#include "core/memory/range.h"
#include "core/memory/split.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/model/vm_state.h"
#include "engine/engine-impl.h"
#include "engine/guest_balloon.h"
#include "engine/guest_dimm.h"
#include "engine/guest_online.h"
#include "engine/host_pressure.h"
#include "engine/limits.h"
#include "engine/records.h"
#include "engine/rounds.h"

#include <string.h>

#define SECOND UINT64_C(1000000)
/* A guest that began longer ago than this has found the size that it needs. */
#define BOOTING (60 * SECOND)
/* Between two looks while a guest grows. */
#define HURRY SECOND
/* Rounds that a QEMU or an agent which did not answer is left alone: the others must not wait for it each
 * time. */
#define SULK 10
#define SULK_LAST (64 * SULK)

typedef struct Guest {
	char *vm_id, *name;
	pid_t pid;
	bool known;      /* its record was read: */
	bool dynamic;    /* the rest means something */
	bool plug;       /* it has virtio-mem */
	unsigned polled; /* seconds between two reports, as its driver was told; 0: not yet */
	unsigned sulk;   /* rounds until it is asked again */
	bool online;     /* its agent has been told to have plugged memory used: */
	MemoryOnline onlines;
	unsigned agent_sulk,
	    agent_sulks; /* rounds until the agent is asked again, and how many the next time */
	bool looked;     /* it was measured in this round */
	MemoryMethod method;
	uint64_t overhead;
	uint64_t region;        /* that DIMMs may fill */
	size_t dimm;            /* number of the next one */
	const char *means;      /* by which it was asked to take its size in this round, or NULL */
	struct balance_guest b; /* `name` is ours */
	struct split split;
	uint64_t reset_at; /* reports from before are of the guest that was */
	bool reset;        /* it happened; the lock is its owner's */
	Json *decision;    /* of the last round, or NULL */
	GQueue trail;      /* Json, the newest last */
	bool seen;         /* in this round */
} Guest;

struct MemoryKeeper {
	Engine *engine;
	uint64_t period;
	Rounds *rounds;
	GMutex lock;           /* of all below */
	GCond plugged;         /* `plugging` changed */
	const Guest *plugging; /* is given a DIMM right now; NULL: nobody */
	GHashTable *guest;     /* vm id -> Guest; changed by the thread alone */
	struct balance_host host;
	uint64_t swapped; /* pages of the host, in the round before */
	bool told_short;
	bool hurry; /* a guest grew in this round */
};

static void unref_json(gpointer p)
{
	json_unref(p);
}

static void guest_free(gpointer p)
{
	Guest *g = p;

	g_queue_clear_full(&g->trail, unref_json);
	json_unref(g->decision);
	g_free(g->vm_id);
	g_free(g->name);
	g_free(g);
}

/*
 * Who they are
 */

static Json *runtime_of(const MemoryKeeper *k, const char *vm_id)
{
	g_autofree char *key = key_vm_runtime(vm_id);

	return record_get(k->engine->store, key, NULL, NULL);
}

/* It booted here, and a moment ago: it has not been given anything yet. */
static bool is_fresh(const Json *runtime)
{
	const char *at = json_str(runtime, "started_at");
	g_autoptr(GDateTime) began = at != NULL ? g_date_time_new_from_iso8601(at, NULL) : NULL;
	const char *moved = json_str(json_obj(runtime, "migration"), "at");
	int64_t now = g_get_real_time();

	if (began == NULL || !json_bool(json_obj(runtime, "dynamic"), "boots", false) ||
	    (moved != NULL && strcmp(moved, at) > 0))
		return false;
	return now - g_date_time_to_unix(began) * (int64_t)SECOND < (int64_t)BOOTING;
}

/* Nobody may change it now. */
static bool is_held(const Json *runtime)
{
	return vm_runtime_state(runtime) != VM_RUNNING || json_str(runtime, "operation") != NULL;
}

/* What does not change while this QEMU runs. The record is complete when its start has ended. */
static void learn(Guest *g, const Json *runtime)
{
	const Json *d = json_obj(runtime, "dynamic");

	if (json_int(runtime, "pid", 0) != g->pid)
		return;
	g->known = true;
	g->dynamic = d != NULL;
	if (d == NULL)
		return;
	g->method = memory_method_of(json_str(d, "method"));
	g->plug = g->method == MEMORY_VIRTIO_MEM;
	g->b.dimms = g->method == MEMORY_DIMM;
	g->region = json_uint(d, "region", 0);
	g->overhead = json_uint(d, "overhead", 0);
	g->b.base = json_uint(d, "base", 0);
	g->b.min = json_uint(d, "min", 0);
	g->b.start = json_uint(d, "start", 0);
	g->b.max = json_uint(d, "max", 0);
	g->b.fresh = is_fresh(runtime);
}

/* What holds at once when it is set. */
static void read_settings(const MemoryKeeper *k, Guest *g)
{
	g_autofree char *key = key_vm_config(g->vm_id);
	_cleanup_json_ Json *config = record_get(k->engine->store, key, NULL, NULL);
	_cleanup_json_ Json *buffer = setting_effective(json_obj(config, "settings"), "memory.buffer"),
			    *weight = setting_effective(json_obj(config, "settings"), "memory.weight");

	g->b.buffer = (unsigned)json_integer_value(buffer);
	g->b.weight = (unsigned)json_integer_value(weight);
}

static void begin_anew(Guest *g)
{
	g->b.state = (struct balance_state){ 0 };
	g->b.fresh = g->b.again = true;
	g->split = (struct split){ 0 };
	g->online = false;
	g->onlines = MEMORY_ONLINE_UNKNOWN;
	g->agent_sulk = g->agent_sulks = 0;
	g->reset_at = (uint64_t)g_get_real_time();
}

/* The entry of a guest, new when its QEMU is another one. The lock is the caller's. */
static Guest *guest_at(MemoryKeeper *k, const char *vm_id, const Vmm *v)
{
	Guest *g = g_hash_table_lookup(k->guest, vm_id);

	if (g == NULL || g->pid != vmm_pid(v)) {
		g = g_new0(Guest, 1);
		g->vm_id = g_strdup(vm_id);
		g->pid = vmm_pid(v);
		g_queue_init(&g->trail);
		g_hash_table_replace(k->guest, g->vm_id, g);
	}
	if (g_strcmp0(g->name, vmm_name(v)) != 0) {
		g_free(g->name);
		g->name = g_strdup(vmm_name(v));
		g->b.name = g->name;
	}
	if (g->reset)
		begin_anew(g);
	g->reset = false;
	g->seen = true;
	return g;
}

static gboolean was_not_seen(gpointer key, gpointer value, gpointer data)
{
	Guest *g = value;
	bool seen = g->seen;

	(void)key, (void)data;
	g->seen = false;
	return !seen;
}

static GPtrArray *find_guests(MemoryKeeper *k, const GPtrArray *fleet)
{
	GPtrArray *all = g_ptr_array_new();

	g_mutex_lock(&k->lock);
	for (guint i = 0; i < fleet->len; i++) {
		const struct fleet_guest *f = fleet->pdata[i];

		g_ptr_array_add(all, guest_at(k, f->vm_id, f->vmm));
	}
	g_hash_table_foreach_remove(k->guest, was_not_seen, NULL);
	g_mutex_unlock(&k->lock);
	return all;
}

/*
 * Looking
 */

/* A guest that boots may be too busy to answer. One that refused once will always. */
static void ask_later(Guest *g)
{
	g->agent_sulks = MIN(MAX(2 * g->agent_sulks, SULK), SULK_LAST);
	g->agent_sulk = g->agent_sulks;
}

/* As soon as its agent is there. */
static void have_it_used(MemoryKeeper *k, Guest *g)
{
	bool grows = g->plug || g->method == MEMORY_DIMM;
	g_autoptr(Agent) a = grows && !g->online ? fleet_agent(k->engine->fleet, g->vm_id) : NULL;
	g_autoptr(GError) why = NULL;

	if (a == NULL || !agent_is_open(a))
		return;
	if (g->agent_sulk > 0) {
		g->agent_sulk--;
		return;
	}
	g->online = guest_online(a, &g->onlines, &why) ||
		    (agent_is_open(a) && !g_error_matches(why, ERR, ERR_TIMEOUT));
	if (!g->online)
		ask_later(g);
	if (why != NULL)
		log_debug("whether %s uses plugged memory is left to it: %s", g->name, why->message);
}

/* A daemon that ended between plugging one and recording it has left the second part to us. */
static bool look_at_dimms(MemoryKeeper *k, Guest *g, Vmm *v, GError **err)
{
	_cleanup_json_ Json *sizes = g->method == MEMORY_DIMM ? guest_dimm_list(v, &g->dimm, err) : NULL;

	if (sizes == NULL)
		return g->method != MEMORY_DIMM;
	g->b.plugged = dimm_list_sum(sizes);
	return g->b.held || guest_dimm_record(k->engine->store, g->vm_id, sizes, err);
}

static void measure(MemoryKeeper *k, Guest *g, Vmm *v)
{
	_cleanup_json_ Json *runtime = runtime_of(k, g->vm_id);
	unsigned poll = (unsigned)(k->hurry ? HURRY / SECOND : k->period / SECOND);
	g_autoptr(GError) why = NULL;

	g->looked = false;
	if (!g->known && runtime != NULL)
		learn(g, runtime);
	if (!g->dynamic)
		return;
	read_settings(k, g);
	g->b.held = is_held(runtime);
	if (g->b.held && g->b.state.target != 0) {
		g->looked = true; /* it has what it had */
		return;
	}
	if (g->polled != poll && !guest_balloon_poll(v, poll, &why)) {
		log_debug("the balloon of %s: %s", g->name, why->message);
		g->sulk = SULK;
		return;
	}
	g->polled = poll;
	g->looked = look_at_dimms(k, g, v, &why) && guest_balloon_look(v, g->plug, &g->b, &why);
	if (g->looked && g->b.report.at <= g->reset_at)
		g->b.report = (struct balance_report){ 0 };
	if (g->looked) {
		have_it_used(k, g);
		return;
	}
	log_debug("the memory of %s is not known: %s", g->name, why->message);
	g->sulk = SULK;
}

static void look_at_host(MemoryKeeper *k, const GPtrArray *guests, struct balance_host *h)
{
	g_autoptr(GHashTable) own = g_hash_table_new(g_str_hash, g_str_equal);
	struct memory_host memory = engine_memory(k->engine);
	struct host_pressure p = host_pressure_look();
	uint64_t limit = memory_limit(&memory), taken = 0;

	for (guint i = 0; i < guests->len; i++) {
		Guest *g = guests->pdata[i];

		g_hash_table_add(own, g->vm_id);
		taken += g->overhead;
	}
	taken += admission_of_others(k->engine->admission, own);
	h->capacity = limit > taken ? limit - taken : 0;
	h->available = memory.available;
	h->reserve = memory.reserve;
	h->psi = p.psi;
	h->swaps = k->swapped != 0 && p.swapped > k->swapped;
	k->swapped = p.swapped;
}

/*
 * Following
 */

static void set_plugging(MemoryKeeper *k, const Guest *g)
{
	g_mutex_lock(&k->lock);
	k->plugging = g;
	g_cond_broadcast(&k->plugged);
	g_mutex_unlock(&k->lock);
}

/* Known to be at it: see plug_dimm(). */
static bool try_plug(MemoryKeeper *k, Guest *g, Vmm *v, uint64_t size, GError **err)
{
	_cleanup_json_ Json *runtime = runtime_of(k, g->vm_id), *sizes = NULL;

	if (is_held(runtime) || !guest_dimm_plug(v, g->dimm, size, err))
		return false;
	balance_plugged(&g->b, size);
	sizes = guest_dimm_list(v, &g->dimm, err);
	return sizes != NULL && guest_dimm_record(k->engine->store, g->vm_id, sizes, err);
}

/*
 * False without an error: a move or the like has begun since it was measured, and counts what it has. One
 * that begins later waits for this (memory_keeper_settle()).
 */
static bool plug_dimm(MemoryKeeper *k, Guest *g, Vmm *v, uint64_t size, GError **err)
{
	bool ok;

	set_plugging(k, g);
	ok = try_plug(k, g, v, size, err);
	set_plugging(k, NULL);
	return ok;
}

/* What has to be asked of its devices in this round; one that fails is asked again in the next. */
static void follow(MemoryKeeper *k, Guest *g, Vmm *v)
{
	bool dimms = g->method == MEMORY_DIMM;
	struct split_order order;
	g_autoptr(GError) why = NULL;

	if (!(dimms ? split_next_dimm(&g->split, &g->b, g->region, &order)
		    : split_next(&g->split, &g->b, g->plug, &order)))
		return;
	if (order.dimm > 0 && !plug_dimm(k, g, v, order.dimm, &why)) {
		log_debug("%s gets no DIMM now: %s", g->name, why != NULL ? why->message : "it is held");
		return;
	}
	g->means = memory_method_name(order.by_plug ? g->method : MEMORY_BALLOON);
	if (guest_balloon_ask(v, g->plug, order.plugged, order.keeps, &why))
		split_done(&g->split, &g->b, &order);
	else
		log_debug("the memory of %s stays as it is: %s", g->name, why->message);
}

static void claim(MemoryKeeper *k, const Guest *g)
{
	admission_resize(k->engine->admission, g->vm_id, g->overhead + balance_claim(&g->b));
}

/*
 * Telling
 */

static void tell_guest(MemoryKeeper *k, const Guest *g)
{
	g_autofree char *reason = balance_reason(&g->b);

	if (g->b.noticed)
		events_emit(k->engine->events, EVENT_VM_MEMORY_IGNORED, "vm", g->vm_id, g->name,
			    balance_decision_to_json(&g->b), "the memory of %s is left as it is: %s", g->name,
			    reason);
}

static void tell_host(MemoryKeeper *k, const struct balance_host *h, const struct balance_guest *b)
{
	const HostFacts *f = engine_facts(k->engine);
	g_autofree char *missing = print_size(h->missing);
	const char *cheapest = h->cheapest != SIZE_MAX ? b[h->cheapest].name : NULL;
	Json *details;

	if (h->is_short == k->told_short)
		return;
	k->told_short = h->is_short;
	if (!h->is_short) {
		events_emit(k->engine->events, EVENT_HOST_MEMORY_ENOUGH, "host", f->id, f->name, NULL,
			    "host %s has the memory that its guests need again", f->name);
		return;
	}
	details = json_object();
	json_put_uint(details, "missing", h->missing);
	json_put_uint(details, "available", h->available);
	json_put_uint(details, "capacity", h->capacity);
	json_put_str(details, "cheapest", cheapest);
	events_emit(k->engine->events, EVENT_HOST_MEMORY_SHORT, "host", f->id, f->name, details,
		    "the guests of host %s need %s more memory than it has; the cheapest to move away is %s",
		    f->name, missing, cheapest != NULL ? cheapest : "none");
}

/* An entry is made longer while it says the same. */
static void remember(Guest *g, Json *decision, const char *now)
{
	Json *last = g_queue_peek_tail(&g->trail), *entry;

	if (last != NULL && g_strcmp0(json_str(last, "verdict"), json_str(decision, "verdict")) == 0 &&
	    json_uint(last, "to", 0) == json_uint(decision, "to", 0)) {
		json_put_str(last, "until", now);
		json_put_uint(last, "rounds", json_uint(last, "rounds", 0) + 1);
		return;
	}
	entry = json_deep_copy(decision);
	json_put_str(entry, "at", now);
	json_put_str(entry, "until", now);
	json_put_uint(entry, "rounds", 1);
	g_queue_push_tail(&g->trail, entry);
	if (g->trail.length > MEMORY_KEEPER_TRAIL)
		json_unref(g_queue_pop_head(&g->trail));
}

static void put_settings(Json *j, const Guest *g)
{
	json_put_str(j, "method", memory_method_name(g->method));
	json_put_uint(j, "min", g->b.min);
	json_put_uint(j, "start", g->b.start);
	json_put_uint(j, "max", g->b.max);
	json_put_uint(j, "buffer", g->b.buffer);
	json_put_uint(j, "weight", g->b.weight);
	json_put_uint(j, "base", g->b.base);
	json_put_uint(j, "plugged", g->b.plugged);
	json_put_uint(j, "ballooned", g->b.ballooned);
	json_put_str(j, "onlines", memory_online_name(g->onlines));
	json_put_str(j, "warning", memory_online_warning(g->onlines));
}

static void publish(MemoryKeeper *k, Guest *g, const char *now)
{
	Json *decision = balance_decision_to_json(&g->b);

	json_put_str(decision, "means", g->means);
	if (g->means != NULL) {
		g_autofree char *reason =
		    g_strdup_printf("%s; by %s", json_str(decision, "reason"), g->means);

		json_put_str(decision, "reason", reason);
	}
	g_mutex_lock(&k->lock);
	remember(g, decision, now);
	json_put_str(decision, "at", now);
	put_settings(decision, g);
	json_unref(g->decision);
	g->decision = decision;
	g_mutex_unlock(&k->lock);
}

/*
 * Rounds
 */

static void decide(MemoryKeeper *k, const GPtrArray *guests, const GPtrArray *vmms)
{
	struct balance_round r = { .now = (uint64_t)g_get_real_time(), .period = k->period, .host = k->host };
	g_autofree char *now = time_stamp();

	k->hurry = false;
	look_at_host(k, guests, &r.host);
	r.n = guests->len;
	r.guest = g_new(struct balance_guest, r.n);
	for (guint i = 0; i < r.n; i++)
		r.guest[i] = ((Guest *)guests->pdata[i])->b;
	balance_round(&r);
	for (guint i = 0; i < r.n; i++) {
		Guest *g = guests->pdata[i];

		g->b = r.guest[i];
		k->hurry = k->hurry || g->b.target > g->b.from;
		g->means = NULL;
		if (!g->b.held)
			follow(k, g, vmms->pdata[i]);
		claim(k, g);
		tell_guest(k, g);
		publish(k, g, now);
	}
	tell_host(k, &r.host, r.guest);
	g_mutex_lock(&k->lock);
	k->host = r.host;
	g_mutex_unlock(&k->lock);
	g_free(r.guest);
}

static void look(MemoryKeeper *k)
{
	g_autoptr(GPtrArray) fleet = fleet_guests(k->engine->fleet), all = find_guests(k, fleet);
	g_autoptr(GPtrArray) due = g_ptr_array_new(), vmms = g_ptr_array_new();

	for (guint i = 0; i < all->len; i++) {
		Guest *g = all->pdata[i];
		const struct fleet_guest *f = fleet->pdata[i];

		if (g->known && !g->dynamic)
			continue;
		if (g->sulk > 0) {
			g->sulk--;
			continue;
		}
		measure(k, g, f->vmm);
		if (!g->looked)
			continue;
		g_ptr_array_add(due, g);
		g_ptr_array_add(vmms, f->vmm);
	}
	if (due->len > 0)
		decide(k, due, vmms);
}

static uint64_t do_round(void *data)
{
	MemoryKeeper *k = data;

	look(k);
	return k->hurry ? MIN(HURRY, k->period) : k->period;
}

MemoryKeeper *memory_keeper_start(Engine *e, uint64_t period)
{
	MemoryKeeper *k = g_new0(MemoryKeeper, 1);

	k->engine = e;
	k->period = period != 0 ? period : MEMORY_KEEPER_PERIOD;
	g_mutex_init(&k->lock);
	g_cond_init(&k->plugged);
	k->guest = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, guest_free);
	k->rounds = rounds_start("memory", 0, do_round, k);
	return k;
}

/* Nobody listens any more: no guest need be woken for it. */
static void leave_alone(MemoryKeeper *k)
{
	GHashTableIter it;
	gpointer p;

	g_hash_table_iter_init(&it, k->guest);
	while (g_hash_table_iter_next(&it, NULL, &p)) {
		const Guest *g = p;
		g_autoptr(Vmm) v = g->polled ? fleet_vmm(k->engine->fleet, g->vm_id) : NULL;

		if (v != NULL && vmm_pid(v) == g->pid)
			guest_balloon_poll(v, 0, NULL);
	}
}

void memory_keeper_stop(MemoryKeeper *k)
{
	if (k != NULL && rounds_stop(k->rounds))
		leave_alone(k);
}

MemoryKeeper *memory_keeper_free(MemoryKeeper *k)
{
	if (k == NULL)
		return NULL;
	memory_keeper_stop(k);
	rounds_free(k->rounds);
	g_hash_table_unref(k->guest);
	g_mutex_clear(&k->lock);
	g_cond_clear(&k->plugged);
	g_free(k);
	return NULL;
}

void memory_keeper_reset(MemoryKeeper *k, const char *vm_id)
{
	Guest *g;

	if (k == NULL)
		return;
	g_mutex_lock(&k->lock);
	g = g_hash_table_lookup(k->guest, vm_id);
	if (g != NULL)
		g->reset = true;
	g_mutex_unlock(&k->lock);
}

void memory_keeper_settle(MemoryKeeper *k, const char *vm_id, uint64_t timeout)
{
	gint64 until = (gint64)(time_monotonic() + timeout);
	bool in_time = true;

	if (k == NULL)
		return;
	g_mutex_lock(&k->lock);
	while (in_time && k->plugging != NULL && g_str_equal(k->plugging->vm_id, vm_id))
		in_time = g_cond_wait_until(&k->plugged, &k->lock, until);
	g_mutex_unlock(&k->lock);
}

void memory_keeper_wait(MemoryKeeper *k, uint64_t timeout)
{
	if (k != NULL)
		rounds_wait(k->rounds, timeout);
}

/*
 * Reports. The thread writes what they read of a guest's numbers without the
 * lock, so they are made of what it published.
 */

static uint64_t decided(const Guest *g, const char *member)
{
	return json_uint(g->decision, member, 0);
}

uint64_t memory_keeper_size(MemoryKeeper *k, const char *vm_id)
{
	const Guest *g;
	uint64_t size = 0;

	if (k == NULL)
		return 0;
	g_mutex_lock(&k->lock);
	g = g_hash_table_lookup(k->guest, vm_id);
	if (g != NULL && g->decision != NULL)
		size = MAX(decided(g, "size"), decided(g, "to"));
	g_mutex_unlock(&k->lock);
	return size;
}

static Json *host_to_json(const struct balance_host *h)
{
	Json *j = json_object();

	json_put_uint(j, "capacity", h->capacity);
	json_put(j, "available", h->available > 0 ? json_integer((json_int_t)h->available) : json_null());
	json_put_uint(j, "reserve", h->reserve);
	json_put_uint(j, "pressure", h->psi);
	json_put_bool(j, "swaps", h->swaps);
	json_put_bool(j, "tight", h->tight);
	json_put_bool(j, "short", h->is_short);
	json_put_uint(j, "missing", h->missing);
	return j;
}

static Json *trail_to_json(Guest *g)
{
	Json *list = json_array();

	for (const GList *l = g->trail.head; l != NULL; l = l->next)
		json_array_append_new(list, json_deep_copy(l->data));
	return list;
}

Json *memory_keeper_report(MemoryKeeper *k, const char *vm_id)
{
	Json *j = NULL;
	Guest *g;

	if (k == NULL)
		return NULL;
	g_mutex_lock(&k->lock);
	g = g_hash_table_lookup(k->guest, vm_id);
	if (g != NULL && g->decision != NULL) {
		j = json_object();
		json_put_uint(j, "period", k->period);
		json_put(j, "decision", json_deep_copy(g->decision));
		json_put_uint(j, "memory", decided(g, "size"));
		json_put(j, "host", host_to_json(&k->host));
		json_put(j, "trail", trail_to_json(g));
	}
	g_mutex_unlock(&k->lock);
	return j;
}

Json *memory_keeper_list(MemoryKeeper *k)
{
	static const char *const members[] = { "size", "to", "need", "floor", "verdict" };
	Json *list = json_array();
	GHashTableIter it;
	gpointer p;

	if (k == NULL)
		return list;
	g_mutex_lock(&k->lock);
	g_hash_table_iter_init(&it, k->guest);
	while (g_hash_table_iter_next(&it, NULL, &p)) {
		const Guest *g = p;
		Json *j;

		if (g->decision == NULL)
			continue;
		j = json_object();
		json_put_str(j, "id", g->vm_id);
		json_put_str(j, "name", g->name);
		for (size_t i = 0; i < G_N_ELEMENTS(members); i++)
			json_object_set(j, members[i], json_object_get(g->decision, members[i]));
		json_array_append_new(list, j);
	}
	g_mutex_unlock(&k->lock);
	return list;
}
