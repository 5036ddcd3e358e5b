/* SPDX-License-Identifier: Apache-2.0 */
/* plim evidence, plim vm dump: what was kept of guests that went wrong. */
#include "base/fd.h"
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PIECE (UINT64_C(16) << 20)

/* ---- finding ---- */

static void print_failure(const char *host, const GError *e)
{
	fprintf(stderr, "plim: evidence of host %s is not shown: %s\n", host, e->message);
}

/* Adds the evidence of one host. A host that does not answer hides none of the others'. */
static void add_of_host(Cli *c, const char *host, Json *all)
{
	g_autofree char *path = cli_path("hosts", host, "/evidence");
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *list = client_call(c->client, "GET", path, NULL, &e);

	if (list != NULL)
		json_array_extend(all, list);
	else
		print_failure(host, e);
}

/* Of one host, or of all of the pool. New reference. */
static Json *collect(Cli *c, const char *host, GError **err)
{
	_cleanup_json_ Json *hosts = NULL, *all = json_array();
	g_autofree char *path = NULL;
	const Json *h;
	size_t i;

	if (host != NULL) {
		path = cli_path("hosts", host, "/evidence");
		return client_call(c->client, "GET", path, NULL, err);
	}
	hosts = client_call(c->client, "GET", "/v1/hosts", NULL, err);
	if (hosts == NULL)
		return NULL;
	json_array_foreach(hosts, i, h) add_of_host(c, json_str(h, "name"), all);
	return json_ref(all);
}

/* By its id or a beginning that no other has. Borrowed of `all`; ERR_NOT_FOUND or ERR_CONFLICT. */
static const Json *pick(const Json *all, const char *ref, GError **err)
{
	const Json *j, *found = NULL;
	size_t i, n = 0;

	json_array_foreach(all, i, j)
	{
		if (g_str_equal(json_str(j, "id"), ref))
			return j;
		if (g_str_has_prefix(json_str(j, "id"), ref)) {
			found = j;
			n++;
		}
	}
	if (n == 1)
		return found;
	if (n > 1)
		fail_advice(err, ERR_CONFLICT, "Write more of it; `plim evidence list` shows all.",
			    "%zu bundles of evidence begin with '%s'", n, ref);
	else
		fail_advice(err, ERR_NOT_FOUND, "`plim evidence list` shows what there is.",
			    "there is no evidence '%s'", ref);
	return NULL;
}

static char *evidence_path(const Json *evidence, const char *rest)
{
	g_autofree char *tail = g_strdup_printf("/evidence/%s%s", json_str(evidence, "id"), rest);

	return cli_path("hosts", json_str(evidence, "host"), tail);
}

/* ---- list, show, delete ---- */

static const Column columns[] = {
	{ "ID", "id", NULL, false },
	{ "HOST", "host", NULL, false },
	{ "CAUSE", "cause", NULL, false },
	{ "DUMP", "dump.format", NULL, false },
	{ "SIZE", "bytes", print_bytes, true },
	{ "AGE", "created_at", print_age, true },
	{ 0 },
};

static bool evidence_list(Cli *c, GError **err)
{
	_cleanup_json_ Json *all = collect(c, c->args[0], err);

	return all != NULL && output_list(c, all, columns, err);
}

static bool evidence_show(Cli *c, GError **err)
{
	_cleanup_json_ Json *all = collect(c, NULL, err);
	const Json *j = all != NULL ? pick(all, cli_arg(c, 0), err) : NULL;

	return j != NULL && output_object(c, j, err);
}

static bool remove_one(Cli *c, const Json *evidence, GError **err)
{
	g_autofree char *path = evidence_path(evidence, "");
	_cleanup_json_ Json *gone = client_call(c->client, "DELETE", path, NULL, err);

	return gone != NULL;
}

static bool one_delete(Cli *c, const char *ref, GError **err)
{
	_cleanup_json_ Json *all = collect(c, NULL, err);
	const Json *j = all != NULL ? pick(all, ref, err) : NULL;

	if (j == NULL || !remove_one(c, j, err))
		return false;
	printf("%s was deleted\n", json_str(j, "id"));
	return true;
}

static bool evidence_delete(Cli *c, GError **err)
{
	return each_name(c, one_delete, err);
}

/* ---- export ---- */

static bool fetch_piece(Cli *c, const char *path, uint64_t offset, int fd, const char *to, uint64_t *ret_got,
			GError **err)
{
	g_autofree char *query =
	    g_strdup_printf("%s?offset=%" PRIu64 "&length=%" PRIu64, path, offset, PIECE);
	g_autoptr(GBytes) bytes = client_fetch(c->client, query, err);
	const void *data;
	gsize len;
	int r;

	if (bytes == NULL)
		return false;
	data = g_bytes_get_data(bytes, &len);
	r = len > 0 ? fd_write_all(fd, data, len) : 0;
	*ret_got = len;
	return r == 0 || fail_errno(err, -r, "can't write '%s'", to);
}

/* The file is the caller's, and is made by him: the daemon writes nowhere but in its own folders. */
static bool fetch_file(Cli *c, const Json *evidence, const char *name, int fd, const char *to, GError **err)
{
	g_autofree char *rest = g_strconcat("/files/", name, NULL), *path = evidence_path(evidence, rest);
	uint64_t offset = 0, got = PIECE;

	while (got == PIECE) {
		if (!fetch_piece(c, path, offset, fd, to, &got, err))
			return false;
		offset += got;
	}
	return true;
}

static int make_file(const char *path, GError **err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	if (fd < 0 && errno == EEXIST)
		fail_advice(err, ERR_CONFLICT, "Name a file that does not exist.", "'%s' is there already",
			    path);
	else if (fd < 0)
		fail_errno(err, errno, "can't make '%s'", path);
	return fd;
}

static bool export_file(Cli *c, const Json *evidence, const char *name, const char *dir, GError **err)
{
	g_autofree char *to = g_build_filename(dir, name, NULL);
	_cleanup_close_ int fd = make_file(to, err);

	if (fd < 0)
		return false;
	if (!fetch_file(c, evidence, name, fd, to, err)) {
		unlink(to);
		return false;
	}
	printf("%s\n", to);
	return true;
}

static bool write_manifest(const Json *evidence, const char *dir, GError **err)
{
	g_autofree char *path = g_build_filename(dir, "manifest.json", NULL),
			*text = json_print_pretty(evidence);

	return file_write_atomic(path, text, strlen(text), 0600, err);
}

static bool evidence_export(Cli *c, GError **err)
{
	_cleanup_json_ Json *all = collect(c, NULL, err);
	const Json *j = all != NULL ? pick(all, cli_arg(c, 0), err) : NULL, *f;
	const char *dir = cli_arg(c, 1);
	size_t i;

	if (j == NULL || !dir_make(dir, 0700, err))
		return false;
	json_array_foreach(json_arr(j, "files"), i, f)
	{
		if (cli_has(c, "no-dump") &&
		    g_strcmp0(json_str(f, "name"), json_str(json_obj(j, "dump"), "file")) == 0)
			continue;
		if (!export_file(c, j, json_str(f, "name"), dir, err))
			return false;
	}
	return write_manifest(j, dir, err);
}

/* ---- taking ---- */

static void print_missing(const Json *evidence)
{
	const Json *m;
	size_t i;

	json_array_foreach(json_arr(evidence, "missing"), i, m)
	{
		fprintf(stderr, "plim: no %s: %s\n", json_str(m, "name"), json_str(m, "reason"));
	}
}

/* The operation's result; *ret_done false: it was only planned, or is not waited for. */
static Json *order(Cli *c, const char *action, const char *member, bool *ret_done, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), action);
	const char *format = cli_text(c, member);
	_cleanup_json_ Json *body = json_object(), *op = NULL, *end = NULL;

	*ret_done = false;
	if (format != NULL)
		json_put_str(body, member, format);
	if (cli_has(c, "dry-run") || cli_has(c, "no-wait"))
		return cli_operate(c, "POST", path, NULL, json_ref(body), "", err) ? json_object() : NULL;
	op = client_call(c->client, "POST", path, body, err);
	if (op == NULL || !cli_follow(c, op, &end, err))
		return NULL;
	*ret_done = true;
	return json_ref(json_obj(end, "result"));
}

static bool evidence_take(Cli *c, GError **err)
{
	bool done;
	_cleanup_json_ Json *kept = order(c, "/actions/evidence", "dump", &done, err);

	if (kept == NULL || !done)
		return kept != NULL;
	print_missing(kept);
	printf("%s\n", json_str(kept, "id"));
	return true;
}

static void print_dump(const char *name, const Json *evidence, const char *where)
{
	const Json *dump = json_obj(evidence, "dump");
	g_autofree char *size = print_size(json_uint(dump, "bytes", 0)),
			*still = print_duration(json_uint(dump, "still", 0));

	printf("the memory of %s is in %s (%s, %s)\n", name, where, json_str(dump, "format"), size);
	if (json_uint(dump, "still", 0) > 0)
		printf("the guest stood still for %s and goes on\n", still);
}

/* What was asked for in a file of the caller's does not stay on the host. */
static bool dump_to_file(Cli *c, const Json *kept, int fd, const char *to, GError **err)
{
	if (!fetch_file(c, kept, json_str(json_obj(kept, "dump"), "file"), fd, to, err))
		return err_advise(err,
				  "The dump is kept as evidence %s: `plim evidence export` has another try.",
				  json_str(kept, "id"));
	print_dump(cli_arg(c, 0), kept, to);
	return remove_one(c, kept, err);
}

static bool dump_and_fetch(Cli *c, int fd, const char *to, GError **err)
{
	bool done;
	_cleanup_json_ Json *kept = order(c, "/actions/dump", "format", &done, err);
	g_autofree char *path = NULL;

	if (kept == NULL || !done)
		return kept != NULL;
	if (to != NULL)
		return dump_to_file(c, kept, fd, to, err);
	path = g_build_filename(json_str(kept, "path"), json_str(json_obj(kept, "dump"), "file"), NULL);
	print_dump(cli_arg(c, 0), kept, path);
	printf("%s\n", json_str(kept, "id"));
	return true;
}

static bool vm_dump(Cli *c, GError **err)
{
	const char *to = cli_text(c, "to");
	_cleanup_close_ int fd = -EBADF;

	if (to == NULL)
		return dump_and_fetch(c, fd, NULL, err);
	if (cli_has(c, "dry-run") || cli_has(c, "no-wait"))
		return fail_advice(err, ERR_INVALID, "Leave one of them out.",
				   "--to waits for the dump; --no-wait and --dry-run don't");
	fd = make_file(to, err);
	if (fd < 0)
		return false;
	if (dump_and_fetch(c, fd, to, err))
		return true;
	unlink(to);
	return false;
}

static const Option dump_options[] = {
	{ "format", 0, OPTION_TEXT, "FORMAT",
	  "kdump-zlib, elf or win-dmp; what suits the guest when left out" },
	{ "to", 0, OPTION_TEXT, "FILE", "Into this file instead of the host's evidence; it must not exist" },
	{ 0 },
};
static const Option take_options[] = {
	{ "dump", 0, OPTION_TEXT, "FORMAT", "Also the guest's memory: kdump-zlib, elf or win-dmp" },
	{ 0 },
};
static const Option export_options[] = {
	{ "no-dump", 0, OPTION_FLAG, NULL, "Leave out the guest's memory" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)

const Command evidence_commands[] = {
	{ "vm", "dump", "NAME", "Write the guest's memory to a file that crash or WinDbg opens",
	  "The guest stands still while its memory is written, and goes on; how long it took is told. Without --to the dump "
	  "is kept with the host's evidence. win-dmp needs the driver fwcfg of virtio-win in the guest.",
	  "plim vm dump web1 --to web1.kdump", 1, 1, "vms", OPERATION, dump_options, vm_dump },
	{ "evidence", "list", "[HOST]", "List what is kept of guests that went wrong",
	  "Of all hosts of the pool, or of one.", NULL, 0, 1, "hosts", GROUP_OUTPUT, NULL, evidence_list },
	{ "evidence", "show", "ID", "Show one bundle: its files, and what could not be had", NULL, NULL, 1, 1,
	  NULL, GROUP_OUTPUT, NULL, evidence_show },
	{ "evidence", "take", "VM", "Keep registers, screen, consoles, state and logs of a running guest now",
	  "The guest is not asked and does not stop, but for a dump of its memory.",
	  "plim evidence take web1", 1, 1, "vms", OPERATION, take_options, evidence_take },
	{ "evidence", "export", "ID DIR", "Copy the files of a bundle into a folder of yours", NULL,
	  "plim evidence export web1-20261121T083536.116Z /tmp/web1", 2, 2, NULL, 0, export_options,
	  evidence_export },
	{ "evidence", "delete", "ID...", "Delete bundles", NULL, NULL, 1, 1000, NULL, 0, NULL,
	  evidence_delete },
	{ 0 },
};
