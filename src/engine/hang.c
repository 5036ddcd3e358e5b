/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/hang.h"
#include "base/log.h"
#include "base/str.h"
#include "core/evidence/looks.h"
#include "core/model/vm_state.h"
#include "engine/agent_ops.h"
#include "engine/engine-impl.h"
#include "engine/evidence.h"
#include "engine/records.h"
#include "engine/vm_ops.h"

/* Each holds a thread while it waits. */
#define WAITING_MAX 64

/* How often a silent guest is looked at, and what may pass between two looks. */
#define LOOKS 10
#define LOOK_PAUSE_MIN UINT64_C(20000)
#define LOOK_PAUSE_MAX UINT64_C(500000)

/* What is known of a QEMU. */
struct known {
	pid_t pid;
	bool hung, silent; /* told already */
	bool dumps;        /* its crash kernel runs */
};

struct HangWatch {
	Engine *engine;
	GMutex lock;
	GHashTable *known; /* vm id -> struct known */
};

typedef struct Question {
	HangWatch *watch;
	char *vm_id;
	uint64_t patience;
	bool spins;
} Question;

HangWatch *hang_watch_new(Engine *e)
{
	HangWatch *h = g_new0(HangWatch, 1);

	h->engine = e;
	g_mutex_init(&h->lock);
	h->known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
	return h;
}

HangWatch *hang_watch_free(HangWatch *h)
{
	if (h != NULL) {
		g_hash_table_unref(h->known);
		g_mutex_clear(&h->lock);
		g_free(h);
	}
	return NULL;
}

/* Of that QEMU; what was known of one before it is forgotten. The lock is the caller's. */
static struct known *known_of(HangWatch *h, const char *vm_id, pid_t pid)
{
	struct known *k = g_hash_table_lookup(h->known, vm_id);

	if (k == NULL || k->pid != pid) {
		k = g_new0(struct known, 1);
		k->pid = pid;
		g_hash_table_replace(h->known, g_strdup(vm_id), k);
	}
	return k;
}

/* True when that is news. */
static bool note(HangWatch *h, const char *vm_id, pid_t pid, bool hung)
{
	struct known *k;
	bool news;

	g_mutex_lock(&h->lock);
	k = known_of(h, vm_id, pid);
	news = hung ? !k->hung : !k->silent;
	k->hung = k->hung || hung;
	k->silent = true;
	g_mutex_unlock(&h->lock);
	return news;
}

static bool writes_dump(HangWatch *h, const char *vm_id, pid_t pid)
{
	bool dumps;

	g_mutex_lock(&h->lock);
	dumps = known_of(h, vm_id, pid)->dumps;
	g_mutex_unlock(&h->lock);
	return dumps;
}

/* Its agent has said what it is since it was started. */
static bool may_ask(const VmRecords *r)
{
	return vm_runtime_state(r->runtime) == VM_RUNNING && json_str(r->runtime, "operation") == NULL &&
	       json_str(json_obj(r->runtime, "agent"), "version") != NULL;
}

static void tell(HangWatch *h, const Vm *vm, uint64_t patience)
{
	g_autofree char *span = print_duration(patience);
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *kept = NULL;

	events_emit(
	    h->engine->events, EVENT_VM_HUNG, "vm", vm->id, vm->name, NULL,
	    "%s seems to hang: its vcpus spin in the kernel or sleep for good, and its agent has not answered for %s. "
	    "`plim vm nmi %s` may wake its kernel, `plim vm reset %s` starts it again",
	    vm->name, span, vm->name, vm->name);
	kept = evidence_take(h->engine, vm, "hang", "the guest seems to hang", NULL, NULL, &err);
	if (kept == NULL)
		log_warning("no evidence of the hang of vm %s was kept: %s", vm->name, err->message);
}

static void tell_silent(HangWatch *h, const Vm *vm, uint64_t patience)
{
	g_autofree char *span = print_duration(patience);

	events_emit(
	    h->engine->events, EVENT_VM_AGENT_SILENT, "vm", vm->id, vm->name, NULL,
	    "the agent of %s has not answered for %s, though the guest works: its programs run, or its "
	    "disks are used. Start the agent again in the guest",
	    vm->name, span);
}

/* Do its programs run? Looked at for a while: a kernel that serves one is met in itself now and then. */
static bool vcpus_work(Vmm *v, uint64_t pause)
{
	struct hang_looks looks = { 0 };

	for (int i = 0; i < LOOKS && !hang_looks_work(&looks); i++) {
		g_autofree char *registers = vm_registers(v, NULL);

		if (registers == NULL)
			return false;
		hang_looks_add(&looks, registers);
		g_usleep(pause);
	}
	return hang_looks_work(&looks);
}

/* Waits for the answer, and without one looks whether the guest gets on with anything. */
static bool answers_or_works(Agent *a, Vmm *v, const Question *q, GError **err)
{
	uint64_t pause = CLAMP(q->patience / 50, LOOK_PAUSE_MIN, LOOK_PAUSE_MAX), before = 0, after = 0;
	bool disks = q->spins && vm_disk_requests(v, &before, NULL);

	if (agent_ping(a, q->patience, err))
		return true;
	if (!g_error_matches(*err, ERR, ERR_TIMEOUT) || !q->spins)
		return false;
	return (disks && vm_disk_requests(v, &after, NULL) && after > before) || vcpus_work(v, pause);
}

static void look(const Question *q)
{
	HangWatch *h = q->watch;
	g_autoptr(VmRecords) r = vm_records_load(h->engine->store, q->vm_id, NULL), after = NULL;
	g_autoptr(Agent) a = fleet_agent(h->engine->fleet, q->vm_id);
	g_autoptr(Vmm) v = fleet_vmm(h->engine->fleet, q->vm_id);
	g_autoptr(GError) err = NULL;
	bool rests, works;

	if (r == NULL || a == NULL || v == NULL || !may_ask(r) || !agent_is_open(a) ||
	    writes_dump(h, q->vm_id, vmm_pid(v)))
		return;
	rests = worker_pool_rest(h->engine->pool, WAITING_MAX);
	works = answers_or_works(a, v, q, &err);
	if (rests)
		worker_pool_wake(h->engine->pool);
	if (err == NULL)
		hang_reset(h, q->vm_id);
	if (!g_error_matches(err, ERR, ERR_TIMEOUT))
		return;
	/* What began meanwhile explains the silence. */
	after = vm_records_load(h->engine->store, q->vm_id, NULL);
	if (after == NULL || !may_ask(after) || !agent_is_open(a) || writes_dump(h, q->vm_id, vmm_pid(v)) ||
	    !note(h, q->vm_id, vmm_pid(v), !works))
		return;
	if (works)
		tell_silent(h, after->vm, q->patience);
	else
		tell(h, after->vm, q->patience);
}

static void ask(void *data)
{
	g_autofree Question *q = data;
	g_autofree char *vm_id = q->vm_id;

	look(q);
}

void hang_ask(HangWatch *h, const char *vm_id, uint64_t patience, bool spins)
{
	Question *q = g_new(Question, 1);

	*q = (Question){ h, g_strdup(vm_id), patience, spins };
	worker_pool_push(h->engine->pool, ask, q);
}

void hang_over(HangWatch *h, const char *vm_id)
{
	struct known *k;

	g_mutex_lock(&h->lock);
	k = g_hash_table_lookup(h->known, vm_id);
	if (k != NULL)
		k->hung = false; /* its agent may be silent all the same */
	g_mutex_unlock(&h->lock);
}

void hang_leave(HangWatch *h, const char *vm_id)
{
	g_autoptr(Vmm) v = fleet_vmm(h->engine->fleet, vm_id);

	if (v == NULL)
		return;
	g_mutex_lock(&h->lock);
	known_of(h, vm_id, vmm_pid(v))->dumps = true;
	g_mutex_unlock(&h->lock);
}

void hang_reset(HangWatch *h, const char *vm_id)
{
	g_mutex_lock(&h->lock);
	g_hash_table_remove(h->known, vm_id);
	g_mutex_unlock(&h->lock);
}
