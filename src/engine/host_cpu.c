/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/host_cpu.h"
#include "base/log.h"
#include "base/time.h"
#include "core/cpu/record.h"
#include "core/model/keys.h"
#include "engine/as_user.h"
#include "engine/engine-impl.h"
#include "engine/probe_cpu.h"
#include "engine/records.h"

#include <string.h>

/* In the host's own store: {record, dropped, reasons}. */
#define KEPT_KEY "probe/cpu"
#define NAMES_SHOWN 16

struct HostCpu {
	Engine *engine;
	GMutex work;  /* one probe, one publication at a time */
	bool refused; /* the store did not take the record */
	bool holds;   /* what was remembered at the start fits what it depends on */
	GMutex lock;  /* of what follows */
	GCond changed;
	bool ready[GUEST_TYPES]; /* its first probe in this daemon ended, or what is remembered holds */
	bool has_found;
	struct host_record found;   /* without masks */
	struct host_record offered; /* with them: as published */
	Json *dropped[GUEST_TYPES];
	char *reason[GUEST_TYPES]; /* why there is no set */
};

HostCpu *host_cpu_new(Engine *e)
{
	HostCpu *h = g_new0(HostCpu, 1);

	h->engine = e;
	g_mutex_init(&h->work);
	g_mutex_init(&h->lock);
	g_cond_init(&h->changed);
	return h;
}

HostCpu *host_cpu_free(HostCpu *h)
{
	if (h == NULL)
		return NULL;
	host_record_done(&h->found);
	host_record_done(&h->offered);
	for (int t = 0; t < GUEST_TYPES; t++) {
		json_unref(h->dropped[t]);
		g_free(h->reason[t]);
	}
	g_mutex_clear(&h->work);
	g_mutex_clear(&h->lock);
	g_cond_clear(&h->changed);
	g_free(h);
	return NULL;
}

static Accel accel_of_type(GuestType t)
{
	return t == GUEST_KVM ? ACCEL_KVM : ACCEL_TCG;
}

static void set_ready(HostCpu *h, GuestType t)
{
	g_mutex_lock(&h->lock);
	h->ready[t] = true;
	g_cond_broadcast(&h->changed);
	g_mutex_unlock(&h->lock);
}

static void set_all_ready(HostCpu *h)
{
	for (int t = 0; t < GUEST_TYPES; t++)
		set_ready(h, (GuestType)t);
}

bool host_cpu_wait(HostCpu *h, GuestType type, uint64_t timeout)
{
	gint64 until = g_get_monotonic_time() + (gint64)MIN(timeout, (uint64_t)G_MAXINT64 / 4);
	bool in_time = true, ready;

	g_mutex_lock(&h->lock);
	while (!h->ready[type] && in_time)
		in_time = g_cond_wait_until(&h->changed, &h->lock, until);
	ready = h->ready[type];
	g_mutex_unlock(&h->lock);
	return ready;
}

/* ---- the mask ---- */

static bool read_mask(HostCpu *h, struct cpu_bits *ret, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_cpu_mask(h->engine->host_id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = record_get(h->engine->store, key, ret_rev, &e);

	*ret = (struct cpu_bits){ 0 };
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	return j == NULL || cpu_bits_of_json(json_arr(j, "features"), ret, err);
}

/* What the host offers with a mask, from what was found. */
static void apply_mask(struct host_record *r, const struct cpu_bits *mask)
{
	for (int t = 0; t < GUEST_TYPES; t++) {
		struct guest_sets *g = &r->guest[t];

		if (!g->there)
			continue;
		featureset_remove(&g->max, mask, CLOSE_HARD);
		g->dflt = g->max;
		featureset_make_default(&g->dflt);
		g->there = !cpu_bits_empty(&g->dflt.has);
	}
	r->masked = *mask;
}

/* Also of one that holds nothing. */
static struct host_record record_copy(const struct host_record *r)
{
	struct host_record copy = *r;

	copy.host = g_strdup(r->host);
	copy.date = g_strdup(r->date);
	copy.qemu_version = g_strdup(r->qemu_version);
	copy.machines = g_strdupv(r->machines);
	copy.digest = r->digest != NULL ? json_deep_copy(r->digest) : NULL;
	return copy;
}

/* ---- publication ---- */

/* The date alone is no news. */
static bool same_but_date(const Json *a, const Json *b)
{
	_cleanup_json_ Json *x = json_copy((Json *)a), *y = json_copy((Json *)b);

	json_object_del(x, "date");
	json_object_del(y, "date");
	return json_equal(x, y);
}

typedef struct Writing {
	const Engine *engine;
	const char *key;
	const Json *record;
} Writing;

/*
 * Only together with the host's own record. A probe is no operation, for which a leave would wait: what it
 * finds when the pool has let go of the host would lower the level for ever.
 */
static bool write_once(void *data, GError **err)
{
	const Writing *w = data;
	g_autofree char *key = key_host(w->engine->host_id), *text = json_print(w->record);
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) host = store_get(w->engine->store, key, &e);
	StoreTx *tx;

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (host == NULL && w->engine->member != NULL)
		return true;
	tx = store_tx_new();
	store_tx_expect(tx, key, host != NULL ? host->rev : 0);
	store_tx_set(tx, w->key, STORE_ANY, text);
	return store_commit(w->engine->store, tx, STORE_DURABLE, NULL, err);
}

static bool write_record(HostCpu *h, const struct host_record *r, GError **err)
{
	g_autofree char *key = key_cpu(h->engine->host_id);
	_cleanup_json_ Json *old = record_get(h->engine->store, key, NULL, NULL),
			    *now = host_record_to_json(r);
	Writing w = { h->engine, key, now };

	return (old != NULL && same_but_date(old, now)) || store_retry(write_once, &w, err);
}

/* Holding `work`. */
static bool publish(HostCpu *h, GError **err)
{
	struct host_record r;
	struct cpu_bits mask;

	h->refused = true;
	if (!read_mask(h, &mask, NULL, err))
		return false;
	r = record_copy(&h->found);
	apply_mask(&r, &mask);
	g_mutex_lock(&h->lock);
	host_record_done(&h->offered);
	h->offered = r;
	g_mutex_unlock(&h->lock);
	h->refused = !write_record(h, &h->offered, err);
	return !h->refused && level_keeper_refresh(h->engine->level, err);
}

void host_cpu_followed(void *host_cpu)
{
	HostCpu *h = host_cpu;
	g_autoptr(GError) e = NULL;

	/* Whoever holds it is about to publish. */
	if (!g_mutex_trylock(&h->work))
		return;
	if (h->refused && h->has_found && !publish(h, &e))
		log_warning("this host's CPU record was not published: %s", e->message);
	g_mutex_unlock(&h->work);
}

/* ---- telling ---- */

static const char *host_name(const HostCpu *h)
{
	return h->engine->host_name;
}

static void tell_unknown(HostCpu *h, GuestType t)
{
	Engine *e = h->engine;

	if (h->reason[t] != NULL && engine_facts(e)->accel[accel_of_type(t)].works)
		events_emit(e->events, EVENT_HOST_CPU_UNKNOWN, "host", e->host_id, e->host_name, NULL,
			    "%s: no CPU features are known that %s guests can have, so such guests can't be "
			    "levelled: %s",
			    host_name(h), guest_type_name(t), h->reason[t]);
}

/* The members of the digest that differ: "kernel, microcode"; NULL when none does. */
static char *what_changed(const Json *was, const Json *is)
{
	g_autoptr(GString) text = g_string_new(NULL);
	const char *key;
	Json *v;

	json_object_foreach((Json *)is, key, v) if (!json_equal(v, json_object_get(was, key)))
	    g_string_append_printf(text, "%s%s", text->len > 0 ? ", " : "", key);
	return text->len > 0 ? g_string_free(g_steal_pointer(&text), FALSE) : NULL;
}

static void tell_difference(HostCpu *h, GuestType t, const struct host_record *was)
{
	static const struct cpu_bits none;
	const struct cpu_bits *a = was->guest[t].there ? &was->guest[t].max.has : &none,
			      *b = h->found.guest[t].there ? &h->found.guest[t].max.has : &none;
	g_autofree char *why = what_changed(was->digest, h->found.digest), *gains = NULL, *losses = NULL;
	struct cpu_bits added, removed;
	Json *details;

	cpu_bits_minus(&added, b, a);
	cpu_bits_minus(&removed, a, b);
	if (cpu_bits_empty(&added) && cpu_bits_empty(&removed))
		return;
	gains = cpu_bits_names_print(&added, NAMES_SHOWN);
	losses = cpu_bits_names_print(&removed, NAMES_SHOWN);
	details = json_object();
	json_put_str(details, "guest", guest_type_name(t));
	json_put(details, "added", cpu_bits_names_json(&added));
	json_put(details, "removed", cpu_bits_names_json(&removed));
	json_put_str(details, "changed", why);
	events_emit(h->engine->events, EVENT_HOST_CPU_CHANGED, "host", h->engine->host_id, host_name(h),
		    details, "%s: %s guests lose: %s; gain: %s%s%s", host_name(h), guest_type_name(t),
		    losses[0] != '\0' ? losses : "nothing", gains[0] != '\0' ? gains : "nothing",
		    why != NULL ? "; changed: " : "", why != NULL ? why : "");
}

static void tell_found(HostCpu *h, GuestType t)
{
	if (h->found.guest[t].there)
		events_emit(h->engine->events, EVENT_HOST_CPU_FOUND, "host", h->engine->host_id, host_name(h),
			    NULL, "%s: %s guests can have %u CPU features", host_name(h), guest_type_name(t),
			    cpu_bits_count(&h->found.guest[t].max.has));
}

/* `was` is NULL the first time. */
static void tell(HostCpu *h, const struct host_record *was)
{
	for (int t = 0; t < GUEST_TYPES; t++) {
		if (was == NULL)
			tell_found(h, (GuestType)t);
		else
			tell_difference(h, (GuestType)t, was);
		tell_unknown(h, (GuestType)t);
	}
}

/* ---- what is kept ---- */

static void keep(HostCpu *h)
{
	_cleanup_json_ Json *j = host_cpu_notes(h);
	g_autofree char *text = NULL;
	StoreTx *tx = store_tx_new();

	json_put(j, "record", host_record_to_json(&h->found));
	text = json_print(j);
	store_tx_set(tx, KEPT_KEY, STORE_ANY, text);
	store_commit(h->engine->local, tx, STORE_RELAXED, NULL, NULL);
}

static void set_notes(HostCpu *h, GuestType t, char *take_reason, Json *take_dropped)
{
	g_free(h->reason[t]);
	json_unref(h->dropped[t]);
	h->reason[t] = take_reason;
	h->dropped[t] = take_dropped;
}

static bool remember(HostCpu *h)
{
	_cleanup_json_ Json *j = record_get(h->engine->local, KEPT_KEY, NULL, NULL);
	const Json *reasons = json_obj(j, "reasons"), *dropped = json_obj(j, "dropped");

	if (j == NULL || !host_record_of_json(json_obj(j, "record"), &h->found, NULL))
		return false;
	for (int t = 0; t < GUEST_TYPES; t++) {
		const char *name = guest_type_name((GuestType)t);
		const Json *list = json_arr(dropped, name);

		set_notes(h, (GuestType)t, g_strdup(json_str(reasons, name)),
			  list != NULL ? json_deep_copy(list) : json_array());
	}
	h->has_found = true;
	return true;
}

Json *host_cpu_notes(HostCpu *h)
{
	Json *j = json_object(), *reasons = json_object(), *dropped = json_object();

	g_mutex_lock(&h->lock);
	for (int t = 0; t < GUEST_TYPES; t++) {
		const char *name = guest_type_name((GuestType)t);

		json_put_str(reasons, name, h->reason[t]);
		json_put(dropped, name, h->dropped[t] != NULL ? json_deep_copy(h->dropped[t]) : json_array());
	}
	g_mutex_unlock(&h->lock);
	json_put(j, "reasons", reasons);
	json_put(j, "dropped", dropped);
	return j;
}

/* ---- the probe ---- */

typedef struct Probing {
	Probe probe;
	SpawnUser user;
} Probing;

static void probing_init(Probing *p, Engine *e)
{
	HostFacts *f = (HostFacts *)engine_facts(e); /* only read */

	*p = (Probing){ .probe = { .facts = f, .folders = &e->folders, .local = e->local } };
	if (f->run_as != NULL && spawn_user_find(f->run_as, qemu_user_groups, &p->user))
		p->probe.user = &p->user;
}

static Json *digest_now(HostCpu *h, GError **err)
{
	Probing p;

	if (h->engine->sim != NULL)
		return json_object();
	probing_init(&p, h->engine);
	return probe_cpu_digest(&p.probe, err);
}

static void find(HostCpu *h, GuestType t, const struct featureset *known, CpuFound *ret)
{
	const AccelFact *accel = &engine_facts(h->engine)->accel[accel_of_type(t)];
	Probing p;

	if (!accel->works) {
		*ret = (CpuFound){ .reason = g_strdup(accel->reason), .dropped = json_array() };
		return;
	}
	if (h->engine->sim != NULL) {
		sim_cpu(h->engine->sim, accel_of_type(t), ret);
		return;
	}
	probing_init(&p, h->engine);
	probe_cpu(&p.probe, accel_of_type(t), known, ret);
}

/* Nothing that it depends on has changed: a host that is too busy to boot a guest has the CPU it had. */
static bool keep_sets(HostCpu *h, GuestType t, const struct guest_sets *before, const CpuFound *f)
{
	if (f->known || before == NULL || !engine_facts(h->engine)->accel[accel_of_type(t)].works)
		return false;
	log_warning("the CPU features of %s guests could not be proven again and are taken as before: %s",
		    guest_type_name(t), f->reason);
	return true;
}

/*
 * Holding `work`. `before`: what was found when all it depends on was as it is
 * now, or NULL; `trust` it when one boot confirms it, else search anew.
 */
static void find_sets(HostCpu *h, GuestType t, const struct guest_sets *before, bool trust,
		      struct guest_sets *ret)
{
	const struct featureset *old = trust && before != NULL ? &before->max : NULL;
	g_auto(CpuFound) f = { 0 };

	find(h, t, old, &f);
	if (keep_sets(h, t, before, &f)) {
		*ret = *before;
		return;
	}
	*ret = (struct guest_sets){ .there = f.known, .max = f.max, .dflt = f.max };
	if (f.known)
		featureset_make_default(&ret->dflt);
	g_mutex_lock(&h->lock);
	/* A set that only was confirmed has nothing new to say of what was dropped. */
	if (old == NULL || !f.known || json_array_size(f.dropped) > 0)
		set_notes(h, t, g_steal_pointer(&f.reason), g_steal_pointer(&f.dropped));
	g_mutex_unlock(&h->lock);
}

static void describe(HostCpu *h, Json *take_digest, struct host_record *ret)
{
	const HostFacts *f = engine_facts(h->engine);
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();

	for (guint i = 0; i < f->machine->len; i++)
		g_strv_builder_add(b, ((const HostMachine *)f->machine->pdata[i])->name);
	ret->host = g_strdup(f->name);
	ret->date = time_stamp();
	ret->qemu_version = g_strdup(f->qemu_version);
	ret->machines = g_strv_builder_end(b);
	ret->digest = take_digest;
	ret->has_raw = h->engine->sim == NULL && probe_cpu_raw(&ret->raw, NULL);
}

static bool was_published(HostCpu *h)
{
	g_autofree char *key = key_cpu(h->engine->host_id);
	g_autoptr(StoreItem) item = store_get(h->engine->store, key, NULL);

	return item != NULL;
}

/*
 * Holding `work`. Each type of guest is published as soon as it is known: the
 * first one is what most guests wait for; what the others can have stays as it
 * was until then. Where only the published record knows what it was, and not
 * we, nothing is published before all is known.
 */
static bool probe(HostCpu *h, bool trust, GError **err)
{
	Json *digest = digest_now(h, err);
	_cleanup_host_record_ struct host_record was = record_copy(&h->found);
	struct host_record r = { 0 };
	bool first = !h->has_found, ok = true, whole = first && was_published(h), same;

	if (digest == NULL)
		return false;
	same = was.digest != NULL && json_equal(was.digest, digest);
	memcpy(r.guest, h->found.guest, sizeof(r.guest));
	describe(h, digest, &r);
	host_record_done(&h->found);
	h->found = r;
	h->has_found = true;
	for (int t = 0; t < GUEST_TYPES && ok; t++) {
		const struct guest_sets *before = same && was.guest[t].there ? &was.guest[t] : NULL;

		find_sets(h, (GuestType)t, before, trust, &h->found.guest[t]);
		if (whole && t + 1 < GUEST_TYPES)
			continue;
		ok = publish(h, err);
		set_ready(h, (GuestType)t);
	}
	keep(h);
	if (ok)
		tell(h, first ? NULL : &was);
	return ok;
}

bool host_cpu_probe(HostCpu *h, GError **err)
{
	bool ok;

	g_mutex_lock(&h->work);
	ok = probe(h, false, err);
	g_mutex_unlock(&h->work);
	set_all_ready(h);
	return ok;
}

static void probe_job(void *data)
{
	HostCpu *h = data;
	g_autoptr(GError) e = NULL;

	g_mutex_lock(&h->work);
	if (!probe(h, h->holds, &e))
		log_warning("the CPU features that guests can have are not known: %s", e->message);
	g_mutex_unlock(&h->work);
	set_all_ready(h);
}

void host_cpu_begin(HostCpu *h)
{
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *digest = digest_now(h, NULL);

	g_mutex_lock(&h->work);
	h->holds = h->engine->sim == NULL && digest != NULL && remember(h) &&
		   json_equal(digest, h->found.digest) && publish(h, &e);
	g_mutex_unlock(&h->work);
	if (h->holds)
		set_all_ready(h);
	if (e != NULL)
		log_warning("this host's CPU record was not published: %s", e->message);
	if (h->engine->sim != NULL)
		probe_job(h);
	else
		worker_pool_push(h->engine->pool, probe_job, h);
}

/* ---- what is on offer ---- */

static void fill_offer(HostCpu *h, GuestType t, struct cpu_offer *o)
{
	g_mutex_lock(&h->lock);
	o->there = h->offered.guest[t].there;
	o->max = h->offered.guest[t].max;
	if (!o->there)
		o->why = g_strdup(h->reason[t] != NULL ? h->reason[t] : "this host was not probed yet");
	g_mutex_unlock(&h->lock);
	if (o->there && !level_keeper_get(h->engine->level, t, &o->level)) {
		o->there = false;
		o->why = g_strdup("the level of the pool is not known");
	}
}

CpuOffer *host_cpu_offer(HostCpu *h)
{
	CpuOffer *o = g_new0(CpuOffer, 1);

	for (int t = 0; t < GUEST_TYPES; t++)
		fill_offer(h, (GuestType)t, &o->guest[t]);
	return o;
}

/* ---- changing the mask ---- */

static bool may_mask(const struct cpu_bits *add, GError **err)
{
	struct cpu_bits always;
	g_autofree char *names = NULL;

	cpu_bits_and(&always, add, &feature_of_kind[FEATURE_ALWAYS]);
	if (cpu_bits_empty(&always))
		return true;
	names = cpu_bits_names_print(&always, 0);
	return fail_advice(err, ERR_INVALID, "Leave it out of the mask.", "every guest has %s", names);
}

/* What differs in what guests are offered, beside what was asked for. */
static void also(const struct host_record *a, const struct host_record *b, const struct cpu_bits *asked,
		 struct cpu_bits *ret)
{
	*ret = (struct cpu_bits){ 0 };
	for (int t = 0; t < GUEST_TYPES; t++)
		for (size_t w = 0; w < CPU_WORDS; w++)
			ret->word[w] |=
			    (a->guest[t].max.has.word[w] ^ b->guest[t].max.has.word[w]) & ~asked->word[w];
}

static bool write_mask(HostCpu *h, const struct cpu_bits *mask, int64_t rev, const char *user, GError **err)
{
	g_autofree char *key = key_cpu_mask(h->engine->host_id), *now = time_stamp(), *text = NULL;
	_cleanup_json_ Json *j = json_object();
	StoreTx *tx = store_tx_new();

	json_put(j, "features", cpu_bits_names_json(mask));
	json_put_str(j, "by", user);
	json_put_str(j, "at", now);
	text = json_print(j);
	store_tx_set(tx, key, rev, cpu_bits_empty(mask) ? NULL : text);
	return store_commit(h->engine->store, tx, STORE_DURABLE, NULL, err);
}

static void tell_mask(HostCpu *h, const struct cpu_bits *mask, const struct cpu_bits *more, const char *user)
{
	g_autofree char *names = cpu_bits_names_print(mask, NAMES_SHOWN),
			*others = cpu_bits_names_print(more, NAMES_SHOWN);
	Json *details = json_object();

	json_put(details, "masked", cpu_bits_names_json(mask));
	json_put(details, "also", cpu_bits_names_json(more));
	events_emit(h->engine->events, EVENT_HOST_CPU_MASKED, "host", h->engine->host_id, host_name(h),
		    details, "%s: the CPU mask is now %s%s%s, set by %s", host_name(h),
		    names[0] != '\0' ? names : "empty", others[0] != '\0' ? "; it also moves " : "", others,
		    user);
}

/* Holding `work`. */
static bool change_mask(HostCpu *h, const struct cpu_bits *add, const struct cpu_bits *remove,
			const char *user, bool dry_run, struct cpu_bits *ret_also, GError **err)
{
	_cleanup_host_record_ struct host_record r = record_copy(&h->found);
	struct cpu_bits mask, asked;
	int64_t rev = 0;

	if (!read_mask(h, &mask, &rev, err))
		return false;
	cpu_bits_or(&asked, add, remove);
	cpu_bits_or(&mask, &mask, add);
	cpu_bits_minus(&mask, &mask, remove);
	apply_mask(&r, &mask);
	also(&h->offered, &r, &asked, ret_also);
	if (dry_run)
		return true;
	if (!write_mask(h, &mask, rev, user, err) || !publish(h, err))
		return false;
	tell_mask(h, &mask, ret_also, user);
	return true;
}

bool host_cpu_mask(HostCpu *h, const struct cpu_bits *add, const struct cpu_bits *remove, const char *user,
		   bool dry_run, struct cpu_bits *ret_also, GError **err)
{
	bool ok;

	if (!may_mask(add, err))
		return false;
	g_mutex_lock(&h->work);
	ok = h->has_found ? change_mask(h, add, remove, user, dry_run, ret_also, err)
			  : fail_advice(err, ERR_BAD_STATE, "Probe it: `plim host probe`.",
					"the CPU features of this host are not known yet");
	g_mutex_unlock(&h->work);
	return ok;
}
