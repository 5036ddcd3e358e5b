/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a guest that is suspended to disk, and taken up again. Their
 * arguments:
 *   STATE_SAVE    vm, name, path, memory (bytes), run (it runs, and goes on if this is undone)
 *   STATE_LOAD    vm, name, path, bytes, sha256
 *   STATE_RUN     vm, name, path
 *   STATE_REMOVE  vm, name, path
 *
 * The file is QEMU's stream of a migration. It is written beside its name with
 * the guest standing still, and has its name only when it is whole and on
 * disk: whatever is interrupted before leaves the guest as it was. What is
 * known of the file, its length and its hash, is in the vm's record. A guest
 * runs from it once, as its disks change from then on (saved_state.h).
 */
#include "base/fd.h"
#include "base/str.h"
#include "engine/engine-impl.h"
#include "engine/image/hash.h"
#include "engine/migrate_link.h"
#include "engine/migrate_out.h"
#include "engine/saved_state.h"
#include "engine/steps-impl.h"
#include "engine/vm_ops.h"

#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>

#define LOOK UINT64_C(50000)
#define PIECE (1 << 20)
/* For a QEMU that does not say whether the guest runs. */
#define PATIENCE UINT64_C(120000000)
/* Devices' state and page headers beside the memory. */
#define EXTRA (UINT64_C(64) << 20)
#define FD_NAME "saved-state"
#define FD_URI "fd:" FD_NAME
/* QEMU's own limit is for networks. */
#define NO_LIMIT (INT64_C(1) << 40)

static Vmm *vmm_of(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = step_engine(ctx);
	Vmm *v = fleet_vmm(e->fleet, json_str(args, "vm"));

	if (v == NULL)
		fail(err, ERR_GONE, "QEMU of '%s' has ended", json_str(args, "name"));
	return v;
}

static char *unfinished(const Json *args)
{
	return g_strconcat(json_str(args, "path"), ".part", NULL);
}

static bool remove_file(const char *path, GError **err)
{
	return unlink(path) == 0 || errno == ENOENT || fail_errno(err, errno, "can't remove '%s'", path);
}

/* ---- the file ---- */

static bool check_space(const Json *args, GError **err)
{
	g_autofree char *dir = g_path_get_dirname(json_str(args, "path"));
	uint64_t need = json_uint(args, "memory", 0) + EXTRA, there;
	g_autofree char *have = NULL, *want = NULL;
	struct statvfs s;

	if (statvfs(dir, &s) < 0)
		return fail_errno(err, errno, "can't look at '%s'", dir);
	there = (uint64_t)s.f_bavail * s.f_frsize;
	if (there >= need)
		return true;
	have = print_size(there);
	want = print_size(need);
	return fail_advice(err, ERR_NO_SPACE, "Make room there, or shut the guest down instead.",
			   "the state of '%s' may take %s, and %s has %s left", json_str(args, "name"), want,
			   dir, have);
}

static bool hash_file(int fd, uint64_t *ret_bytes, char **ret_hex, GError **err)
{
	g_autoptr(Hash) h = hash_new(HASH_SHA256);
	g_autofree uint8_t *buf = g_malloc(PIECE);
	uint64_t n = 0;
	ssize_t r;

	if (lseek(fd, 0, SEEK_SET) < 0)
		return fail_errno(err, errno, "can't read the saved state");
	while ((r = read(fd, buf, PIECE)) > 0) {
		hash_update(h, buf, (size_t)r);
		n += (uint64_t)r;
	}
	if (r < 0)
		return fail_errno(err, errno, "can't read the saved state");
	*ret_bytes = n;
	*ret_hex = hash_take_hex(h);
	return true;
}

/* ---- QEMU's stream ---- */

/* What an earlier move may have left is taken back: there is nobody at the other end who answers or hides. */
static bool prepare_stream(Vmm *v, int fd, GError **err)
{
	static const char *const on[] = { "events", NULL };
	static const char *const off[] = { "return-path",         "postcopy-ram",
					   "auto-converge",       "pause-before-switchover",
					   "late-block-activate", NULL };
	_cleanup_json_ Json *reply = NULL;

	if (!migrate_capabilities(v, on, off, err) ||
	    !migrate_tell(v, "migrate-set-parameters",
			  json_pack("{s:s,s:I}", "tls-creds", "", "max-bandwidth", (json_int_t)NO_LIMIT),
			  err))
		return false;
	reply = qmp_call_fd(vmm_qmp(v), "getfd", json_pack("{s:s}", "fdname", FD_NAME), fd, 0, err);
	return reply != NULL;
}

/* Until all went through. */
static bool wait_for_stream(StepContext *ctx, Vmm *v, GError **err)
{
	for (;;) {
		_cleanup_json_ Json *reply = qmp_call(vmm_qmp(v), "query-migrate", NULL, 0, err);
		const char *status = json_str(reply, "status"), *why = json_str(reply, "error-desc");

		if (reply == NULL)
			return false;
		if (g_strcmp0(status, "completed") == 0)
			return true;
		if (g_strcmp0(status, "failed") == 0 || g_strcmp0(status, "cancelled") == 0)
			return fail(err,
				    why != NULL && strstr(why, "No space") != NULL ? ERR_NO_SPACE : ERR_QEMU,
				    "QEMU could not do it: %s", why != NULL ? why : status);
		if (step_cancelled(ctx))
			return fail(err, ERR_CANCELLED, "it was cancelled");
		g_usleep(LOOK);
	}
}

/* ---- saving ---- */

/* For when it is taken up again. */
static void note_clock(StepContext *ctx, const Json *args)
{
	struct agent_clock now;
	bool says = json_bool(args, "run", true) && step_clock_ask(ctx, args, &now);

	step_fact(ctx, "saved_clock", says ? json_integer(now.offset) : json_null());
	step_fact(ctx, "saved_clock_doubt", says ? json_integer(now.doubt) : json_null());
}

static bool write_state(StepContext *ctx, const Json *args, Vmm *v, int fd, GError **err)
{
	g_autofree char *hex = NULL;
	uint64_t bytes;

	note_clock(ctx, args);
	if (json_bool(args, "run", true) && !vm_pause(v, err))
		return false;
	if (!prepare_stream(v, fd, err) ||
	    !migrate_tell(v, "migrate", json_pack("{s:s}", "uri", FD_URI), err) ||
	    !wait_for_stream(ctx, v, err))
		return false;
	if (fdatasync(fd) < 0)
		return fail_errno(err, errno, "can't write the state of '%s'", json_str(args, "name"));
	if (!hash_file(fd, &bytes, &hex, err))
		return false;
	step_fact(ctx, "saved_bytes", json_integer((json_int_t)bytes));
	step_fact(ctx, "saved_sha256", json_string(hex));
	return true;
}

bool step_STATE_SAVE_run(StepContext *ctx, const Json *args, GError **err)
{
	g_autofree char *part = unfinished(args);
	const char *path = json_str(args, "path");
	g_autoptr(Vmm) v = vmm_of(ctx, args, err);
	_cleanup_close_ int fd = -EBADF;

	if (v == NULL || !saved_state_remove(path, err) || !remove_file(part, err) || !check_space(args, err))
		return false;
	fd = open(part, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return fail_errno(err, errno, "can't make '%s'", part);
	if (!write_state(ctx, args, v, fd, err))
		return false;
	return saved_state_rename(part, path, err);
}

/* Whole, on disk, and what is in it is known. */
static bool is_saved(StepContext *ctx, const Json *args)
{
	return json_str(step_operation(ctx)->facts, "saved_sha256") != NULL &&
	       access(json_str(args, "path"), F_OK) == 0;
}

/*
 * A QEMU that has ended takes its guest along, unless its state was saved: then
 * what failed is the cleaning up behind it, and the file is all there is of the
 * guest.
 */
bool step_STATE_SAVE_undo(StepContext *ctx, const Json *args, GError **err)
{
	g_autofree char *part = unfinished(args);
	g_autoptr(Vmm) v = vmm_of(ctx, args, NULL);
	bool ok = v == NULL || migrate_out_revert(v, NULL, json_bool(args, "run", true), err);

	if ((v == NULL || (!ok && !vmm_alive(v))) && is_saved(ctx, args)) {
		step_keep(ctx);
		return ok;
	}
	return remove_file(part, ok ? err : NULL) && remove_file(json_str(args, "path"), ok ? err : NULL) &&
	       ok;
}

/* ---- loading ---- */

static bool fail_damaged(const Json *args, const char *what, GError **err)
{
	return fail_advice(
	    err, ERR_INVALID,
	    "Bring the file back from a backup, or start the guest cold with --discard-state: what "
	    "it had not written to its disks is lost then.",
	    "the saved state of '%s' can't be used: %s (%s)", json_str(args, "name"), what,
	    json_str(args, "path"));
}

static bool check_file(const Json *args, int fd, GError **err)
{
	g_autofree char *hex = NULL;
	uint64_t bytes;

	if (!hash_file(fd, &bytes, &hex, err))
		return false;
	if (bytes != json_uint(args, "bytes", 0))
		return fail_damaged(args, "its length is not what it was", err);
	if (g_strcmp0(hex, json_str(args, "sha256")) != 0)
		return fail_damaged(args, "its content is not what was saved", err);
	return lseek(fd, 0, SEEK_SET) == 0 || fail_errno(err, errno, "can't read the saved state");
}

bool step_STATE_LOAD_run(StepContext *ctx, const Json *args, GError **err)
{
	g_autoptr(Vmm) v = vmm_of(ctx, args, err);
	g_autoptr(GError) e = NULL;
	_cleanup_close_ int fd = -EBADF;

	if (v == NULL)
		return false;
	fd = open(json_str(args, "path"), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0)
		return fail_damaged(args, g_strerror(errno), err);
	if (!check_file(args, fd, err))
		return false;
	if (prepare_stream(v, fd, &e) &&
	    migrate_tell(v, "migrate-incoming", json_pack("{s:s}", "uri", FD_URI), &e) &&
	    wait_for_stream(ctx, v, &e))
		return true;
	if (g_error_matches(e, ERR, ERR_CANCELLED)) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	return fail_damaged(args, e->message, err);
}

/* ---- running ---- */

bool step_STATE_RUN_run(StepContext *ctx, const Json *args, GError **err)
{
	Engine *e = step_engine(ctx);
	g_autoptr(Vmm) v = fleet_vmm(e->fleet, json_str(args, "vm"));
	Qmp *q = v != NULL && vmm_alive(v) ? vmm_qmp(v) : NULL;

	return saved_state_run(q, json_str(args, "path"), PATIENCE, err) == SAVED_RUNS;
}

bool step_STATE_REMOVE_run(StepContext *ctx, const Json *args, GError **err)
{
	(void)ctx;
	return saved_state_remove(json_str(args, "path"), err);
}
