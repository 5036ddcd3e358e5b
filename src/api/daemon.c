/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon itself: who it is, its API's description, its metrics. */
#include "api/handlers.h"
#include "api/openapi.gen.h"
#include "base/fd.h"
#include "base/version.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"

#include <string.h>
#include <sys/resource.h>

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

/* OpenMetrics: the family has no _total, its samples have. */
static void put_counter(GString *s, const char *name, const char *help)
{
	g_string_append_printf(s, "# TYPE %s counter\n# HELP %s %s\n", name, name, help);
}

/* Counters of guests with one more label: its values, and the member of a guest's totals that has each. */
static const struct guest_counter {
	const char *name, *help, *label, *value[2], *member[2];
	double unit; /* so many of the member make one of the counter */
} guest_counters[] = {
	{ "plimsoll_vm_wakeups",
	  "How often threads of a vm's QEMU began to run.",
	  "thread",
	  { "main", "vcpu" },
	  { "main_wakeups", "vcpu_wakeups" },
	  1 },
	{ "plimsoll_vm_cpu_seconds",
	  "CPU time of threads of a vm's QEMU.",
	  "thread",
	  { "main", "vcpu" },
	  { "main_cpu", "vcpu_cpu" },
	  1e6 },
	{ "plimsoll_vm_kvm_exits",
	  "Exits of a vm from KVM, where the kernel's debugfs tells.",
	  "kind",
	  { "all", "halt" },
	  { "exits", "halts" },
	  1 },
};

static void put_guest_counter(GString *s, const Json *guests, const struct guest_counter *c)
{
	Json *g;
	size_t i;

	put_counter(s, c->name, c->help);
	json_array_foreach((Json *)guests, i, g)
	{
		g_autofree char *vm = escape(json_str(g, "name"));

		for (size_t k = 0; k < G_N_ELEMENTS(c->member); k++) {
			const Json *n = json_object_get(json_obj(g, "total"), c->member[k]);

			if (json_is_integer(n))
				g_string_append_printf(s, "%s_total{vm=\"%s\",name=\"%s\",%s=\"%s\"} %.15g\n",
						       c->name, json_str(g, "id"), vm, c->label, c->value[k],
						       (double)json_integer_value(n) / c->unit);
		}
	}
}

static void put_wakeups(ApiCall *c, GString *s)
{
	_cleanup_json_ Json *report = engine_wakeups(c->engine);
	const Json *guests = json_arr(report, "guests");
	Json *g;
	size_t i;

	for (size_t k = 0; k < G_N_ELEMENTS(guest_counters); k++)
		put_guest_counter(s, guests, &guest_counters[k]);
	put_metric(s, "plimsoll_vm_over_idle_budget", "1: the vm is idle and costs more than its budget.");
	json_array_foreach((Json *)guests, i, g)
	{
		g_autofree char *vm = escape(json_str(g, "name"));

		g_string_append_printf(s, "plimsoll_vm_over_idle_budget{vm=\"%s\",name=\"%s\"} %d\n",
				       json_str(g, "id"), vm, json_bool(g, "over", false));
	}
}

/* Of guests with dynamic memory. */
static void put_memory(ApiCall *c, GString *s)
{
	static const struct {
		const char *name, *key, *help;
	} metric[] = {
		{ "plimsoll_vm_memory_size_bytes", "size", "Memory that a guest with dynamic memory has." },
		{ "plimsoll_vm_memory_target_bytes", "to", "What it shall have." },
		{ "plimsoll_vm_memory_need_bytes", "need", "What it uses and could not give back." },
	};
	_cleanup_json_ Json *guests = memory_keeper_list(engine_memory_keeper(c->engine));
	Json *g;
	size_t i;

	for (size_t m = 0; m < G_N_ELEMENTS(metric); m++) {
		put_metric(s, metric[m].name, metric[m].help);
		json_array_foreach(guests, i, g)
		{
			g_autofree char *vm = escape(json_str(g, "name"));

			if (json_is_integer(json_object_get(g, metric[m].key)))
				g_string_append_printf(s, "%s{vm=\"%s\",name=\"%s\"} %" G_GUINT64_FORMAT "\n",
						       metric[m].name, json_str(g, "id"), vm,
						       json_uint(g, metric[m].key, 0));
		}
	}
}

/* What the daemon itself takes, by the names that all exporters use. */
static void put_process(GString *s)
{
	g_autofree char *statm = file_read_virtual("/proc/self/statm", 256, NULL, NULL);
	g_auto(GStrv) pages = g_strsplit(statm != NULL ? statm : "", " ", 3);
	struct rusage r;

	if (getrusage(RUSAGE_SELF, &r) == 0) {
		put_counter(s, "process_cpu_seconds", "CPU time of the daemon.");
		g_string_append_printf(s, "process_cpu_seconds_total %.6f\n",
				       (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
					   (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6);
	}
	if (g_strv_length(pages) > 1) {
		put_metric(s, "process_resident_memory_bytes", "Memory of the daemon.");
		g_string_append_printf(s, "process_resident_memory_bytes %" G_GUINT64_FORMAT "\n",
				       g_ascii_strtoull(pages[1], NULL, 10) *
					   (uint64_t)sysconf(_SC_PAGESIZE));
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
	put_wakeups(c, s);
	put_memory(c, s);
	put_process(s);
	g_string_append(s, "# EOF\n");
	json_unref(c->answer);
	c->answer = NULL;
	len = s->len;
	return call_answer_bytes(c, "application/openmetrics-text; version=1.0.0; charset=utf-8",
				 g_bytes_new_take(g_string_free(s, FALSE), len));
}
