/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/hang.h"
#include "base/log.h"
#include "base/str.h"
#include "core/model/vm_state.h"
#include "engine/agent_ops.h"
#include "engine/engine-impl.h"
#include "engine/evidence.h"
#include "engine/records.h"

/* Each holds a thread while it waits. */
#define WAITING_MAX 64

struct HangWatch {
	Engine *engine;
	GMutex lock;
	GHashTable *hung; /* set of vm ids: told already */
};

typedef struct Question {
	HangWatch *watch;
	char *vm_id;
	uint64_t patience;
} Question;

HangWatch *hang_watch_new(Engine *e)
{
	HangWatch *h = g_new0(HangWatch, 1);

	h->engine = e;
	g_mutex_init(&h->lock);
	h->hung = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
	return h;
}

HangWatch *hang_watch_free(HangWatch *h)
{
	if (h != NULL) {
		g_hash_table_unref(h->hung);
		g_mutex_clear(&h->lock);
		g_free(h);
	}
	return NULL;
}

/* True when that is news. */
static bool note(HangWatch *h, const char *vm_id, bool hung)
{
	bool news;

	g_mutex_lock(&h->lock);
	news = hung ? g_hash_table_add(h->hung, g_strdup(vm_id)) : g_hash_table_remove(h->hung, vm_id);
	g_mutex_unlock(&h->lock);
	return news;
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
	    "%s seems to hang: its vcpus spin or sleep for good, and its agent has not answered for %s. "
	    "`plim vm nmi %s` may wake its kernel, `plim vm reset %s` starts it again",
	    vm->name, span, vm->name, vm->name);
	kept = evidence_take(h->engine, vm, "hang", "the guest seems to hang", NULL, NULL, &err);
	if (kept == NULL)
		log_warning("no evidence of the hang of vm %s was kept: %s", vm->name, err->message);
}

static void look(HangWatch *h, const char *vm_id, uint64_t patience)
{
	g_autoptr(VmRecords) r = vm_records_load(h->engine->store, vm_id, NULL), after = NULL;
	g_autoptr(Agent) a = fleet_agent(h->engine->fleet, vm_id);
	g_autoptr(GError) err = NULL;
	bool rests, answers;

	if (r == NULL || a == NULL || !may_ask(r) || !agent_is_open(a))
		return;
	rests = worker_pool_rest(h->engine->pool, WAITING_MAX);
	answers = agent_ping(a, patience, &err);
	if (rests)
		worker_pool_wake(h->engine->pool);
	if (answers)
		note(h, vm_id, false);
	if (answers || !g_error_matches(err, ERR, ERR_TIMEOUT))
		return;
	/* What began meanwhile explains the silence. */
	after = vm_records_load(h->engine->store, vm_id, NULL);
	if (after != NULL && may_ask(after) && agent_is_open(a) && note(h, vm_id, true))
		tell(h, after->vm, patience);
}

static void ask(void *data)
{
	g_autofree Question *q = data;
	g_autofree char *vm_id = q->vm_id;

	look(q->watch, vm_id, q->patience);
}

void hang_ask(HangWatch *h, const char *vm_id, uint64_t patience)
{
	Question *q = g_new(Question, 1);

	*q = (Question){ h, g_strdup(vm_id), patience };
	worker_pool_push(h->engine->pool, ask, q);
}

void hang_over(HangWatch *h, const char *vm_id)
{
	note(h, vm_id, false);
}
