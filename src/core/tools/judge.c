/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tools/judge.h"
#include "core/model/settings.h"
#include "core/tools/record.h"
#include "core/tools/version.h"

#include <string.h>

static const struct capability {
	const char *name, *loss, *commands, *since;
	ToolsDevice device; /* _TOOLS_DEVICE_MAX: it hangs on commands */
} table[_TOOLS_CAPABILITY_MAX] = {
#define X(key, name, loss, commands, since, device) [TOOLS_##key] = { name, loss, commands, since, device },
	TOOLS_CAPABILITY_TABLE(X)
#undef X
};

static const char *const drift_names[_TOOLS_DRIFT_MAX] = {
#define X(key, name) [TOOLS_DRIFT_##key] = name,
	TOOLS_DRIFT_TABLE(X)
#undef X
};

const char *tools_capability_name(ToolsCapability c)
{
	g_assert(c < _TOOLS_CAPABILITY_MAX);
	return table[c].name;
}

const char *tools_drift_name(ToolsDrift d)
{
	g_assert(d < _TOOLS_DRIFT_MAX);
	return drift_names[d];
}

static const char *version_of(const Json *record)
{
	return json_str(json_obj(record, "agent"), "version");
}

ToolsDrift tools_drift_of(const Json *record, const char *expected)
{
	struct tools_version is, wanted;
	int order;

	if (record == NULL)
		return TOOLS_DRIFT_NONE;
	if (!tools_version_parse(version_of(record), &is) || !tools_version_parse(expected, &wanted))
		return TOOLS_DRIFT_UNKNOWN;
	order = tools_version_compare(&is, &wanted);
	if (order == 0)
		return TOOLS_DRIFT_CURRENT;
	return order < 0 ? TOOLS_DRIFT_OLDER : TOOLS_DRIFT_NEWER;
}

static const char *const version_settings[] = { "tools.version", "tools.windows_version" };

bool tools_settings_named(const Json *changes)
{
	bool named = false;

	for (size_t i = 0; i < G_N_ELEMENTS(version_settings); i++)
		named |= json_object_get(changes, version_settings[i]) != NULL;
	return named;
}

bool tools_settings_check(const Json *changes, GError **err)
{
	struct tools_version v;

	for (size_t i = 0; i < G_N_ELEMENTS(version_settings); i++) {
		const char *text = json_str(changes, version_settings[i]);

		if (text != NULL && !tools_version_parse(text, &v))
			return fail_advice(err, ERR_INVALID,
					   "Write numbers with dots between them, as 7.2 or 109.0.2.",
					   "%s: '%s' is no version", version_settings[i], text);
	}
	return true;
}

char *tools_expected(const Json *of_host, const char *qemu_version, bool windows)
{
	_cleanup_json_ Json *set = host_setting_effective(of_host, version_settings[windows]);

	if (json_is_string(set))
		return g_strdup(json_string_value(set));
	return windows ? NULL : g_strdup(qemu_version);
}

/* ---- one capability ---- */

typedef enum Found { FOUND, MISSING, UNKNOWN, NOT_ASKED } Found;

typedef struct Finding {
	Found found;
	char *because, *advice; /* MISSING: set */
} Finding;

static void finding_clear(Finding *f)
{
	g_free(f->because);
	g_free(f->advice);
}

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Finding, finding_clear)

static bool has_name(const Json *names, const char *name)
{
	const Json *x;
	size_t i;

	json_array_foreach(names, i, x) if (g_strcmp0(json_string_value(x), name) == 0) return true;
	return false;
}

static void miss_agent(const struct tools_guest *g, Finding *f)
{
	f->found = MISSING;
	if (!g->channel) {
		f->because = g_strdup("the vm has no channel for an agent");
		f->advice = g_strdup_printf("Run `plim vm set %s agent=true` and start it again.", g->name);
		return;
	}
	f->because = g_strdup("no agent has answered yet");
	f->advice = g_strdup("Install qemu-guest-agent in the guest and have it start with the system.");
}

/* Older than the version that brought the command? */
static bool is_before(const Json *record, const char *since)
{
	struct tools_version is, brought;

	return tools_version_parse(version_of(record), &is) && tools_version_parse(since, &brought) &&
	       tools_version_compare(&is, &brought) < 0;
}

static void miss_command(const struct tools_guest *g, const char *command, const char *since, Finding *f)
{
	const Json *agent = json_obj(g->record, "agent");
	const char *version = version_of(g->record);

	f->found = MISSING;
	if (has_name(json_arr(agent, "disabled"), command)) {
		f->because = g_strdup_printf("the guest's agent may not do %s", command);
		f->advice = g_strdup_printf(
		    "Allow %s in the agent's settings in the guest (block-rpcs, allow-rpcs or blacklist in "
		    "qemu-ga.conf or its service) and start the agent again.",
		    command);
	} else if (is_before(g->record, since)) {
		f->because =
		    g_strdup_printf("its agent %s has no %s, which came with %s", version, command, since);
		f->advice = g_strdup_printf("Upgrade it: `plim tools rollout --filter name=%s`.", g->name);
	} else {
		f->because = g_strdup_printf("its agent %s was built without %s",
					     version != NULL ? version : "(of no version)", command);
		f->advice = g_strdup("Install the agent of the guest's distribution, or of virtio-win.");
	}
}

static void find_commands(const struct tools_guest *g, const struct capability *c, Finding *f)
{
	const Json *commands = json_arr(json_obj(g->record, "agent"), "commands");
	g_auto(GStrv) needed = g_strsplit(c->commands, " ", -1);

	f->found = FOUND;
	if (g->record == NULL || !g->channel) {
		miss_agent(g, f);
		return;
	}
	for (char **n = needed; *n != NULL; n++)
		if (!has_name(commands, *n)) {
			miss_command(g, *n, c->since, f);
			return;
		}
}

static void find_driver(const struct tools_guest *g, const struct capability *c, Finding *f)
{
	static const Found found[] = {
		[TOOLS_DRIVEN] = FOUND, [TOOLS_NOT_DRIVEN] = MISSING, [TOOLS_DRIVEN_UNKNOWN] = UNKNOWN
	};
	const char *device = tools_device_name(c->device);

	if ((g->offered & TOOLS_DEVICE_BIT(c->device)) == 0) {
		f->found = NOT_ASKED;
		return;
	}
	f->found = found[tools_is_driven(json_object_get(g->record, "drivers"), c->device)];
	if (f->found != MISSING)
		return;
	f->because = g_strdup_printf("no driver of the guest has its %s", device);
	if (c->device == TOOLS_DEVICE_MEMORY)
		f->advice = g_strdup(
		    "Set memory.method=dimm on it: from its next start it grows by DIMMs, for which it "
		    "needs no driver. Or load the module for virtio-mem in the guest.");
	else
		f->advice =
		    tools_record_is_windows(g->record)
			? g_strdup_printf("Install the driver for %s of virtio-win in the guest.", device)
			: g_strdup_printf("Load the module for %s in the guest, or use a kernel that has it.",
					  device);
}

static Json *missing_to_json(const struct capability *c, const Finding *f)
{
	Json *j = json_object();

	json_put_str(j, "capability", c->name);
	json_put_str(j, "loss", c->loss);
	json_put_str(j, "because", f->because);
	json_put_str(j, "advice", f->advice);
	return j;
}

Json *tools_judge(const struct tools_guest *g)
{
	Json *j = json_object(), *can = json_array(), *cannot = json_array(), *unknown = json_array();

	for (ToolsCapability i = 0; i < _TOOLS_CAPABILITY_MAX; i++) {
		const struct capability *c = &table[i];
		g_auto(Finding) f = { 0 };

		if (c->device == _TOOLS_DEVICE_MAX)
			find_commands(g, c, &f);
		else
			find_driver(g, c, &f);
		if (f.found == FOUND)
			json_array_append_new(can, json_string(c->name));
		else if (f.found == MISSING)
			json_array_append_new(cannot, missing_to_json(c, &f));
		else if (f.found == UNKNOWN)
			json_array_append_new(unknown, json_string(c->name));
	}
	json_put_str(j, "drift", tools_drift_name(tools_drift_of(g->record, g->expected)));
	json_put_str(j, "expected", g->expected);
	json_put(j, "can", can);
	json_put(j, "cannot", cannot);
	json_put(j, "unknown", unknown);
	return j;
}
