/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/fence.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/qemu_pid.h"
#include "engine/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define MAGIC UINT64_C(0x31636e66736d6c70)
/* The guard looks again at least so often: for a deadline that came earlier, and for the end of its work. */
#define LOOK_AGAIN UINT64_C(1000000)
#define AWAIT_PAUSE 10000
#define FILE_NAME "fence"

/* A pid of 0 is a free place. */
struct entry {
	uint64_t start; /* process_start_time(), written before the pid */
	int64_t pid;
};

/*
 * Written by the daemon; but the guard shuts it too, and takes that back if nobody else has touched `shut_at`
 * meanwhile. Who adds an entry looks at `shut_at` after that, who shuts looks at the entries after that: so
 * loads and stores keep their order between the two processes.
 */

struct table {
	uint64_t magic, until, shut_at;
	struct entry entry[FENCE_PLACES];
};

struct Fence {
	char *path, *user;
	struct table *table;
	GMutex lock; /* of writers */
};

static char *path_of(const char *run)
{
	return g_build_filename(run, FILE_NAME, NULL);
}

uint64_t fence_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t load(const uint64_t *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

static void save(uint64_t *p, uint64_t v)
{
	__atomic_store_n(p, v, __ATOMIC_SEQ_CST);
}

/* Unless somebody wrote there meanwhile. */
static bool replace(uint64_t *p, uint64_t was, uint64_t v)
{
	return __atomic_compare_exchange_n(p, &was, v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
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
	pid_t pid = (pid_t)__atomic_load_n(&e->pid, __ATOMIC_SEQ_CST);
	_cleanup_close_ int pidfd = pid > 0 ? pidfd_of(pid) : -EBADF;

	return pidfd >= 0 && is_same(pid, e->start) && pidfd_signal(pidfd, signo) == 0;
}

/* Returns how many there are. */
static unsigned send_all(struct table *t, int signo)
{
	unsigned n = 0;

	for (size_t i = 0; i < FENCE_PLACES; i++)
		n += send(&t->entry[i], signo);
	return n;
}

/* ---- the guard ---- */

/* Unless somebody shuts it in the same moment: true then, as for shut(). */
static bool let_go(struct table *t)
{
	send_all(t, SIGCONT);
	if (load(&t->shut_at) == 0)
		return false;
	send_all(t, SIGSTOP);
	return true;
}

/* True when they are stopped, and stay so. */
static bool shut(struct table *t)
{
	uint64_t at = fence_now();
	bool first = replace(&t->shut_at, 0, at);

	send_all(t, SIGSTOP);
	/* The daemon renewed it in the very moment: nobody has taken over. */
	if (!first || load(&t->until) <= fence_now() || !replace(&t->shut_at, at, 0))
		return true;
	return let_go(t);
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
		*held = let_go(t);
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
	f->path = path_of(run);
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

/* Where it is, or the first free place; NULL: there is none. A place is free again when its process is gone.
 */
static struct entry *place_of(struct table *t, pid_t pid, uint64_t start)
{
	struct entry *place = NULL;

	for (size_t i = 0; i < FENCE_PLACES; i++) {
		struct entry *e = &t->entry[i];

		if (e->pid == pid && e->start == start)
			return e;
		if (place == NULL && (e->pid == 0 || !is_same((pid_t)e->pid, e->start)))
			place = e;
	}
	return place;
}

static bool is_over(const struct table *t)
{
	uint64_t until = load(&t->until);

	return load(&t->shut_at) != 0 || (until != 0 && fence_now() >= until);
}

/* When the lease is renewed in the very moment, nobody else lets this one go: nothing was shut. */
static void stop_late(const struct table *t, const struct entry *e)
{
	send(e, SIGSTOP);
	if (is_over(t))
		return;
	send(e, SIGCONT);
	if (is_over(t))
		send(e, SIGSTOP);
}

bool fence_add(Fence *f, pid_t pid)
{
	struct entry *e;
	uint64_t start;

	if (!process_start_time(pid, &start, NULL))
		return true; /* it has ended */
	g_mutex_lock(&f->lock);
	e = place_of(f->table, pid, start);
	if (e != NULL) {
		__atomic_store_n(&e->pid, 0, __ATOMIC_SEQ_CST);
		e->start = start;
		__atomic_store_n(&e->pid, (int64_t)pid, __ATOMIC_SEQ_CST);
		if (is_over(f->table))
			stop_late(f->table, e);
	}
	g_mutex_unlock(&f->lock);
	return e != NULL;
}

void fence_set(Fence *f, uint64_t until)
{
	save(&f->table->until, until);
}

uint64_t fence_shut_at(const Fence *f)
{
	return load(&f->table->shut_at);
}

unsigned fence_hold(Fence *f)
{
	uint64_t before;
	unsigned n;

	if (load(&f->table->until) == 0)
		return 0;
	g_mutex_lock(&f->lock);
	before = load(&f->table->shut_at);
	/* Another value than a guard has seen, which so can't take this back. */
	save(&f->table->shut_at, before != 0 ? before + 1 : fence_now());
	n = send_all(f->table, SIGSTOP);
	if (n == 0)
		save(&f->table->shut_at, 0);
	g_mutex_unlock(&f->lock);
	return n;
}

static struct fence_ends release(struct table *t, bool (*may_go)(pid_t pid, void *data), void *data)
{
	struct fence_ends n = { 0 };

	for (size_t i = 0; i < FENCE_PLACES; i++) {
		const struct entry *e = &t->entry[i];

		if (e->pid == 0)
			continue;
		if (may_go((pid_t)e->pid, data))
			n.go_on += send(e, SIGCONT);
		else
			n.ended += send(e, SIGKILL);
	}
	save(&t->shut_at, 0);
	return n;
}

struct fence_ends fence_release(Fence *f, bool (*may_go)(pid_t pid, void *data), void *data)
{
	struct fence_ends n;

	g_mutex_lock(&f->lock);
	n = release(f->table, may_go, data);
	g_mutex_unlock(&f->lock);
	return n;
}

/* ---- all of them ---- */

/* NULL: there is none. */
static struct table *open_there(const char *path, int *ret_fd)
{
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct table *t = fd >= 0 ? map(fd) : NULL;

	if (t != NULL && load(&t->magic) != MAGIC) {
		munmap(t, sizeof *t);
		return NULL;
	}
	*ret_fd = t != NULL ? g_steal_fd(&fd) : -EBADF;
	return t;
}

/* A guard that is about to stop them does so before it sees that there is no lease to watch, and ends. */
static void await_guard(int fd)
{
	uint64_t until = fence_now() + 3 * LOOK_AGAIN;

	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (fence_now() > until) {
			log_warning("the guard of this host's guests does not end");
			return;
		}
		g_usleep(AWAIT_PAUSE);
	}
}

void fence_drop(const char *run, bool (*may_go)(pid_t pid, void *data), void *data)
{
	g_autofree char *path = path_of(run);
	_cleanup_close_ int fd = -EBADF;
	struct table *t = open_there(path, &fd);
	struct fence_ends n;

	if (t == NULL)
		return;
	save(&t->until, 0);
	await_guard(fd);
	n = release(t, may_go, data);
	if (n.ended > 0)
		log_warning("%u QEMUs of vms that stay in the pool are ended", n.ended);
	munmap(t, sizeof *t);
	unlink(path);
}

static void kill_of_file(const char *path)
{
	_cleanup_close_ int fd = -EBADF;
	struct table *t = open_there(path, &fd);
	unsigned n;

	if (t == NULL)
		return;
	n = send_all(t, SIGKILL);
	if (n > 0)
		log_warning("%u QEMUs of this host are ended", n);
	munmap(t, sizeof *t);
}

/* One that came into no file: its daemon died just then. */
static void kill_of_folder(const char *run, const char *vm_id)
{
	pid_t pid = qemu_pid_of(run, vm_id);
	_cleanup_close_ int pidfd = pid > 0 ? pidfd_of(pid) : -EBADF;

	/* It is looked at again now that the number can't change its owner unseen. */
	if (pidfd >= 0 && qemu_pid_is(pid, vm_id) && pidfd_signal(pidfd, SIGKILL) == 0)
		log_warning("QEMU %d of vm %s is ended", (int)pid, vm_id);
}

void fence_kill_all(const char *run)
{
	g_autofree char *vms = g_build_filename(run, "vms", NULL), *fence = path_of(run);
	GDir *d = g_dir_open(vms, 0, NULL);
	const char *name;

	kill_of_file(fence);
	while (d != NULL && (name = g_dir_read_name(d)) != NULL)
		kill_of_folder(run, name);
	if (d != NULL)
		g_dir_close(d);
	unlink(fence);
}
