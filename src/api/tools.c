/* SPDX-License-Identifier: Apache-2.0 */
/* Guest tools: what the records say of them, and what they cost. No guest is asked. */
#include "api/handlers.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "core/tools/judge.h"
#include "core/tools/record.h"

#include <string.h>

static Json *parse(const StoreItem *item)
{
	return json_parse(item->value, strlen(item->value), NULL);
}

static void drop_json(gpointer p)
{
	json_unref(p);
}

/* {what is behind the prefix: record}; NULL with *err. */
static GHashTable *records_below(Store *s, const char *prefix, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s, prefix, NULL, err);
	GHashTable *all;

	if (items == NULL)
		return NULL;
	all = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, drop_json);
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		Json *j = parse(item);

		if (j != NULL)
			g_hash_table_replace(all, g_strdup(item->key + strlen(prefix)), j);
	}
	return all;
}

/* All borrowed; what is not there is NULL. */
struct seen {
	const Json *config, *runtime, *applied, *tools, *host;
};

static bool is_windows(const struct seen *s)
{
	if (json_obj(s->tools, "os") != NULL)
		return tools_record_is_windows(s->tools);
	return g_strcmp0(json_str(json_obj(s->config, "properties"), "os_type"), "windows") == 0;
}

static const char *agent_state(const struct seen *s)
{
	VmState state = vm_runtime_state(s->runtime);
	bool up = state == VM_RUNNING || state == VM_PAUSED;

	if (up && json_bool(json_obj(s->runtime, "agent"), "connected", false))
		return "connected";
	return s->tools != NULL ? "gone" : "none";
}

static Json *agent_view(const struct seen *s)
{
	const Json *agent = json_obj(s->tools, "agent");
	Json *j = json_object();

	json_put_str(j, "state", agent_state(s));
	json_put_str(j, "version", json_str(agent, "version"));
	json_put_str(j, "seen_at", json_str(s->tools, "seen_at"));
	json_put(j, "commands", agent != NULL ? json_ref(json_arr(agent, "commands")) : json_array());
	json_put(j, "disabled", agent != NULL ? json_ref(json_arr(agent, "disabled")) : json_array());
	return j;
}

static Json *judged(const struct seen *s)
{
	g_autofree char *expected = tools_expected(
	    json_obj(s->host, "settings"), json_str(json_obj(s->host, "qemu"), "version"), is_windows(s));
	const Json *arguments = json_arr(s->applied, "arguments");
	const struct tools_guest g = {
		.name = json_str(s->config, "name"),
		.record = s->tools,
		.expected = expected,
		.channel = arguments == NULL || tools_channel_offered(arguments),
		.offered = tools_devices_offered(arguments),
	};

	return tools_judge(&g);
}

static Json *or_null(const Json *obj, const char *key)
{
	Json *v = json_object_get(obj, key);

	return v != NULL ? json_ref(v) : json_null();
}

static Json *view(const struct seen *s)
{
	_cleanup_json_ Json *judgement = judged(s);
	Json *j = json_object();

	json_put_str(j, "id", json_str(s->config, "id"));
	json_put_str(j, "name", json_str(s->config, "name"));
	json_put_str(j, "state", json_str(s->runtime, "state"));
	json_put_str(j, "host", json_str(s->host, "name"));
	json_put(j, "properties", or_null(s->config, "properties"));
	json_put(j, "agent", agent_view(s));
	json_put(j, "os", or_null(s->tools, "os"));
	json_put(j, "drivers", or_null(s->tools, "drivers"));
	json_object_update(j, judgement);
	return j;
}

/* The records of one vm stand together, in this order: applied, config, runtime. */
static Json *view_all(const GPtrArray *items, GHashTable *tools, GHashTable *hosts)
{
	_cleanup_json_ Json *config = NULL, *applied = NULL;
	Json *list = json_array();

	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *runtime = NULL;
		struct seen s;

		if (g_str_has_suffix(item->key, "/applied")) {
			json_unref(applied);
			applied = parse(item);
		} else if (g_str_has_suffix(item->key, "/config")) {
			json_unref(config);
			config = parse(item);
		}
		if (!g_str_has_suffix(item->key, "/runtime") || config == NULL)
			continue;
		runtime = parse(item);
		s = (struct seen){ .config = config, .runtime = runtime, .applied = applied };
		s.tools = g_hash_table_lookup(tools, json_str(config, "id"));
		if (json_str(runtime, "host") != NULL)
			s.host = g_hash_table_lookup(hosts, json_str(runtime, "host"));
		json_array_append_new(list, view(&s));
		g_clear_pointer(&config, json_unref);
		g_clear_pointer(&applied, json_unref);
	}
	return list;
}

static Json *list_all(Store *s, GError **err)
{
	g_autoptr(GHashTable) tools = records_below(s, KEYS_TOOLS, err), hosts = NULL;
	g_autoptr(GPtrArray) vms = NULL;

	hosts = tools != NULL ? records_below(s, KEYS_HOSTS, err) : NULL;
	vms = hosts != NULL ? store_list(s, KEYS_VMS, NULL, err) : NULL;
	return vms != NULL ? view_all(vms, tools, hosts) : NULL;
}

bool api_tools_list(ApiCall *c, GError **err)
{
	Json *list = list_all(engine_store(c->engine), err);

	call_name_properties(c);
	if (list != NULL)
		list = call_arrange(c, list, err);
	return list != NULL && call_answer(c, 200, list);
}

bool api_vm_tools(ApiCall *c, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autofree char *tools_key = NULL, *host_key = NULL;
	_cleanup_json_ Json *config = NULL, *tools = NULL, *host = NULL;
	const char *on = r != NULL ? json_str(r->runtime, "host") : NULL;

	if (r == NULL)
		return false;
	tools_key = key_tools(r->vm->id);
	host_key = on != NULL ? key_host(on) : NULL;
	config = vm_to_json(r->vm);
	tools = record_get(s, tools_key, NULL, NULL);
	host = host_key != NULL ? record_get(s, host_key, NULL, NULL) : NULL;
	return call_answer(c, 200, view(&(struct seen){ config, r->runtime, r->applied, tools, host }));
}
