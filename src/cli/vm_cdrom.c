/* SPDX-License-Identifier: Apache-2.0 */
/* plim vm cdrom: what is in a vm's CD drive. */
#include "cli/nouns.h"
#include "cli/output.h"

#include <string.h>

static char *path_of(const Cli *c)
{
	return cli_path("vms", cli_arg(c, 0), "/cdrom");
}

/* A file has a slash; whatever has none is an image. New reference. */
static Json *body_of(const Cli *c)
{
	const char *what = cli_arg(c, 1);
	g_autofree char *file = strchr(what, '/') != NULL ? g_canonicalize_filename(what, NULL) : NULL;
	Json *body = json_object();

	json_put_str(body, file != NULL ? "path" : "image", file != NULL ? file : what);
	if (cli_has(c, "force"))
		json_put_bool(body, "force", true);
	return body;
}

static bool cdrom_insert(Cli *c, GError **err)
{
	g_autofree char *path = path_of(c),
			*done = g_strdup_printf("%s has %s in its CD drive", cli_arg(c, 0), cli_arg(c, 1));

	return cli_operate(c, "PUT", path, NULL, body_of(c), done, err);
}

static bool cdrom_eject(Cli *c, GError **err)
{
	g_autofree char *path = path_of(c),
			*done = g_strdup_printf("the CD of %s was ejected", cli_arg(c, 0));

	return cli_operate(c, "DELETE", path, cli_has(c, "force") ? "?force=true" : NULL, NULL, done, err);
}

static bool cdrom_show(Cli *c, GError **err)
{
	g_autofree char *path = path_of(c);
	_cleanup_json_ Json *cd = client_call(c->client, "GET", path, NULL, err);

	return cd != NULL && output_object(c, cd, err);
}

static const Option force_options[] = {
	{ "force", 0, OPTION_FLAG, NULL, "Also when the guest has locked the drive: it uses the CD" },
	{ 0 },
};

#define OPERATION (GROUP_CHANGE | GROUP_WAIT)
#define INSERT_TEXT                                                                                              \
	"CD is a file on the vm's host, written with a slash, or an image: its name, its id, or latest:FILTER. " \
	"A running guest has it at once, in a drive that comes with it; before that it has no drive that it "    \
	"would poll. Windows has no driver for such a drive: insert the CD while the vm is stopped, or give it " \
	"a drive with platform.cdrom. The CD stays, also over restarts, until it is ejected. What was in the "   \
	"drive is taken out first."
#define EJECT_TEXT                                                                                                 \
	"A drive that came with the CD goes with it; one that was there at the start stays and is empty. A guest " \
	"that has mounted the CD is asked to let go of it, for 10 s."

const Command cdrom_commands[] = {
	{ "vm", "cdrom show", "NAME", "Show the CD drive of a vm and what is in it", NULL, NULL, 1, 1, "vms",
	  GROUP_OUTPUT, NULL, cdrom_show },
	{ "vm", "cdrom insert", "NAME CD", "Insert a CD, also while the guest runs", INSERT_TEXT,
	  "plim vm cdrom insert web1 /srv/iso/tools.iso", 2, 2, "vms", OPERATION, force_options,
	  cdrom_insert },
	{ "vm", "cdrom eject", "NAME", "Eject the CD of a vm", EJECT_TEXT, "plim vm cdrom eject web1", 1, 1,
	  "vms", OPERATION, force_options, cdrom_eject },
	{ 0 },
};
