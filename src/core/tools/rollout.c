/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tools/rollout.h"
#include "base/str.h"
#include "core/tools/version.h"

#include <string.h>

#define PERCENT_MAX 100
#define COUNT_MAX 100000
/* Of Windows' installer: done, and a restart is wanted; or it has begun one. */
#define RESTART_REQUIRED 3010
#define RESTART_INITIATED 1641
/* Member of a guest of the list: why it takes no disk. */
#define NO_DISK "no_disk"

static const struct {
	const char *id, *command;
} table[] = {
#define X(id, command) { id, command },
	ROLLOUT_TABLE(X)
#undef X
};

const char *rollout_command_of(const char *os_id)
{
	for (size_t i = 0; os_id != NULL && i < G_N_ELEMENTS(table); i++)
		if (g_str_equal(table[i].id, os_id))
			return table[i].command;
	return NULL;
}

bool rollout_wave_parse(const char *text, struct rollout_options *ret, GError **err)
{
	bool percent = g_str_has_suffix(text, "%");
	g_autofree char *number = g_strndup(text, strlen(text) - (percent ? 1 : 0));
	uint64_t n;

	if (!parse_uint(number, 1, percent ? PERCENT_MAX : COUNT_MAX, &n, err))
		return err_advise(err, "Write a part of the guests, as 10%%, or how many they are, as 3.");
	ret->percent = percent ? (unsigned)n : 0;
	ret->count = percent ? 0 : (unsigned)n;
	return true;
}

bool rollout_reached(const char *version, const char *to)
{
	struct tools_version is, wanted;

	return tools_version_parse(version, &is) && tools_version_parse(to, &wanted) &&
	       tools_version_compare(&is, &wanted) >= 0;
}

/* ---- one guest ---- */

static bool has_name(const Json *names, const char *name)
{
	const Json *x;
	size_t i;

	json_array_foreach(names, i, x) if (g_strcmp0(json_string_value(x), name) == 0) return true;
	return false;
}

static bool is_windows(const Json *guest)
{
	return g_strcmp0(json_str(json_obj(guest, "os"), "id"), "mswindows") == 0;
}

static const char *target_of(const Json *guest, const struct rollout_options *o)
{
	return o->version != NULL ? o->version : json_str(guest, "expected");
}

static const char *command_of(const Json *guest, const struct rollout_options *o)
{
	if (o->command != NULL)
		return o->command;
	if (is_windows(guest))
		return o->disk ? ROLLOUT_WINDOWS : NULL;
	return rollout_command_of(json_str(json_obj(guest, "os"), "id"));
}

static bool needs_disk(const Json *guest, const struct rollout_options *o)
{
	return o->disk && (o->command != NULL || is_windows(guest));
}

static char *fail_system(const Json *guest)
{
	const Json *os = json_obj(guest, "os");
	const char *id = json_str(os, "id");

	if (id == NULL)
		return g_strdup("which system it has is not known; give --command");
	if (is_windows(guest))
		return g_strdup("Windows needs the disk of its tools (--image) or --command");
	return g_strdup_printf("no way to upgrade the agent of '%s' is known; give --command", id);
}

/* Why it is left alone, or NULL. Caller frees. */
static char *reason_of(const Json *guest, const struct rollout_options *o)
{
	const Json *agent = json_obj(guest, "agent");
	const char *state = json_str(guest, "state"), *version = json_str(agent, "version"),
		   *to = target_of(guest, o);

	if (g_strcmp0(state, "running") != 0)
		return g_strdup_printf("it is %s", state);
	if (g_strcmp0(json_str(agent, "state"), "none") == 0)
		return g_strdup("no agent has ever answered");
	if (g_strcmp0(json_str(agent, "state"), "connected") != 0)
		return g_strdup("its agent does not answer now");
	if (to == NULL)
		return g_strdup("nothing says which version it should have; give --version");
	if (rollout_reached(version, to))
		return g_strdup_printf("its agent is %s already", version);
	if (!has_name(json_arr(guest, "can"), "exec"))
		return g_strdup("its agent may not run commands (guest-exec)");
	if (command_of(guest, o) == NULL)
		return fail_system(guest);
	return needs_disk(guest, o) ? g_strdup(json_str(guest, NO_DISK)) : NULL;
}

static Json *planned(const Json *guest, const struct rollout_options *o)
{
	Json *j = json_object();

	json_put_str(j, "id", json_str(guest, "id"));
	json_put_str(j, "name", json_str(guest, "name"));
	json_put_str(j, "host", json_str(guest, "host"));
	json_put_str(j, "os", json_str(json_obj(guest, "os"), "id"));
	json_put_bool(j, "windows", is_windows(guest));
	json_put_str(j, "from", json_str(json_obj(guest, "agent"), "version"));
	json_put_str(j, "to", target_of(guest, o));
	json_put_str(j, "command", command_of(guest, o));
	json_put_bool(j, "disk", needs_disk(guest, o));
	return j;
}

static Json *passed_over(const Json *guest, const char *reason)
{
	Json *j = json_object();

	json_put_str(j, "name", json_str(guest, "name"));
	json_put_str(j, "reason", reason);
	return j;
}

/* ---- all of them ---- */

static gint by_name(gconstpointer a, gconstpointer b)
{
	return g_strcmp0(json_str(*(Json *const *)a, "name"), json_str(*(Json *const *)b, "name"));
}

/* Borrowed from the list. */
static GPtrArray *sorted(const Json *guests)
{
	GPtrArray *all = g_ptr_array_new();

	for (size_t i = 0; i < json_array_size(guests); i++)
		g_ptr_array_add(all, json_array_get(guests, i));
	g_ptr_array_sort(all, by_name);
	return all;
}

static size_t wave_size(const struct rollout_options *o, size_t n)
{
	size_t size = o->count != 0 ? o->count : (n * o->percent + PERCENT_MAX - 1) / PERCENT_MAX;

	return MAX(size, 1);
}

static Json *waves_of(const GPtrArray *chosen, const struct rollout_options *o)
{
	size_t size = wave_size(o, chosen->len);
	Json *waves = json_array();

	for (guint i = 0; i < chosen->len; i++) {
		if (i % size == 0)
			json_array_append_new(waves, json_array());
		json_array_append_new(json_array_get(waves, i / size), planned(chosen->pdata[i], o));
	}
	return waves;
}

Json *rollout_plan(const Json *guests, const struct rollout_options *o)
{
	g_autoptr(GPtrArray) all = sorted(guests), chosen = g_ptr_array_new();
	Json *j = json_object(), *skipped = json_array();

	for (guint i = 0; i < all->len; i++) {
		g_autofree char *reason = reason_of(all->pdata[i], o);

		if (reason == NULL)
			g_ptr_array_add(chosen, all->pdata[i]);
		else
			json_array_append_new(skipped, passed_over(all->pdata[i], reason));
	}
	json_put_int(j, "guests", chosen->len);
	json_put(j, "waves", waves_of(chosen, o));
	json_put(j, "skipped", skipped);
	return j;
}

void rollout_take_no_disk(Json *guests, const char *id, const char *reason)
{
	Json *g;
	size_t i;

	json_array_foreach(guests, i, g) if (g_strcmp0(json_str(g, "id"), id) == 0)
	    json_put_str(g, NO_DISK, reason);
}

/* ---- how ---- */

/*
 * The command is $0. A unit's file and not systemd-run, which needs a message bus that small guests don't
 * have. What the command prints goes to the journal: a pipe to the agent would break with the agent.
 */
#define OWN_UNIT                                                                                             \
	"[ -d /run/systemd/system ] || exec /bin/sh -c \"$0\"\n"                                             \
	"printf '%s\\n' \"$0\" >/run/plimsoll-tools.sh && "                                                  \
	"printf '%s\\n' '[Unit]' 'Description=Upgrade of the guest agent' '[Service]' Type=oneshot "         \
	"'ExecStart=/bin/sh /run/plimsoll-tools.sh' >/run/systemd/system/plimsoll-tools.service && "         \
	"systemctl daemon-reload && exec systemctl start plimsoll-tools.service\n"                           \
	"exit 1"
/* A package that replaced the program has not always started it. In its own unit this ends nobody but the
 * agent. */
#define ANEW                                                                                                 \
	" && { [ ! -d /run/systemd/system ] || systemctl --no-block try-restart qemu-guest-agent.service "   \
	"'qemu-ga@*.service'; }"

Json *rollout_words(const Json *guest)
{
	const char *command = json_str(guest, "command");
	const char *known = rollout_command_of(json_str(guest, "os"));
	bool packages = g_strcmp0(command, known) == 0;
	g_autofree char *whole = g_strconcat(command, packages ? ANEW : "", NULL);
	const char *const shell[] = { "/bin/sh", "-c", OWN_UNIT, whole, NULL };
	const char *const windows[] = { "cmd.exe", "/c", command, NULL };

	return json_of_strv(json_bool(guest, "windows", false) ? windows : shell);
}

bool rollout_succeeded(const Json *guest, int64_t exitcode)
{
	return exitcode == 0 || (json_bool(guest, "windows", false) &&
				 (exitcode == RESTART_REQUIRED || exitcode == RESTART_INITIATED));
}
