/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon itself: who it is, its API's description, its metrics. */
#include "api/handlers.h"
#include "api/openapi.gen.h"
#include "base/version.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"

#include <string.h>

static Json *pool_of(Engine *e)
{
	const Membership *m = engine_membership(e);
	Json *j;

	if (m == NULL)
		return json_null();
	j = json_object();
	json_put_str(j, "id", m->pool_id);
	json_put_str(j, "name", m->pool_name);
	return j;
}

bool api_daemon_show(ApiCall *c, GError **err)
{
	int64_t revision = store_revision(engine_store(c->engine), err);
	Json *j;

	if (revision < 0)
		return false;
	j = json_object();
	json_put_str(j, "name", "plimsoll");
	json_put_str(j, "version", plimsoll_version);
	json_put_str(j, "api", "1");
	json_put_str(j, "host", engine_facts(c->engine)->name);
	json_put(j, "pool", pool_of(c->engine));
	json_put_str(j, "engine", engine_is_sim(c->engine) ? "sim" : "qemu");
	json_put_str(j, "user", c->user);
	json_put_str(j, "role", role_name(c->role));
	json_put_int(j, "revision", revision);
	return call_answer(c, 200, j);
}

bool api_daemon_openapi(ApiCall *c, GError **err)
{
	(void)err;
	return call_answer_bytes(c, "application/json",
				 g_bytes_new_static(openapi_json, strlen(openapi_json)));
}

static void put_metric(GString *s, const char *name, const char *help)
{
	g_string_append_printf(s, "# TYPE %s gauge\n# HELP %s %s\n", name, name, help);
}

/* Label values: OpenMetrics escapes backslash, quote and line feed. */
static char *escape(const char *text)
{
	GString *s = g_string_new(NULL);

	for (; *text != '\0'; text++) {
		if (*text == '\\' || *text == '"')
			g_string_append_c(s, '\\');
		if (*text == '\n')
			g_string_append(s, "\\n");
		else
			g_string_append_c(s, *text);
	}
	return g_string_free(s, FALSE);
}

static void put_vms(GString *s, const Json *vms)
{
	Json *vm;
	size_t i;

	put_metric(s, "plimsoll_vm_state", "State of a vm: 1 for the state it is in.");
	json_array_foreach((Json *)vms, i, vm)
	{
		VmState now = vm_runtime_state(json_object_get(vm, "runtime"));
		g_autofree char *name = escape(json_str(vm, "name"));

		for (VmState st = 0; st < _VM_STATE_MAX; st++)
			g_string_append_printf(s,
					       "plimsoll_vm_state{vm=\"%s\",name=\"%s\",state=\"%s\"} %d\n",
					       json_str(vm, "id"), name, vm_state_name(st), st == now);
	}
}

bool api_metrics(ApiCall *c, GError **err)
{
	GString *s;
	gsize len;

	if (!api_vm_list(c, err))
		return false;
	s = g_string_new(NULL);
	put_metric(s, "plimsoll_daemon_info", "Version of the daemon.");
	g_string_append_printf(s, "plimsoll_daemon_info{version=\"%s\"} 1\n", plimsoll_version);
	put_metric(s, "plimsoll_vms", "Vms that this daemon knows.");
	g_string_append_printf(s, "plimsoll_vms %zu\n", json_array_size(c->answer));
	put_metric(s, "plimsoll_qemu_processes", "QEMU processes of this host.");
	g_string_append_printf(s, "plimsoll_qemu_processes %u\n",
			       engine_is_sim(c->engine) ? 0 : fleet_size(engine_fleet(c->engine)));
	put_vms(s, c->answer);
	g_string_append(s, "# EOF\n");
	json_unref(c->answer);
	c->answer = NULL;
	len = s->len;
	return call_answer_bytes(c, "application/openmetrics-text; version=1.0.0; charset=utf-8",
				 g_bytes_new_take(g_string_free(s, FALSE), len));
}
