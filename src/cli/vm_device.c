/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm disk, plim vm nic: what a vm is connected to. */
#include "base/str.h"
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>

static char *sub_path(const Cli *c, const char *collection, const char *name)
{
	g_autofree char *escaped = name != NULL ? g_uri_escape_string(name, NULL, FALSE) : NULL;
	g_autofree char *rest = g_strconcat("/", collection, escaped != NULL ? "/" : "", escaped, NULL);

	return cli_path("vms", cli_arg(c, 0), rest);
}

static Json *vm_of(const Cli *c, GError **err)
{
	g_autofree char *path = cli_path("vms", cli_arg(c, 0), NULL);

	return client_call(c->client, "GET", path, NULL, err);
}

/* {at_next_start: ["disk.data1"]}: what the running guest has not got. */
static bool print_waiting(Cli *c, GError **err)
{
	_cleanup_json_ Json *vm = NULL, *report = NULL;
	const Json *pending;

	if (cli_has(c, "dry-run") || cli_has(c, "no-wait"))
		return true;
	vm = vm_of(c, err);
	if (vm == NULL)
		return false;
	pending = json_at(vm, "runtime.pending");
	report = json_object();
	if (pending != NULL)
		json_object_set(report, "at_next_start", (Json *)pending);
	print_change_report(report);
	return true;
}

/* ---- disks ---- */

static const Json *volume_of(const Json *volumes, const char *id)
{
	const Json *v;
	size_t i;

	json_array_foreach((Json *)volumes, i, v) if (g_strcmp0(json_str(v, "id"), id) == 0) return v;
	return NULL;
}

static bool is_waiting(const Json *vm, const char *kind, const char *name)
{
	g_auto(GStrv) pending = json_strv(json_at(vm, "runtime.pending"));
	g_autofree char *key = g_strconcat(kind, ".", name, NULL);

	return g_strv_contains((const char *const *)pending, key);
}

/* Each device says whether the running guest has it as it is shown. */
static void mark_waiting(const Json *vm, Json *list, const char *kind)
{
	Json *item;
	size_t i;

	json_array_foreach(list, i, item)
	    json_put_bool(item, "at_next_start", is_waiting(vm, kind, json_str(item, "name")));
}

static char *print_source(const Json *value, const Json *disk)
{
	const char *name = json_string_value(json_at(disk, "volume.name")), *path = json_str(disk, "path");

	(void)value;
	return g_strdup(name != NULL ? name : path != NULL ? path : "(gone)");
}

static char *print_when(const Json *value, const Json *device)
{
	(void)device;
	return g_strdup(json_is_true(value) ? "at the next start" : "");
}

static bool disk_list(Cli *c, GError **err)
{
	static const Column columns[] = {
		{ "NAME", "name", NULL, false },
		{ "SOURCE", "path", print_source, false },
		{ "SIZE", "volume.size", print_bytes, true },
		{ "FORMAT", "format", NULL, false },
		{ "BUS", "bus", NULL, false },
		{ "SLOT", "slot", NULL, true },
		{ "READ-ONLY", "readonly", NULL, false },
		{ "CHANGES", "at_next_start", print_when, false },
		{ 0 },
	};
	_cleanup_json_ Json *vm = vm_of(c, err), *volumes = NULL;
	Json *disks, *d;
	size_t i;

	volumes = vm != NULL ? client_call(c->client, "GET", "/v1/volumes", NULL, err) : NULL;
	if (volumes == NULL)
		return false;
	disks = json_object_get(vm, "disks");
	json_array_foreach(disks, i, d)
	{
		const Json *v = volume_of(volumes, json_str(d, "volume"));

		if (v != NULL)
			json_object_set(d, "volume", (Json *)v);
	}
	mark_waiting(vm, disks, "disk");
	return output_list(c, disks, columns, err);
}

static bool disk_add(Cli *c, GError **err)
{
	g_autofree char *path = sub_path(c, "disks", NULL);
	g_autofree char *done = g_strdup_printf("%s got a disk", cli_arg(c, 0));
	Json *body = disk_of_text(cli_arg(c, 1), err);

	return body != NULL && cli_operate(c, "POST", path, NULL, body, done, err) && print_waiting(c, err);
}

/* What a guest says: its words must do nothing to the terminal. Caller frees; NULL: nothing. */
static char *guest_text(const Json *node, const char *key)
{
	return text_harmless(g_strdup(json_str(node, key)), false);
}

static void print_guest_step(const Json *step)
{
	g_autofree char *command = guest_text(step, "command"), *output = guest_text(step, "output");

	printf("in the guest: %s: %s\n", command, output);
}

static void print_guest_growth(const Json *guest)
{
	g_autofree char *before = print_size(json_uint(guest, "before", 0)),
			*after = print_size(json_uint(guest, "after", 0)),
			*mount = guest_text(guest, "mount"), *note = guest_text(guest, "note");
	const Json *step;
	size_t i;

	json_array_foreach(json_arr(guest, "steps"), i, step) print_guest_step(step);
	if (mount != NULL)
		printf("in the guest: %s had %s and has %s\n", mount, before, after);
	if (note != NULL)
		fprintf(stderr, "plim: the disk is larger, its file system is not: %s\n", note);
	if (json_str(guest, "advice") != NULL)
		fprintf(stderr, "%s\n", json_str(guest, "advice"));
}

static void print_growth(const char *vm, const Json *result)
{
	g_autofree char *before = print_size(json_uint(result, "before", 0)),
			*after = print_size(json_uint(result, "after", 0));

	printf("disk %s of %s had %s and has %s\n", json_str(result, "disk"), vm, before, after);
	if (json_obj(result, "guest") != NULL)
		print_guest_growth(json_obj(result, "guest"));
}

static bool disk_grow(Cli *c, GError **err)
{
	g_autofree char *disk = sub_path(c, "disks", cli_arg(c, 1)),
			*path = g_strconcat(disk, "/actions/grow", NULL);
	_cleanup_json_ Json *body = json_object(), *op = NULL, *end = NULL;
	uint64_t size;

	if (!parse_size(cli_arg(c, 2), &size, err))
		return false;
	json_put_uint(body, "size", size);
	if (cli_has(c, "no-filesystem"))
		json_put_bool(body, "filesystem", false);
	if (cli_has(c, "overcommit"))
		json_put_bool(body, "overcommit", true);
	if (cli_has(c, "dry-run") || cli_has(c, "no-wait"))
		return cli_operate(c, "POST", path, NULL, g_steal_pointer(&body), "", err);
	op = client_call(c->client, "POST", path, body, err);
	if (op == NULL || !cli_follow(c, op, &end, err))
		return false;
	print_growth(cli_arg(c, 0), json_obj(end, "result"));
	return true;
}

static bool disk_remove(Cli *c, GError **err)
{
	g_autofree char *path = sub_path(c, "disks", cli_arg(c, 1));
	g_autofree char *done = g_strdup_printf("%s lost disk %s", cli_arg(c, 0), cli_arg(c, 1));
	const char *query = cli_has(c, "delete-volume") ? "?delete_volume=true" : NULL;

	return cli_operate(c, "DELETE", path, query, NULL, done, err) && print_waiting(c, err);
}

/* ---- network cards ---- */

static bool nic_list(Cli *c, GError **err)
{
	static const Column columns[] = {
		{ "NAME", "name", NULL, false },
		{ "NETWORK", "network", NULL, false },
		{ "MAC", "mac", NULL, false },
		{ "MODEL", "model", NULL, false },
		{ "SLOT", "slot", NULL, true },
		{ "CHANGES", "at_next_start", print_when, false },
		{ 0 },
	};
	_cleanup_json_ Json *vm = vm_of(c, err);

	if (vm == NULL)
		return false;
	mark_waiting(vm, json_object_get(vm, "nics"), "nic");
	return output_list(c, json_object_get(vm, "nics"), columns, err);
}

/* Takes `body`. */
static bool change_nics(Cli *c, const char *method, const char *path, Json *body, const char *done,
			GError **err)
{
	g_autofree char *full = g_strconcat(path, cli_has(c, "dry-run") ? "?dry_run=true" : NULL, NULL);
	_cleanup_json_ Json *sent = body, *answer = client_call(c->client, method, full, sent, err);

	if (answer == NULL)
		return false;
	if (!cli_has(c, "dry-run"))
		printf("%s\n", done);
	print_change_report(answer);
	return true;
}

static bool nic_add(Cli *c, GError **err)
{
	g_autofree char *path = sub_path(c, "nics", NULL);
	g_autofree char *done = g_strdup_printf("%s got a network card", cli_arg(c, 0));
	Json *body = nic_of_text(cli_arg(c, 1), err);

	return body != NULL && change_nics(c, "POST", path, body, done, err);
}

static bool nic_remove(Cli *c, GError **err)
{
	g_autofree char *path = sub_path(c, "nics", cli_arg(c, 1));
	g_autofree char *done = g_strdup_printf("%s lost network card %s", cli_arg(c, 0), cli_arg(c, 1));

	return change_nics(c, "DELETE", path, NULL, done, err);
}

static const Option remove_options[] = {
	{ "delete-volume", 0, OPTION_FLAG, NULL, "Delete its volume, too; else that becomes free" },
	{ 0 },
};

static const Option grow_options[] = {
	{ "no-filesystem", 0, OPTION_FLAG, NULL, "Leave partition and file system as they are" },
	{ "overcommit", 0, OPTION_FLAG, NULL, "Also when the host could not hold all of it" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)
#define GROW_TEXT                                                                                                  \
	"Also while the guest runs: then its agent grows the last partition and the file system on it (ext, xfs, " \
	"btrfs), by the guest's own growpart, resize2fs and their like, and each command is shown. Where that "    \
	"can't be done the disk is larger all the same, and you are told what to do in the guest. Disks never "    \
	"shrink."

const Command vm_device_commands[] = {
	{ "vm", "disk list", "NAME", "List the disks of a vm in the order of booting", NULL, NULL, 1, 1,
	  "vms", GROUP_OUTPUT, NULL, disk_list },
	{ "vm", "disk add", "NAME DISK", "Give a vm one more disk",
	  "DISK is written as for `plim vm create --disk`: 10GiB, /path, volume=NAME, or "
	  "name=,size=,image=,format=,bus=,readonly=. A running guest gets it at its next start.",
	  "plim vm disk add web1 name=data,size=20GiB", 2, 2, "vms", OPERATION, NULL, disk_add },
	{ "vm", "disk grow", "NAME DISK SIZE", "Make a disk of a vm larger", GROW_TEXT,
	  "plim vm disk grow web1 root 40GiB", 3, 3, "vms", OPERATION, grow_options, disk_grow },
	{ "disk", "grow", "NAME DISK SIZE", "The same as plim vm disk grow", GROW_TEXT,
	  "plim disk grow web1 root 40GiB", 3, 3, "vms", OPERATION, grow_options, disk_grow },
	{ "vm", "disk remove", "NAME DISK", "Take a disk out of a vm",
	  "Its volume becomes free. A volume that the running guest uses can't be taken away.",
	  "plim vm disk remove web1 data", 2, 2, "vms", OPERATION, remove_options, disk_remove },
	{ "vm", "nic list", "NAME", "List the network cards of a vm", NULL, NULL, 1, 1, "vms", GROUP_OUTPUT,
	  NULL, nic_list },
	{ "vm", "nic add", "NAME NIC", "Give a vm one more network card",
	  "NIC is written as for `plim vm create --nic`: user, bridge:NAME, or name=,network=,mac=,model=. "
	  "A running guest gets it at its next start.",
	  "plim vm nic add web1 bridge:br0", 2, 2, "vms", GROUP_CHANGE, NULL, nic_add },
	{ "vm", "nic remove", "NAME NIC", "Take a network card out of a vm",
	  "A running guest loses it at its next start.", NULL, 2, 2, "vms", GROUP_CHANGE, NULL, nic_remove },
	{ 0 },
};
