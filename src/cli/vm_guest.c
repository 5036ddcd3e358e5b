/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm, the guest's side: console, screen, agent, logs. */
#include "base/fd.h"
#include "base/socket.h"
#include "base/str.h"
#include "cli/console.h"
#include "cli/nouns.h"
#include "cli/output.h"
#include "cli/web.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* A link to a vm that is not there would be found out by the browser only. */
static bool console_in_browser(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), NULL), *name = NULL, *page = NULL;
	_cleanup_json_ Json *vm = client_call(c->client, "GET", path, NULL, err);
	uint64_t port = 0;

	if (vm == NULL ||
	    (cli_text(c, "port") != NULL && !parse_uint(cli_text(c, "port"), 0, UINT16_MAX, &port, err)))
		return false;
	name = g_uri_escape_string(json_str(vm, "name"), NULL, FALSE);
	page = g_strdup_printf("console.html?vm=%s", name);
	return web_serve(client_socket(c->client), page, (unsigned)port, err);
}

static bool vm_console(Cli *c, GError **err)
{
	g_autofree char *path =
	    cli_path("vms", cli_arg(c, 0), cli_has(c, "serial") ? "/console?port=serial" : "/console");
	g_autofree char *log = cli_path("vms", cli_arg(c, 0),
					cli_has(c, "serial") ? "/console/log?port=serial" : "/console/log");

	if (cli_has(c, "log"))
		return print_bytes_of(c, log, NULL, err);
	if (cli_has(c, "web"))
		return console_in_browser(c, err);
	return console_attach(client_socket(c->client), path, cli_arg(c, 0), err);
}

/* A socket and no port: a screen has no password, and only the user himself can open the socket. */
static bool vm_display(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/display");
	const char *file = cli_arg(c, 1);
	_cleanup_close_ int listener = -EBADF;
	struct stat st;
	bool ok;

	if (lstat(file, &st) == 0 && !S_ISSOCK(st.st_mode))
		return fail_advice(err, ERR_CONFLICT, "Name a file that does not exist.",
				   "'%s' is there already, and is no socket", file);
	listener = socket_listen(file, err);
	if (listener < 0)
		return false;
	printf("the screen of %s is at %s, for one VNC viewer: vncviewer %s\n", cli_arg(c, 0), file, file);
	fflush(stdout);
	ok = display_serve(client_socket(c->client), path, listener, err);
	unlink(file);
	return ok;
}

static bool vm_screenshot(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/screenshot");
	g_autofree char *dflt = g_strconcat(cli_arg(c, 0), ".png", NULL);
	const char *file = cli_text(c, "to") != NULL ? cli_text(c, "to") : dflt;

	if (!print_bytes_of(c, path, file, err))
		return false;
	if (!g_str_equal(file, "-"))
		printf("%s\n", file);
	return true;
}

static bool vm_log(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/log");

	return print_bytes_of(c, path, NULL, err);
}

static bool one_nmi(Cli *c, const char *name, GError **err)
{
	g_autofree char *path =
	    cli_path("vms", name, cli_has(c, "evidence") ? "/actions/nmi?evidence=true" : "/actions/nmi");
	_cleanup_json_ Json *answer = client_call(c->client, "POST", path, NULL, err);
	g_autofree char *note = text_harmless(g_strdup(json_str(answer, "note")), false);

	if (answer == NULL)
		return false;
	if (json_is_integer(json_object_get(answer, "after")))
		printf("%s got an NMI; it counted %" PRIu64 " before and %" PRIu64 " after\n", name,
		       json_uint(answer, "before", 0), json_uint(answer, "after", 0));
	else
		printf("%s got an NMI\n", name);
	if (json_str(answer, "evidence") != NULL)
		printf("what there was to see before is kept: %s\n", json_str(answer, "evidence"));
	if (note != NULL)
		fprintf(stderr, "plim: %s\n", note);
	return true;
}

static bool vm_nmi(Cli *c, GError **err)
{
	return each_name(c, one_nmi, err);
}

static bool vm_agent(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/agent");
	_cleanup_json_ Json *agent = client_call(c->client, "GET", path, NULL, err);

	return agent != NULL && output_object(c, agent, err);
}

static bool put_timeout(Cli *c, Json *body, GError **err)
{
	uint64_t us;

	if (cli_text(c, "timeout") == NULL)
		return true;
	if (!parse_duration(cli_text(c, "timeout"), &us, err))
		return false;
	json_put_uint(body, "timeout", us);
	return true;
}

/* Like ssh: the command's output and its exit status are ours. */
static bool vm_exec(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/agent/exec");
	_cleanup_json_ Json *body = json_object(), *answer = NULL;

	json_put(body, "command", json_of_strv((const char *const *)c->args + 1));
	if (!put_timeout(c, body, err))
		return false;
	answer = client_call(c->client, "POST", path, body, err);
	if (answer == NULL)
		return false;
	printf("%s", json_str(answer, "stdout"));
	fprintf(stderr, "%s", json_str(answer, "stderr"));
	if (json_bool(answer, "truncated", false))
		fprintf(stderr, "plim: the output was longer than the agent keeps; its end is missing\n");
	c->exit_status = json_is_integer(json_object_get(answer, "exitcode"))
			     ? (int)json_int(answer, "exitcode", 0)
			     : 128 + (int)json_int(answer, "signal", 0);
	return true;
}

static bool vm_cat(Cli *c, GError **err)
{
	g_autoptr(GString) query = g_string_new(NULL);
	g_autofree char *path = NULL;

	query_add(query, "path", cli_arg(c, 1));
	path = cli_path("vms", cli_arg(c, 0), "/agent/file");
	g_string_prepend(query, path);
	return print_bytes_of(c, query->str, cli_text(c, "to"), err);
}

static const Option console_options[] = {
	{ "serial", 0, OPTION_FLAG, NULL, "The serial port instead of the virtio console" },
	{ "log", 0, OPTION_FLAG, NULL, "Print the last 64 KiB and end" },
	{ "web", 0, OPTION_FLAG, NULL,
	  "Serve screen and consoles to a browser on this machine, and print the link" },
	{ "port", 0, OPTION_TEXT, "PORT", "Of loopback, for --web; any that is free" },
	{ 0 },
};
static const Option file_options[] = {
	{ "to", 0, OPTION_TEXT, "FILE", "Write here; - is the standard output" },
	{ 0 },
};
static const Option nmi_options[] = {
	{ "evidence", 0, OPTION_FLAG, NULL, "Keep registers, screen, consoles and logs first" },
	{ 0 },
};
static const Option exec_options[] = {
	{ "timeout", 't', OPTION_TEXT, "DURATION", "How long it may take (30s)" },
	{ 0 },
};

const Command vm_guest_commands[] = {
	{ "vm", "console", "NAME", "Talk to the guest's text console", "Ctrl-] leaves it.", NULL, 1, 1, "vms",
	  0, console_options, vm_console },
	{ "vm", "display", "NAME SOCKET", "Offer the guest's screen, keyboard and pointer to a VNC viewer",
	  "Makes a unix socket at SOCKET that only you can open, and serves one viewer on it until he leaves. The guest "
	  "needs platform.vnc=true and a display (platform.video).",
	  "plim vm display web1 /run/user/1000/web1.vnc", 2, 2, "vms", 0, NULL, vm_display },
	{ "vm", "screenshot", "NAME", "Save the screen as PNG", NULL, "plim vm screenshot web1 --to web1.png",
	  1, 1, "vms", 0, file_options, vm_screenshot },
	{ "vm", "log", "NAME", "Print the end of QEMU's log", NULL, NULL, 1, 1, "vms", 0, NULL, vm_log },
	{ "vm", "nmi", "NAME...", "Inject a non-maskable interrupt",
	  "It comes over each vcpu's LINT1, also in a guest that hangs; Linux takes it on its first vcpu. Where the agent answers, "
	  "the guest's count (/proc/interrupts) before and after is told. What the guest makes of it is its own: Linux panics with "
	  "kernel.unknown_nmi_panic=1.",
	  "plim vm nmi web1", 1, 1000, "vms", 0, nmi_options, vm_nmi },
	{ "vm", "agent", "NAME", "What the guest agent says of itself, the system and its addresses", NULL,
	  NULL, 1, 1, "vms", GROUP_OUTPUT, NULL, vm_agent },
	{ "vm", "exec", "NAME -- COMMAND [ARG...]", "Run a command in the guest through its agent", NULL,
	  "plim vm exec web1 -- systemctl is-system-running", 2, 1000, "vms", 0, exec_options, vm_exec },
	{ "vm", "cat", "NAME PATH", "Print a file of the guest", NULL, "plim vm cat web1 /etc/os-release", 2,
	  2, "vms", 0, file_options, vm_cat },
	{ 0 },
};
