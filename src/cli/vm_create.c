/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm create: from what people write to the request. */
#include "base/fd.h"
#include "base/str.h"
#include "cli/nouns.h"

#include <stdio.h>
#include <string.h>

#define FILE_MAX (UINT64_C(512) << 10)

/* "name=data,size=10GiB,bus=virtio-scsi" into an object; sizes and flags by their names. */
static Json *object_of_list(const char *text, const char *what, GError **err)
{
	g_auto(GStrv) parts = g_strsplit(text, ",", -1);
	Json *j = json_object();

	for (char **p = parts; *p != NULL; p++) {
		char *eq = strchr(*p, '=');
		uint64_t size;
		bool flag;

		if (eq == NULL) {
			fail(err, ERR_INVALID, "'%s' of %s is no KEY=VALUE", *p, what);
			json_unref(j);
			return NULL;
		}
		*eq = '\0';
		if (g_str_equal(*p, "size") && parse_size(eq + 1, &size, err))
			json_put_uint(j, *p, size);
		else if (g_str_equal(*p, "readonly") && parse_bool(eq + 1, &flag, err))
			json_put_bool(j, *p, flag);
		else if (!g_str_equal(*p, "size") && !g_str_equal(*p, "readonly"))
			json_put_str(j, *p, eq + 1);
		if (err != NULL && *err != NULL) {
			json_unref(j);
			return NULL;
		}
	}
	return j;
}

/* "10GiB" alone is a new disk of that size; "/path" a file; else KEY=VALUE pairs. */
Json *disk_of_text(const char *text, GError **err)
{
	uint64_t size;

	if (text[0] == '/')
		return json_pack("{s:s}", "path", text);
	if (strchr(text, '=') == NULL)
		return parse_size(text, &size, err) ? json_pack("{s:I}", "size", (json_int_t)size) : NULL;
	return object_of_list(text, "a disk", err);
}

/* "user", "bridge:br0" alone name the network; else KEY=VALUE pairs. */
Json *nic_of_text(const char *text, GError **err)
{
	return strchr(text, '=') == NULL ? json_pack("{s:s}", "network", text)
					 : object_of_list(text, "a nic", err);
}

static bool put_list(Cli *c, Json *body, const char *option, const char *member,
		     Json *(*parse)(const char *, GError **), GError **err)
{
	const char *const *text = cli_list(c, option);
	Json *list;

	if (*text == NULL)
		return true;
	list = json_array();
	json_put(body, member, list);
	for (guint i = 0; text[i] != NULL; i++) {
		Json *item = parse(text[i], err);

		if (item == NULL)
			return false;
		if (g_str_equal(member, "nics") && json_str(item, "name") == NULL)
			json_put(item, "name", json_sprintf("net%u", i));
		json_array_append_new(list, item);
	}
	return true;
}

/* "none" is no card at all, and so nothing that can stand beside one. */
static bool put_nics(Cli *c, Json *body, GError **err)
{
	const char *const *text = cli_list(c, "nic");

	if (!g_strv_contains(text, "none"))
		return put_list(c, body, "nic", "nics", nic_of_text, err);
	if (text[1] != NULL)
		return fail_advice(err, ERR_INVALID, "Leave --nic none out, or the other cards.",
				   "--nic none goes alone: the vm gets no network card");
	json_put(body, "nics", json_array());
	return true;
}

static bool put_keys(Cli *c, Json *cloud, GError **err)
{
	Json *keys = json_array();

	json_put(cloud, "ssh_keys", keys);
	for (const char *const *path = cli_list(c, "ssh-key"); *path != NULL; path++) {
		g_autofree char *text = file_read(*path, FILE_MAX, NULL, err);
		g_auto(GStrv) lines = NULL;

		if (text == NULL)
			return err_advise(
			    err, "--ssh-key takes the file of a public key, like ~/.ssh/id_ed25519.pub.");
		lines = g_strsplit(text, "\n", -1);
		for (char **l = lines; *l != NULL; l++)
			if (**l != '\0' && **l != '#')
				json_array_append_new(keys, json_string(*l));
	}
	return true;
}

static bool put_file(Cli *c, Json *cloud, const char *option, const char *member, GError **err)
{
	const char *path = cli_text(c, option);
	g_autofree char *text = NULL;

	if (path == NULL)
		return true;
	text = file_read(path, FILE_MAX, NULL, err);
	if (text != NULL)
		json_put_str(cloud, member, text);
	return text != NULL;
}

/* A vm from an image gets a seed with its name as hostname; others only what was asked for. */
static bool put_cloud_init(Cli *c, Json *body, GError **err)
{
	static const char *const asking[] = { "ssh-key",  "user-data", "network-config",
					      "hostname", "user",      "password-hash" };
	Json *cloud = json_object();
	bool wanted = cli_text(c, "image") != NULL;

	json_put_str(cloud, "hostname",
		     cli_text(c, "hostname") != NULL ? cli_text(c, "hostname") : cli_arg(c, 0));
	for (size_t i = 0; i < G_N_ELEMENTS(asking); i++)
		wanted |= cli_has(c, asking[i]);
	if (cli_text(c, "user") != NULL)
		json_put_str(cloud, "user", cli_text(c, "user"));
	if (cli_text(c, "password-hash") != NULL)
		json_put_str(cloud, "password_hash", cli_text(c, "password-hash"));
	if (!wanted || cli_has(c, "no-cloud-init")) {
		json_unref(cloud);
		return true;
	}
	json_put(body, "cloud_init", cloud);
	return put_keys(c, cloud, err) && put_file(c, cloud, "user-data", "user_data", err) &&
	       put_file(c, cloud, "network-config", "network_config", err);
}

/* Options that are settings by another name. */
static const struct {
	const char *option, *key;
} shorthands[] = {
	{ "vcpus", "vcpus" },          { "memory", "memory.start" }, { "firmware", "firmware" },
	{ "accel", "accel" },          { "kernel", "boot.kernel" },  { "initrd", "boot.initrd" },
	{ "cmdline", "boot.cmdline" },
};

static bool put_settings(Cli *c, Json *body, GError **err)
{
	Json *settings = json_object(), *properties = json_object();

	json_put(body, "settings", settings);
	json_put(body, "properties", properties);
	for (size_t i = 0; i < G_N_ELEMENTS(shorthands); i++) {
		const char *value = cli_text(c, shorthands[i].option);
		g_autofree char *pair = g_strdup_printf("%s=%s", shorthands[i].key, value);

		if (value != NULL && !put_assignment(c, settings, properties, pair, err))
			return false;
	}
	for (const char *const *a = cli_list(c, "set"); *a != NULL; a++)
		if (!put_assignment(c, settings, properties, *a, err))
			return false;
	for (char **a = c->args + 1; *a != NULL; a++)
		if (!put_assignment(c, settings, properties, *a, err))
			return false;
	return true;
}

static bool put_text(Cli *c, Json *body, const char *option, const char *member)
{
	if (cli_text(c, option) != NULL)
		json_put_str(body, member, cli_text(c, option));
	return true;
}

static bool put_size(Cli *c, Json *body, GError **err)
{
	uint64_t size;

	if (cli_text(c, "size") == NULL)
		return true;
	if (!parse_size(cli_text(c, "size"), &size, err))
		return false;
	json_put_uint(body, "size", size);
	return true;
}

static bool make_body(Cli *c, Json *body, GError **err)
{
	json_put_str(body, "name", cli_arg(c, 0));
	return put_text(c, body, "image", "image") && put_text(c, body, "description", "description") &&
	       put_size(c, body, err) && put_settings(c, body, err) &&
	       put_list(c, body, "disk", "disks", disk_of_text, err) && put_nics(c, body, err) &&
	       put_cloud_init(c, body, err);
}

static bool vm_create(Cli *c, GError **err)
{
	g_autofree char *done = g_strdup_printf("%s was created", cli_arg(c, 0));
	g_autofree char *start = cli_path("vms", cli_arg(c, 0), "/actions/start");
	g_autofree char *started = g_strdup_printf("%s was started", cli_arg(c, 0));
	g_autoptr(GString) query = g_string_new(NULL);
	Json *body = json_object();

	if (!make_body(c, body, err)) {
		json_unref(body);
		return false;
	}
	if (cli_has(c, "start") && cli_has(c, "no-wait")) {
		json_unref(body);
		return fail(err, ERR_INVALID,
			    "--start has to wait until the vm is there: leave --no-wait out");
	}
	if (cli_text(c, "host") != NULL)
		query_add(query, "host", cli_text(c, "host"));
	if (!cli_operate(c, "POST", "/v1/vms", query->str, body, done, err))
		return false;
	return !cli_has(c, "start") || cli_has(c, "dry-run") ||
	       cli_operate(c, "POST", start, query->str, NULL, started, err);
}

static const Option create_options[] = {
	{ "host", 0, OPTION_TEXT, "HOST", "In a pool: make it there" },
	{ "image", 'i', OPTION_TEXT, "IMAGE",
	  "Make the root disk from this image: its name or id, or latest:os_distro=debian" },
	{ "size", 's', OPTION_TEXT, "SIZE", "Size of the root disk" },
	{ "memory", 'm', OPTION_TEXT, "SIZE", "Memory (512MiB, or what the image asks for)" },
	{ "vcpus", 'c', OPTION_TEXT, "N", "Virtual CPUs (1)" },
	{ "disk", 'd', OPTION_LIST, "DISK",
	  "Another disk: 10GiB, /path, volume=NAME, or name=,size=,image=,format=,bus=,readonly=" },
	{ "nic", 0, OPTION_LIST, "NIC",
	  "A network card: user, bridge:NAME, or network=,mac=,model=; none: no card (one on user)" },
	{ "kernel", 0, OPTION_TEXT, "FILE", "Boot this kernel directly" },
	{ "initrd", 0, OPTION_TEXT, "FILE", "Its initial RAM disk" },
	{ "cmdline", 0, OPTION_TEXT, "TEXT", "Its command line" },
	{ "firmware", 0, OPTION_TEXT, "KIND", "bios or uefi" },
	{ "accel", 0, OPTION_TEXT, "KIND", "auto, kvm or tcg" },
	{ "ssh-key", 0, OPTION_LIST, "FILE", "Public key that may log in" },
	{ "user", 0, OPTION_TEXT, "NAME", "User to make (the image's own)" },
	{ "password-hash", 0, OPTION_TEXT, "HASH", "Its password, as `openssl passwd -6` prints it" },
	{ "hostname", 0, OPTION_TEXT, "NAME", "Name of the guest (the vm's)" },
	{ "user-data", 0, OPTION_TEXT, "FILE", "Your own cloud-init user-data" },
	{ "network-config", 0, OPTION_TEXT, "FILE", "Your own cloud-init network-config" },
	{ "no-cloud-init", 0, OPTION_FLAG, NULL, "No seed" },
	{ "description", 0, OPTION_TEXT, "TEXT", "A note" },
	{ "set", 0, OPTION_LIST, "KEY=VALUE", "A setting, or property.KEY=VALUE" },
	{ "start", 0, OPTION_FLAG, NULL, "Start it when it is there" },
	{ 0 },
};

const Command vm_create_commands[] = {
	{ "vm", "create", "NAME [KEY=VALUE...]",
	  "Make a vm from an image, from disks that exist, or around a kernel", NULL,
	  "plim vm create web1 --image debian-12 --memory 1GiB --vcpus 2 --ssh-key ~/.ssh/id_ed25519.pub --start",
	  1, 1000, NULL, GROUP_CHANGE | GROUP_WAIT, create_options, vm_create },
	{ 0 },
};
