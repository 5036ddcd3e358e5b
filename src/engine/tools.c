/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tools.h"
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/tools/judge.h"
#include "core/tools/record.h"
#include "engine/agent_ops.h"
#include "engine/engine-impl.h"
#include "engine/owner.h"
#include "engine/records.h"

#include <string.h>

/* For all questions to one guest together. */
#define ASK_TIMEOUT UINT64_C(20000000)
/* Somebody else writes the same record only while a guest moves. */
#define TRIES 20

/* A record on its way into the store. */
typedef struct Entry {
	char *key;
	int64_t rev; /* 0: there is none yet */
	Json *record;
} Entry;

static void entry_clear(Entry *n)
{
	g_free(n->key);
	json_unref(n->record);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Entry, entry_clear)

/* ---- drift ---- */

static bool os_type_is_windows(const Vm *vm)
{
	return g_strcmp0(json_str(vm->properties, "os_type"), "windows") == 0;
}

/* What this host expects of the guest. Caller frees. */
static char *expected_of(Engine *e, const Vm *vm, const Json *record)
{
	const HostFacts *f = engine_facts(e);
	bool windows =
	    json_obj(record, "os") != NULL ? tools_record_is_windows(record) : os_type_is_windows(vm);

	return tools_expected(f->settings, f->qemu_version, windows);
}

static Json *drift_details(const Json *record, const char *expected)
{
	Json *j = json_object();

	json_put_str(j, "version", json_str(json_obj(record, "agent"), "version"));
	json_put_str(j, "expected", expected);
	return j;
}

/* With the note that it was told, or not at all. */
static bool tell_drift(Engine *e, const Vm *vm, Entry *n, GError **err)
{
	g_autofree char *expected = expected_of(e, vm, n->record), *text = NULL, *value = NULL;

	if (tools_drift_of(n->record, expected) != TOOLS_DRIFT_OLDER ||
	    tools_record_was_told(n->record, expected))
		return true;
	text = g_strdup_printf(
	    "%s: the guest agent is %s, its host %s expects %s; `plim tools show %s` says what "
	    "that costs, `plim tools rollout` upgrades it",
	    vm->name, json_str(json_obj(n->record, "agent"), "version"), e->host_name, expected, vm->name);
	tools_record_tell(n->record, expected);
	value = json_print(n->record);
	return events_emit_with(e->events, n->key, n->rev, value, EVENT_VM_TOOLS_OLD, "vm", vm->id, vm->name,
				drift_details(n->record, expected), text, err);
}

/* ---- the record ---- */

static bool load(Engine *e, const char *vm_id, Entry *ret, GError **err)
{
	g_autoptr(GError) why = NULL;

	entry_clear(ret);
	*ret = (Entry){ .key = key_tools(vm_id) };
	ret->record = record_get(e->store, ret->key, &ret->rev, &why);
	if (ret->record == NULL)
		ret->rev = 0;
	if (why == NULL)
		return true;
	g_propagate_error(err, g_steal_pointer(&why));
	return false;
}

/* A vm that is deleted meanwhile gets none: its configuration must be there still. */
static bool put(Engine *e, const VmRecords *r, Entry *n, GError **err)
{
	g_autofree char *config = key_vm_config(r->vm->id), *value = json_print(n->record);
	StoreTx *tx = store_tx_new();

	store_tx_expect(tx, config, r->seen.config_rev);
	store_tx_set(tx, n->key, n->rev, value);
	return store_commit(e->store, tx, STORE_RELAXED, &n->rev, err);
}

typedef struct Change {
	const struct tools_heard *heard; /* NULL: the agent went away */
	const char *now;
} Change;

static Json *changed(const Json *before, const Change *c)
{
	Json *j;

	if (c->heard != NULL)
		return tools_record_new(c->heard, before);
	if (before == NULL)
		return NULL;
	j = json_deep_copy(before);
	json_put_str(j, "seen_at", c->now);
	return j;
}

/* False when it is to be tried again. */
static bool change_once(Engine *e, const char *vm_id, const Change *c, GError **err)
{
	g_autoptr(VmRecords) r = vm_records_load(e->store, vm_id, err);
	g_auto(Entry) n = { 0 };
	Json *record;

	if (r == NULL || !load(e, vm_id, &n, err))
		return false;
	record = owner_may_write(e->store, r->runtime, e->host_id) ? changed(n.record, c) : NULL;
	if (record == NULL)
		return true;
	json_unref(n.record);
	n.record = record;
	return put(e, r, &n, err) && (c->heard == NULL || tell_drift(e, r->vm, &n, err));
}

static void change(Engine *e, const char *vm_id, const Change *c)
{
	g_autoptr(GError) err = NULL;
	bool done = false;

	for (int i = 0; i < TRIES && !done; i++) {
		g_clear_error(&err);
		done = change_once(e, vm_id, c, &err);
		if (!done && !store_is_conflict(err))
			break;
	}
	if (!done && !g_error_matches(err, ERR, ERR_NOT_FOUND))
		log_warning("what the guest tools of vm %s said was not stored: %s", vm_id, err->message);
}

/* ---- when ---- */

bool tools_heard(Engine *e, const char *vm_id, Agent *a, const Json *info)
{
	g_autofree char *now = time_stamp();
	_cleanup_json_ Json *os = agent_osinfo(a, ASK_TIMEOUT / 4, NULL);
	_cleanup_json_ Json *drivers = agent_drivers(a, info, ASK_TIMEOUT - ASK_TIMEOUT / 4, NULL);
	const struct tools_heard heard = {
		.now = now, .host = e->host_id, .info = info, .os = os, .drivers = drivers
	};

	change(e, vm_id, &(Change){ .heard = &heard });
	return tools_all_driven(drivers);
}

void tools_gone(Engine *e, const char *vm_id)
{
	g_autofree char *now = time_stamp();

	change(e, vm_id, &(Change){ .now = now });
}

void tools_review(Engine *e)
{
	g_autoptr(GPtrArray) items = store_list(e->store, KEYS_TOOLS, NULL, NULL);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		const char *vm_id = ((StoreItem *)items->pdata[i])->key + strlen(KEYS_TOOLS);
		g_autoptr(VmRecords) r = vm_records_load(e->store, vm_id, NULL);
		g_auto(Entry) n = { 0 };
		g_autoptr(GError) err = NULL;

		if (r == NULL || g_strcmp0(json_str(r->runtime, "host"), e->host_id) != 0 ||
		    !load(e, vm_id, &n, NULL) || n.record == NULL)
			continue;
		/* What is written meanwhile is judged by who writes it. */
		if (!tell_drift(e, r->vm, &n, &err) && !store_is_conflict(err))
			log_warning("the event of %s's old tools was not stored: %s", r->vm->name,
				    err->message);
	}
}
