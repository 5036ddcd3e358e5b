/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest's agent says of itself, of addresses and of tools, as it comes and goes. */
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

static Json *agent_members(bool connected, const Json *info, Json *addresses)
{
	Json *m = json_object(), *agent = json_object();

	json_put_bool(agent, "connected", connected);
	json_put_str(agent, "version", json_str(info, "version"));
	json_put(m, "agent", agent);
	if (addresses != NULL)
		json_put(m, "addresses", addresses);
	return m;
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
	_cleanup_json_ Json *info = NULL, *m = NULL;
	guint n = count_question(s, vm_id, anew);
	Json *addresses;
	bool more;

	if (anew)
		forget_looks(s, vm_id);
	if (a == NULL || !agent_is_open(a))
		return;
	info = agent_info(a, AGENT_TIMEOUT, NULL);
	addresses = info != NULL ? agent_addresses(a, AGENT_TIMEOUT, NULL) : NULL;
	more = n < G_N_ELEMENTS(address_pauses) && (info == NULL || json_array_size(addresses) == 0);
	if (info != NULL) {
		m = agent_members(true, info, addresses);
		supervisor_update_runtime(s, vm_id, m);
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
		_cleanup_json_ Json *m = agent_members(false, NULL, NULL);

		supervisor_update_runtime(j->s, j->vm_id, m);
		tell_agent(j->s, j->vm_id, false);
		forget_looks(j->s, j->vm_id);
		tools_gone(j->s->engine, j->vm_id);
	}
	supervisor_job_free(j);
}
