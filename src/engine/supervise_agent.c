/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's agent says of itself, of addresses and of tools, as it comes and goes. */
#include "core/model/vm_state.h"
#include "engine/agent_ops.h"
#include "engine/engine-impl.h"
#include "engine/records.h"
#include "engine/supervise-impl.h"
#include "engine/tools.h"

#define AGENT_TIMEOUT UINT64_C(10000000)
/* An agent is often up before its guest has an address: it is asked again after these pauses, then no more.
 */
static const uint64_t address_pauses[] = { 2000000,  4000000,  8000000,   16000000,
					   32000000, 64000000, 128000000, 256000000 };

/* What it said, or NULL: it went. */
struct agent_news {
	const Json *info;
	Json *addresses; /* or NULL: not known */
};

static bool is_heard(Supervisor *s, const char *vm_id)
{
	g_autoptr(Agent) a = fleet_agent(s->engine->fleet, vm_id);

	return a != NULL && agent_is_open(a);
}

/* A guest is there, or nobody took back what was said of its agent. */
static bool may_go(const Json *runtime)
{
	VmState state = vm_runtime_state(runtime);

	return state == VM_RUNNING || state == VM_PAUSED ||
	       json_bool(json_obj(runtime, "agent"), "connected", false);
}

/*
 * That it came and that it went are told on two threads, whose order is anyone's. So what is so now is
 * written: of one that is heard what it said, and of one that is not that it went, whatever it said before.
 * The record of a guest that is being taken up says "suspended" still when its agent is heard.
 */
static bool put_agent(Supervisor *s, const char *vm_id, Json *runtime, void *data)
{
	const struct agent_news *news = data;
	bool heard = is_heard(s, vm_id);
	Json *agent;

	if (heard ? news->info == NULL : !may_go(runtime))
		return false;
	agent = json_object();
	json_put_bool(agent, "connected", heard);
	json_put_str(agent, "version", heard ? json_str(news->info, "version") : NULL);
	json_put(runtime, "agent", agent);
	if (heard && news->addresses != NULL)
		json_put(runtime, "addresses", json_ref(news->addresses));
	return true;
}

static void tell_agent(Supervisor *s, const char *vm_id, bool connected)
{
	g_autoptr(VmRecords) r = vm_records_load(s->engine->store, vm_id, NULL);

	if (r != NULL)
		events_emit(s->engine->events, connected ? EVENT_VM_AGENT_CONNECTED : EVENT_VM_AGENT_GONE,
			    "vm", r->vm->id, r->vm->name, NULL, "%s: the guest agent %s", r->vm->name,
			    connected ? "answers" : "went away");
}

/* How often the addresses of this vm were asked for since its agent came; counts up. */
static guint count_question(Supervisor *s, const char *vm_id, bool anew)
{
	guint n;

	g_mutex_lock(&s->lock);
	n = anew ? 0 : GPOINTER_TO_UINT(g_hash_table_lookup(s->asked, vm_id));
	g_hash_table_replace(s->asked, g_strdup(vm_id), GUINT_TO_POINTER(n + 1));
	g_mutex_unlock(&s->lock);
	return n;
}

/* An agent may be up before its guest has loaded its drivers: those that lack one are looked at again, then
 * no more. */
static const uint64_t driver_pauses[] = { 5000000, 30000000, 120000000 };

/* How often were this vm's tools looked at before, since its agent came? */
static guint count_look(Supervisor *s, const char *vm_id)
{
	guint n;

	g_mutex_lock(&s->lock);
	n = GPOINTER_TO_UINT(g_hash_table_lookup(s->looks, vm_id));
	g_hash_table_replace(s->looks, g_strdup(vm_id), GUINT_TO_POINTER(n + 1));
	g_mutex_unlock(&s->lock);
	return n;
}

static void forget_looks(Supervisor *s, const char *vm_id)
{
	g_mutex_lock(&s->lock);
	g_hash_table_remove(s->looks, vm_id);
	g_mutex_unlock(&s->lock);
}

static bool was_looked_at(Supervisor *s, const char *vm_id)
{
	bool was;

	g_mutex_lock(&s->lock);
	was = g_hash_table_contains(s->looks, vm_id);
	g_mutex_unlock(&s->lock);
	return was;
}

static void look_at_tools_again(void *data);

static void look_at_tools(Supervisor *s, const char *vm_id, Agent *a, const Json *info)
{
	guint n = count_look(s, vm_id);

	if (!tools_heard(s->engine, vm_id, a, info) && n < G_N_ELEMENTS(driver_pauses))
		supervisor_push_later(s, look_at_tools_again, vm_id, false, driver_pauses[n]);
}

static void look_at_tools_again(void *data)
{
	VmJob *j = data;
	g_autoptr(Agent) a = fleet_agent(j->s->engine->fleet, j->vm_id);
	_cleanup_json_ Json *info = NULL;

	if (a != NULL && agent_is_open(a))
		info = agent_info(a, AGENT_TIMEOUT, NULL);
	if (info != NULL)
		look_at_tools(j->s, j->vm_id, a, info);
	supervisor_job_free(j);
}

static void ask_agent(void *data);

static void look_at_agent(Supervisor *s, const char *vm_id, bool anew)
{
	g_autoptr(Agent) a = fleet_agent(s->engine->fleet, vm_id);
	_cleanup_json_ Json *info = NULL, *addresses = NULL;
	guint n = count_question(s, vm_id, anew);
	bool more;

	if (anew)
		forget_looks(s, vm_id);
	if (a == NULL || !agent_is_open(a))
		return;
	info = agent_info(a, AGENT_TIMEOUT, NULL);
	addresses = info != NULL ? agent_addresses(a, AGENT_TIMEOUT, NULL) : NULL;
	more = n < G_N_ELEMENTS(address_pauses) && (info == NULL || json_array_size(addresses) == 0);
	if (info != NULL) {
		struct agent_news news = { info, addresses };

		supervisor_update_runtime(s, vm_id, put_agent, &news);
	}
	if (anew)
		tell_agent(s, vm_id, true);
	if (info != NULL && !was_looked_at(s, vm_id))
		look_at_tools(s, vm_id, a, info);
	if (more)
		supervisor_push_later(s, ask_agent, vm_id, true, address_pauses[n]);
}

static void ask_agent(void *data)
{
	VmJob *j = data;

	look_at_agent(j->s, j->vm_id, false);
	supervisor_job_free(j);
}

void supervisor_greet_agent(void *data)
{
	VmJob *j = data;

	if (j->flag) {
		look_at_agent(j->s, j->vm_id, true);
	} else {
		struct agent_news gone = { 0 };

		supervisor_update_runtime(j->s, j->vm_id, put_agent, &gone);
		tell_agent(j->s, j->vm_id, false);
		forget_looks(j->s, j->vm_id);
		tools_gone(j->s->engine, j->vm_id);
	}
	supervisor_job_free(j);
}
