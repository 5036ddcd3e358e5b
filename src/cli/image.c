/* SPDX-License-Identifier: Apache-2.0 */
/* plim image */
#include "cli/nouns.h"
#include "cli/output.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const Column columns[] = {
	{ "NAME", "name", NULL, false },
	{ "STATUS", "status", NULL, false },
	{ "DISTRO", "os_distro", NULL, false },
	{ "VERSION", "os_version", NULL, false },
	{ "RELEASED", "release_date", NULL, false },
	{ "RECOMMENDED", "recommended", NULL, false },
	{ "SIZE", "size", print_bytes, true },
	{ "VIRTUAL", "virtual_size", print_bytes, true },
	{ 0 },
};

static bool image_list(Cli *c, GError **err)
{
	g_autoptr(GString) query = NULL;
	g_autofree char *asked = cli_list_query(c), *path = NULL;
	_cleanup_json_ Json *list = NULL;

	query = g_string_new(asked);
	if (cli_has(c, "hidden"))
		query_add(query, "hidden", "true");
	path = g_strconcat("/v1/images", query->str, NULL);
	list = client_call(c->client, "GET", path, NULL, err);
	return list != NULL && output_list(c, list, columns, err);
}

static bool image_show(Cli *c, GError **err)
{
	g_autofree char *path = cli_path("images", cli_arg(c, 0), NULL);
	_cleanup_json_ Json *image = client_call(c->client, "GET", path, NULL, err);

	return image != NULL && output_object(c, image, err);
}

static bool image_latest(Cli *c, GError **err)
{
	static const Column why[] = {
		{ "NAME", "name", NULL, false },
		{ "VERDICT", "verdict", NULL, false },
		{ "REASON", "reason", NULL, false },
		{ 0 },
	};
	g_autoptr(GString) query = g_string_new(NULL);
	g_autofree char *path = NULL;
	_cleanup_json_ Json *answer = NULL;

	for (char **f = c->args; *f != NULL; f++)
		query_add(query, "filter", *f);
	path = g_strconcat("/v1/images/latest", query->str, NULL);
	answer = client_call(c->client, "GET", path, NULL, err);
	if (answer == NULL)
		return false;
	if (cli_has(c, "why"))
		return output_list(c, json_object_get(answer, "verdicts"), why, err);
	return output_object(c, json_object_get(answer, "image"), err);
}

static bool put_properties(Json *body, char **args, GError **err)
{
	for (; *args != NULL; args++) {
		const char *eq = strchr(*args, '=');
		g_autofree char *key = NULL;

		if (eq == NULL || eq == *args)
			return fail_advice(err, ERR_INVALID, "Write KEY=VALUE, like os_distro=debian.",
					   "'%s' is no property", *args);
		key = g_strndup(*args, (size_t)(eq - *args));
		if (eq[1] == '\0')
			json_put(body, key, json_null());
		else
			json_put_str(body, key, eq + 1);
	}
	return true;
}

/* The daemon does not know our working directory. */
static char *location_of(const char *typed)
{
	return strstr(typed, "://") != NULL ? g_strdup(typed) : g_canonicalize_filename(typed, NULL);
}

/* "debian-12.qcow2" -> "debian-12" */
static char *name_of(const char *location)
{
	char *base = g_path_get_basename(location), *dot = strrchr(base, '.');

	if (dot != NULL && dot != base)
		*dot = '\0';
	return base;
}

static bool image_import(Cli *c, GError **err)
{
	g_autofree char *location = location_of(cli_arg(c, 0)), *given = name_of(location), *done = NULL;
	const char *name = cli_text(c, "name") != NULL ? cli_text(c, "name") : given;
	Json *body = json_object();

	if (!put_properties(body, c->args + 1, err)) {
		json_unref(body);
		return false;
	}
	json_put_str(body, "name", name);
	json_put_str(body, "source", location);
	if (cli_text(c, "source-format") != NULL)
		json_put_str(body, "source_format", cli_text(c, "source-format"));
	if (cli_text(c, "checksum") != NULL)
		json_put_str(body, "checksum", cli_text(c, "checksum"));
	done = g_strdup_printf("%s was imported", name);
	return cli_operate(c, "POST", "/v1/images", NULL, body, done, err);
}

static bool image_set(Cli *c, GError **err)
{
	g_autofree char *path =
	    cli_path("images", cli_arg(c, 0), cli_has(c, "dry-run") ? "?dry_run=true" : NULL);
	_cleanup_json_ Json *body = json_object(), *image = NULL;

	if (!put_properties(body, c->args + 1, err))
		return false;
	image = client_call(c->client, "PATCH", path, body, err);
	if (image != NULL)
		printf("%s was changed\n", json_str(image, "name"));
	return image != NULL;
}

static bool one_delete(Cli *c, const char *name, GError **err)
{
	g_autofree char *path = cli_path("images", name, NULL),
			*done = g_strdup_printf("%s was deleted", name);

	return cli_operate(c, "DELETE", path, NULL, NULL, done, err);
}

static bool image_delete(Cli *c, GError **err)
{
	return each_name(c, one_delete, err);
}

static bool one_verify(Cli *c, const char *name, GError **err)
{
	g_autofree char *path = cli_path("images", name, "/actions/verify");
	g_autofree char *done = g_strdup_printf("%s is what was imported", name);

	return cli_operate(c, "POST", path, NULL, NULL, done, err);
}

static bool image_verify(Cli *c, GError **err)
{
	return each_name(c, one_verify, err);
}

static const Option list_options[] = { { "hidden", 0, OPTION_FLAG, NULL, "Also those with os_hidden=true" },
				       { 0 } };
static const Option latest_options[] = {
	{ "why", 0, OPTION_FLAG, NULL, "Say of every image why it is, or is not, the latest" },
	{ 0 },
};
static const Option import_options[] = {
	{ "name", 0, OPTION_TEXT, "NAME", "Name of the image (the file's)" },
	{ "source-format", 0, OPTION_TEXT, "FORMAT", "raw, qcow2, vmdk, vhdx, vpc or vdi (found out)" },
	{ "checksum", 0, OPTION_TEXT, "sha512:HEX", "What the source must hash to" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)

const Command image_commands[] = {
	{ "image", "list", "", "List the images", NULL,
	  "plim image list --filter os_distro=debian --sort release_date:desc", 0, 0, NULL,
	  GROUP_OUTPUT | GROUP_LIST, list_options, image_list },
	{ "image", "show", "IMAGE", "Show an image with all its properties", NULL, NULL, 1, 1, "images",
	  GROUP_OUTPUT, NULL, image_show },
	{ "image", "import", "FILE|URL [KEY=VALUE...]", "Import an image",
	  "Reads raw, qcow2, vmdk, vhdx, vpc and vdi. What names other files (a backing file) is refused. Properties are OpenStack's.",
	  "plim image import debian-12.qcow2 os_type=linux os_distro=debian os_version=12 min_ram=512", 1,
	  1000, NULL, OPERATION, import_options, image_import },
	{ "image", "set", "IMAGE KEY=VALUE...", "Change properties; KEY= removes one", NULL,
	  "plim image set debian-12 protected=true", 2, 1000, "images", GROUP_CHANGE, NULL, image_set },
	{ "image", "latest", "[FILTER...]", "The newest recommended image that is not hidden", NULL,
	  "plim image latest os_distro=debian", 0, 1000, NULL, GROUP_OUTPUT, latest_options, image_latest },
	{ "image", "verify", "IMAGE...", "Read images and compare them with what was imported", NULL, NULL, 1,
	  1000, "images", OPERATION, NULL, image_verify },
	{ "image", "delete", "IMAGE...", "Delete images that are not protected and not in use", NULL, NULL, 1,
	  1000, "images", OPERATION, NULL, image_delete },
	{ 0 },
};
