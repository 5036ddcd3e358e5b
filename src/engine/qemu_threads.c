/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qemu_threads.h"
#include "base/fd.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#define NS_PER_US 1000

static void thread_clear(gpointer p)
{
	struct wake_thread *t = p;

	g_free(t->name);
}

static GArray *threads_new(void)
{
	GArray *a = g_array_new(FALSE, TRUE, sizeof(struct wake_thread));

	g_array_set_clear_func(a, thread_clear);
	return a;
}

/* The beginning of a file of a thread, with a NUL behind it. Bytes, or -1. */
static ssize_t thread_file(pid_t pid, int tid, const char *name, char *buf, size_t size)
{
	char path[64];
	_cleanup_close_ int fd = -EBADF;
	ssize_t n;

	g_snprintf(path, sizeof path, "/proc/%d/task/%d/%s", (int)pid, tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, size - 1);
	if (n >= 0)
		buf[n] = '\0';
	return n;
}

/* "RAN_NS WAITED_NS TIMES" */
bool qemu_thread_times(pid_t pid, int tid, struct thread_times *ret)
{
	char buf[128], *end;

	if (thread_file(pid, tid, "schedstat", buf, sizeof buf) <= 0)
		return false;
	ret->cpu = g_ascii_strtoull(buf, &end, 10) / NS_PER_US;
	ret->wait = g_ascii_strtoull(end, &end, 10) / NS_PER_US;
	ret->runs = g_ascii_strtoull(end, NULL, 10);
	return true;
}

static bool voluntary_switches(pid_t pid, int tid, uint64_t *ret)
{
	static const char mark[] = "\nvoluntary_ctxt_switches:";
	char buf[4096];
	const char *at;

	if (thread_file(pid, tid, "status", buf, sizeof buf) <= 0)
		return false;
	at = strstr(buf, mark);
	if (at == NULL)
		return false;
	*ret = g_ascii_strtoull(at + strlen(mark), NULL, 10);
	return true;
}

/* False when it ended while we looked, or the kernel does not count. */
static bool read_thread(pid_t pid, int tid, struct wake_thread *t)
{
	char name[64];
	struct thread_times times;

	if (!voluntary_switches(pid, tid, &t->wakeups) || !qemu_thread_times(pid, tid, &times))
		return false;
	t->cpu = times.cpu;
	if (thread_file(pid, tid, "comm", name, sizeof name) < 0)
		return false;
	t->tid = tid;
	t->name = tid == pid ? g_strdup("main") : g_utf8_make_valid(g_strchomp(name), -1);
	return true;
}

GArray *qemu_threads_read(pid_t pid, GError **err)
{
	g_autofree char *path = g_strdup_printf("/proc/%d/task", (int)pid);
	g_autoptr(GArray) all = threads_new();
	DIR *dir = opendir(path);
	const struct dirent *d;
	uint64_t tid;

	if (dir == NULL) {
		fail(err, ERR_GONE, "the process %d is no more", (int)pid);
		return NULL;
	}
	while ((d = readdir(dir)) != NULL && all->len < QEMU_THREADS_MAX) {
		struct wake_thread t;

		if (parse_uint(d->d_name, 1, INT32_MAX, &tid, NULL) && read_thread(pid, (int)tid, &t))
			g_array_append_val(all, t);
	}
	closedir(dir);
	if (all->len == 0) {
		fail(err, ERR_UNSUPPORTED, "this kernel tells no switches or times of threads");
		return NULL;
	}
	return g_steal_pointer(&all);
}

static const struct wake_thread *thread_find(const GArray *all, int tid)
{
	for (guint i = 0; i < all->len; i++)
		if (g_array_index(all, struct wake_thread, i).tid == tid)
			return &g_array_index(all, struct wake_thread, i);
	return NULL;
}

static uint64_t risen(uint64_t from, uint64_t to)
{
	return to > from ? to - from : 0;
}

GArray *qemu_threads_between(const GArray *before, const GArray *after)
{
	GArray *all = threads_new();

	for (guint i = 0; i < after->len; i++) {
		const struct wake_thread *now = &g_array_index(after, struct wake_thread, i),
					 *then = thread_find(before, now->tid);
		struct wake_thread t = *now;

		t.name = g_strdup(now->name);
		if (then != NULL) {
			t.wakeups = risen(then->wakeups, now->wakeups);
			t.cpu = risen(then->cpu, now->cpu);
		}
		g_array_append_val(all, t);
	}
	return all;
}
