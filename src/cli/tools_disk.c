/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/tools_disk.h"
#include "base/time.h"

#include <string.h>

#define LOOK_AGAIN UINT64_C(250000)

/* By its id, so that another image which gets its name in the middle is another CD. */
static bool take_image(ToolsDisk *d, const char *ref, GError **err)
{
	g_autofree char *path = cli_path("images", ref, NULL);
	_cleanup_json_ Json *image = client_call(d->cli->client, "GET", path, NULL, err);

	if (image == NULL)
		return false;
	d->image = g_strdup(json_str(image, "id"));
	return d->image != NULL || fail(err, ERR_INTERNAL, "the daemon's image '%s' has no id", ref);
}

bool tools_disk_init(ToolsDisk *d, Cli *cli, const char *cd, GError **err)
{
	d->cli = cli;
	if (cd == NULL)
		return true;
	if (strchr(cd, '/') == NULL)
		return take_image(d, cd, err);
	d->path = g_canonicalize_filename(cd, NULL);
	return true;
}

void tools_disk_done(ToolsDisk *d)
{
	g_free(d->path);
	g_free(d->image);
}

bool tools_disk_is_set(const ToolsDisk *d)
{
	return d->path != NULL || d->image != NULL;
}

static Json *ask(const ToolsDisk *d, const char *vm_id, const char *method, const char *query,
		 const Json *body, GError **err)
{
	g_autofree char *drive = cli_path("vms", vm_id, "/cdrom"), *path = g_strconcat(drive, query, NULL);

	return client_call(d->cli->client, method, path, body, err);
}

typedef enum Content { NOTHING, OURS, ANOTHER } Content;

/* What is in the drive; `ret_name` gets how it is called. */
static bool look(const ToolsDisk *d, const char *vm_id, Content *ret, char **ret_name, GError **err)
{
	_cleanup_json_ Json *drive = ask(d, vm_id, "GET", "", NULL, err);
	const char *path = json_str(drive, "path"), *image = json_str(json_obj(drive, "image"), "id");

	if (drive == NULL)
		return false;
	*ret = path == NULL && image == NULL   ? NOTHING
	       : image != NULL                 ? g_strcmp0(image, d->image) == 0 ? OURS : ANOTHER
	       : g_strcmp0(path, d->path) == 0 ? OURS
					       : ANOTHER;
	*ret_name = g_strdup(image != NULL ? json_str(json_obj(drive, "image"), "name") : path);
	return true;
}

static Json *body_of(const ToolsDisk *d)
{
	Json *body = json_object();

	json_put_str(body, d->path != NULL ? "path" : "image", d->path != NULL ? d->path : d->image);
	return body;
}

/* Nothing is in the way of it; `ret_in`: it is in already. */
static bool look_for_room(const ToolsDisk *d, const char *vm_id, bool *ret_in, GError **err)
{
	g_autofree char *name = NULL;
	Content content;

	if (!look(d, vm_id, &content, &name, err))
		return false;
	*ret_in = content == OURS;
	return content != ANOTHER ||
	       fail(err, ERR_CONFLICT, "in its CD drive is '%s'; take it out with `plim vm cdrom eject`",
		    name);
}

/* One sentence with what to do in it: a list of guests has no room for advice. */
static bool fail_told(GError *take, GError **err)
{
	g_autoptr(GError) e = take;
	const char *advice = err_advice(e);

	return fail(err, (ErrCode)e->code, "%s%s%s", e->message, advice != NULL ? ". " : "",
		    advice != NULL ? advice : "");
}

bool tools_disk_check(const ToolsDisk *d, const char *vm_id, GError **err)
{
	_cleanup_json_ Json *body = body_of(d), *plan = NULL;
	GError *e = NULL;
	bool in;

	if (!look_for_room(d, vm_id, &in, err))
		return false;
	if (in)
		return true;
	plan = ask(d, vm_id, "PUT", "?dry_run=true", body, &e);
	return plan != NULL || fail_told(e, err);
}

static bool follow(const ToolsDisk *d, const Json *op, GError **err)
{
	return op != NULL && cli_follow_until(d->cli, op, (uint64_t)g_get_monotonic_time() + d->timeout, err);
}

bool tools_disk_insert(const ToolsDisk *d, const char *vm_id, GError **err)
{
	_cleanup_json_ Json *body = body_of(d), *op = NULL;
	bool in;

	if (!look_for_room(d, vm_id, &in, err))
		return false;
	if (in)
		return true;
	op = ask(d, vm_id, "PUT", "", body, err);
	return follow(d, op, err);
}

static bool eject(const ToolsDisk *d, const char *vm_id, GError **err)
{
	_cleanup_json_ Json *op = NULL;
	g_autofree char *name = NULL;
	Content content;

	if (!look(d, vm_id, &content, &name, err))
		return false;
	if (content != OURS)
		return true;
	op = ask(d, vm_id, "DELETE", "", NULL, err);
	return follow(d, op, err);
}

bool tools_disk_eject(const ToolsDisk *d, const char *vm_id, GError **err)
{
	uint64_t deadline = time_monotonic() + d->patience;

	for (;;) {
		GError *e = NULL;

		if (eject(d, vm_id, &e))
			return true;
		if (e->code != ERR_UNAVAILABLE || time_monotonic() >= deadline)
			return fail_told(e, err);
		g_error_free(e);
		g_usleep(LOOK_AGAIN);
	}
}
