/* SPDX-License-Identifier: Apache-2.0 */
/* Vms, as they are read. */
#include "api/handlers.h"
#include "api/vm_view.h"
#include "core/guest/argv.h"
#include "core/guest/explain.h"
#include "core/guest/libvirt_xml.h"
#include "core/guest/profile.h"
#include "core/model/keys.h"
#include "core/model/settings.h"
#include "core/model/vm_state.h"
#include "engine/records.h"

#include <string.h>

VmRecords *call_vm(ApiCall *c, GError **err)
{
	Store *s = engine_store(c->engine);
	g_autofree char *id = record_resolve(s, "vms", call_path(c, "vm"), err);

	return id != NULL ? vm_records_load(s, id, err) : NULL;
}

/* Both records of each vm stand together in the list, configuration first ("applied" before it is passed
 * over). */
static Json *all_vms(ApiCall *c, bool with_memory, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(engine_store(c->engine), KEYS_VMS, NULL, err);
	_cleanup_json_ Json *config = NULL;
	int64_t rev = 0;
	Json *list;

	if (items == NULL)
		return NULL;
	list = json_array();
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		_cleanup_json_ Json *runtime = NULL;

		if (g_str_has_suffix(item->key, "/config")) {
			json_unref(config);
			config = json_parse(item->value, strlen(item->value), NULL);
			rev = item->rev;
		} else if (g_str_has_suffix(item->key, "/runtime") && config != NULL) {
			Json *vm;

			runtime = json_parse(item->value, strlen(item->value), NULL);
			/* What can't be read hides itself, and nothing else. */
			if (!json_is_object(config) || !json_is_object(runtime))
				continue;
			vm = vm_view(config, runtime, NULL, rev);
			if (with_memory)
				json_put(vm, "memory", vm_memory_if_here(c, config, runtime));
			json_array_append_new(list, vm);
		}
	}
	return list;
}

void call_name_properties(ApiCall *c)
{
	static const char *const begins[] = { "os_", "hw_" };
	g_autoptr(GStrvBuilder) b = g_strv_builder_new();

	for (const char *const *f = call_queries(c, "filter"); *f != NULL; f++) {
		bool property = false;
		g_autofree char *full = NULL;

		for (size_t i = 0; i < G_N_ELEMENTS(begins); i++)
			property |= g_str_has_prefix(*f, begins[i]);
		full = g_strconcat(property ? "properties." : "", *f, NULL);
		g_strv_builder_add(b, full);
	}
	g_hash_table_replace(c->query, g_strdup("filter"), g_strv_builder_end(b));
}

bool api_vm_list(ApiCall *c, GError **err)
{
	bool memory;
	Json *list = NULL;

	if (!call_flag(c, "memory", false, &memory, err))
		return false;
	list = all_vms(c, memory, err);
	call_name_properties(c);
	if (list != NULL)
		list = call_arrange(c, list, err);
	return list != NULL && call_answer(c, 200, list);
}

static bool runs(const VmRecords *r)
{
	VmState s = vm_runtime_state(r->runtime);

	return s == VM_RUNNING || s == VM_PAUSED;
}

/* The CPU that the guest keeps, and what a power cycle would change; null when it does not run or has no pin.
 */
static Json *cpu_view(ApiCall *c, const VmRecords *r)
{
	g_autoptr(CpuOffer) cpu = NULL;

	if (!runs(r) || json_obj(r->applied, "pin") == NULL)
		return json_null();
	cpu = host_cpu_offer(engine_cpu(c->engine));
	return pin_view(json_obj(r->applied, "pin"), r->vm, engine_facts(c->engine), cpu);
}

bool api_vm_show(ApiCall *c, GError **err)
{
	g_autoptr(VmRecords) r = call_vm(c, err);
	_cleanup_json_ Json *config = NULL;
	Json *j;

	if (r == NULL)
		return false;
	config = vm_to_json(r->vm);
	j = vm_view(config, r->runtime, r->applied, r->seen.config_rev);
	json_put(j, "cpu", cpu_view(c, r));
	return call_answer_object(c, j, r->seen.config_rev);
}

static Json *setting_to_json(const Setting *s)
{
	bool bounded = s->type == SETTING_INT || s->type == SETTING_SIZE || s->type == SETTING_DURATION;
	Json *j = json_object();

	json_put_str(j, "key", s->key);
	json_put_str(j, "type", setting_type_name(s->type));
	json_put_str(j, "applies", s->applies == APPLIES_NOW ? "now" : "start");
	json_put(j, "min", bounded ? json_integer(s->min) : json_null());
	json_put(j, "max", bounded ? json_integer(s->max) : json_null());
	json_put(j, "values", s->values != NULL ? json_of_strv(s->values) : json_null());
	json_put_str(j, "default", s->dflt);
	json_put_str(j, "help", s->help);
	return j;
}

bool api_settings_list(ApiCall *c, GError **err)
{
	const char *of = call_query(c, "of");
	bool host = g_strcmp0(of, "host") == 0;
	const Setting *row = host ? host_settings : settings;
	Json *list;

	if (of != NULL && !host && !g_str_equal(of, "vm"))
		return fail_advice(err, ERR_INVALID, "Write vm or host.", "there are no settings of a '%s'",
				   of);
	list = json_array();
	for (size_t i = 0; i < (host ? n_host_settings : n_settings); i++)
		json_array_append_new(list, setting_to_json(&row[i]));
	return call_answer(c, 200, list);
}

/* What the next start would use: the same functions that a start calls. */
typedef struct Hardware {
	CpuOffer *cpu;
	Profile *profile;
	Argv *next, *applied;
	GPtrArray *path; /* of disks, NULL-terminated, borrowed */
} Hardware;

static void hardware_done(Hardware *h)
{
	cpu_offer_free(h->cpu);
	profile_free(h->profile);
	argv_free(h->next);
	argv_free(h->applied);
	if (h->path != NULL)
		g_ptr_array_unref(h->path);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Hardware, hardware_done)

static bool find_hardware(ApiCall *c, const VmRecords *r, Hardware *h, GError **err)
{
	const HostFacts *host = engine_facts(c->engine);

	h->path = g_ptr_array_new();
	for (guint i = 0; i < r->vm->disk->len; i++) {
		const VmDisk *d = r->vm->disk->pdata[i];
		const Volume *v = r->seen.volume->pdata[i];

		g_ptr_array_add(h->path, d->path != NULL || v == NULL ? d->path : v->path);
		if (h->path->pdata[i] == NULL)
			return fail(err, ERR_NOT_FOUND, "the volume of disk '%s' is gone", d->name);
	}
	g_ptr_array_add(h->path, NULL);
	h->cpu = host_cpu_offer(engine_cpu(c->engine));
	h->profile = profile_of(r->vm, host, h->cpu, json_str(r->runtime, "machine"), err);
	if (h->profile == NULL)
		return false;
	h->next = argv_of(h->profile, r->vm, host, (const char *const *)h->path->pdata, err);
	return h->next != NULL;
}

/* The command line of the QEMU that runs; *ret is NULL when none does. */
static bool running_argv(const VmRecords *r, Argv **ret, GError **err)
{
	*ret = NULL;
	if (!runs(r) || r->applied == NULL)
		return true;
	*ret = argv_of_json(json_object_get(r->applied, "arguments"), err);
	return *ret != NULL;
}

/* The host may have changed so that it can't start again what it runs: then what runs is explained still. */
bool api_vm_explain(ApiCall *c, GError **err)
{
	g_auto(Hardware) h = { 0 };
	g_autoptr(VmRecords) r = call_vm(c, err);
	g_autoptr(GError) blocked = NULL;
	Json *j;

	if (r == NULL || !running_argv(r, &h.applied, err))
		return false;
	if (!find_hardware(c, r, &h, &blocked) && h.applied == NULL) {
		g_propagate_error(err, g_steal_pointer(&blocked));
		return false;
	}
	j = explain_of(&(struct explain){ .profile = h.profile,
					  .next = h.next,
					  .blocked = blocked,
					  .applied = h.applied,
					  .could_not = json_object_get(r->applied, "could_not") });
	json_put_bool(j, "running", runs(r));
	return call_answer(c, 200, j);
}

bool api_vm_export(ApiCall *c, GError **err)
{
	const char *format = call_query(c, "format");
	g_auto(Hardware) h = { 0 };
	g_autoptr(VmRecords) r = call_vm(c, err);
	char *xml;

	if (r == NULL)
		return false;
	if (format != NULL && !g_str_equal(format, "libvirt-xml"))
		return fail_advice(err, ERR_INVALID, "Write libvirt-xml.", "there is no export format '%s'",
				   format);
	if (!find_hardware(c, r, &h, err))
		return false;
	xml = libvirt_xml_of(h.profile, r->vm, engine_facts(c->engine), (const char *const *)h.path->pdata);
	return call_answer_bytes(c, "application/xml", g_bytes_new_take(xml, strlen(xml)));
}
