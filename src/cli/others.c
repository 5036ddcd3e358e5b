/* SPDX-License-Identifier: Apache-2.0 */
/* plim volume, host, operation, event: nouns of a few verbs each. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static bool list_of(Cli *c, const char *collection, const Column *columns, GError **err)
{
	g_autofree char *query = cli_list_query(c), *path = g_strconcat("/v1/", collection, query, NULL);
	_cleanup_json_ Json *list = client_call(c->client, "GET", path, NULL, err);

	return list != NULL && output_list(c, list, columns, err);
}

static bool show_of(Cli *c, const char *collection, GError **err)
{
	g_autofree char *path = cli_path(collection, cli_arg(c, 0), NULL);
	_cleanup_json_ Json *object = client_call(c->client, "GET", path, NULL, err);

	return object != NULL && output_object(c, object, err);
}

/* ---- volume ---- */

static const Column volume_columns[] = {
	{ "NAME", "name", NULL, false },
	{ "SIZE", "size", print_bytes, true },
	{ "FORMAT", "format", NULL, false },
	{ "STATUS", "status", NULL, false },
	{ "VM", "vm", NULL, false },
	{ "IMAGE", "image", NULL, false },
	{ 0 },
};

static bool volume_list(Cli *c, GError **err)
{
	return list_of(c, "volumes", volume_columns, err);
}

static bool volume_show(Cli *c, GError **err)
{
	return show_of(c, "volumes", err);
}

static bool volume_create(Cli *c, GError **err)
{
	g_autofree char *done = g_strdup_printf("%s was created", cli_arg(c, 0));
	Json *body = json_object();
	uint64_t size;

	json_put_str(body, "name", cli_arg(c, 0));
	if (cli_text(c, "size") != NULL) {
		if (!parse_size(cli_text(c, "size"), &size, err)) {
			json_unref(body);
			return false;
		}
		json_put_uint(body, "size", size);
	}
	if (cli_text(c, "image") != NULL)
		json_put_str(body, "image", cli_text(c, "image"));
	if (cli_text(c, "disk-format") != NULL)
		json_put_str(body, "format", cli_text(c, "disk-format"));
	return cli_operate(c, "POST", "/v1/volumes", NULL, body, done, err);
}

static bool one_volume_delete(Cli *c, const char *name, GError **err)
{
	g_autofree char *path = cli_path("volumes", name, NULL),
			*done = g_strdup_printf("%s was deleted", name);

	return cli_operate(c, "DELETE", path, NULL, NULL, done, err);
}

static bool volume_delete(Cli *c, GError **err)
{
	return each_name(c, one_volume_delete, err);
}

static bool volume_grow(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("volumes", cli_arg(c, 0), "/actions/grow");
	g_autofree char *done = g_strdup_printf("%s was grown", cli_arg(c, 0));
	Json *body;
	uint64_t size;

	if (!parse_size(cli_arg(c, 1), &size, err))
		return false;
	body = json_object();
	json_put_uint(body, "size", size);
	return cli_operate(c, "POST", path, NULL, body, done, err);
}

static const Option volume_options[] = {
	{ "size", 's', OPTION_TEXT, "SIZE", "Size that the guest sees (the image's)" },
	{ "image", 'i', OPTION_TEXT, "IMAGE", "Make it an overlay of this image" },
	{ "disk-format", 0, OPTION_TEXT, "FORMAT", "qcow2 or raw" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)

const Command volume_commands[] = {
	{ "volume", "list", "", "List the volumes", NULL, NULL, 0, 0, NULL, GROUP_OUTPUT | GROUP_LIST, NULL,
	  volume_list },
	{ "volume", "show", "VOLUME", "Show one volume", NULL, NULL, 1, 1, "volumes", GROUP_OUTPUT, NULL,
	  volume_show },
	{ "volume", "create", "NAME", "Make an empty volume, or an overlay of an image", NULL,
	  "plim volume create data1 --size 20GiB", 1, 1, NULL, OPERATION, volume_options, volume_create },
	{ "volume", "grow", "VOLUME SIZE", "Make a volume larger while no guest runs on it",
	  "For the disk of a guest that runs there is `plim vm disk grow`. The guest finds a larger disk at its next start; cloud images grow their file system by themselves. "
	  "Volumes never shrink.",
	  "plim volume grow data1 40GiB", 2, 2, "volumes", OPERATION, NULL, volume_grow },
	{ "volume", "delete", "VOLUME...", "Delete volumes that no vm has", NULL, NULL, 1, 1000, "volumes",
	  OPERATION, NULL, volume_delete },
	{ 0 },
};

/* ---- host ---- */

static char *print_works(const Json *value, const Json *object)
{
	(void)object;
	return g_strdup(json_is_true(value) ? "yes" : "no");
}

static const Column host_columns[] = {
	{ "NAME", "name", NULL, false },
	{ "CPUS", "cpu.count", NULL, true },
	{ "MEMORY", "memory", print_bytes, true },
	{ "QEMU", "qemu.version", NULL, false },
	{ "KVM", "accelerators.kvm.works", print_works, false },
	{ "TCG", "accelerators.tcg.works", print_works, false },
	{ "ACCEL", "accel", NULL, false },
	{ 0 },
};

static bool host_list(Cli *c, GError **err)
{
	return list_of(c, "hosts", host_columns, err);
}

char *host_path_of(Cli *c, const char *host, const char *rest, GError **err)
{
	_cleanup_json_ Json *daemon = NULL;

	if (host != NULL)
		return cli_path("hosts", host, rest);
	daemon = client_call(c->client, "GET", "/v1", NULL, err);
	return daemon != NULL ? cli_path("hosts", json_str(daemon, "host"), rest) : NULL;
}

static char *host_path(Cli *c, const char *rest, GError **err)
{
	return host_path_of(c, c->args[0], rest, err);
}

static bool host_show(Cli *c, GError **err)
{
	g_autofree char *path = host_path(c, NULL, err);
	_cleanup_json_ Json *host = path != NULL ? client_call(c->client, "GET", path, NULL, err) : NULL;

	return host != NULL && output_object(c, host, err);
}

static bool host_probe(Cli *c, GError **err)
{
	g_autofree char *path = host_path(c, "/actions/probe", err);
	_cleanup_json_ Json *host = path != NULL ? client_call(c->client, "POST", path, NULL, err) : NULL;

	return host != NULL && output_object(c, host, err);
}

static bool host_set(Cli *c, GError **err)
{
	bool named = strchr(cli_arg(c, 0), '=') == NULL;
	g_autofree char *path = host_path_of(c, named ? cli_arg(c, 0) : NULL, NULL, err);
	_cleanup_json_ Json *body = json_object(), *changes = json_object(), *host = NULL;

	if (path == NULL)
		return false;
	if (named && c->args[1] == NULL)
		return fail_advice(err, ERR_INVALID,
				   "Write KEY=VALUE, like accel=tcg or memory.overcommit=150.",
				   "nothing is to be set");
	for (char **a = c->args + named; *a != NULL; a++)
		if (g_str_has_prefix(*a, "accel="))
			json_put_str(body, "accel", *a + strlen("accel="));
		else if (!put_assignment(c, changes, NULL, *a, err))
			return false;
	json_put(body, "settings", json_ref(changes));
	host = client_call(c->client, "PATCH", path, body, err);
	if (host != NULL)
		printf("%s was changed\n", json_str(host, "name"));
	return host != NULL;
}

static bool is_key(const Json *list, const char *word)
{
	const Json *s;
	size_t i;

	json_array_foreach((Json *)list, i, s) if (g_strcmp0(json_str(s, "key"), word) == 0) return true;
	return false;
}

/* A host's name may look like a key: the first word is one unless the table knows it. */
static bool host_unset(Cli *c, GError **err)
{
	_cleanup_json_ Json *known = client_call(c->client, "GET", "/v1/settings?of=host", NULL, err),
			    *body = json_object(), *host = NULL;
	bool named = c->args[1] != NULL && !is_key(known, cli_arg(c, 0));
	g_autofree char *path =
	    known != NULL ? host_path_of(c, named ? cli_arg(c, 0) : NULL, NULL, err) : NULL;
	Json *changes = json_object();

	json_put(body, "settings", changes);
	for (char **a = c->args + named; *a != NULL; a++)
		json_put(changes, *a, json_null());
	host = path != NULL ? client_call(c->client, "PATCH", path, body, err) : NULL;
	if (host != NULL)
		printf("%s was changed\n", json_str(host, "name"));
	return host != NULL;
}

static bool host_settings(Cli *c, GError **err)
{
	return print_settings(c, "/v1/settings?of=host", err);
}

/* "1.5 GiB of 22 GiB", of members of one object. */
static void print_memory(const Json *m)
{
	static const struct {
		const char *key, *what;
	} lines[] = {
		{ "total", "memory of the host" },
		{ "reserve", "kept for the host" },
		{ "limit", "may be promised to guests" },
		{ "claimed", "can be taken by guests that run or start" },
		{ "free", "left for others" },
		{ "available", "available now" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
		g_autofree char *size = print_size(json_uint(m, lines[i].key, 0));

		if (json_is_integer(json_object_get(m, lines[i].key)))
			printf("%-10s  %s\n", size, lines[i].what);
	}
	printf("%-10" PRId64 "  guests that run or start\n", json_int(m, "guests", 0));
	printf("%" PRId64 " %%%*s  over-commit\n", json_int(m, "overcommit", 100), 5, "");
}

static bool host_limits(Cli *c, GError **err)
{
	static const Column about[] = {
		{ "LIMIT", "name", NULL, false },
		{ "USED", "used", NULL, true },
		{ "MAX", "max", NULL, true },
		{ "EACH GUEST", "each", NULL, true },
		{ "ROOM", "room", NULL, true },
		{ "OF", "what", NULL, false },
		{ 0 },
	};
	g_autofree char *path = host_path(c, "/limits", err);
	_cleanup_json_ Json *answer = path != NULL ? client_call(c->client, "GET", path, NULL, err) : NULL;
	const char *format = cli_text(c, "output");

	if (answer == NULL)
		return false;
	if (format != NULL && !g_str_equal(format, "table"))
		return output_object(c, answer, err);
	print_memory(json_object_get(answer, "memory"));
	printf("%-10" PRId64 "  guests are started at a time\n\n", json_int(answer, "starts", 0));
	return output_list(c, json_object_get(answer, "limits"), about, err);
}

const Command host_commands[] = {
	{ "host", "list", "", "List the hosts", NULL, NULL, 0, 0, NULL, GROUP_OUTPUT | GROUP_LIST, NULL,
	  host_list },
	{ "host", "show", "[HOST]", "Show a host: which accelerators were proven to work, QEMU, CPUs", NULL,
	  NULL, 0, 1, "hosts", GROUP_OUTPUT, NULL, host_show },
	{ "host", "probe", "[HOST]", "Look at a host again, now", NULL, NULL, 0, 1, "hosts", GROUP_OUTPUT,
	  NULL, host_probe },
	{ "host", "set", "[HOST] KEY=VALUE...", "Change settings of a host",
	  "accel=auto, kvm or tcg is the accelerator for vms that leave it open; `plim host settings` lists the "
	  "other keys. Without HOST it is the one that plim talks to.",
	  "plim host set memory.overcommit=150", 1, 20, "hosts", 0, NULL, host_set },
	{ "host", "unset", "[HOST] KEY...", "Take settings of a host back to their defaults", NULL, NULL, 1,
	  20, "hosts", 0, NULL, host_unset },
	{ "host", "settings", "", "List the settings that a host can have", NULL, NULL, 0, 0, NULL,
	  GROUP_OUTPUT, NULL, host_settings },
	{ "host", "limits", "[HOST]",
	  "What a host can still take: memory, and the limits of its operating system",
	  "Memory is what guests were promised, with what QEMU takes beside it; a start that does not fit is refused. ROOM is "
	  "how many guests more a limit lets through.",
	  NULL, 0, 1, "hosts", GROUP_OUTPUT, NULL, host_limits },
	{ 0 },
};

/* ---- operation ---- */

static const Column operation_columns[] = {
	{ "ID", "id", NULL, false },
	{ "KIND", "kind", NULL, false },
	{ "TARGET", "target.name", NULL, false },
	{ "STATUS", "status", NULL, false },
	{ "STAGE", "stage", NULL, false },
	{ "%", "progress", NULL, true },
	{ "CREATED", "created_at", NULL, false },
	{ "ERROR", "error.message", NULL, false },
	{ 0 },
};

static bool operation_list(Cli *c, GError **err)
{
	return list_of(c, "operations", operation_columns, err);
}

static bool operation_show(Cli *c, GError **err)
{
	return show_of(c, "operations", err);
}

static bool operation_wait(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("operations", cli_arg(c, 0), NULL);
	_cleanup_json_ Json *op = client_call(c->client, "GET", path, NULL, err), *ended = NULL;

	if (op == NULL || !cli_follow(c, op, &ended, err))
		return false;
	printf("%s of %s: %s\n", json_str(ended, "kind"), json_string_value(json_at(ended, "target.name")),
	       json_str(ended, "status"));
	return true;
}

static bool operation_cancel(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("operations", cli_arg(c, 0), "/actions/cancel");
	_cleanup_json_ Json *op = client_call(c->client, "POST", path, NULL, err);

	if (op != NULL)
		printf("%s is being undone\n", json_str(op, "kind"));
	return op != NULL;
}

const Command operation_commands[] = {
	{ "operation", "list", "", "List operations, the newest first", NULL, NULL, 0, 0, NULL,
	  GROUP_OUTPUT | GROUP_LIST, NULL, operation_list },
	{ "operation", "show", "ID", "Show an operation with its plan", NULL, NULL, 1, 1, "operations",
	  GROUP_OUTPUT, NULL, operation_show },
	{ "operation", "wait", "ID", "Wait until an operation has ended", NULL, NULL, 1, 1, "operations",
	  GROUP_WAIT, NULL, operation_wait },
	{ "operation", "cancel", "ID", "Stop an operation and undo what was begun", NULL, NULL, 1, 1,
	  "operations", 0, NULL, operation_cancel },
	{ 0 },
};

/* ---- event ---- */

static const Column event_columns[] = {
	{ "TIME", "time", NULL, false },
	{ "SEVERITY", "severity", NULL, false },
	{ "TYPE", "type", NULL, false },
	{ "MESSAGE", "message", NULL, false },
	{ 0 },
};

static bool event_list(Cli *c, GError **err)
{
	g_autofree char *path = g_strdup_printf("/v1/events?limit=%s",
						cli_text(c, "limit") != NULL ? cli_text(c, "limit") : "100");
	_cleanup_json_ Json *list = client_call(c->client, "GET", path, NULL, err);

	return list != NULL && output_list(c, list, event_columns, err);
}

static void print_event_line(const Json *event)
{
	g_autofree char *message = text_harmless(g_strdup(json_str(event, "message")), false);

	printf("%s %-7s %-20s %s\n", json_str(event, "time"), json_str(event, "severity"),
	       json_str(event, "type"), message);
}

static bool on_change(const Json *change, void *data)
{
	Cli *c = data;
	const Json *object = json_object_get(change, "object");
	g_autofree char *text = NULL;

	if (cli_has(c, "all")) {
		text = json_print(change);
		printf("%s\n", text);
	} else if (g_strcmp0(json_str(change, "kind"), "event") == 0 && json_is_object(object)) {
		if (g_strcmp0(cli_text(c, "output"), "json") == 0) {
			text = json_print(object);
			printf("%s\n", text);
		} else {
			print_event_line(object);
		}
	}
	return fflush(stdout) == 0;
}

static bool event_watch(Cli *c, GError **err)
{
	const char *since = cli_text(c, "since");
	g_autofree char *path =
	    since != NULL ? g_strconcat("/v1/events?since=", since, NULL) : g_strdup("/v1/events");

	return client_stream(c->client, path, on_change, c, err);
}

static const Option event_list_options[] = {
	{ "limit", 0, OPTION_TEXT, "N", "At most the last N (100)" },
	{ 0 },
};
static const Option event_watch_options[] = {
	{ "all", 0, OPTION_FLAG, NULL, "Every change of every object, one JSON object a line" },
	{ "since", 0, OPTION_TEXT, "REVISION", "Begin behind this revision instead of now" },
	{ "output", 'o', OPTION_TEXT, "FORMAT", "table or json (one object a line)" },
	{ 0 },
};

const Command event_commands[] = {
	{ "event", "list", "", "List what happened", NULL, NULL, 0, 0, NULL, GROUP_OUTPUT, event_list_options,
	  event_list },
	{ "event", "watch", "", "Print events as they happen, until interrupted", NULL, NULL, 0, 0, NULL, 0,
	  event_watch_options, event_watch },
	{ 0 },
};

const Command *const commands[] = {
	vm_create_commands, vm_commands,      vm_device_commands, vm_guest_commands,  image_commands,
	volume_commands,    host_commands,    host_cpu_commands,  operation_commands, event_commands,
	cpu_commands,       move_commands,    soak_commands,      pool_commands,      wakeup_commands,
	tools_commands,     rollout_commands, evidence_commands,  balance_commands,   backup_commands,
	cdrom_commands,
};
const size_t n_commands = G_N_ELEMENTS(commands);
