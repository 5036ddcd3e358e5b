/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/fence.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define MAGIC UINT64_C(0x31636e66736d6c70)
#define ENTRIES 4096
/* The guard looks again at least so often: for a deadline that came earlier, and for the end of its work. */
#define LOOK_AGAIN UINT64_C(1000000)
#define PID_TEXT_MAX 32
#define FILE_NAME "fence"

/* Written by the daemon, but for `shut_at`, which the guard sets. A pid of 0 is a free place. */
struct entry {
	uint64_t start; /* process_start_time(), written before the pid */
	int64_t pid;
};

struct table {
	uint64_t magic, until, shut_at;
	struct entry entry[ENTRIES];
};

struct Fence {
	char *path, *user;
	struct table *table;
	GMutex lock; /* of writers */
};

uint64_t fence_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void save(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* ---- processes ---- */

/* Is it still that process? */
static bool is_same(pid_t pid, uint64_t start)
{
	uint64_t now;

	return process_start_time(pid, &now, NULL) && now == start;
}

static bool send(const struct entry *e, int signo)
{
	pid_t pid = (pid_t)__atomic_load_n(&e->pid, __ATOMIC_ACQUIRE);
	_cleanup_close_ int pidfd = pid > 0 ? pidfd_of(pid) : -EBADF;

	return pidfd >= 0 && is_same(pid, e->start) && pidfd_signal(pidfd, signo) == 0;
}

static void send_all(struct table *t, int signo)
{
	for (size_t i = 0; i < ENTRIES; i++)
		send(&t->entry[i], signo);
}

/* ---- the guard ---- */

/* True when they are stopped, and stay so. */
static bool shut(struct table *t)
{
	save(&t->shut_at, fence_now());
	send_all(t, SIGSTOP);
	/* The daemon renewed it in the very moment: nobody has taken over. */
	if (load(&t->until) <= fence_now())
		return true;
	send_all(t, SIGCONT);
	save(&t->shut_at, 0);
	return false;
}

/*
 * One look at the time. `*held`: processes were stopped. A stop may come just
 * behind the daemon's release, from a look before it: so, when that is over,
 * they are told to go on once more; those that may not are dead by then.
 */
static void look(struct table *t, uint64_t until, bool *held)
{
	bool is_shut = load(&t->shut_at) != 0, is_over = fence_now() >= until;

	if (is_over && !is_shut) {
		*held = shut(t) || *held;
	} else if (is_over) {
		/* QEMUs that came since are stopped too. */
		send_all(t, SIGSTOP);
		*held = true;
	} else if (*held && !is_shut) {
		send_all(t, SIGCONT);
		*held = false;
	}
}

static void watch(struct table *t, int fd)
{
	bool held = load(&t->shut_at) != 0;
	struct stat st;

	for (;;) {
		uint64_t until = load(&t->until), now = fence_now();

		if (until == 0 || fstat(fd, &st) < 0 || st.st_nlink == 0)
			return;
		look(t, until, &held);
		g_usleep(until > now ? MIN(until - now, LOOK_AGAIN) : LOOK_AGAIN);
	}
}

static struct table *map(int fd)
{
	struct stat st;
	struct table *t;

	if (fstat(fd, &st) < 0 || st.st_size < (off_t)sizeof *t)
		return NULL;
	t = mmap(NULL, sizeof *t, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return t != MAP_FAILED ? t : NULL;
}

int fence_guard(int fd)
{
	struct table *t = map(fd);

	if (t == NULL || load(&t->magic) != MAGIC)
		return 1;
	/* It must not wait for memory when the host is in trouble. */
	mlockall(MCL_CURRENT);
	watch(t, fd);
	return 0;
}

/* ---- the daemon's side ---- */

static bool open_table(Fence *f, GError **err)
{
	_cleanup_close_ int fd = open(f->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0 || ftruncate(fd, sizeof(struct table)) < 0)
		return fail_errno(err, errno, "can't make '%s'", f->path);
	f->table = map(fd);
	if (f->table == NULL)
		return fail_errno(err, errno, "can't map '%s'", f->path);
	save(&f->table->magic, MAGIC);
	return true;
}

/* The lock belongs to the open file, which the guard inherits: it holds as long as the guard lives. */
static bool start_guard(const Fence *f, int fd, GError **err)
{
	static const char *const groups[] = { NULL };
	g_autofree char *number = g_strdup_printf("%d", fd);
	const char *const argv[] = { "/proc/self/exe", "--guard", number, NULL };
	_cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC), pidfd = -EBADF;
	SpawnUser user;
	struct spawn s = { .argv = argv, .keep = &fd, .n_keep = 1, .output = null, .max_files = 64 };
	pid_t pid;

	if (f->user != NULL && spawn_user_find(f->user, groups, &user))
		s.user = &user;
	return spawn_process(&s, &pid, &pidfd, err);
}

bool fence_check_guard(Fence *f, GError **err)
{
	_cleanup_close_ int fd = open(f->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return fail_errno(err, errno, "can't open '%s'", f->path);
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK || fail_errno(err, errno, "can't lock '%s'", f->path);
	return load(&f->table->until) == 0 || start_guard(f, fd, err);
}

Fence *fence_open(const char *run, const char *user, GError **err)
{
	Fence *f = g_new0(Fence, 1);

	g_mutex_init(&f->lock);
	f->path = g_build_filename(run, FILE_NAME, NULL);
	f->user = g_strdup(user);
	return open_table(f, err) ? f : fence_close(f);
}

Fence *fence_close(Fence *f)
{
	if (f != NULL) {
		if (f->table != NULL)
			munmap(f->table, sizeof *f->table);
		g_mutex_clear(&f->lock);
		g_free(f->path);
		g_free(f->user);
		g_free(f);
	}
	return NULL;
}

void fence_add(Fence *f, pid_t pid)
{
	uint64_t start;

	if (!process_start_time(pid, &start, NULL))
		return;
	g_mutex_lock(&f->lock);
	for (size_t i = 0; i < ENTRIES; i++) {
		struct entry *e = &f->table->entry[i];

		/* A place is free again when its process is gone. */
		if (e->pid != 0 && is_same((pid_t)e->pid, e->start))
			continue;
		__atomic_store_n(&e->pid, 0, __ATOMIC_RELEASE);
		e->start = start;
		__atomic_store_n(&e->pid, (int64_t)pid, __ATOMIC_RELEASE);
		break;
	}
	g_mutex_unlock(&f->lock);
}

void fence_set(Fence *f, uint64_t until)
{
	uint64_t now = time_monotonic();

	if (until != 0)
		until = fence_now() + (until > now ? until - now : 0);
	save(&f->table->until, until);
}

uint64_t fence_shut_at(const Fence *f)
{
	return load(&f->table->shut_at);
}

unsigned fence_release(Fence *f, bool (*may_go)(pid_t pid, void *data), void *data)
{
	unsigned n = 0;

	for (size_t i = 0; i < ENTRIES; i++) {
		const struct entry *e = &f->table->entry[i];

		if (e->pid != 0)
			n += may_go((pid_t)e->pid, data) ? send(e, SIGCONT) : !send(e, SIGKILL) && false;
	}
	save(&f->table->shut_at, 0);
	return n;
}

/* ---- all of them ---- */

static pid_t pid_in(const char *dir)
{
	g_autofree char *path = g_build_filename(dir, "qemu.pid", NULL);
	g_autofree char *text = file_read(path, PID_TEXT_MAX, NULL, NULL);
	uint64_t pid;

	return text != NULL && parse_uint(g_strstrip(text), 2, INT32_MAX, &pid, NULL) ? (pid_t)pid : 0;
}

/* A process id may have gone to another since: QEMU's arguments name its folder. */
static bool names_folder(pid_t pid, const char *dir)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int)pid);
	gsize len = 0;
	g_autofree char *line = file_read_virtual(path, 1 << 20, &len, NULL);

	return line != NULL && memmem(line, len, dir, strlen(dir)) != NULL;
}

void fence_kill_all(const char *run)
{
	g_autofree char *vms = g_build_filename(run, "vms", NULL),
			*fence = g_build_filename(run, FILE_NAME, NULL);
	GDir *d = g_dir_open(vms, 0, NULL);
	const char *name;

	while (d != NULL && (name = g_dir_read_name(d)) != NULL) {
		g_autofree char *dir = g_build_filename(vms, name, NULL);
		pid_t pid = pid_in(dir);
		_cleanup_close_ int pidfd = pid > 0 ? pidfd_of(pid) : -EBADF;

		if (pidfd < 0 || !names_folder(pid, dir))
			continue;
		log_warning("QEMU %d of vm %s is ended", (int)pid, name);
		pidfd_signal(pidfd, SIGKILL);
	}
	if (d != NULL)
		g_dir_close(d);
	unlink(fence);
}
