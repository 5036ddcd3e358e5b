/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/wake_watch.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "core/evidence/hang.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/wake/budget.h"
#include "engine/engine-impl.h"
#include "engine/qemu_threads.h"
#include "engine/records.h"
#include "engine/rounds.h"

#include <dirent.h>
#include <inttypes.h>
#include <string.h>
#include <time.h>

#define KVM_FOLDER "/sys/kernel/debug/kvm"
/* A thread may come late; who they are is looked up again so often. */
#define REREAD 20
/* How long the ledger looks for a culprit, and at how many guests in one round. */
#define GLANCE_SECONDS 10
#define GLANCES_MAX 3
#define PERCENT UINT64_C(10000) /* us of a second */

struct counts {
	uint64_t main_wakeups, vcpu_wakeups, main_cpu, vcpu_cpu, vcpu_wait, exits, halts;
};

typedef struct Guest {
	char *vm_id, *name;
	pid_t pid;
	GArray *vcpu; /* int: thread ids */
	char *kvm;    /* folder of KVM's statistics, or NULL */
	unsigned age; /* rounds since the threads were looked up */
	uint64_t at;  /* of `total`; 0: there is none yet */
	struct counts total, last;
	uint64_t duration; /* of `last`; 0: there is none yet */
	struct idle_state state;
	struct idle_cost cost;
	struct hang_state hang; /* of the thread alone */
	bool seen;              /* in this round */
} Guest;

struct WakeWatch {
	Engine *engine;
	uint64_t period;
	Rounds *rounds;
	GMutex lock;       /* of all below */
	GHashTable *guest; /* vm id -> Guest; changed by the thread alone */
	uint64_t cost;
};

static void guest_free(gpointer p)
{
	Guest *g = p;

	g_array_unref(g->vcpu);
	g_free(g->kvm);
	g_free(g->vm_id);
	g_free(g->name);
	g_free(g);
}

/*
 * Reading
 */

static void find_vcpus(Guest *g)
{
	g_autoptr(GArray) all = qemu_threads_read(g->pid, NULL);

	g_array_set_size(g->vcpu, 0);
	for (guint i = 0; all != NULL && i < all->len; i++) {
		const struct wake_thread *t = &g_array_index(all, struct wake_thread, i);

		if (wake_thread_is_vcpu(t->name))
			g_array_append_val(g->vcpu, t->tid);
	}
}

/* "PID-FD", while debugfs is mounted. */
static void find_kvm(Guest *g)
{
	g_autofree char *mark = g_strdup_printf("%d-", (int)g->pid);
	DIR *dir = opendir(KVM_FOLDER);
	const struct dirent *d;

	g_clear_pointer(&g->kvm, g_free);
	while (dir != NULL && g->kvm == NULL && (d = readdir(dir)) != NULL)
		if (g_str_has_prefix(d->d_name, mark))
			g->kvm = g_build_filename(KVM_FOLDER, d->d_name, NULL);
	if (dir != NULL)
		closedir(dir);
}

static uint64_t kvm_count(const Guest *g, const char *name)
{
	g_autofree char *path = g_build_filename(g->kvm, name, NULL);
	g_autofree char *text = file_read_virtual(path, 64, NULL, NULL);

	return text != NULL ? g_ascii_strtoull(text, NULL, 10) : 0;
}

static bool read_counts(Guest *g, struct counts *c)
{
	struct thread_times t;

	*c = (struct counts){ 0 };
	if (!qemu_thread_times(g->pid, g->pid, &t))
		return false;
	c->main_wakeups = t.runs;
	c->main_cpu = t.cpu;
	for (guint i = 0; i < g->vcpu->len; i++) {
		if (!qemu_thread_times(g->pid, g_array_index(g->vcpu, int, i), &t))
			return false;
		c->vcpu_wakeups += t.runs;
		c->vcpu_cpu += t.cpu;
		c->vcpu_wait += t.wait;
	}
	if (g->kvm != NULL) {
		c->exits = kvm_count(g, "exits");
		c->halts = kvm_count(g, "halt_exits");
	}
	return true;
}

static uint64_t risen(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

static struct counts counts_between(const struct counts *a, const struct counts *b)
{
	return (struct counts){
		.main_wakeups = risen(a->main_wakeups, b->main_wakeups),
		.vcpu_wakeups = risen(a->vcpu_wakeups, b->vcpu_wakeups),
		.main_cpu = risen(a->main_cpu, b->main_cpu),
		.vcpu_cpu = risen(a->vcpu_cpu, b->vcpu_cpu),
		.vcpu_wait = risen(a->vcpu_wait, b->vcpu_wait),
		.exits = risen(a->exits, b->exits),
		.halts = risen(a->halts, b->halts),
	};
}

/* True when there is a difference to judge. The lock is the caller's. */
static bool sample(Guest *g)
{
	uint64_t now = time_monotonic();
	struct counts c;

	if (g->age++ % REREAD == 0) {
		find_vcpus(g);
		find_kvm(g);
	}
	if (!read_counts(g, &c)) {
		g->age = 0;
		g->at = g->duration = 0;
		return false;
	}
	g->duration = g->at != 0 ? now - g->at : 0;
	g->last = counts_between(&g->total, &c);
	g->total = c;
	g->at = now;
	return g->duration > 0;
}

/*
 * The budget
 */

/* The vm's own number, else the host's. */
static uint64_t limit_of(Engine *e, const Json *vm_settings, const char *key)
{
	_cleanup_json_ Json *own = setting_effective(vm_settings, key),
			    *host = host_setting_effective(engine_facts(e)->settings, key);
	const Json *n = own != NULL ? own : host;

	return (uint64_t)json_integer_value(n);
}

static struct idle_budget budget_of(Engine *e, const char *vm_id)
{
	g_autofree char *key = key_vm_config(vm_id);
	_cleanup_json_ Json *config = record_get(e->store, key, NULL, NULL);
	const Json *own = json_obj(config, "settings");

	return (struct idle_budget){ .wakeups = limit_of(e, own, "idle.wakeups"),
				     .cpu = limit_of(e, own, "idle.cpu") * PERCENT };
}

/* The smallest budget that can be set is not reached: no record need be read. */
static bool costs_nothing(const struct idle_state *state, const struct idle_cost *cost)
{
	return !state->over && cost->idle && cost->wakeups < 1 && cost->cpu < PERCENT;
}

static void tell_exceeded(WakeWatch *w, const char *vm_id, const char *name, const struct idle_cost *cost,
			  const struct idle_budget *b, Json *advice)
{
	const char *what = json_str(json_array_get(advice, 0), "text");
	double cpu = (double)cost->cpu / (double)PERCENT;
	g_autofree char *hint = g_strdup_printf("`plim vm wakeups %s --by device` says who", name);
	Json *details = json_object();

	json_put_uint(details, "wakeups", cost->wakeups);
	json_put_uint(details, "cpu", cost->cpu);
	json_put_uint(details, "budget_wakeups", b->wakeups);
	json_put_uint(details, "budget_cpu", b->cpu);
	json_put(details, "advice", advice != NULL ? advice : json_array());
	events_emit(w->engine->events, EVENT_VM_IDLE_COSTLY, "vm", vm_id, name, details,
		    "%s is idle and wakes its host %" PRIu64 " times a second, with %.1f %% of a CPU: %s",
		    name, cost->wakeups, cpu, what != NULL ? what : hint);
}

/* A judgement that is told after the lock is released. */
struct verdict {
	char *vm_id, *name;
	BudgetVerdict verdict;
	struct idle_cost cost;
	struct idle_budget budget;
};

static void verdict_clear(gpointer p)
{
	struct verdict *v = p;

	g_free(v->vm_id);
	g_free(v->name);
}

static void tell(WakeWatch *w, const GArray *verdicts)
{
	unsigned glances = 0;

	for (guint i = 0; i < verdicts->len; i++) {
		const struct verdict *v = &g_array_index(verdicts, struct verdict, i);

		if (v->verdict == BUDGET_EXCEEDED)
			tell_exceeded(w, v->vm_id, v->name, &v->cost, &v->budget,
				      glances++ < GLANCES_MAX
					  ? ledger_glance(w->engine->ledger, v->vm_id, GLANCE_SECONDS)
					  : NULL);
		else
			events_emit(w->engine->events, EVENT_VM_IDLE_KEPT, "vm", v->vm_id, v->name, NULL,
				    "%s keeps its idle budget again", v->name);
	}
}

static void keep(WakeWatch *w, Guest *g, const struct idle_cost *cost, const struct idle_state *state)
{
	g_mutex_lock(&w->lock);
	g->cost = *cost;
	g->state = *state;
	g_mutex_unlock(&w->lock);
}

static void look_for_hang(WakeWatch *w, Guest *g)
{
	const struct hang_sample s = { g->duration, g->last.vcpu_wakeups, g->last.vcpu_cpu,
				       g->last.vcpu_wait };

	switch (hang_judge(&g->hang, &s)) {
	case HANG_NOTHING:
		return;
	case HANG_ASK:
		hang_ask(w->engine->hang, g->vm_id, w->period, hang_spins(&s));
		return;
	case HANG_OVER:
		hang_over(w->engine->hang, g->vm_id);
		return;
	}
}

/* Judges one guest; the lock is not held while records are read. Entries are changed by this thread alone. */
static void judge(WakeWatch *w, Guest *g, GArray *verdicts)
{
	struct idle_sample s = { g->duration, g->last.main_wakeups, g->last.main_cpu, g->last.vcpu_cpu };
	struct idle_state state = g->state;
	struct verdict v = { .cost = idle_cost_of(&s) };

	look_for_hang(w, g);
	if (costs_nothing(&state, &v.cost)) {
		state = (struct idle_state){ 0 };
	} else if (v.cost.idle) {
		v.budget = budget_of(w->engine, g->vm_id);
		v.verdict = idle_judge(&state, &v.budget, &s);
	}
	keep(w, g, &v.cost, &state);
	if (v.verdict == BUDGET_NOTHING)
		return;
	v.vm_id = g_strdup(g->vm_id);
	v.name = g_strdup(g->name);
	g_array_append_val(verdicts, v);
}

/*
 * Rounds
 */

/* The entry of a guest, new when its QEMU is another one. The lock is the caller's. */
static Guest *guest_at(WakeWatch *w, const char *vm_id, const Vmm *v)
{
	Guest *g = g_hash_table_lookup(w->guest, vm_id);

	if (g == NULL || g->pid != vmm_pid(v)) {
		g = g_new0(Guest, 1);
		g->vm_id = g_strdup(vm_id);
		g->pid = vmm_pid(v);
		g->vcpu = g_array_new(FALSE, FALSE, sizeof(int));
		g_hash_table_replace(w->guest, g->vm_id, g);
	}
	if (g_strcmp0(g->name, vmm_name(v)) != 0) {
		g_free(g->name);
		g->name = g_strdup(vmm_name(v));
	}
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

static uint64_t thread_cpu(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void look(WakeWatch *w)
{
	g_autoptr(GPtrArray) guests = fleet_guests(w->engine->fleet), due = g_ptr_array_new();
	g_autoptr(GArray) verdicts = g_array_new(FALSE, FALSE, sizeof(struct verdict));
	uint64_t begin = thread_cpu();

	g_array_set_clear_func(verdicts, verdict_clear);
	g_mutex_lock(&w->lock);
	for (guint i = 0; i < guests->len; i++) {
		const struct fleet_guest *f = guests->pdata[i];
		Guest *g = guest_at(w, f->vm_id, f->vmm);

		if (sample(g))
			g_ptr_array_add(due, g);
	}
	g_hash_table_foreach_remove(w->guest, was_not_seen, NULL);
	g_mutex_unlock(&w->lock);
	for (guint i = 0; i < due->len; i++)
		judge(w, due->pdata[i], verdicts);
	g_mutex_lock(&w->lock);
	w->cost = thread_cpu() - begin;
	g_mutex_unlock(&w->lock);
	tell(w, verdicts);
}

static uint64_t do_round(void *data)
{
	WakeWatch *w = data;

	look(w);
	return w->period;
}

WakeWatch *wake_watch_start(Engine *e, uint64_t period)
{
	WakeWatch *w = g_new0(WakeWatch, 1);

	w->engine = e;
	w->period = period != 0 ? period : WAKE_WATCH_PERIOD;
	g_mutex_init(&w->lock);
	w->guest = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, guest_free);
	w->rounds = rounds_start("wakeups", 0, do_round, w);
	return w;
}

void wake_watch_stop(WakeWatch *w)
{
	if (w != NULL)
		rounds_stop(w->rounds);
}

WakeWatch *wake_watch_free(WakeWatch *w)
{
	if (w == NULL)
		return NULL;
	rounds_free(w->rounds);
	g_hash_table_unref(w->guest);
	g_mutex_clear(&w->lock);
	g_free(w);
	return NULL;
}

/*
 * The report
 */

static void put_counts(Json *j, const struct counts *c, bool known, bool kvm)
{
	const struct {
		const char *key;
		uint64_t n;
		bool known;
	} all[] = {
		{ "main_wakeups", c->main_wakeups, known }, { "vcpu_wakeups", c->vcpu_wakeups, known },
		{ "main_cpu", c->main_cpu, known },         { "vcpu_cpu", c->vcpu_cpu, known },
		{ "exits", c->exits, known && kvm },        { "halts", c->halts, known && kvm },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
		json_put(j, all[i].key, all[i].known ? json_integer((json_int_t)all[i].n) : json_null());
}

static Json *guest_to_json(const Guest *g)
{
	Json *j = json_object(), *total = json_object();

	json_put_str(j, "id", g->vm_id);
	json_put_str(j, "name", g->name);
	json_put_int(j, "pid", g->pid);
	json_put_uint(j, "duration", g->duration);
	put_counts(j, &g->last, g->duration > 0, g->kvm != NULL);
	json_put_bool(j, "idle", g->cost.idle);
	json_put_bool(j, "over", g->state.over);
	put_counts(total, &g->total, g->at > 0, g->kvm != NULL);
	json_put(j, "total", total);
	return j;
}

static void put_could_not(Json *list)
{
	static const char *const counts[] = { "exits", "halts" };

	if (g_file_test(KVM_FOLDER, G_FILE_TEST_IS_DIR))
		return;
	for (size_t i = 0; i < G_N_ELEMENTS(counts); i++)
		json_array_append_new(list, json_pack("{s:s, s:s}", "count", counts[i], "reason",
						      "KVM counts in debugfs, which has no " KVM_FOLDER));
}

Json *wake_watch_report(WakeWatch *w)
{
	Json *j = json_object(), *guests = json_array(), *could_not = json_array();
	GHashTableIter it;
	gpointer g;

	json_put(j, "could_not", could_not);
	json_put(j, "guests", guests);
	json_put_uint(j, "period", w != NULL ? w->period : 0);
	put_could_not(could_not);
	if (w == NULL)
		return j;
	g_mutex_lock(&w->lock);
	json_put_uint(j, "cost", w->cost);
	g_hash_table_iter_init(&it, w->guest);
	while (g_hash_table_iter_next(&it, NULL, &g))
		json_array_append_new(guests, guest_to_json(g));
	g_mutex_unlock(&w->lock);
	return j;
}
