/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps that look into a backup: a server that shows it, and a guest that boots from what the server shows.
 *   BACKUP_SERVE    backup, dir, sources {DISK: [{path, backing}]}, mount (the record of backup/mounts.h; or
 * absent) BACKUP_UNSERVE  backup, dir BACKUP_OVERLAY  dir, overlays [{name, path, size}] BACKUP_BOOT     vm
 * (id of its QEMU), name, timeout (us)
 */
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/agent_ops.h"
#include "engine/as_user.h"
#include "engine/backup/mounts.h"
#include "engine/engine-impl.h"
#include "engine/image/qemu_img.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECOND UINT64_C(1000000)
#define LOOK (SECOND / 5)
#define PING_TIMEOUT (10 * SECOND)
#define INFO_TIMEOUT (30 * SECOND)
/* Of its console, in an error. */
#define WORDS_MAX 2000

/* ---- the server ---- */

static bool server_of(StepContext *ctx, const Json *args, SpawnUser *user, struct backup_server *ret,
		      GError **err)
{
	const HostFacts *host = engine_facts(step_engine(ctx));

	*ret = (struct backup_server){ .dir = json_str(args, "dir"), .qemu = host->qemu };
	if (ret->dir == NULL || !g_path_is_absolute(ret->dir))
		return fail(err, ERR_INTERNAL, "the step lacks the folder of its server");
	if (host->run_as == NULL)
		return true;
	if (!spawn_user_find(host->run_as, qemu_user_groups, user))
		return fail(err, ERR_NOT_FOUND, "there is no user '%s' for QEMU to run as", host->run_as);
	ret->user = user;
	return true;
}

bool step_BACKUP_SERVE_run(StepContext *ctx, const Json *args, GError **err)
{
	const Json *mount = json_obj(args, "mount");
	struct backup_server s;
	SpawnUser user;

	if (!server_of(ctx, args, &user, &s, err) || !backup_serve(&s, json_obj(args, "sources"), err))
		return false;
	if (mount == NULL)
		return true;
	step_result(ctx, "disks", backup_mount_disks(s.dir, mount));
	return backup_mount_note(s.dir, mount, err);
}

bool step_BACKUP_SERVE_undo(StepContext *ctx, const Json *args, GError **err)
{
	return step_BACKUP_UNSERVE_run(ctx, args, err);
}

bool step_BACKUP_UNSERVE_run(StepContext *ctx, const Json *args, GError **err)
{
	struct backup_server s;
	SpawnUser user;

	return server_of(ctx, args, &user, &s, err) && backup_unserve(s.dir, err);
}

/* ---- what the guest writes goes here ---- */

static bool give_to_qemu(StepContext *ctx, const char *path, GError **err)
{
	uid_t uid;
	gid_t gid;

	step_qemu_ids(ctx, &uid, &gid);
	return uid == LIMITED_KEEP_USER || lchown(path, uid, gid) == 0 ||
	       fail_errno(err, errno, "can't give '%s' to the user that QEMU runs as", path);
}

static bool make_overlay(StepContext *ctx, const char *server, const Json *disk, GError **err)
{
	const char *path = json_str(disk, "path");
	g_autofree char *uri = backup_server_uri(server, json_str(disk, "name")),
			*dir = g_path_get_dirname(path);
	struct qemu_img q = { .dir = dir, .uid = LIMITED_KEEP_USER };

	if (unlink(path) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", path);
	return qemu_img_create(&q, path, IMAGE_FORMAT_QCOW2, uri, IMAGE_FORMAT_RAW,
			       json_uint(disk, "size", 0), err) &&
	       give_to_qemu(ctx, path, err);
}

bool step_BACKUP_OVERLAY_run(StepContext *ctx, const Json *args, GError **err)
{
	const Json *d;
	size_t i;

	json_array_foreach((Json *)json_arr(args, "overlays"), i, d)
	{
		if (!make_overlay(ctx, json_str(args, "dir"), d, err))
			return false;
	}
	return true;
}

/* ---- does it come up ---- */

/* The end of what it printed, for people. NULL: nothing. Caller frees. */
static char *words_of(Fleet *f, const char *vm)
{
	static const char *const ports[] = { "serial", "console" };

	for (size_t i = 0; i < G_N_ELEMENTS(ports); i++) {
		g_autoptr(GBytes) said = fleet_scrollback(f, vm, ports[i]);
		gsize len = 0;
		const char *text = said != NULL ? g_bytes_get_data(said, &len) : NULL;

		if (len > WORDS_MAX)
			text += len - WORDS_MAX;
		if (len > 0)
			return g_utf8_make_valid(text, (gssize)MIN(len, WORDS_MAX));
	}
	return NULL;
}

/* The guest's own end, if it has come to one. */
static bool check_alive(Fleet *f, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = fleet_vmm(f, json_str(args, "vm"));
	g_autofree char *status = v != NULL ? vm_status(v, NULL) : NULL;

	if (v == NULL)
		return fail(err, ERR_AGENT, "the restored copy of '%s' ended before its agent answered",
			    json_str(args, "name"));
	return g_strcmp0(status, "guest-panicked") != 0 ||
	       fail(err, ERR_AGENT, "the kernel of the restored copy of '%s' panicked",
		    json_str(args, "name"));
}

static bool fail_silent(const Json *args, GError **err)
{
	g_autofree char *text = print_duration(json_uint(args, "timeout", 0));

	return fail(err, ERR_TIMEOUT, "no agent answered in the restored copy of '%s' within %s",
		    json_str(args, "name"), text);
}

static bool wait_for_agent(StepContext *ctx, Fleet *f, const Json *args, GError **err)
{
	uint64_t until = time_monotonic() + json_uint(args, "timeout", 0);

	for (;;) {
		g_autoptr(Agent) a = fleet_agent(f, json_str(args, "vm"));

		if (a != NULL && agent_is_open(a) && agent_ping(a, PING_TIMEOUT, NULL))
			return true;
		if (step_cancelled(ctx))
			return fail(err, ERR_CANCELLED, "the wait for the restored copy was cancelled");
		if (!check_alive(f, args, err))
			return false;
		if (time_monotonic() > until)
			return fail_silent(args, err);
		g_usleep(LOOK);
	}
}

static bool advise_words(Fleet *f, const Json *args, GError **err)
{
	g_autofree char *words = words_of(f, json_str(args, "vm"));

	if (err != NULL && !g_error_matches(*err, ERR, ERR_CANCELLED))
		err_detail(err, "console", json_string_or_null(words));
	return err_advise(
	    err, "Its files are what was written. Restore it under another name to look at its console, "
		 "or give it more time with --boot-timeout.");
}

static void put_agent(StepContext *ctx, Fleet *f, const Json *args, uint64_t began)
{
	g_autoptr(Agent) a = fleet_agent(f, json_str(args, "vm"));
	_cleanup_json_ Json *info = a != NULL ? agent_info(a, INFO_TIMEOUT, NULL) : NULL;

	step_result(ctx, "booted_in", json_integer((json_int_t)(time_monotonic() - began)));
	step_result(ctx, "agent", json_string_or_null(json_str(info, "version")));
}

bool step_BACKUP_BOOT_run(StepContext *ctx, const Json *args, GError **err)
{
	Fleet *f = ((Engine *)step_engine(ctx))->fleet;
	uint64_t began = time_monotonic();
	bool rests = step_rest(ctx), ok = wait_for_agent(ctx, f, args, err);

	if (rests)
		step_wake(ctx);
	if (!ok)
		return advise_words(f, args, err);
	put_agent(ctx, f, args, began);
	return true;
}
