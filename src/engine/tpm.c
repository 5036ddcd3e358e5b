/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tpm.h"
#include "base/fd.h"
#include "base/socket.h"
#include "engine/lasting.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define FILES_MAX 256
/* From SIGTERM to SIGKILL: it writes its state with every command, so little is left to do. */
#define END_TIMEOUT UINT64_C(2000000)

static char *beside_socket(const struct tpm *t, const char *name)
{
	g_autofree char *dir = g_path_get_dirname(t->socket);

	return g_build_filename(dir, name, NULL);
}

static char *state_arg(const struct tpm *t)
{
	return g_strdup_printf("dir=%s,mode=0600", t->dir);
}

/* What is in `l` points to what is to be freed. */
struct found_by {
	char *pid_path, *mark;
	struct lasting l;
};

static struct found_by found_by(const struct tpm *t)
{
	struct found_by f = { .pid_path = beside_socket(t, "swtpm.pid"), .mark = state_arg(t) };

	f.l = (struct lasting){ .program = "swtpm", .pid_path = f.pid_path, .mark = f.mark };
	return f;
}

static void found_by_done(struct found_by *f)
{
	g_free(f->pid_path);
	g_free(f->mark);
}

pid_t tpm_running(const struct tpm *t)
{
	struct found_by f = found_by(t);
	pid_t pid = lasting_running(&f.l);

	found_by_done(&f);
	return pid;
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

bool tpm_stop(const struct tpm *t, GError **err)
{
	struct found_by f = found_by(t);
	bool ok = lasting_end(&f.l, END_TIMEOUT, err);

	found_by_done(&f);
	if (ok && unlink(t->socket) < 0 && errno != ENOENT)
		return fail_errno(err, errno, "can't remove '%s'", t->socket);
	return ok;
}
