/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steps that work on the host around QEMU. Their arguments come with the plan:
 *   VM_DIR_*, RUN_DIR_*  path
 *   NVRAM_CREATE         path, template
 *   DISK_*               vm, path, user, readonly
 *   TPM_*                dir, socket, swtpm, user (null: ours)
 *   NET_TAP_*            tap, bridge, queues
 */
#include "engine/steps_host.h"
#include "base/fd.h"
#include "engine/as_user.h"
#include "engine/net.h"
#include "engine/steps-impl.h"
#include "engine/tpm.h"

#include <string.h>
#include <sys/stat.h>

/* The firmware's variables: OVMF's are 528 KiB. */
#define NVRAM_MAX (64u << 20)

/* A plan without it was made by a broken planner, or damaged on disk. */
static bool need(const Json *args, const char *name, const char **ret, GError **err)
{
	*ret = json_str(args, name);
	return *ret != NULL || fail(err, ERR_INTERNAL, "the step lacks its argument '%s'", name);
}

static bool need_path(const Json *args, const char *name, const char **ret, GError **err)
{
	if (!need(args, name, ret, err))
		return false;
	return (*ret)[0] == '/' || fail(err, ERR_INTERNAL, "the step's argument '%s' is no path", name);
}

/* Folders. QEMU's user may pass, nobody may list. */

static bool make_folder(const Json *args, GError **err)
{
	const char *path;

	if (!need_path(args, "path", &path, err) || !dir_make(path, 0711, err))
		return false;
	/* The umask had its say in mkdir(). */
	return chmod(path, 0711) == 0 || fail_errno(err, errno, "can't open the folder '%s'", path);
}

static bool remove_folder(const Json *args, GError **err)
{
	const char *path;

	return need_path(args, "path", &path, err) && dir_remove(path, err);
}

bool step_VM_DIR_MAKE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return make_folder(args, err);
}

bool step_VM_DIR_MAKE_undo(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return remove_folder(args, err);
}

bool step_VM_DIR_REMOVE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return remove_folder(args, err);
}

bool step_RUN_DIR_MAKE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return make_folder(args, err);
}

bool step_RUN_DIR_MAKE_undo(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return remove_folder(args, err);
}

bool step_RUN_DIR_REMOVE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return remove_folder(args, err);
}

/* Firmware */

/* What the guest stored stays: a template is for the first start only. QEMU's user gets it by DISK_GRANT. */
bool step_NVRAM_CREATE_run(StepContext *ctx, const Json *args, GError **err)
{
	const char *path, *template;
	g_autofree char *text = NULL;
	struct stat st;
	size_t len;

	(void)ctx;
	if (!need_path(args, "path", &path, err) || !need_path(args, "template", &template, err))
		return false;
	if (stat(path, &st) == 0 && st.st_size > 0)
		return true;
	text = file_read(template, NVRAM_MAX, &len, err);
	if (text == NULL)
		return err_advise(err, "Install the package ovmf again.");
	return file_write_atomic(path, text, len, 0600, err);
}

/* What QEMU opens */

static bool find_user(const Json *args, SpawnUser *ret, const char **ret_name, GError **err)
{
	if (!need(args, "user", ret_name, err))
		return false;
	if (spawn_user_find(*ret_name, qemu_user_groups, ret))
		return true;
	fail(err, ERR_NOT_FOUND, "there is no user '%s' for QEMU to run as", *ret_name);
	return err_advise(err, "Make the user, or have the host looked at again: `plim host probe`.");
}

bool step_DISK_GRANT_run(StepContext *ctx, const Json *args, GError **err)
{
	struct grant_host h = step_grant_host(ctx);
	struct grant g = { .readonly = json_bool(args, "readonly", false) };
	SpawnUser user;

	g.user = &user;
	return need(args, "vm", &g.vm, err) && need_path(args, "path", &g.path, err) &&
	       find_user(args, &user, &g.user_name, err) && grant_add(&h, &g, err);
}

bool step_DISK_GRANT_undo(StepContext *ctx, const Json *args, GError **err)
{
	return step_DISK_REVOKE_run(ctx, args, err);
}

bool step_DISK_REVOKE_run(StepContext *ctx, const Json *args, GError **err)
{
	struct grant_host h = step_grant_host(ctx);
	const char *vm, *path;

	return need(args, "vm", &vm, err) && need_path(args, "path", &path, err) &&
	       grant_remove(&h, vm, path, err);
}

/* TPM */

bool step_TPM_START_run(StepContext *ctx, const Json *args, GError **err)
{
	struct tpm t = { 0 };
	SpawnUser user;
	const char *name;

	(void)ctx;
	if (!need_path(args, "dir", &t.dir, err) || !need_path(args, "socket", &t.socket, err))
		return false;
	t.program = json_str(args, "swtpm");
	if (t.program == NULL)
		return fail_advice(err, ERR_UNSUPPORTED,
				   "Install the package swtpm, then look again: `plim host probe`.",
				   "the host has no swtpm to make a TPM with");
	if (json_str(args, "user") != NULL) {
		if (!find_user(args, &user, &name, err))
			return false;
		t.user = &user;
	}
	return tpm_start(&t, err);
}

bool step_TPM_START_undo(StepContext *ctx, const Json *args, GError **err)
{
	return step_TPM_STOP_run(ctx, args, err);
}

bool step_TPM_STOP_run(StepContext *ctx, const Json *args, GError **err)
{
	struct tpm t = { 0 };

	(void)ctx;
	return need_path(args, "dir", &t.dir, err) && need_path(args, "socket", &t.socket, err) &&
	       tpm_stop(&t, err);
}

/* Networks */

bool step_NET_TAP_ADD_run(StepContext *ctx, const Json *args, GError **err)
{
	const char *tap, *bridge;

	(void)ctx;
	return need(args, "tap", &tap, err) && need(args, "bridge", &bridge, err) &&
	       net_tap_add(tap, bridge, (unsigned)CLAMP(json_int(args, "queues", 1), 1, 256), err);
}

bool step_NET_TAP_ADD_undo(StepContext *ctx, const Json *args, GError **err)
{
	return step_NET_TAP_DEL_run(ctx, args, err);
}

bool step_NET_TAP_DEL_run(StepContext *ctx, const Json *args, GError **err)
{
	const char *tap;

	(void)ctx;
	return need(args, "tap", &tap, err) && net_tap_del(tap, err);
}
