/* SPDX-License-Identifier: Apache-2.0 */
/* plim backup: of running guests, and back. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

static void put_text(const Cli *c, const char *option, const char *member, Json *body)
{
	if (cli_text(c, option) != NULL)
		json_put_str(body, member, cli_text(c, option));
}

static bool put_parsed(const Cli *c, const char *option, const char *member,
		       bool (*parse)(const char *text, uint64_t *ret, GError **err), Json *body, GError **err)
{
	uint64_t value;

	if (cli_text(c, option) == NULL)
		return true;
	if (!parse(cli_text(c, option), &value, err)) {
		g_prefix_error(err, "--%s: ", option);
		return false;
	}
	json_put_uint(body, member, value);
	return true;
}

/* Ask, wait, and leave the operation's result in *ret; NULL when nothing is to be shown. Takes `body`. */
static bool operate(Cli *c, const char *method, const char *path, Json *body, Json **ret, GError **err)
{
	_cleanup_json_ Json *sent = body, *op = NULL, *end = NULL;

	*ret = NULL;
	if (cli_has(c, "dry-run") || cli_has(c, "no-wait"))
		return cli_operate(c, method, path, NULL, g_steal_pointer(&sent), "", err);
	op = client_call(c->client, method, path, sent, err);
	if (op == NULL || !cli_follow(c, op, &end, err))
		return false;
	*ret = json_deep_copy(json_obj(end, "result"));
	return true;
}

/* ---- create ---- */

static void print_backup(const char *vm, const Json *r)
{
	uint64_t frozen = json_uint(r, "freeze", 0);
	g_autofree char *size = print_size(json_uint(r, "bytes", 0)), *freeze = print_duration(frozen);
	const char *note = json_str(r, "note"), *warning = json_str(r, "warning");

	printf("%s was backed up: %s backup %s, %s in %s%s\n", vm, json_str(r, "kind"), json_str(r, "backup"),
	       size, json_str(r, "repository"), json_str(r, "encryption") != NULL ? ", encrypted" : "");
	if (note == NULL && frozen == 0)
		printf("its guest was off, and had been shut down\n");
	else if (note == NULL)
		printf("its file systems were at rest, for %s\n", freeze);
	else
		printf("it is as after a power cut: %s\n", note);
	if (warning != NULL)
		fprintf(stderr, "plim: %s\n", warning);
}

static bool backup_create(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), "/actions/backup");
	_cleanup_json_ Json *body = json_object(), *result = NULL;

	put_text(c, "to", "repository", body);
	put_text(c, "key-file", "key_file", body);
	if (cli_has(c, "no-encryption"))
		json_put_bool(body, "no_encryption", true);
	if (cli_has(c, "incremental"))
		json_put_bool(body, "incremental", true);
	if (cli_has(c, "crash-consistent"))
		json_put_bool(body, "crash_consistent", true);
	if (!put_parsed(c, "freeze-budget", "freeze_budget", parse_duration, body, err) ||
	    !put_parsed(c, "bandwidth", "bandwidth", parse_size, body, err) ||
	    !operate(c, "POST", path, g_steal_pointer(&body), &result, err))
		return false;
	if (result != NULL)
		print_backup(cli_arg(c, 0), result);
	return true;
}

/* ---- list ---- */

static char *print_freeze(const Json *value, const Json *backup)
{
	uint64_t frozen = (uint64_t)json_integer_value(value);

	return frozen == 0 || json_str(backup, "note") != NULL ? g_strdup("-") : print_duration(frozen);
}

static const Column columns[] = {
	{ "BACKUP", "id", NULL, false },
	{ "VM", "vm.name", NULL, false },
	{ "CREATED", "created_at", NULL, false },
	{ "KIND", "kind", NULL, false },
	{ "CONSISTENCY", "consistency", NULL, false },
	{ "FROZEN", "freeze", print_freeze, true },
	{ "SIZE", "bytes", print_bytes, true },
	{ "ENCRYPTION", "encryption", NULL, false },
	{ "RESTS ON", "parent", NULL, false },
	{ 0 },
};

/* A path is a repository, anything else a vm. */
static char *list_path(const Cli *c)
{
	g_autoptr(GString) q = g_string_new(NULL);
	const char *from = cli_text(c, "from"), *arg = c->args[0];

	if (arg != NULL && arg[0] == '/')
		from = arg;
	else if (arg != NULL)
		query_add(q, "vm", arg);
	if (from != NULL)
		query_add(q, "repository", from);
	return g_strconcat("/v1/backups", q->str, NULL);
}

static void tell_broken(const Json *list)
{
	const Json *b;
	size_t i;

	json_array_foreach((Json *)list, i, b)
	    fprintf(stderr, "plim: '%s' can't be used: %s\n", json_str(b, "path"),
		    json_str(json_obj(b, "error"), "message"));
}

static bool backup_list(Cli *c, GError **err)
{
	g_autofree char *path = list_path(c);
	_cleanup_json_ Json *answer = client_call(c->client, "GET", path, NULL, err);

	if (answer == NULL || !output_list(c, json_object_get(answer, "backups"), columns, err))
		return false;
	tell_broken(json_arr(answer, "broken"));
	return true;
}

/* ---- verify, restore, delete, prune ---- */

static void print_verified(const char *backup, const Json *r)
{
	g_autofree char *took = print_duration(json_uint(r, "booted_in", 0));

	printf("%s is what was written\n", backup);
	if (json_object_get(r, "booted_in") != NULL)
		printf("a copy of it booted, and its agent answered after %s\n", took);
}

static bool backup_verify(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("backups", cli_arg(c, 0), "/actions/verify");
	_cleanup_json_ Json *body = json_object(), *result = NULL;

	put_text(c, "from", "repository", body);
	put_text(c, "key-file", "key_file", body);
	if (cli_has(c, "boot"))
		json_put_bool(body, "boot", true);
	if (!put_parsed(c, "boot-timeout", "boot_timeout", parse_duration, body, err) ||
	    !operate(c, "POST", path, g_steal_pointer(&body), &result, err))
		return false;
	if (result != NULL)
		print_verified(cli_arg(c, 0), result);
	return true;
}

static bool backup_restore(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("backups", cli_arg(c, 0), "/actions/restore");
	_cleanup_json_ Json *body = json_object(), *result = NULL;

	put_text(c, "from", "repository", body);
	put_text(c, "key-file", "key_file", body);
	put_text(c, "name", "name", body);
	put_text(c, "over", "vm", body);
	if (!operate(c, "POST", path, g_steal_pointer(&body), &result, err))
		return false;
	if (result != NULL)
		printf("%s was restored from %s\n", json_str(result, "vm"), json_str(result, "backup"));
	return true;
}

static bool one_backup_delete(Cli *c, const char *name, GError **err)
{
	g_autofree char *path = cli_path("backups", name, NULL),
			*done = g_strdup_printf("%s was deleted", name);
	g_autoptr(GString) q = g_string_new(NULL);

	if (cli_text(c, "from") != NULL)
		query_add(q, "repository", cli_text(c, "from"));
	return cli_operate(c, "DELETE", path, q->str, NULL, done, err);
}

static bool backup_delete(Cli *c, GError **err)
{
	return each_name(c, one_backup_delete, err);
}

static bool parse_count(const char *text, uint64_t *ret, GError **err)
{
	return parse_uint(text, 0, 100000, ret, err);
}

static void print_deleted(const Json *list)
{
	const Json *id;
	size_t i;

	json_array_foreach((Json *)list, i, id) printf("%s was deleted\n", json_string_value(id));
	if (json_array_size(list) == 0)
		printf("nothing had to be deleted\n");
}

static bool backup_prune(Cli *c, GError **err)
{
	_cleanup_json_ Json *body = json_object(), *result = NULL;

	put_text(c, "from", "repository", body);
	if (c->args[0] != NULL)
		json_put_str(body, "vm", c->args[0]);
	if (!put_parsed(c, "keep-last", "keep_last", parse_count, body, err) ||
	    !put_parsed(c, "keep-daily", "keep_daily", parse_count, body, err) ||
	    !put_parsed(c, "keep-weekly", "keep_weekly", parse_count, body, err) ||
	    !operate(c, "POST", "/v1/backups/actions/prune", g_steal_pointer(&body), &result, err))
		return false;
	if (result != NULL)
		print_deleted(json_arr(result, "deleted"));
	return true;
}

/* ---- mounts ---- */

static void print_disk(const Json *d)
{
	g_autofree char *size = print_size(json_uint(d, "size", 0));

	printf("%s, %s: %s\n", json_str(d, "name"), size, json_str(d, "uri"));
}

static bool backup_mount(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("backups", cli_arg(c, 0), "/actions/mount");
	_cleanup_json_ Json *body = json_object(), *result = NULL;
	const Json *d;
	size_t i;

	put_text(c, "from", "repository", body);
	put_text(c, "key-file", "key_file", body);
	if (!operate(c, "POST", path, g_steal_pointer(&body), &result, err))
		return false;
	if (result == NULL)
		return true;
	json_array_foreach(json_arr(result, "disks"), i, d) print_disk(d);
	printf(
	    "It can only be read. `plim backup unmount %s` ends it; `plim backup mount --help` says how to use it.\n",
	    json_str(result, "backup"));
	return true;
}

static char *print_uris(const Json *value, const Json *mount)
{
	g_autoptr(GString) s = g_string_new(NULL);
	const Json *d;
	size_t i;

	(void)mount;
	json_array_foreach((Json *)value, i, d)
	    g_string_append_printf(s, "%s%s", i > 0 ? " " : "", json_str(d, "uri"));
	return g_string_free(g_steal_pointer(&s), FALSE);
}

static const Column mount_columns[] = {
	{ "BACKUP", "backup", NULL, false },     { "VM", "vm.name", NULL, false },
	{ "STATE", "state", NULL, false },       { "SINCE", "created_at", NULL, false },
	{ "DISKS", "disks", print_uris, false }, { 0 },
};

static bool backup_mount_list(Cli *c, GError **err)
{
	_cleanup_json_ Json *answer = client_call(c->client, "GET", "/v1/backup-mounts", NULL, err);

	return answer != NULL && output_list(c, answer, mount_columns, err);
}

static bool one_backup_unmount(Cli *c, const char *name, GError **err)
{
	g_autofree char *path = cli_path("backups", name, "/actions/unmount"),
			*done = g_strdup_printf("%s is shown no more", name);

	return cli_operate(c, "POST", path, NULL, NULL, done, err);
}

static bool backup_unmount(Cli *c, GError **err)
{
	return each_name(c, one_backup_unmount, err);
}

#define FROM                                                                                                 \
	{                                                                                                    \
		"from", 0, OPTION_TEXT, "REPOSITORY", "Folder on the host (its backup.repository)"           \
	}

#define KEY                                                                                                  \
	{                                                                                                    \
		"key-file", 0, OPTION_TEXT, "FILE",                                                          \
		    "On the host, with the backup's key (its backup.key_file)"                               \
	}

static const Option create_options[] = {
	{ "to", 0, OPTION_TEXT, "REPOSITORY", "Folder on the vm's host (its backup.repository)" },
	{ "incremental", 0, OPTION_FLAG, NULL, "Only what changed since the last backup there" },
	{ "crash-consistent", 0, OPTION_FLAG, NULL, "Don't freeze the guest's file systems" },
	{ "freeze-budget", 0, OPTION_TEXT, "TIME", "How long they may stand still at most (5s)" },
	{ "bandwidth", 0, OPTION_TEXT, "SIZE", "At most so much a second, of all disks together" },
	{ "key-file", 0, OPTION_TEXT, "FILE",
	  "Encrypt it with the key in this file on the host (its backup.key_file)" },
	{ "no-encryption", 0, OPTION_FLAG, NULL, "Don't encrypt it, whatever the host's backup.key_file is" },
	{ 0 },
};

static const Option from_options[] = { FROM, { 0 } };

static const Option mount_options[] = { FROM, KEY, { 0 } };

static const Option verify_options[] = {
	FROM,
	KEY,
	{ "boot", 0, OPTION_FLAG, NULL, "Let a copy of it boot, alone, until its agent answers" },
	{ "boot-timeout", 0, OPTION_TEXT, "TIME", "How long that may take at most (5m)" },
	{ 0 },
};

static const Option restore_options[] = {
	FROM,
	KEY,
	{ "name", 0, OPTION_TEXT, "NAME", "Name of the new vm (the one that it had)" },
	{ "over", 0, OPTION_TEXT, "VM", "Replace the disks of this vm, which must be off" },
	{ 0 },
};

static const Option prune_options[] = {
	FROM,
	{ "keep-last", 0, OPTION_TEXT, "N", "Keep the newest N" },
	{ "keep-daily", 0, OPTION_TEXT, "N", "Keep the newest of each of N days" },
	{ "keep-weekly", 0, OPTION_TEXT, "N", "Keep the newest of each of N weeks" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)
#define CREATE_TEXT                                                                                                  \
	"The guest's agent runs its hooks and freezes all file systems; QEMU holds on to that moment on all disks, " \
	"the guest thaws, and the copy is made while it goes on. When the freeze does not come in time the "         \
	"backup goes on without it, as after a power cut, and says so. No guest is left frozen. An incremental "     \
	"backup that has nothing to rest on is made a full one, with a warning that says why. With a key the "       \
	"files are encrypted (LUKS), and can't be restored without it: docs/backup.md says how to make and keep one."

#define MOUNT_TEXT                                                                                                        \
	"Each disk is an export of an NBD server on a unix socket of the host, to which root may connect, and stays so "  \
	"until it is unmounted or the host ends. Programs of QEMU read there by the address that is printed. A file "     \
	"system is mounted from it by `qemu-nbd -r -c /dev/nbd0 ADDRESS` where the kernel has the module nbd, and where " \
	"it has not by qemu-storage-daemon, which makes a file of it through FUSE: docs/backup.md has the commands."

const Command backup_commands[] = {
	{ "backup", "create", "VM", "Back up a guest, while it runs or while it is off", CREATE_TEXT,
	  "plim backup create web1 --to /srv/backup\nplim backup create web1 --to /srv/backup --incremental\n"
	  "plim backup create web1 --to /srv/backup --key-file /etc/plimsoll/backup.key",
	  1, 1, "vms", OPERATION, create_options, backup_create },
	{ "backup", "list", "[REPOSITORY|VM]", "List backups, the newest first",
	  "An argument that begins with a slash is a repository, another one the name or id of a vm.",
	  "plim backup list /srv/backup\nplim backup list web1 --from /srv/backup", 0, 1, NULL, GROUP_OUTPUT,
	  from_options, backup_list },
	{ "backup", "verify", "BACKUP",
	  "Read a backup and all that it rests on, and compare it with what was written",
	  "With --boot a copy of it then boots without a network, under another id; what it writes is thrown away, and "
	  "nothing is written to the repository.",
	  "plim backup verify 20261121T093000Z-1a2b3c4d --from /srv/backup --boot", 1, 1, NULL, OPERATION,
	  verify_options, backup_verify },
	{ "backup", "restore", "BACKUP", "Restore a backup as a new vm, or over the disks of its own",
	  "All files are read and compared with what was written first. The new vm has its network cards' addresses "
	  "only when the old one is gone.",
	  "plim backup restore 20261121T093000Z-1a2b3c4d --from /srv/backup --name web1-old\n"
	  "plim backup restore 20261121T093000Z-1a2b3c4d --from /srv/backup --over web1",
	  1, 1, NULL, OPERATION, restore_options, backup_restore },
	{ "backup", "mount", "BACKUP", "Show the disks of a backup through NBD, to be read only", MOUNT_TEXT,
	  "plim backup mount 20261121T093000Z-1a2b3c4d --from /srv/backup\n"
	  "qemu-img convert -O raw 'nbd+unix:///root?socket=...' root.raw",
	  1, 1, NULL, OPERATION, mount_options, backup_mount },
	{ "backup", "mounts", "", "List the backups that are shown on this host", NULL, NULL, 0, 0, NULL,
	  GROUP_OUTPUT, NULL, backup_mount_list },
	{ "backup", "unmount", "BACKUP...", "Show them no more", "Whoever still reads there gets errors.",
	  NULL, 1, 1000, NULL, OPERATION, NULL, backup_unmount },
	{ "backup", "delete", "BACKUP...", "Delete backups on which no other rests", NULL, NULL, 1, 1000,
	  NULL, OPERATION, from_options, backup_delete },
	{ "backup", "prune", "[VM]", "Delete the backups that need not be kept",
	  "Of each vm those are kept that an option names, and what they rest on. Days and weeks are those of UTC.",
	  "plim backup prune --from /srv/backup --keep-last 7 --keep-weekly 8", 0, 1, "vms", OPERATION,
	  prune_options, backup_prune },
	{ 0 },
};
