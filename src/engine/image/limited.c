/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/image/limited.h"
#include "base/fd.h"
#include "base/time.h"

#include <fcntl.h>
#include <linux/landlock.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STDERR_KEPT 4096u
#define FILES_MAX 256
#define TICK_MS 100

/* Newer than Debian 12's headers: bind and connect, since Linux 6.7. */
#define NET_BIND_TCP (UINT64_C(1) << 0)
#define NET_CONNECT_TCP (UINT64_C(1) << 1)

struct ruleset_attr {
	uint64_t handled_access_fs, handled_access_net;
};

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_EXECUTE (FS_READ | LANDLOCK_ACCESS_FS_EXECUTE)
#define FS_WRITE                                                                                             \
	(FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |                          \
	 LANDLOCK_ACCESS_FS_MAKE_REG)
/* Everything that the first version of Landlock knows is forbidden unless allowed. */
#define FS_ALL ((UINT64_C(1) << 13) - 1)
#define FS_OF_FILES                                                                                          \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE)

static const struct {
	const char *path;
	uint64_t access;
} system_paths[] = {
	{ "/usr", FS_EXECUTE },
	{ "/bin", FS_EXECUTE },
	{ "/lib", FS_EXECUTE },
	{ "/lib32", FS_EXECUTE },
	{ "/lib64", FS_EXECUTE },
	{ "/etc/ld.so.cache", FS_READ },
	{ "/proc", FS_READ },
	{ "/sys/devices/system", FS_READ },
	{ "/dev/null", FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE },
	{ "/dev/urandom", FS_READ },
};

/* What the child needs; made before it, because a child of a threaded process may not allocate. */
struct start {
	char *program;
	const char *const *argv;
	const char *cwd;
	int out, err, report; /* report: an errno when the program can't be run; closed by exec when it can */
	int ruleset;
	const struct limited *l;
};

void limited_result_clear(struct limited_result *r)
{
	g_clear_pointer(&r->out, g_free);
	g_clear_pointer(&r->err, g_free);
}

/* Landlock */

/* A path that is not there needs no rule. */
static void allow(int ruleset, const char *path, uint64_t access)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr rule = { .allowed_access = access, .parent_fd = fd };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return;
	if (!S_ISDIR(st.st_mode))
		rule.allowed_access &= FS_OF_FILES;
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

static void allow_each(int ruleset, const char *const *paths, uint64_t access)
{
	for (; paths != NULL && *paths != NULL; paths++)
		allow(ruleset, *paths, access);
}

/* -EBADF where the kernel has none. */
static int ruleset_make(const struct limited *l, const char *program)
{
	struct ruleset_attr attr = { .handled_access_fs = FS_ALL };
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	size_t size = sizeof attr.handled_access_fs;
	int fd;

	if (abi < 1)
		return -EBADF;
	if (abi >= 4) {
		attr.handled_access_net = NET_BIND_TCP | NET_CONNECT_TCP;
		size = sizeof attr;
	}
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (fd < 0)
		return -EBADF;
	for (size_t i = 0; i < G_N_ELEMENTS(system_paths); i++)
		allow(fd, system_paths[i].path, system_paths[i].access);
	allow(fd, program, FS_EXECUTE);
	if (l->cwd != NULL)
		allow(fd, l->cwd, FS_WRITE);
	allow_each(fd, l->readable, FS_READ);
	allow_each(fd, l->writable, FS_WRITE);
	return fd;
}

/* The child: only system calls from here to exec. */

static void limit(int resource, uint64_t value)
{
	struct rlimit r = { .rlim_cur = value, .rlim_max = value };

	setrlimit((__rlimit_resource_t)resource, &r);
}

static void child_limits(const struct limited *l)
{
	limit(RLIMIT_CORE, 0);
	limit(RLIMIT_NOFILE, FILES_MAX + l->n_keep);
	if (l->cpu != 0)
		limit(RLIMIT_CPU, l->cpu / 1000000 + 1);
	if (l->memory != 0)
		limit(RLIMIT_AS, l->memory);
	if (l->file_size != 0)
		limit(RLIMIT_FSIZE, l->file_size);
}

static void child_signals(void)
{
	sigset_t none;

	for (int s = 1; s < 32; s++)
		signal(s, SIG_DFL);
	signal(SIGXFSZ, SIG_IGN); /* a write beyond the limit fails instead */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Raw calls: glibc's would look for threads that this process no longer has. */
static bool child_user(const struct limited *l)
{
	if (l->uid == LIMITED_KEEP_USER || geteuid() != 0)
		return true;
	return syscall(SYS_setgroups, 0, NULL) == 0 && syscall(SYS_setresgid, l->gid, l->gid, l->gid) == 0 &&
	       syscall(SYS_setresuid, l->uid, l->uid, l->uid) == 0;
}

static bool child_streams(const struct start *s)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, 0) != 0 || dup2(s->out, 1) != 1 || dup2(s->err, 2) != 2 ||
	    close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0)
		return false;
	for (size_t i = 0; i < s->l->n_keep; i++)
		if (fcntl(s->l->keep[i], F_SETFD, 0) < 0)
			return false;
	return true;
}

/* True while our parent still reads the report. */
static bool parent_lives(int report)
{
	struct pollfd p = { .fd = report };

	return poll(&p, 1, 0) >= 0 && !(p.revents & POLLERR);
}

static bool child_prepare(const struct start *s)
{
	child_signals();
	setsid();
	umask(077);
	if (!child_streams(s) || chdir(s->cwd) < 0)
		return false;
	child_limits(s->l);
	if (!child_user(s->l) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return false;
	if (s->ruleset >= 0 && syscall(SYS_landlock_restrict_self, s->ruleset, 0) < 0)
		return false;
	/* A change of user clears it, so it comes last. */
	return prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && parent_lives(s->report);
}

static _Noreturn void child(const struct start *s)
{
	/* One arena a thread would use up the address space. */
	static char *const env[] = { (char *)"PATH=/usr/bin:/bin", (char *)"LC_ALL=C.UTF-8",
				     (char *)"MALLOC_ARENA_MAX=2", NULL };
	int e;

	if (child_prepare(s))
		execve(s->program, (char *const *)(gpointer)s->argv, env);
	e = errno;
	(void)!write(s->report, &e, sizeof e);
	_exit(127);
}

/* The parent */

static int clone_child(uint64_t flags, int *ret_pidfd)
{
	struct clone_args a = { .flags = flags | CLONE_PIDFD, .exit_signal = SIGCHLD };

	a.pidfd = (uint64_t)(uintptr_t)ret_pidfd;
	return (int)syscall(SYS_clone3, &a, sizeof a);
}

/* Namespaces need rights that a container may lack; then without. Returns the pid, 0 in the child. */
static int fork_child(int *ret_pidfd)
{
	int pid = -1;

	if (geteuid() == 0)
		pid = clone_child(CLONE_NEWPID | CLONE_NEWNET, ret_pidfd);
	return pid >= 0 ? pid : clone_child(0, ret_pidfd);
}

static int wait_child(int pidfd, siginfo_t *ret)
{
	for (;;) {
		if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, ret, WEXITED) == 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

static void kill_child(int pidfd)
{
	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
}

struct run {
	const struct limited *l;
	int pidfd, out, err, report;
	uint64_t end;
	GString *text, *error;
};

static void drop_fd(int *fd)
{
	fd_closep(fd);
	*fd = -EBADF;
}

static void run_close(struct run *r)
{
	drop_fd(&r->pidfd);
	drop_fd(&r->out);
	drop_fd(&r->err);
	drop_fd(&r->report);
}

static void start_close(struct start *s)
{
	drop_fd(&s->out);
	drop_fd(&s->err);
	drop_fd(&s->report);
	drop_fd(&s->ruleset);
	g_clear_pointer(&s->program, g_free);
}

static void keep_error(struct run *r, const char *buf, size_t n)
{
	g_string_append_len(r->error, buf, (gssize)n);
	if (r->error->len > STDERR_KEPT)
		g_string_erase(r->error, 0, (gssize)(r->error->len - STDERR_KEPT));
}

static bool keep_output(struct run *r, const char *buf, size_t n, GError **err)
{
	if (r->l->on_output != NULL) {
		r->l->on_output(buf, n, r->l->data);
		return true;
	}
	if (n > r->l->output_max - MIN(r->text->len, r->l->output_max))
		return fail_advice(err, ERR_LIMIT, "The image is broken, or made to do harm.",
				   "%s printed more than %zu bytes", r->l->argv[0], r->l->output_max);
	g_string_append_len(r->text, buf, (gssize)n);
	return true;
}

/* What is there now, so much at a time. A stream that ended is closed and no longer polled. */
static bool read_stream(struct run *r, int *fd, GError **err)
{
	char buf[8192];

	for (int i = 0; i < 16 && *fd >= 0; i++) {
		ssize_t n = read(*fd, buf, sizeof buf);

		if (n < 0)
			return true;
		if (n == 0)
			drop_fd(fd);
		else if (fd == &r->err)
			keep_error(r, buf, (size_t)n);
		else if (!keep_output(r, buf, (size_t)n, err))
			return false;
	}
	return true;
}

static bool check_time(struct run *r, GError **err)
{
	if (!hooks_continue(r->l->hooks, err))
		return false;
	if (time_monotonic() > r->end)
		return fail_advice(
		    err, ERR_TIMEOUT, "Look at the load and the disks of the host, then try again.",
		    "%s did not finish in %" G_GUINT64_FORMAT " s", r->l->argv[0], r->l->deadline / 1000000);
	return true;
}

/* Until it has ended; false when it is to be killed. */
static bool follow(struct run *r, GError **err)
{
	for (;;) {
		struct pollfd p[] = { { .fd = r->pidfd, .events = POLLIN },
				      { .fd = r->out, .events = POLLIN },
				      { .fd = r->err, .events = POLLIN } };

		if (poll(p, G_N_ELEMENTS(p), TICK_MS) < 0 && errno != EINTR)
			return fail_errno(err, errno, "can't wait for %s", r->l->argv[0]);
		if (!read_stream(r, &r->out, err) || !read_stream(r, &r->err, err) || !check_time(r, err))
			return false;
		if (p[0].revents != 0)
			return true;
	}
}

static bool judge(const struct run *r, const siginfo_t *si, int *ret_status, GError **err)
{
	g_autofree char *words = g_utf8_make_valid(r->error->str, -1);

	if (si->si_code != CLD_EXITED)
		return fail_advice(err, ERR_LIMIT,
				   "The image is broken or made to do harm, or the host is short of memory.",
				   "%s was killed by signal %d%s%s", r->l->argv[0], si->si_status,
				   *words != '\0' ? ": " : "", g_strchomp(words));
	*ret_status = si->si_status;
	return true;
}

static bool check_started(const struct run *r, GError **err)
{
	int e = 0;

	if (read(r->report, &e, sizeof e) != sizeof e)
		return true;
	fail_errno(err, e, "can't run %s", r->l->argv[0]);
	return err_advise(err, "Install the package that has it (qemu-img is in qemu-utils).");
}

static bool supervise(struct run *r, int *ret_status, GError **err)
{
	siginfo_t si = { 0 };
	bool ok = check_started(r, err) && follow(r, err);
	int e;

	if (!ok)
		kill_child(r->pidfd);
	e = wait_child(r->pidfd, &si);
	if (e < 0)
		return fail_errno(err, -e, "lost %s", r->l->argv[0]);
	/* A pipe holds less than read_stream() takes at once: this is all that is left. */
	return ok && read_stream(r, &r->out, err) && read_stream(r, &r->err, err) &&
	       judge(r, &si, ret_status, err);
}

static bool pipe_make(int *ret_read, int *ret_write, int flags, GError **err)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return fail_errno(err, errno, "can't make a pipe");
	*ret_read = fd[0];
	*ret_write = fd[1];
	return fcntl(fd[0], F_SETFL, flags) == 0 || fail_errno(err, errno, "can't set up a pipe");
}

static char *find_program(const char *name, GError **err)
{
	static const char *const dirs[] = { "/usr/bin", "/bin", "/usr/local/bin" };

	if (g_path_is_absolute(name))
		return g_strdup(name);
	for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
		g_autofree char *path = g_build_filename(dirs[i], name, NULL);

		if (access(path, X_OK) == 0)
			return g_steal_pointer(&path);
	}
	fail_advice(err, ERR_NOT_FOUND, "Install the package that has it (qemu-img is in qemu-utils).",
		    "there is no program %s on this host", name);
	return NULL;
}

static bool prepare(const struct limited *l, struct run *r, struct start *s, GError **err)
{
	s->program = find_program(l->argv[0], err);
	if (s->program == NULL || !hooks_continue(l->hooks, err))
		return false;
	if (!pipe_make(&r->out, &s->out, O_NONBLOCK, err) || !pipe_make(&r->err, &s->err, O_NONBLOCK, err) ||
	    !pipe_make(&r->report, &s->report, 0, err))
		return false;
	s->ruleset = ruleset_make(l, s->program);
	return true;
}

static bool start_and_supervise(struct run *r, struct start *s, int *ret_status, GError **err)
{
	int pid = fork_child(&r->pidfd);

	if (pid == 0)
		child(s);
	if (pid < 0)
		return fail_errno(err, errno, "can't start %s", r->l->argv[0]);
	start_close(s); /* so that its end is the end of the streams */
	return supervise(r, ret_status, err);
}

bool limited_run(const struct limited *l, struct limited_result *ret, GError **err)
{
	struct start s = { .argv = l->argv,
			   .cwd = l->cwd != NULL ? l->cwd : "/",
			   .out = -EBADF,
			   .err = -EBADF,
			   .report = -EBADF,
			   .ruleset = -EBADF,
			   .l = l };
	struct run r = { .l = l,
			 .pidfd = -EBADF,
			 .out = -EBADF,
			 .err = -EBADF,
			 .report = -EBADF,
			 .end = time_monotonic() + l->deadline };
	bool ok;

	r.text = g_string_new(NULL);
	r.error = g_string_new(NULL);
	*ret = (struct limited_result){ .status = -1 };
	ok = prepare(l, &r, &s, err) && start_and_supervise(&r, &s, &ret->status, err);
	start_close(&s);
	run_close(&r);
	ret->out = g_string_free(r.text, FALSE);
	ret->err = g_string_free(r.error, FALSE);
	return ok;
}
