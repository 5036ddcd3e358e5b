/* SPDX-License-Identifier: Apache-2.0 */
#include "core/guest/host_facts.h"
#include "core/model/settings.h"

static const char *const accel_names[_ACCEL_MAX] = {
#define X(name, text) [ACCEL_##name] = text,
	ACCEL_TABLE(X)
#undef X
};

const char *accel_name(Accel a)
{
	g_assert(a < _ACCEL_MAX);
	return accel_names[a];
}

bool accel_of_name(const char *name, Accel *ret)
{
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		if (g_str_equal(accel_names[a], name)) {
			*ret = a;
			return true;
		}
	return false;
}

static void machine_free(gpointer p)
{
	HostMachine *m = p;

	g_free(m->name);
	g_free(m->alias);
	g_free(m);
}

HostFacts *host_facts_new(void)
{
	HostFacts *h = g_new0(HostFacts, 1);

	h->machine = g_ptr_array_new_with_free_func(machine_free);
	h->accel_wanted = g_strdup("auto");
	h->settings = json_object();
	return h;
}

HostFacts *host_facts_free(HostFacts *h)
{
	char **text[] = { &h->id,
			  &h->name,
			  &h->accel_wanted,
			  &h->qemu,
			  &h->qemu_version,
			  &h->cpu_vendor,
			  &h->cpu_model,
			  &h->uefi.code,
			  &h->uefi.vars,
			  &h->uefi_secure.code,
			  &h->uefi_secure.vars,
			  &h->swtpm,
			  &h->run_as,
			  &h->folders.state,
			  &h->folders.run,
			  &h->folders.log };

	if (h == NULL)
		return NULL;
	for (size_t i = 0; i < G_N_ELEMENTS(text); i++)
		g_free(*text[i]);
	for (Accel a = 0; a < _ACCEL_MAX; a++)
		g_free(h->accel[a].reason);
	g_ptr_array_unref(h->machine);
	json_unref(h->settings);
	g_free(h);
	return NULL;
}

void host_facts_add_machine(HostFacts *h, const char *name, const char *alias)
{
	HostMachine *m = g_new(HostMachine, 1);

	*m = (HostMachine){ .name = g_strdup(name), .alias = g_strdup(alias) };
	g_ptr_array_add(h->machine, m);
}

const HostMachine *host_machine_find(const HostFacts *h, const char *name)
{
	for (guint i = 0; i < h->machine->len; i++) {
		const HostMachine *m = h->machine->pdata[i];

		if (g_str_equal(m->name, name) || g_strcmp0(m->alias, name) == 0)
			return m;
	}
	return NULL;
}

static void take_text(const Json *j, const char *key, char **ret)
{
	g_free(*ret);
	*ret = g_strdup(json_str(j, key));
}

static void firmware_of_json(HostFirmware *f, const Json *j)
{
	if (json_str(j, "code") == NULL || json_str(j, "vars") == NULL)
		return;
	take_text(j, "code", &f->code);
	take_text(j, "vars", &f->vars);
}

static void qemu_of_json(HostFacts *h, const Json *j)
{
	const Json *list = json_arr(j, "machines"), *m;
	size_t i;

	take_text(j, "path", &h->qemu);
	take_text(j, "version", &h->qemu_version);
	json_array_foreach(list, i, m) if (json_str(m, "name") != NULL)
	    host_facts_add_machine(h, json_str(m, "name"), json_str(m, "alias"));
}

static void accel_of_json(HostFacts *h, const Json *j)
{
	for (Accel a = 0; a < _ACCEL_MAX; a++) {
		const Json *f = json_obj(j, accel_names[a]);

		h->accel[a].works = json_bool(f, "works", false);
		take_text(f, "reason", &h->accel[a].reason);
	}
}

static bool complete(const HostFacts *h, GError **err)
{
	const struct {
		const char *what, *text;
		bool path;
	} need[] = {
		{ "name", h->name, false },
		{ "QEMU's path", h->qemu, true },
		{ "state folder", h->folders.state, true },
		{ "run folder", h->folders.run, true },
		{ "log folder", h->folders.log, true },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(need); i++)
		if (need[i].text == NULL || (need[i].path && need[i].text[0] != '/'))
			return fail(err, ERR_INVALID, "the record of a host lacks its %s", need[i].what);
	return true;
}

HostFacts *host_facts_of_json(const Json *j, GError **err)
{
	g_autoptr(HostFacts) h = host_facts_new();
	const Json *cpu = json_obj(j, "cpu"), *fw = json_obj(j, "firmware"), *dirs = json_obj(j, "folders");

	take_text(j, "id", &h->id);
	take_text(j, "name", &h->name);
	accel_of_json(h, json_obj(j, "accelerators"));
	if (json_str(j, "accel") != NULL)
		take_text(j, "accel", &h->accel_wanted);
	qemu_of_json(h, json_obj(j, "qemu"));
	h->cpus = (unsigned)MIN(json_uint(cpu, "count", 0), UINT16_MAX);
	take_text(cpu, "vendor", &h->cpu_vendor);
	take_text(cpu, "model", &h->cpu_model);
	h->memory = json_uint(j, "memory", 0);
	firmware_of_json(&h->uefi, json_obj(fw, "uefi"));
	firmware_of_json(&h->uefi_secure, json_obj(fw, "uefi_secure"));
	take_text(j, "swtpm", &h->swtpm);
	take_text(j, "run_as", &h->run_as);
	h->vhost_net = json_bool(j, "vhost_net", false);
	h->direct_io = json_bool(j, "direct_io", false);
	take_text(dirs, "state", &h->folders.state);
	take_text(dirs, "run", &h->folders.run);
	take_text(dirs, "log", &h->folders.log);
	if (json_obj(j, "settings") != NULL &&
	    !host_settings_merge(h->settings, json_obj(j, "settings"), err))
		return NULL;
	return complete(h, err) ? g_steal_pointer(&h) : NULL;
}

static Json *firmware_to_json(const HostFirmware *f)
{
	Json *j;

	if (f->code == NULL)
		return json_null();
	j = json_object();
	json_put_str(j, "code", f->code);
	json_put_str(j, "vars", f->vars);
	return j;
}

static Json *qemu_to_json(const HostFacts *h)
{
	Json *j = json_object(), *list = json_array();

	for (guint i = 0; i < h->machine->len; i++) {
		const HostMachine *m = h->machine->pdata[i];
		Json *item = json_object();

		json_put_str(item, "name", m->name);
		json_put_str(item, "alias", m->alias);
		json_array_append_new(list, item);
	}
	json_put_str(j, "path", h->qemu);
	json_put_str(j, "version", h->qemu_version);
	json_put(j, "machines", list);
	return j;
}

static Json *accel_to_json(const HostFacts *h)
{
	Json *j = json_object();

	for (Accel a = 0; a < _ACCEL_MAX; a++) {
		Json *f = json_object();

		json_put_bool(f, "works", h->accel[a].works);
		json_put_str(f, "reason", h->accel[a].reason);
		json_put(j, accel_names[a], f);
	}
	return j;
}

Json *host_facts_to_json(const HostFacts *h)
{
	Json *j = json_object(), *cpu = json_object(), *fw = json_object(), *dirs = json_object();

	json_put_int(cpu, "count", h->cpus);
	json_put_str(cpu, "vendor", h->cpu_vendor);
	json_put_str(cpu, "model", h->cpu_model);
	json_put(fw, "uefi", firmware_to_json(&h->uefi));
	json_put(fw, "uefi_secure", firmware_to_json(&h->uefi_secure));
	json_put_str(dirs, "state", h->folders.state);
	json_put_str(dirs, "run", h->folders.run);
	json_put_str(dirs, "log", h->folders.log);
	json_put_str(j, "id", h->id);
	json_put_str(j, "name", h->name);
	json_put(j, "accelerators", accel_to_json(h));
	json_put_str(j, "accel", h->accel_wanted);
	json_put(j, "qemu", qemu_to_json(h));
	json_put(j, "cpu", cpu);
	json_put_uint(j, "memory", h->memory);
	json_put(j, "firmware", fw);
	json_put_str(j, "swtpm", h->swtpm);
	json_put_str(j, "run_as", h->run_as);
	json_put_bool(j, "vhost_net", h->vhost_net);
	json_put_bool(j, "direct_io", h->direct_io);
	json_put(j, "folders", dirs);
	json_put(j, "settings", json_deep_copy(h->settings));
	return j;
}
