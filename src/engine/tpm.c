/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tpm.h"
#include "base/fd.h"
#include "base/socket.h"
#include "base/str.h"
#include "base/time.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define FILES_MAX 256
/* From SIGTERM to SIGKILL: it writes its state with every command, so little is left to do. */
#define END_TIMEOUT UINT64_C(2000000)
/* For the kernel to end a process that was killed. */
#define KILL_TIMEOUT UINT64_C(10000000)
#define REAP_PIECE UINT64_C(10000)
#define CMDLINE_MAX 65536

static char *beside_socket(const struct tpm *t, const char *name)
{
	g_autofree char *dir = g_path_get_dirname(t->socket);

	return g_build_filename(dir, name, NULL);
}

static char *state_arg(const struct tpm *t)
{
	return g_strdup_printf("dir=%s,mode=0600", t->dir);
}

static pid_t written_pid(const struct tpm *t)
{
	g_autofree char *path = beside_socket(t, "swtpm.pid"), *text = file_read(path, 64, NULL, NULL);
	uint64_t pid;

	if (text == NULL || !parse_uint(g_strstrip(text), 1, INT32_MAX, &pid, NULL))
		return 0;
	return (pid_t)pid;
}

/* A process that ended and is not waited for yet has an empty command line: it is none. */
static bool is_ours(const struct tpm *t, pid_t pid)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid), *state = state_arg(t);
	size_t len = 0, at = 0;
	g_autofree char *words = file_read_virtual(path, CMDLINE_MAX, &len, NULL);

	for (; words != NULL && at < len; at += strlen(words + at) + 1)
		if (g_str_equal(words + at, state))
			return true;
	return false;
}

pid_t tpm_running(const struct tpm *t)
{
	pid_t pid = written_pid(t);

	return pid > 0 && is_ours(t, pid) ? pid : 0;
}

/* It belongs to the user from before there is something in it. */
static bool make_state(const struct tpm *t, GError **err)
{
	_cleanup_close_ int fd = -EBADF;

	if (!dir_make(t->dir, 0700, err))
		return false;
	fd = open(t->dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || (t->user != NULL && fchown(fd, t->user->uid, t->user->gid) < 0) || fchmod(fd, 0700) < 0)
		return fail_errno(err, errno, "can't give '%s' to the user that QEMU runs as", t->dir);
	return true;
}

/* QEMU connects as that user. The folder around it is the daemon's: nobody can put something in its place. */
static int make_socket(const struct tpm *t, GError **err)
{
	_cleanup_close_ int fd = socket_listen(t->socket, err);

	if (fd < 0)
		return -EBADF;
	if (t->user != NULL && lchown(t->socket, t->user->uid, t->user->gid) < 0) {
		fail_errno(err, errno, "can't give '%s' to the user that QEMU runs as", t->socket);
		return -EBADF;
	}
	return fd_take(&fd);
}

static bool start(const struct tpm *t, int listening, int log, GError **err)
{
	g_autofree char *state = state_arg(t), *ctrl = g_strdup_printf("type=unixio,fd=%d", listening),
			*pid_path = beside_socket(t, "swtpm.pid");
	const char *const argv[] = { t->program, "socket", "--tpm2",      "--tpmstate", state,
				     "--ctrl",   ctrl,     "--terminate", NULL };
	const struct spawn s = { .argv = argv,
				 .keep = &listening,
				 .n_keep = 1,
				 .output = log,
				 .pid_path = pid_path,
				 .user = t->user,
				 .max_files = FILES_MAX };
	_cleanup_close_ int pidfd = -EBADF;
	pid_t pid;

	return spawn_process(&s, &pid, &pidfd, err);
}

bool tpm_start(const struct tpm *t, GError **err)
{
	g_autofree char *log_path = beside_socket(t, "swtpm.log");
	_cleanup_close_ int log = -EBADF, listening = -EBADF;

	if (strchr(t->dir, ',') != NULL)
		return fail_advice(err, ERR_INVALID, "Use a state folder without a comma in its path.",
				   "swtpm can't be told a folder with a comma: '%s'", t->dir);
	if (tpm_running(t) > 0)
		return true;
	/* One that ended, and was ours, must be waited for before its number is forgotten. */
	if (!tpm_stop(t, err) || !make_state(t, err))
		return false;
	log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log < 0)
		return fail_errno(err, errno, "can't open '%s'", log_path);
	listening = make_socket(t, err);
	if (listening < 0)
		return false;
	return start(t, listening, log, err) || err_advise(err, "Install the package swtpm.");
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
static bool is_bare_swtpm(pid_t pid)
{
	g_autofree char *comm = g_strdup_printf("/proc/%d/comm", (int)pid),
			*cmdline = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	size_t len = 0;
	g_autofree char *name = file_read_virtual(comm, 64, NULL, NULL),
			*words = file_read_virtual(cmdline, CMDLINE_MAX, &len, NULL);

	return g_strcmp0(name, "swtpm\n") == 0 && words != NULL && len == 0;
}

/*
 * One that ended before, as a child of ours, and is told apart by the name that
 * the kernel keeps: another process that got its number is not ours to wait for.
 * Its command line goes a moment before it can be waited for.
 */
static void reap(pid_t pid, int pidfd)
{
	uint64_t end = time_monotonic() + KILL_TIMEOUT;

	while (is_bare_swtpm(pid) && time_monotonic() < end)
		if (wait_end(pidfd, REAP_PIECE))
			return;
}

static bool end_process(const struct tpm *t, pid_t pid, GError **err)
{
	_cleanup_close_ int pidfd = pidfd_of(pid);

	/* Between the look and the descriptor the number may have become another process. */
	if (pidfd < 0)
		return true;
	if (!is_ours(t, pid)) {
		reap(pid, pidfd);
		return true;
	}
	pidfd_signal(pidfd, SIGTERM);
	if (wait_end(pidfd, END_TIMEOUT))
		return true;
	pidfd_signal(pidfd, SIGKILL);
	return wait_end(pidfd, KILL_TIMEOUT) ||
	       fail_advice(err, ERR_TIMEOUT, "Look at the disk that holds its state, then stop the vm again.",
			   "swtpm, process %d, does not end", (int)pid);
}

bool tpm_stop(const struct tpm *t, GError **err)
{
	g_autofree char *pid_path = beside_socket(t, "swtpm.pid");
	pid_t pid = written_pid(t);

	if (pid > 0 && !end_process(t, pid, err))
		return false;
	if ((unlink(t->socket) < 0 && errno != ENOENT) || (unlink(pid_path) < 0 && errno != ENOENT))
		return fail_errno(err, errno, "can't remove the files of a TPM beside '%s'", t->socket);
	return true;
}
