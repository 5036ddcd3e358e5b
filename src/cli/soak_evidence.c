/* SPDX-License-Identifier: Apache-2.0 */
/* What is gathered at a deviation: files of one folder, each as the API gives it. */
#include "base/fd.h"
#include "cli/soak.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Evidence {
	Soak *soak;
	const SoakGuest *guest;
	const char *folder;
} Evidence;

static void write_file(const Evidence *e, const char *name, const void *data, size_t len)
{
	g_autofree char *path = g_build_filename(e->folder, name, NULL);
	g_autoptr(GError) err = NULL;

	if (!file_write_atomic(path, data, len, 0600, &err))
		fprintf(stderr, "plim: %s\n", err->message);
}

static void write_error(const Evidence *e, const char *name, const GError *why)
{
	g_autofree char *file = g_strconcat(name, ".error", NULL),
			*text = g_strconcat(why->message, "\n", NULL);

	write_file(e, file, text, strlen(text));
}

static void write_json(const Evidence *e, const char *name, const Json *j)
{
	g_autofree char *text = json_print_pretty(j);

	write_file(e, name, text, strlen(text));
}

/* What a path answers, as it comes. */
static void keep(const Evidence *e, const char *name, const char *path)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(GBytes) bytes = client_fetch(e->soak->cli->client, path, &err);
	gsize len;
	const void *data;

	if (bytes == NULL) {
		write_error(e, name, err);
		return;
	}
	data = g_bytes_get_data(bytes, &len);
	write_file(e, name, data, len);
}

static void keep_of_vm(const Evidence *e, const char *name, const char *rest)
{
	g_autofree char *path = cli_path("vms", e->guest->id, rest);

	keep(e, name, path);
}

static char *guest_path(const Evidence *e, const SoakHost *h, const char *rest)
{
	g_autofree char *tail = g_strconcat("/guests/", e->guest->id, rest, NULL);

	return cli_path("hosts", h->id, tail);
}

/* The dump stays on its host: it is as large as the guest's memory. Here it says where. */
static void dump_memory(const Evidence *e, const SoakHost *h)
{
	g_autofree char *path = guest_path(e, h, "/actions/dump");
	g_autofree char *name = g_strconcat(h->name, ".dump.json", NULL);
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *answer = client_call(e->soak->cli->client, "POST", path, NULL, &err);

	if (answer != NULL)
		write_json(e, name, answer);
	else
		write_error(e, name, err);
}

static void keep_host(const Evidence *e, const SoakHost *h)
{
	static const struct {
		const char *suffix, *rest;
	} files[] = { { ".guest.json", "" }, { ".qemu.log", "/log" }, { ".registers.txt", "/registers" } };
	g_autofree char *record = g_strconcat(h->name, ".host.json", NULL),
			*path = cli_path("hosts", h->id, NULL);

	keep(e, record, path);
	for (size_t i = 0; i < G_N_ELEMENTS(files); i++) {
		g_autofree char *name = g_strconcat(h->name, files[i].suffix, NULL),
				*from = guest_path(e, h, files[i].rest);

		keep(e, name, from);
	}
}

/* Stopped first: what is read after that is of the moment at which it was found. */
static void stop_guest(const Evidence *e)
{
	g_autofree char *path = cli_path("vms", e->guest->id, "/actions/pause?wait=30");
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *op = client_call(e->soak->cli->client, "POST", path, NULL, &err);

	if (op == NULL)
		write_error(e, "pause", err);
}

static void keep_records(const Evidence *e)
{
	keep_of_vm(e, "vm.json", NULL);
	keep_of_vm(e, "console.txt", "/console/log?port=serial");
	keep_of_vm(e, "screen.png", "/screenshot");
	keep(e, "events.json", "/v1/events?limit=1000");
	keep(e, "operations.json", "/v1/operations");
	if (e->guest->op != NULL)
		write_json(e, "move.json", e->guest->op);
}

bool soak_evidence_write(Soak *s, const SoakGuest *g, const char *folder, GError **err)
{
	const Evidence e = { .soak = s, .guest = g, .folder = folder };
	_cleanup_json_ Json *summary = NULL;

	if (mkdir(folder, 0700) < 0)
		return fail_errno(err, errno, "can't make the folder '%s'", folder);
	stop_guest(&e);
	for (size_t i = 0; i < s->settings.n_hosts; i++)
		keep_host(&e, &s->host[i]);
	keep_records(&e);
	for (size_t i = 0; i < s->settings.n_hosts; i++)
		dump_memory(&e, &s->host[i]);
	summary = soak_summary(s);
	write_json(&e, "soak.json", summary);
	return true;
}
