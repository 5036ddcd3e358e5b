/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm: life, settings, looking. Making one is vm_create.c, talking to its guest vm_guest.c. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

/* "192.0.2.7": the first address that is no loopback; people look for one. */
static char *print_address(const Json *value, const Json *object)
{
	const Json *first = json_array_get(value, 0);
	const char *ip = json_str(first, "address");

	(void)object;
	return g_strdup(ip != NULL ? ip : "-");
}

/* While an operation runs, what it does says more than the state. */
static char *print_state(const Json *value, const Json *object)
{
	const char *operation = json_string_value(json_at(object, "runtime.operation"));

	return g_strdup_printf("%s%s", json_string_value(value), operation != NULL ? " (busy)" : "");
}

static const Column columns[] = {
	{ "NAME", "name", NULL, false },
	{ "STATE", "runtime.state", print_state, false },
	{ "VCPUS", "effective.vcpus", NULL, true },
	{ "MEMORY", "effective.memory.start", print_bytes, true },
	{ "ACCEL", "runtime.accel", NULL, false },
	{ "ADDRESS", "runtime.addresses", print_address, false },
	{ "UP", "runtime.started_at", print_age, true },
	{ "IMAGE", "image.name", NULL, false },
	{ 0 },
};

static const Column memory_columns[] = {
	{ "NAME", "name", NULL, false },
	{ "STATE", "runtime.state", print_state, false },
	{ "MEMORY", "effective.memory.start", print_bytes, true },
	{ "RESIDENT", "memory.guest.resident", print_bytes, true },
	{ "MERGED", "memory.guest.merged", print_bytes, true },
	{ "OVERHEAD", "memory.overhead", print_bytes, true },
	{ "TOTAL", "memory.total", print_bytes, true },
	{ 0 },
};

static const Option list_options[] = {
	{ "memory", 'm', OPTION_FLAG, NULL,
	  "What the guests of the host that is asked take of its memory, and QEMU beside them; counted now" },
	{ 0 },
};

static bool vm_list(Cli *c, GError **err)
{
	g_autofree char *query = cli_list_query(c), *path = NULL;
	_cleanup_json_ Json *list = NULL;
	bool memory = cli_has(c, "memory");

	path = g_strconcat("/v1/vms", query, memory ? (*query != '\0' ? "&memory=true" : "?memory=true") : "",
			   NULL);
	list = client_call(c->client, "GET", path, NULL, err);
	return list != NULL && output_list(c, list, memory ? memory_columns : columns, err);
}

/* What its host counts when it is asked; one that does not answer leaves the rest to be seen. */
static void add_memory(Cli *c, Json *vm)
{
	const char *state = json_string_value(json_at(vm, "runtime.state"));
	g_autofree char *path = cli_path("vms", json_str(vm, "id"), "/memory");
	Json *memory = NULL;

	if (g_strcmp0(state, "running") == 0 || g_strcmp0(state, "paused") == 0)
		memory = client_call(c->client, "GET", path, NULL, NULL);
	json_put(vm, "memory", memory != NULL ? memory : json_null());
}

static bool vm_show(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), NULL);
	_cleanup_json_ Json *vm = client_call(c->client, "GET", path, NULL, err);

	if (vm == NULL)
		return false;
	add_memory(c, vm);
	return output_object(c, vm, err);
}

/* Every name is tried; the first error is told in the end, so that one bad name does not hold up the rest. */
bool each_name(Cli *c, bool (*one)(Cli *c, const char *name, GError **err), GError **err)
{
	bool ok = true;

	for (char **name = c->args; *name != NULL; name++) {
		g_autoptr(GError) e = NULL;

		if (one(c, *name, &e))
			continue;
		ok = false;
		if (name[1] != NULL || (err != NULL && *err != NULL))
			fprintf(stderr, "plim: %s\n", e->message);
		if (err != NULL && *err == NULL)
			g_propagate_error(err, g_steal_pointer(&e));
	}
	return ok;
}

#define SIMPLE_ACTION(action, done, where)                                                                   \
	static bool vm_##action(Cli *c, GError **err)                                                        \
	{                                                                                                    \
		return vm_many(c, &(struct many){ .verb = #action, .past = done, .states = where }, err);    \
	}

SIMPLE_ACTION(kill, "killed", "running,paused")
SIMPLE_ACTION(pause, "paused", "running")
SIMPLE_ACTION(suspend, "suspended", "running,paused")
SIMPLE_ACTION(resume, "resumed", "paused")
SIMPLE_ACTION(reset, "reset", "running")

static bool vm_start(Cli *c, GError **err)
{
	struct many m = { .verb = "start", .past = "started", .states = "stopped,crashed,suspended" };
	g_autofree char *query = NULL;
	GString *q = g_string_new(NULL);

	if (cli_text(c, "host") != NULL)
		query_add(q, "host", cli_text(c, "host"));
	if (cli_has(c, "discard-state"))
		query_add(q, "discard_state", "true");
	m.query = query = g_string_free(q, FALSE);
	return vm_many(c, &m, err);
}

static Json *patience(Cli *c, GError **err)
{
	const char *text = cli_text(c, "patience");
	Json *body = json_object();
	uint64_t us;

	if (cli_has(c, "force"))
		json_put_bool(body, "force", true);
	if (text == NULL)
		return body;
	if (!parse_duration(text, &us, err)) {
		json_unref(body);
		return NULL;
	}
	json_put_uint(body, "timeout", us);
	return body;
}

static bool act_patiently(Cli *c, struct many m, GError **err)
{
	_cleanup_json_ Json *body = patience(c, err);

	m.body = body;
	return body != NULL && vm_many(c, &m, err);
}

static bool vm_stop(Cli *c, GError **err)
{
	return act_patiently(
	    c, (struct many){ .verb = "stop", .past = "shut down", .states = "running,paused" }, err);
}

static bool vm_reboot(Cli *c, GError **err)
{
	return act_patiently(c, (struct many){ .verb = "reboot", .past = "rebooted", .states = "running" },
			     err);
}

static bool one_delete(Cli *c, const char *name, GError **err)
{
	g_autofree char *path = cli_path("vms", name, NULL), *done = g_strdup_printf("%s was deleted", name);

	return cli_operate(c, "DELETE", path, cli_has(c, "keep-disks") ? "?keep_disks=true" : NULL, NULL,
			   done, err);
}

static bool vm_delete(Cli *c, GError **err)
{
	return each_name(c, one_delete, err);
}

static bool vm_clone(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/actions/clone");
	g_autofree char *done = g_strdup_printf("%s was cloned as %s", cli_arg(c, 0), cli_arg(c, 1));
	Json *body = json_object();

	json_put_str(body, "name", cli_arg(c, 1));
	return cli_operate(c, "POST", path, NULL, body, done, err);
}

static void print_changes(const char *what, const Json *names)
{
	g_auto(GStrv) v = json_strv(names);
	g_autofree char *list = g_strjoinv(", ", v);

	if (v[0] != NULL)
		printf("%s: %s\n", what, list);
}

void print_change_report(const Json *answer)
{
	print_changes("applied now", json_object_get(answer, "applied_now"));
	print_changes("at the next start", json_object_get(answer, "at_next_start"));
}

static bool patch(Cli *c, const char *name, Json *body, GError **err)
{
	g_autofree char *path = cli_path("vms", name, cli_has(c, "dry-run") ? "?dry_run=true" : NULL);
	_cleanup_json_ Json *sent = body, *answer = client_call(c->client, "PATCH", path, sent, err);

	if (answer == NULL)
		return false;
	print_change_report(answer);
	return true;
}

static bool vm_rename(Cli *c, GError **err)
{
	Json *body = json_object();

	json_put_str(body, "name", cli_arg(c, 1));
	return patch(c, cli_arg(c, 0), body, err);
}

/* "memory" is short for memory.start. */
const char *setting_key(const char *typed)
{
	return g_str_equal(typed, "memory") ? "memory.start" : typed;
}

/* The daemon's table says how a value is written; an unknown key is left to the daemon, which knows the
 * nearest one. */
static Json *setting_value(Cli *c, const char *key, const char *text, GError **err)
{
	const Json *s;
	const char *type = NULL;
	uint64_t n;
	bool b;
	size_t i;

	if (c->settings == NULL) {
		const char *path =
		    g_str_equal(c->command->noun, "host") ? "/v1/settings?of=host" : "/v1/settings";

		c->settings = client_call(c->client, "GET", path, NULL, err);
	}
	if (c->settings == NULL)
		return NULL;
	json_array_foreach(c->settings, i, s) if (g_strcmp0(json_str(s, "key"), key) == 0) type =
	    json_str(s, "type");
	if (g_strcmp0(type, "bool") == 0)
		return parse_bool(text, &b, err) ? json_boolean(b) : NULL;
	if (g_strcmp0(type, "int") == 0)
		return parse_uint(text, 0, INT64_MAX, &n, err) ? json_integer((json_int_t)n) : NULL;
	if (g_strcmp0(type, "size") == 0)
		return parse_size(text, &n, err) ? json_integer((json_int_t)n) : NULL;
	if (g_strcmp0(type, "duration") == 0)
		return parse_duration(text, &n, err) ? json_integer((json_int_t)n) : NULL;
	return json_text_or_escaped(text);
}

bool put_assignment(Cli *c, Json *settings, Json *properties, const char *text, GError **err)
{
	const char *eq = strchr(text, '=');
	g_autofree char *key = NULL;
	Json *value;

	if (eq == NULL || eq == text)
		return fail_advice(err, ERR_INVALID, "Write KEY=VALUE, like memory=2GiB.",
				   "'%s' is no assignment", text);
	key = g_strndup(text, (size_t)(eq - text));
	if (properties != NULL && g_str_has_prefix(key, "property.")) {
		json_put_str(properties, key + strlen("property."), eq + 1);
		return true;
	}
	value = setting_value(c, setting_key(key), eq + 1, err);
	if (value != NULL)
		json_put(settings, setting_key(key), value);
	return value != NULL;
}

/* {settings, properties} of assignments; NULL when one is none. */
static Json *assignments(Cli *c, char *const *text, GError **err)
{
	Json *body = json_object(), *settings = json_object(), *properties = json_object();

	json_put(body, "settings", settings);
	json_put(body, "properties", properties);
	for (; *text != NULL; text++)
		if (!put_assignment(c, settings, properties, *text, err)) {
			json_unref(body);
			return NULL;
		}
	return body;
}

/* "web1: applied now: idle.cpu; at the next start: platform.usb" */
static void print_change_line(const char *name, const Json *answer)
{
	static const struct {
		const char *member, *what;
	} parts[] = { { "applied_now", "applied now: " }, { "at_next_start", "at the next start: " } };
	const char *between = "";

	printf("%s: ", name);
	for (size_t i = 0; i < G_N_ELEMENTS(parts); i++) {
		g_auto(GStrv) v = json_strv(json_object_get(answer, parts[i].member));
		g_autofree char *list = g_strjoinv(", ", v);

		if (v[0] == NULL)
			continue;
		printf("%s%s%s", between, parts[i].what, list);
		between = "; ";
	}
	printf("%s\n", *between == '\0' ? "as it was" : "");
	fflush(stdout);
}

/* One that refuses does not hold up the rest; the list of those comes in the end. */
static bool set_all(Cli *c, const char *const *names, const Json *body, GError **err)
{
	g_autoptr(GPtrArray) refused = g_ptr_array_new();
	g_autofree char *list = NULL;

	for (const char *const *name = names; *name != NULL; name++) {
		g_autofree char *path =
		    cli_path("vms", *name, cli_has(c, "dry-run") ? "?dry_run=true" : NULL);
		g_autoptr(GError) e = NULL;
		_cleanup_json_ Json *answer = client_call(c->client, "PATCH", path, body, &e);

		if (answer != NULL) {
			print_change_line(*name, answer);
			continue;
		}
		fprintf(stderr, "%s: %s\n", *name, e->message);
		g_ptr_array_add(refused, (gpointer)*name);
	}
	if (refused->len == 0)
		return true;
	g_ptr_array_add(refused, NULL);
	list = g_strjoinv(", ", (char **)refused->pdata);
	return fail_advice(err, ERR_CONFLICT, "The lines above say why; repeat the command for these.",
			   "%u of %u vms were not changed: %s", refused->len - 1,
			   g_strv_length((char **)names), list);
}

static bool vm_set(Cli *c, GError **err)
{
	bool all = cli_has(c, "all");
	_cleanup_json_ Json *body = assignments(c, all ? c->args : c->args + 1, err);
	g_auto(GStrv) names = NULL;

	if (body == NULL)
		return false;
	if (!all && (c->args[1] == NULL || cli_text(c, "filter") != NULL))
		return fail_advice(err, ERR_INVALID, "Write NAME KEY=VALUE, or --all KEY=VALUE.",
				   "it is not said which vm gets which setting");
	if (!all)
		return patch(c, cli_arg(c, 0), json_ref(body), err);
	names = vm_names_of_all(c, NULL, err);
	return names != NULL && set_all(c, (const char *const *)names, body, err);
}

static bool vm_unset(Cli *c, GError **err)
{
	Json *body = json_object(), *settings = json_object(), *properties = json_object();

	json_put(body, "settings", settings);
	json_put(body, "properties", properties);
	for (char **a = c->args + 1; *a != NULL; a++) {
		bool property = g_str_has_prefix(*a, "property.");

		json_put(property ? properties : settings,
			 property ? *a + strlen("property.") : setting_key(*a), json_null());
	}
	return patch(c, cli_arg(c, 0), body, err);
}

bool print_settings(Cli *c, const char *path, GError **err)
{
	static const Column about[] = {
		{ "SETTING", "key", NULL, false },     { "TYPE", "type", NULL, false },
		{ "DEFAULT", "default", NULL, false }, { "APPLIES", "applies", NULL, false },
		{ "MEANING", "help", NULL, false },    { 0 },
	};
	_cleanup_json_ Json *list = client_call(c->client, "GET", path, NULL, err);

	return list != NULL && output_list(c, list, about, err);
}

static bool vm_settings(Cli *c, GError **err)
{
	return print_settings(c, "/v1/settings", err);
}

static char *print_cause(const Json *value, const Json *object)
{
	const char *key = json_str(object, "key"), *text = json_string_value(value);

	return g_strdup_printf("%s%s%s", key != NULL ? key : "", key != NULL && text != NULL ? "=" : "",
			       text != NULL ? text : "");
}

static void print_blocked(const Json *error)
{
	const char *advice = json_str(error, "advice");

	printf("\nIt could not be started again as it is set: %s.\n", json_str(error, "message"));
	if (advice != NULL)
		printf("%s\n", advice);
}

static bool vm_explain(Cli *c, GError **err)
{
	static const Column about[] = {
		{ "ARGUMENT", "argument", NULL, false }, { "PART", "part", NULL, false },
		{ "FROM", "source", NULL, false },       { "BECAUSE OF", "value", print_cause, false },
		{ "NOTE", "note", NULL, false },         { 0 },
	};
	static const Column not_possible[] = {
		{ "WISHED FOR", "what", NULL, false },
		{ "NOT POSSIBLE BECAUSE", "reason", NULL, false },
		{ 0 },
	};
	static const Column changes[] = {
		{ "CHANGE", "change", NULL, false },
		{ "ARGUMENT", "argument", NULL, false },
		{ "WAS", "was", NULL, false },
		{ "WILL BE", "will_be", NULL, false },
		{ 0 },
	};
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/explain");
	_cleanup_json_ Json *answer = client_call(c->client, "GET", path, NULL, err);
	const char *format = cli_text(c, "output");

	if (answer == NULL)
		return false;
	if (format != NULL && !g_str_equal(format, "table") && !g_str_equal(format, "csv"))
		return output_object(c, answer, err);
	if (!output_list(c, json_object_get(answer, "arguments"), about, err))
		return false;
	if (json_array_size(json_object_get(answer, "could_not")) > 0) {
		printf("\n");
		output_list(c, json_object_get(answer, "could_not"), not_possible, NULL);
	}
	if (json_array_size(json_object_get(answer, "pending")) > 0) {
		printf("\nAt the next start:\n");
		output_list(c, json_object_get(answer, "pending"), changes, NULL);
	}
	if (json_is_object(json_object_get(answer, "blocked")))
		print_blocked(json_object_get(answer, "blocked"));
	return true;
}

bool print_bytes_of(Cli *c, const char *path, const char *file, GError **err)
{
	g_autoptr(GBytes) bytes = client_fetch(c->client, path, err);
	gsize len;
	const char *data;

	if (bytes == NULL)
		return false;
	data = g_bytes_get_data(bytes, &len);
	if (file != NULL && !g_str_equal(file, "-")) {
		g_autoptr(GError) e = NULL;

		if (!g_file_set_contents(file, data, (gssize)len, &e))
			return fail(err, ERR_INVALID, "can't write the file: %s", e->message);
		return true;
	}
	return fwrite(data, 1, len, stdout) == len || fail(err, ERR_INTERNAL, "can't write the output");
}

static bool vm_export(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), NULL);
	const char *kind = cli_text(c, "format");
	g_autofree char *full =
	    g_strdup_printf("%s/export?format=%s", path, kind != NULL ? kind : "libvirt-xml");

	return print_bytes_of(c, full, cli_text(c, "to"), err);
}

typedef struct Waiting {
	Cli *c;
	const char *name, *what;
} Waiting;

static bool is_reached(const Json *vm, const char *what)
{
	const char *state = json_string_value(json_at(vm, "runtime.state"));

	if (g_str_equal(what, "agent"))
		return json_is_true(json_at(vm, "runtime.agent.connected"));
	if (g_str_equal(what, "address"))
		return json_array_size(json_at(vm, "runtime.addresses")) > 0;
	return g_strcmp0(state, what) == 0;
}

/* What needs a running guest does not come by waiting for one that nobody starts. */
static bool may_come(const Json *vm, const char *what)
{
	const char *state = json_string_value(json_at(vm, "runtime.state"));
	bool busy = json_is_string(json_at(vm, "runtime.operation"));
	bool runs = g_strcmp0(state, "running") == 0 || g_strcmp0(state, "paused") == 0;

	return busy || runs || g_str_equal(what, "running") || g_str_equal(what, "stopped") ||
	       g_str_equal(what, "crashed") || g_str_equal(what, "suspended");
}

/* Looks after each change of any vm: simple, and never late. */
static bool on_event(const Json *event, void *data)
{
	Waiting *w = data;
	g_autofree char *path = cli_path("vms", w->name, NULL);
	g_autoptr(Client) second = client_new(client_socket(w->c->client), false);
	_cleanup_json_ Json *vm = NULL;

	if (g_strcmp0(json_str(event, "kind"), "vm") != 0)
		return true;
	vm = client_call(second, "GET", path, NULL, NULL);
	return vm != NULL && !is_reached(vm, w->what);
}

static bool vm_wait(Cli *c, GError **err)
{
	static const char *const known[] = { "agent",   "address", "running",   "paused",
					     "stopped", "crashed", "suspended", NULL };
	Waiting w = { c, cli_arg(c, 0), cli_text(c, "for") != NULL ? cli_text(c, "for") : "running" };
	g_autofree char *path = cli_path("vms", w.name, NULL), *stream = NULL;
	_cleanup_json_ Json *daemon = NULL, *vm = NULL;
	uint64_t limit = 0;

	if (!g_strv_contains(known, w.what))
		return fail_advice(err, ERR_INVALID,
				   "Write agent, address, running, paused, stopped, crashed or suspended.",
				   "can't wait for '%s'", w.what);
	if (cli_text(c, "timeout") != NULL && !parse_duration(cli_text(c, "timeout"), &limit, err))
		return false;
	daemon = client_call(c->client, "GET", "/v1", NULL, err);
	vm = daemon != NULL ? client_call(c->client, "GET", path, NULL, err) : NULL;
	if (vm == NULL)
		return false;
	if (is_reached(vm, w.what))
		return true;
	if (!may_come(vm, w.what))
		return fail_advice(err, ERR_BAD_STATE, "Start it first.",
				   "%s does not run: it can't come to that: %s", w.name, w.what);
	client_set_timeout(c->client, limit);
	stream =
	    g_strdup_printf("/v1/events?since=%" G_GINT64_FORMAT, (gint64)json_int(daemon, "revision", 0));
	if (!client_stream(c->client, stream, on_event, &w, err))
		return false;
	json_unref(vm);
	vm = client_call(c->client, "GET", path, NULL, err);
	if (vm == NULL || is_reached(vm, w.what))
		return vm != NULL;
	return fail(err, ERR_TIMEOUT, "%s did not come to that: %s", w.name, w.what);
}

static const Option stop_options[] = {
	{ "force", 0, OPTION_FLAG, NULL,
	  "When the guest does not obey in time, end QEMU (reboot: reset it)" },
	{ "patience", 0, OPTION_TEXT, "DURATION",
	  "How long the guest may take; its setting stop.timeout when left out" },
	{ 0 },
};
static const Option delete_options[] = {
	{ "keep-disks", 0, OPTION_FLAG, NULL, "Keep its volumes" },
	{ 0 },
};
static const Option export_options[] = {
	{ "format", 0, OPTION_TEXT, "KIND", "libvirt-xml (the default)" },
	{ "to", 0, OPTION_TEXT, "FILE", "Write here instead of the standard output" },
	{ 0 },
};
static const Option wait_options[] = {
	{ "for", 0, OPTION_TEXT, "STATE", "agent, address, running, paused, stopped, crashed or suspended" },
	{ "timeout", 't', OPTION_TEXT, "DURATION", "Give up after this" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)
#define MANY_VMS (OPERATION | GROUP_MANY)
#define MANY 1000

static const Option start_options[] = {
	{ "host", 0, OPTION_TEXT, "HOST", "In a pool: start it there" },
	{ "discard-state", 0, OPTION_FLAG, NULL, "Start a suspended guest cold; what it was doing is lost" },
	{ 0 },
};

const Command vm_commands[] = {
	{ "vm", "list", "", "List the vms", NULL,
	  "plim vm list --filter runtime.state=running -o json\nplim vm list --memory", 0, 0, NULL,
	  GROUP_OUTPUT | GROUP_LIST, list_options, vm_list },
	{ "vm", "show", "NAME", "Show one vm, configuration and runtime",
	  "Of one that runs also what it takes of its host's memory, and what QEMU takes beside it.",
	  "plim vm show web1 -o yaml", 1, 1, "vms", GROUP_OUTPUT, NULL, vm_show },
	{ "vm", "start", "[NAME...]", "Start vms",
	  "All are asked for at once; a host starts a few at a time (`plim host limits`), the others wait. One that the host "
	  "has no memory left for is refused, with the numbers.",
	  "plim vm start web1 --dry-run\nplim vm start --all --filter tags=web", 0, MANY, "vms", MANY_VMS,
	  start_options, vm_start },
	{ "vm", "stop", "[NAME...]", "Ask guests to shut down and wait until they have",
	  "The guest agent is asked first, else the power button is pressed; again while nothing happens, and as "
	  "soon as an agent comes up.",
	  "plim vm stop web1 --patience 2min --force\nplim vm stop --all", 0, MANY, "vms", MANY_VMS,
	  stop_options, vm_stop },
	{ "vm", "kill", "[NAME...]", "End QEMU at once, as if the power failed", NULL, NULL, 0, MANY, "vms",
	  MANY_VMS, NULL, vm_kill },
	{ "vm", "pause", "[NAME...]", "Hold the vcpus of vms", NULL, NULL, 0, MANY, "vms", MANY_VMS, NULL,
	  vm_pause },
	{ "vm", "suspend", "[NAME...]", "Save to disk what guests are doing, and end their QEMUs",
	  "`plim vm start` takes them up again, with the same CPU; with --discard-state it starts them cold. "
	  "`plim vm kill` throws away what was saved.",
	  NULL, 0, MANY, "vms", MANY_VMS, NULL, vm_suspend },
	{ "vm", "resume", "[NAME...]", "Let the vcpus of vms run on", NULL, NULL, 0, MANY, "vms", MANY_VMS,
	  NULL, vm_resume },
	{ "vm", "reset", "[NAME...]", "Press the reset button of vms", NULL, NULL, 0, MANY, "vms", MANY_VMS,
	  NULL, vm_reset },
	{ "vm", "reboot", "[NAME...]", "Ask guests to reboot", NULL, NULL, 0, MANY, "vms", MANY_VMS,
	  stop_options, vm_reboot },
	{ "vm", "delete", "NAME...", "Delete vms that do not run, and their volumes", NULL, NULL, 1, MANY,
	  "vms", OPERATION, delete_options, vm_delete },
	{ "vm", "clone", "NAME NEW", "Make a copy of a vm that does not run", NULL, "plim vm clone web1 web2",
	  2, 2, "vms", OPERATION, NULL, vm_clone },
	{ "vm", "rename", "NAME NEW", "Give a vm another name", NULL, NULL, 2, 2, "vms", GROUP_CHANGE, NULL,
	  vm_rename },
	{ "vm", "set", "NAME|--all KEY=VALUE...", "Change settings (KEY) and properties (property.KEY)",
	  "Says which changes act at once and which at the next start. `plim vm settings` lists the keys. With --all "
	  "one line changes all vms, or those that --filter leaves; each has its own line, and one that refuses does not "
	  "hold up the others.",
	  "plim vm set web1 memory=2GiB platform.usb=true property.os_type=windows\n"
	  "plim vm set --all --filter os_type=windows platform.hvm_serial=none platform.usb_tablet=false --dry-run",
	  1, MANY, "vms", GROUP_CHANGE | GROUP_MANY, NULL, vm_set },
	{ "vm", "unset", "NAME KEY...", "Take settings back to their defaults", NULL,
	  "plim vm unset web1 platform.usb", 2, MANY, "vms", GROUP_CHANGE, NULL, vm_unset },
	{ "vm", "settings", "", "List the settings that a vm can have", NULL, NULL, 0, 0, NULL, GROUP_OUTPUT,
	  NULL, vm_settings },
	{ "vm", "explain", "NAME", "Why QEMU gets each argument, and what would change at the next start",
	  NULL, NULL, 1, 1, "vms", GROUP_OUTPUT, NULL, vm_explain },
	{ "vm", "export", "NAME", "Write the equivalent libvirt domain", NULL,
	  "plim vm export web1 --format libvirt-xml > web1.xml", 1, 1, "vms", 0, export_options, vm_export },
	{ "vm", "wait", "NAME", "Wait until a vm has come to a state", NULL,
	  "plim vm wait web1 --for agent --timeout 5min", 1, 1, "vms", 0, wait_options, vm_wait },
	{ 0 },
};
