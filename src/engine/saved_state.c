/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/saved_state.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/time.h"

#include <stdio.h>
#include <unistd.h>

#define LOOK_AGAIN UINT64_C(200000)

typedef enum Seen { STANDS, RAN, UNKNOWN } Seen;

static char *taken_name(const char *path)
{
	return g_strconcat(path, ".taken", NULL);
}

/* The name of a file is on disk with its folder. */
static bool sync_folder(const char *path, GError **err)
{
	g_autofree char *dir = g_path_get_dirname(path);

	return dir_sync(dir, err);
}

bool saved_state_rename(const char *from, const char *to, GError **err)
{
	if (rename(from, to) < 0)
		return fail_errno(err, errno, "can't rename '%s'", from);
	return sync_folder(to, err);
}

static bool remove_file(const char *path, GError **err)
{
	return unlink(path) == 0 || errno == ENOENT || fail_errno(err, errno, "can't remove '%s'", path);
}

bool saved_state_remove(const char *path, GError **err)
{
	g_autofree char *taken = taken_name(path);

	return remove_file(path, err) && remove_file(taken, err) && sync_folder(path, err);
}

/* Nobody reads it under that name again: what is left of it only takes room. */
static void forget(const char *path)
{
	g_autofree char *taken = taken_name(path);
	g_autoptr(GError) e = NULL;

	if (!remove_file(taken, &e))
		log_warning("%s", e->message);
}

/*
 * A guest that was loaded stands "paused" until it is told to run, and never comes back to that by itself:
 * what else stops it has other names ("io-error", "guest-panicked", ...).
 */
static Seen look(Qmp *q, GError **err)
{
	static const char *const waits[] = { "paused", "prelaunch", "inmigrate", NULL };
	_cleanup_json_ Json *reply = q != NULL ? qmp_call(q, "query-status", NULL, 0, err) : NULL;
	const char *status = json_str(reply, "status");

	if (q == NULL)
		fail(err, ERR_GONE, "QEMU has ended");
	if (status == NULL)
		return UNKNOWN;
	return g_strv_contains(waits, status) ? STANDS : RAN;
}

/* QEMU answers in the order in which it was asked: its answer to this tells of the order before. */
static Seen look_long(Qmp *q, uint64_t patience, GError **err)
{
	uint64_t until = time_monotonic() + patience;

	for (;;) {
		g_autoptr(GError) e = NULL;
		Seen seen = look(q, &e);

		if (seen != UNKNOWN)
			return seen;
		if (!g_error_matches(e, ERR, ERR_TIMEOUT) || time_monotonic() > until) {
			g_propagate_error(err, g_steal_pointer(&e));
			return UNKNOWN;
		}
		g_usleep(LOOK_AGAIN);
	}
}

/* Back to its name, if it was taken at all. */
static bool give_back(const char *path, GError **err)
{
	g_autofree char *taken = taken_name(path);

	return access(taken, F_OK) < 0 || saved_state_rename(taken, path, err);
}

static SavedEnd kept(GError **err)
{
	err_advise(err, "Its saved state is kept: see the vm's log, and start it again.");
	return SAVED_KEPT;
}

static SavedEnd spent(const char *path, GError **err)
{
	forget(path);
	err_advise(
	    err,
	    "It may have run for a moment, so its saved state fits its disks no more. Start it cold with "
	    "--discard-state, as after a power cut.");
	return SAVED_SPENT;
}

/* There is no QEMU to ask. */
static SavedEnd end_without_qemu(const char *path, GError **err)
{
	return access(path, F_OK) == 0 ? kept(err) : spent(path, err);
}

static SavedEnd go_on(Qmp *q, const char *path, uint64_t patience, GError **err)
{
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *reply = qmp_call(q, "cont", NULL, 0, &e);
	Seen seen = reply != NULL ? RAN : look_long(q, patience, NULL);

	if (reply != NULL || (seen == RAN && g_error_matches(e, ERR, ERR_TIMEOUT))) {
		forget(path);
		return SAVED_RUNS;
	}
	g_propagate_error(err, g_steal_pointer(&e));
	if (seen != STANDS)
		return spent(path, err);
	return give_back(path, NULL) ? kept(err) : spent(path, err);
}

SavedEnd saved_state_run(Qmp *q, const char *path, uint64_t patience, GError **err)
{
	g_autofree char *taken = taken_name(path);
	Seen seen = look_long(q, patience, err);

	if (seen == UNKNOWN)
		return end_without_qemu(path, err);
	/*
	 * One that runs is told once more; it lost nothing by that. As long as the file has its name nobody
	 * has told it yet, whatever QEMU calls the state that came with it (io-error, suspended).
	 */
	if (access(path, F_OK) == 0 && !saved_state_rename(path, taken, err)) {
		give_back(path, NULL);
		return kept(err);
	}
	return go_on(q, path, patience, err);
}
