/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/spawn.h"
#include "base/fd.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What the child was doing when it failed; it tells us over a pipe that its execve() closes. */
// clang-format off
#define STAGE_TABLE(X)                                \
	X(SIGNALS,      "reset its signals")          \
	X(SESSION,      "lead a session")             \
	X(FILES,        "arrange its descriptors")    \
	X(LIMITS,       "set its limits")             \
	X(USER,         "change its user")            \
	X(CAPABILITIES, "drop its capabilities")      \
	X(PID_FILE,     "write its process id")       \
	X(EXEC,         "run the program")
// clang-format on

typedef enum Stage {
#define X(name, text) STAGE_##name,
	STAGE_TABLE(X)
#undef X
	    _STAGE_MAX,
} Stage;

static const char *const stage_texts[_STAGE_MAX] = {
#define X(name, text) [STAGE_##name] = text,
	STAGE_TABLE(X)
#undef X
};

struct failure {
	Stage stage;
	int errnum;
};

/* All that the child needs, made before it exists: it can't allocate. */
struct child {
	const struct spawn *s;
	char *const *envp;
	pid_t parent;
	int null_fd, pid_fd, tell_fd;
	struct rlimit files, files_allowed; /* as wanted; as anybody may */
};

bool spawn_user_find(const char *name, const char *const *groups, SpawnUser *ret)
{
	const struct passwd *pw = getpwnam(name);

	if (pw == NULL)
		return false;
	*ret = (SpawnUser){ .uid = pw->pw_uid, .gid = pw->pw_gid };
	for (; groups != NULL && *groups != NULL && ret->n_group < SPAWN_GROUPS_MAX; groups++) {
		const struct group *gr = getgrnam(*groups);

		if (gr != NULL)
			ret->group[ret->n_group++] = gr->gr_gid;
	}
	return true;
}

/*
 * In the child, in the order it runs. Functions of libc that do more than
 * their system call (setresuid() signals all threads, which are not ours) are
 * avoided.
 */

static bool child_signals(void)
{
	const struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;

	/* All are blocked here: no handler of ours may run on shared memory. */
	for (int i = 1; i < _NSIG; i++)
		if (sigaction(i, &dfl, NULL) < 0 && errno != EINVAL)
			return false;
	sigemptyset(&none);
	return syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, _NSIG / 8) == 0;
}

static bool child_session(void)
{
	syscall(SYS_umask, 0077);
	return setsid() >= 0 && syscall(SYS_chdir, "/") == 0;
}

static bool child_files(const struct child *c)
{
	const struct spawn *s = c->s;

	if (dup2(c->null_fd, STDIN_FILENO) < 0 || dup2(s->output, STDOUT_FILENO) < 0 ||
	    dup2(s->output, STDERR_FILENO) < 0)
		return false;
	/* Also what some library opened without O_CLOEXEC. */
	if (syscall(SYS_close_range, 3U, ~0U, 1U << 2 /* CLOSE_RANGE_CLOEXEC */) < 0)
		return false;
	for (size_t i = 0; i < s->n_keep; i++)
		if (syscall(SYS_fcntl, s->keep[i], F_SETFD, 0) < 0)
			return false;
	return true;
}

static bool child_limits(const struct child *c)
{
	static const struct rlimit none = { 0 };

	return syscall(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL) == 0 &&
	       (syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &c->files, NULL) == 0 ||
		syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &c->files_allowed, NULL) == 0);
}

static bool child_user(const SpawnUser *u)
{
	/* The bounding set first: it takes a capability to empty it. Without that one it is of no use anyway.
	 */
	for (unsigned long cap = 0; syscall(SYS_prctl, PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
		continue;
	if (u == NULL)
		return true;
	return syscall(SYS_setgroups, u->n_group, u->group) == 0 &&
	       syscall(SYS_setresgid, u->gid, u->gid, u->gid) == 0 &&
	       syscall(SYS_setresuid, u->uid, u->uid, u->uid) == 0;
}

static bool child_capabilities(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[2] = { 0 };

	return syscall(SYS_capset, &head, none) == 0 &&
	       syscall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* After the user: the kernel takes it back when that changes (prctl(2)). */
static bool child_end(const struct child *c)
{
	return !c->s->ends_with_us || (syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 &&
				       syscall(SYS_getppid) == c->parent);
}

static bool child_pid_file(int fd)
{
	char text[24], *at = text + sizeof text;
	long pid = syscall(SYS_getpid);
	size_t len;

	if (fd < 0)
		return true;
	*--at = '\n';
	for (; pid > 0; pid /= 10)
		*--at = (char)('0' + pid % 10);
	len = (size_t)(text + sizeof text - at);
	return syscall(SYS_write, fd, at, len) == (long)len;
}

static bool child_prepare(const struct child *c, Stage *stage)
{
	return (*stage = STAGE_SESSION, child_session()) && (*stage = STAGE_FILES, child_files(c)) &&
	       (*stage = STAGE_LIMITS, child_limits(c)) && (*stage = STAGE_USER, child_user(c->s->user)) &&
	       (*stage = STAGE_CAPABILITIES, child_capabilities() && child_end(c)) &&
	       (*stage = STAGE_PID_FILE, child_pid_file(c->pid_fd)) &&
	       (*stage = STAGE_SIGNALS, child_signals());
}

G_NORETURN static void child_run(const struct child *c)
{
	struct failure f = { 0 };
	ssize_t unused;

	if (child_prepare(c, &f.stage)) {
		f.stage = STAGE_EXEC;
		syscall(SYS_execve, c->s->argv[0], c->s->argv, c->envp);
	}
	f.errnum = errno;
	unused = syscall(SYS_write, c->tell_fd, &f, sizeof f);
	(void)unused;
	_exit(127);
}

/*
 * In the parent
 */

/* Its frame must survive the child, which returns into it first: nothing else happens here. */
static pid_t child_make(const struct child *c)
{
	pid_t pid = vfork();

	if (pid == 0)
		child_run(c);
	return pid;
}

static bool read_failure(int fd, struct failure *ret)
{
	ssize_t n;

	do
		n = read(fd, ret, sizeof *ret);
	while (n < 0 && errno == EINTR);
	return n == sizeof *ret && ret->stage < _STAGE_MAX;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
}

static bool child_start(struct child *c, pid_t *ret_pid, int *ret_pidfd, GError **err)
{
	_cleanup_close_ int told = -EBADF, tell = -EBADF;
	struct failure f;
	sigset_t all, before;
	int fds[2], errnum;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return fail_errno(err, errno, "can't make a pipe");
	told = fds[0];
	c->tell_fd = tell = fds[1];
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pid = child_make(c);
	errnum = errno;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (pid < 0 && errnum == EAGAIN)
		return fail_advice(err, ERR_LIMIT,
				   "`plim host limits` shows which limit is in the way, and how to raise it.",
				   "can't make a process: a limit on processes or threads is reached");
	if (pid < 0)
		return fail_errno(err, errnum, "can't make a process");
	close(fd_take(&tell));
	if (read_failure(told, &f)) {
		reap(pid);
		return fail_errno(err, f.errnum, "'%s': the process can't %s", c->s->argv[0],
				  stage_texts[f.stage]);
	}
	*ret_pidfd = pidfd_of(pid);
	if (*ret_pidfd < 0) {
		errnum = -*ret_pidfd;
		kill(pid, SIGKILL); /* not reaped, so still ours */
		reap(pid);
		return fail_errno(err, errnum, "can't watch process %d", (int)pid);
	}
	*ret_pid = pid;
	return true;
}

static void set_files_limits(struct child *c, uint64_t want)
{
	struct rlimit now = { 0 };

	getrlimit(RLIMIT_NOFILE, &now);
	c->files = (struct rlimit){ .rlim_cur = want, .rlim_max = want };
	want = MIN(want, now.rlim_max);
	c->files_allowed = (struct rlimit){ .rlim_cur = want, .rlim_max = want };
}

/*
 * vfork() returns when the child has let go of our memory, a moment before the
 * kernel has put its arguments in place. Until then /proc shows none, as it
 * does for a process that ended, and who tells processes by their arguments
 * would not know this one.
 */
static void wait_for_arguments(pid_t pid, int pidfd)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	for (int i = 0; i < 10000 && poll(&p, 1, 0) == 0; i++) {
		_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
		char c;

		if (fd < 0 || read(fd, &c, 1) != 0)
			return;
		g_usleep(100);
	}
}

bool spawn_process(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, GError **err)
{
	static const char *const plain[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", NULL };
	_cleanup_close_ int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC), pid_fd = -EBADF;
	struct child c = {
		.s = s,
		.parent = getpid(),
		.envp = (char *const *)(s->envp != NULL ? s->envp : plain),
	};

	if (null_fd < 0)
		return fail_errno(err, errno, "can't open /dev/null");
	for (size_t i = 0; i < s->n_keep; i++)
		g_assert(s->keep[i] > STDERR_FILENO);
	if (null_fd <= STDERR_FILENO || s->output <= STDERR_FILENO)
		return fail(err, ERR_INTERNAL, "the standard descriptors of this process are closed");
	if (s->pid_path != NULL) {
		pid_fd = open(s->pid_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (pid_fd < 0)
			return fail_errno(err, errno, "can't make '%s'", s->pid_path);
	}
	set_files_limits(&c, s->max_files);
	c.null_fd = null_fd;
	c.pid_fd = pid_fd;
	if (!child_start(&c, ret_pid, ret_pidfd, err))
		return false;
	wait_for_arguments(*ret_pid, *ret_pidfd);
	return true;
}

bool process_ended(int pidfd, struct process_end *ret)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	siginfo_t si = { 0 };

	if (poll(&p, 1, 0) <= 0 || (p.revents & POLLIN) == 0)
		return false;
	*ret = (struct process_end){ 0 };
	if (waitid(P_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG) < 0 || si.si_pid == 0)
		return true;
	ret->known = true;
	if (si.si_code == CLD_EXITED)
		ret->code = si.si_status;
	else
		ret->signal = si.si_status;
	return true;
}

bool process_start_time(pid_t pid, uint64_t *ret, GError **err)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int)pid);
	g_autofree char *stat = file_read_virtual(path, 4096, NULL, NULL);
	/* The name, field 2, is in parentheses and may hold any of them and blanks itself. */
	const char *at = stat != NULL ? strrchr(stat, ')') : NULL;
	unsigned long long start;

	if (at == NULL)
		return fail(err, ERR_GONE, "there is no process %d", (int)pid);
	/* 3 state, ..., 22 start time */
	if (sscanf(at + 1,
		   " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &start) != 1)
		return fail(err, ERR_INTERNAL, "'%s' can't be understood", path);
	*ret = start;
	return true;
}

int pidfd_signal(int pidfd, int signo)
{
	return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

int pidfd_of(pid_t pid)
{
	long fd = syscall(SYS_pidfd_open, pid, 0);

	return fd < 0 ? -errno : (int)fd;
}
