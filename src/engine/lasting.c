/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/lasting.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/spawn.h"

#include <poll.h>
#include <signal.h>
#include <string.h>

/* For the kernel to end a process that was killed. */
#define KILL_TIMEOUT UINT64_C(10000000)
#define REAP_PIECE UINT64_C(10000)
#define CMDLINE_MAX 65536

static pid_t written_pid(const struct lasting *l)
{
	g_autofree char *text = file_read(l->pid_path, 64, NULL, NULL);
	uint64_t pid;

	if (text == NULL || !parse_uint(g_strstrip(text), 1, INT32_MAX, &pid, NULL))
		return 0;
	return (pid_t)pid;
}

/* A process that ended and is not waited for yet has an empty command line: it is none. */
static bool is_ours(const struct lasting *l, pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	size_t len = 0, at = 0;
	g_autofree char *words = file_read_virtual(path, CMDLINE_MAX, &len, NULL);

	for (; words != NULL && at < len; at += strlen(words + at) + 1)
		if (g_str_equal(words + at, l->mark))
			return true;
	return false;
}

pid_t lasting_running(const struct lasting *l)
{
	pid_t pid = written_pid(l);

	return pid > 0 && is_ours(l, pid) ? pid : 0;
}

/* True when it has ended. It is waited for if it is our child. */
static bool wait_end(int pidfd, uint64_t timeout)
{
	uint64_t end = time_monotonic() + timeout, now;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	struct process_end how;

	while ((now = time_monotonic()) < end)
		if (poll(&p, 1, (int)((end - now) / 1000) + 1) == 1)
			break;
	return process_ended(pidfd, &how);
}

/* What a program that begins looks like for a moment, and one that ended until it is waited for. */
static bool is_bare(const struct lasting *l, pid_t pid)
{
	g_autofree char *comm = g_strdup_printf("/proc/%d/comm", (int)pid),
			*cmdline = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	size_t len = 0;
	g_autofree char *name = file_read_virtual(comm, 64, NULL, NULL),
			*words = file_read_virtual(cmdline, CMDLINE_MAX, &len, NULL);

	return name != NULL && g_str_equal(g_strchomp(name), l->program) && words != NULL && len == 0;
}

/*
 * One that ended before, as a child of ours, and is told apart by the name that
 * the kernel keeps: another process that got its number is not ours to wait for.
 * Its command line goes a moment before it can be waited for.
 */
static void reap(const struct lasting *l, pid_t pid, int pidfd)
{
	uint64_t end = time_monotonic() + KILL_TIMEOUT;

	while (is_bare(l, pid) && time_monotonic() < end)
		if (wait_end(pidfd, REAP_PIECE))
			return;
}

static bool end_process(const struct lasting *l, pid_t pid, uint64_t patience, GError **err)
{
	_cleanup_close_ int pidfd = pidfd_of(pid);

	/* Between the look and the descriptor the number may have become another process. */
	if (pidfd < 0)
		return true;
	if (!is_ours(l, pid)) {
		reap(l, pid, pidfd);
		return true;
	}
	pidfd_signal(pidfd, SIGTERM);
	if (wait_end(pidfd, patience))
		return true;
	pidfd_signal(pidfd, SIGKILL);
	return wait_end(pidfd, KILL_TIMEOUT) ||
	       fail_advice(err, ERR_TIMEOUT, "Look at the disk that holds its state, then try again.",
			   "%s, process %d, does not end", l->program, (int)pid);
}

bool lasting_end(const struct lasting *l, uint64_t patience, GError **err)
{
	pid_t pid = written_pid(l);

	if (pid > 0 && !end_process(l, pid, patience, err))
		return false;
	if (unlink(l->pid_path) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", l->pid_path);
	return true;
}
