/* SPDX-License-Identifier: Apache-2.0 */
/* A real swtpm: one a vm, found again, ended, and as QEMU's user. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/stream.h"
#include "engine/tpm.h"

#include <endian.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#define DEADLINE UINT64_C(120000000)

typedef struct Rig {
	char *dir, *program, *state, *socket, *pid_path;
	SpawnUser user;
	struct tpm tpm;
} Rig;

static bool rig_up(Rig *r)
{
	*r = (Rig){ .program = g_find_program_in_path("swtpm") };
	if (r->program == NULL) {
		g_test_skip("there is no swtpm");
		return false;
	}
	r->dir = g_dir_make_tmp("test-tpm-XXXXXX", NULL);
	g_assert_cmpint(chmod(r->dir, 0711), ==, 0);
	r->state = g_build_filename(r->dir, "tpm", NULL);
	r->socket = g_build_filename(r->dir, "swtpm.sock", NULL);
	r->pid_path = g_build_filename(r->dir, "swtpm.pid", NULL);
	r->tpm = (struct tpm){ .program = r->program, .dir = r->state, .socket = r->socket };
	if (geteuid() == 0 && spawn_user_find("nobody", NULL, &r->user))
		r->tpm.user = &r->user;
	return true;
}

static void rig_down(Rig *r)
{
	g_autoptr(GError) e = NULL;

	tpm_stop(&r->tpm, &e);
	g_assert_no_error(e);
	g_assert_cmpint(tpm_running(&r->tpm), ==, 0);
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->dir);
	g_free(r->program);
	g_free(r->state);
	g_free(r->socket);
	g_free(r->pid_path);
}

static pid_t started(Rig *r)
{
	g_autoptr(GError) e = NULL;

	tpm_start(&r->tpm, &e);
	g_assert_no_error(e);
	g_assert_cmpint(tpm_running(&r->tpm), >, 0);
	return tpm_running(&r->tpm);
}

static void stopped(Rig *r)
{
	g_autoptr(GError) e = NULL;

	tpm_stop(&r->tpm, &e);
	g_assert_no_error(e);
}

static bool lives(pid_t pid)
{
	return kill(pid, 0) == 0;
}

static int connected(const Rig *r)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	g_assert_cmpuint(g_strlcpy(a.sun_path, r->socket, sizeof a.sun_path), <, sizeof a.sun_path);
	g_assert_cmpint(connect(fd, (struct sockaddr *)&a, sizeof a), ==, 0);
	return fd;
}

/* CMD_GET_CAPABILITY of swtpm's control channel: 1, big-endian; the answer is a bit mask. */
static uint64_t capabilities(int fd)
{
	uint32_t command = htobe32(1);
	uint64_t answer = 0;
	struct pollfd p = { .fd = fd, .events = POLLIN };

	g_assert_cmpint(fd_write_all(fd, &command, sizeof command), ==, 0);
	g_assert_cmpint(poll(&p, 1, (int)(DEADLINE / 1000)), ==, 1);
	g_assert_cmpint(read(fd, &answer, sizeof answer), ==, sizeof answer);
	return be64toh(answer);
}

/* CMD_SET_DATAFD, 16: what QEMU does first. The TPM's life hangs on that second connection. */
static int data_channel(int control)
{
	uint32_t command = htobe32(16), answer;
	union {
		struct cmsghdr align;
		char buf[CMSG_SPACE(sizeof(int))];
	} room = { 0 };
	struct iovec what = { &command, sizeof command };
	struct msghdr m = {
		.msg_iov = &what, .msg_iovlen = 1, .msg_control = &room, .msg_controllen = sizeof room
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int pair[2];

	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pair[1], sizeof(int));
	g_assert_cmpint(sendmsg(control, &m, 0), ==, sizeof command);
	close(pair[1]);
	g_assert_cmpint(read(control, &answer, sizeof answer), ==, sizeof answer);
	g_assert_cmpuint(answer, ==, 0);
	return pair[0];
}

static void wait_gone(const Rig *r)
{
	uint64_t end = time_monotonic() + DEADLINE;

	while (tpm_running(&r->tpm) > 0) {
		g_assert_cmpuint(time_monotonic(), <, end);
		g_usleep(1000);
	}
}

static void test_it_answers_at_once_and_goes_with_its_client(void)
{
	Rig r;
	int fd, data;

	if (!rig_up(&r))
		return;
	started(&r);
	fd = connected(&r);
	g_assert_cmpuint(capabilities(fd), !=, 0);
	data = data_channel(fd);
	g_assert_cmpint(tpm_running(&r.tpm), >, 0);
	close(data);
	close(fd);
	wait_gone(&r);
	rig_down(&r);
}

static void test_started_twice_it_is_one(void)
{
	Rig r;
	pid_t pid;

	if (!rig_up(&r))
		return;
	pid = started(&r);
	g_assert_cmpint(started(&r), ==, pid);
	rig_down(&r);
	g_assert_false(lives(pid));
}

static void test_after_its_end_it_starts_again(void)
{
	Rig r;
	pid_t pid;
	int fd;

	if (!rig_up(&r))
		return;
	pid = started(&r);
	g_assert_cmpint(kill(pid, SIGKILL), ==, 0);
	wait_gone(&r);
	started(&r);
	fd = connected(&r);
	g_assert_cmpuint(capabilities(fd), !=, 0);
	close(fd);
	/* Nor does it wait to be waited for; whoever adopted it takes its time. */
	for (gint64 until = g_get_monotonic_time() + (gint64)DEADLINE; lives(pid);)
		g_assert_cmpint(g_get_monotonic_time(), <, until);
	rig_down(&r);
}

static void test_it_runs_as_qemus_user_who_may_connect(void)
{
	Rig r;
	g_autofree char *proc = NULL;
	struct stat st;

	if (!rig_up(&r))
		return;
	if (r.tpm.user == NULL) {
		g_test_skip("needs root and the user nobody");
		rig_down(&r);
		return;
	}
	proc = g_strdup_printf("/proc/%d", (int)started(&r));
	g_assert_cmpint(stat(proc, &st), ==, 0);
	g_assert_cmpuint(st.st_uid, ==, r.user.uid);
	g_assert_cmpint(stat(r.socket, &st), ==, 0);
	g_assert_cmpuint(st.st_uid, ==, r.user.uid);
	g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
	g_assert_cmpint(stat(r.state, &st), ==, 0);
	g_assert_cmpuint(st.st_uid, ==, r.user.uid);
	g_assert_cmpuint(st.st_mode & 0777, ==, 0700);
	rig_down(&r);
}

/* Another daemon started it and is gone. */
static void test_another_daemon_finds_and_ends_it(void)
{
	Rig r;
	pid_t daemon, pid;
	int status;

	if (!rig_up(&r))
		return;
	daemon = fork();
	if (daemon == 0)
		_exit(tpm_start(&r.tpm, NULL) ? 0 : 1);
	g_assert_cmpint(waitpid(daemon, &status, 0), ==, daemon);
	g_assert_cmpint(status, ==, 0);
	pid = tpm_running(&r.tpm);
	g_assert_cmpint(pid, >, 0);
	g_assert_cmpint(started(&r), ==, pid);
	stopped(&r);
	g_assert_cmpint(tpm_running(&r.tpm), ==, 0);
	g_assert_cmpint(access(r.socket, F_OK), ==, -1);
	rig_down(&r);
}

static void test_stopped_its_state_stays(void)
{
	Rig r;
	g_autofree char *kept = NULL;

	if (!rig_up(&r))
		return;
	started(&r);
	kept = g_build_filename(r.state, "kept", NULL);
	g_assert_true(file_write_atomic(kept, "x", 1, 0600, NULL));
	stopped(&r);
	stopped(&r);
	g_assert_cmpint(access(kept, F_OK), ==, 0);
	g_assert_cmpint(access(r.pid_path, F_OK), ==, -1);
	rig_down(&r);
}

/* The host was started again and the number now belongs to another: here, ourselves. */
static void test_a_stale_number_harms_nobody(void)
{
	Rig r;
	g_autofree char *text = g_strdup_printf("%d\n", (int)getpid());

	if (!rig_up(&r))
		return;
	g_assert_true(file_write_atomic(r.pid_path, text, strlen(text), 0600, NULL));
	g_assert_cmpint(tpm_running(&r.tpm), ==, 0);
	stopped(&r);
	g_assert_true(file_write_atomic(r.pid_path, text, strlen(text), 0600, NULL));
	g_assert_cmpint(started(&r), !=, getpid());
	rig_down(&r);
}

static void test_what_can_not_be_is_refused(void)
{
	Rig r;
	g_autoptr(GError) gone = NULL, comma = NULL;

	if (!rig_up(&r))
		return;
	r.tpm.program = "/nonexistent/swtpm";
	g_assert_false(tpm_start(&r.tpm, &gone));
	g_assert_cmpint(err_code(gone), ==, ERR_NOT_FOUND);
	g_assert_nonnull(err_advice(gone));
	r.tpm.program = r.program;
	r.tpm.dir = "/nonexistent/a,mode=0777";
	g_assert_false(tpm_start(&r.tpm, &comma));
	g_assert_cmpint(err_code(comma), ==, ERR_INVALID);
	r.tpm.dir = r.state;
	rig_down(&r);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/tpm/" #name, test_##name)
	T(it_answers_at_once_and_goes_with_its_client);
	T(started_twice_it_is_one);
	T(after_its_end_it_starts_again);
	T(it_runs_as_qemus_user_who_may_connect);
	T(another_daemon_finds_and_ends_it);
	T(stopped_its_state_stays);
	T(a_stale_number_harms_nobody);
	T(what_can_not_be_is_refused);
#undef T
	return g_test_run();
}
