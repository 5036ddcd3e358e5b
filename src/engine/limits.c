/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/limits.h"
#include "base/fd.h"
#include "base/log.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define TEXT_MAX 65536
#define AIO_WANTED UINT64_C(1048576)

static bool read_number(const char *path, uint64_t *ret)
{
	g_autofree char *text = file_read_virtual(path, 64, NULL, NULL);

	return text != NULL && sscanf(text, "%" SCNu64, ret) == 1;
}

/* ---- raising ---- */

/* As far as may be: first above the hard limit, which takes root, then up to it. */
static void raise_rlimit(int what, const char *name, rlim_t want)
{
	struct rlimit now;

	if (getrlimit(what, &now) < 0 || now.rlim_cur >= want)
		return;
	if (setrlimit(what, &(struct rlimit){ want, MAX(want, now.rlim_max) }) == 0)
		return;
	if (setrlimit(what, &(struct rlimit){ MIN(want, now.rlim_max), now.rlim_max }) < 0)
		log_warning("the limit on %s stays at %" PRIu64, name, (uint64_t)now.rlim_cur);
}

/* A host that has no more than its default runs out of it with some 60 guests. */
static void raise_aio(void)
{
	static const char path[] = "/proc/sys/fs/aio-max-nr";
	g_autofree char *text = g_strdup_printf("%" PRIu64 "\n", AIO_WANTED);
	_cleanup_close_ int fd = -EBADF;
	uint64_t now;

	if (!read_number(path, &now) || now >= AIO_WANTED)
		return;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text))
		log_info("fs.aio-max-nr was %" PRIu64 " and is %" PRIu64
			 " now: each guest with disks takes 1024",
			 now, AIO_WANTED);
	else
		log_warning("fs.aio-max-nr stays at %" PRIu64 ": that is enough for %" PRIu64
			    " guests with disks",
			    now, now / 1024);
}

void limits_raise(bool for_guests)
{
	uint64_t files = 0;

	if (!read_number("/proc/sys/fs/nr_open", &files))
		files = 65536;
	raise_rlimit(RLIMIT_NOFILE, "open files", (rlim_t)files);
	/* Those of the user that QEMU runs as are counted against what it inherits from us. */
	raise_rlimit(RLIMIT_NPROC, "processes", RLIM_INFINITY);
	if (for_guests)
		raise_aio();
}

/* ---- looking ---- */

/* Newer kernels tell it as the size of the folder; else the entries are counted. */
static uint64_t files_in_use(void)
{
	uint64_t n = 0;
	struct stat st;
	DIR *dir;

	if (stat("/proc/self/fd", &st) == 0 && st.st_size > 0)
		return (uint64_t)st.st_size;
	dir = opendir("/proc/self/fd");
	if (dir == NULL)
		return UINT64_MAX / 2; /* not one more can be opened */
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n - MIN(n, 3); /* ".", ".." and the folder itself */
}

static void look_at_files(struct limit_seen *own, struct limit_seen *system)
{
	g_autofree char *text = file_read_virtual("/proc/sys/fs/file-nr", 128, NULL, NULL);
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur != RLIM_INFINITY)
		*own = (struct limit_seen){ files_in_use(), lim.rlim_cur };
	if (text == NULL || sscanf(text, "%" SCNu64 " %*u %" SCNu64, &system->used, &system->max) != 2)
		*system = (struct limit_seen){ 0 };
}

static void look_at_tasks(struct limit_seen *s)
{
	g_autofree char *text = file_read_virtual("/proc/loadavg", 128, NULL, NULL);
	uint64_t pids = 0, threads = 0;

	if (text == NULL || sscanf(text, "%*s %*s %*s %*u/%" SCNu64, &s->used) != 1 ||
	    !read_number("/proc/sys/kernel/pid_max", &pids) ||
	    !read_number("/proc/sys/kernel/threads-max", &threads))
		*s = (struct limit_seen){ 0 };
	else
		s->max = MIN(pids, threads);
}

/* ---- control groups ---- */

/*
 * Our group in the hierarchy of one controller, of version 2 ("0::/path") or 1
 * ("8:pids:/path"). NULL: none. Caller frees.
 */
static char *group_path(const char *text, const char *controller)
{
	g_auto(GStrv) line = g_strsplit(text, "\n", 64);
	char *found = NULL;

	for (size_t i = 0; line[i] != NULL; i++) {
		g_auto(GStrv) part = g_strsplit(line[i], ":", 3);
		g_auto(GStrv) names = g_strv_length(part) == 3 ? g_strsplit(part[1], ",", -1) : NULL;

		if (names == NULL)
			continue;
		if (g_strv_contains((const char *const *)names, controller)) {
			g_free(found);
			return g_strdup_printf("/sys/fs/cgroup/%s%s", controller, part[2]);
		}
		if (part[1][0] == '\0' && found == NULL)
			found = g_strdup_printf("/sys/fs/cgroup%s", part[2]);
	}
	return found;
}

typedef bool (*GroupFunc)(const char *dir, void *data);

/* The group and all above it, since each may have its bound; until one says that it has seen enough. */
static void each_group(const char *controller, GroupFunc func, void *data)
{
	g_autofree char *text = file_read_virtual("/proc/self/cgroup", TEXT_MAX, NULL, NULL);
	g_autofree char *dir = text != NULL ? group_path(text, controller) : NULL;

	while (dir != NULL && strlen(dir) > strlen("/sys/fs/cgroup") && func(dir, data))
		*strrchr(dir, '/') = '\0';
}

static bool group_number(const char *dir, const char *file, uint64_t *ret)
{
	g_autofree char *path = g_build_filename(dir, file, NULL);

	return read_number(path, ret); /* "max" is no number */
}

/* The one with the least room. */
static bool look_at_group_tasks(const char *dir, void *data)
{
	struct limit_seen *s = data, is = { 0 };

	if (group_number(dir, "pids.max", &is.max) && group_number(dir, "pids.current", &is.used) &&
	    (s->max == 0 || is.max - MIN(is.max, is.used) < s->max - MIN(s->max, s->used)))
		*s = is;
	return true;
}

static bool look_at_group_memory(const char *dir, void *data)
{
	uint64_t *bound = data, max;

	if (group_number(dir, "memory.max", &max) || group_number(dir, "memory.limit_in_bytes", &max))
		*bound = MIN(*bound, max);
	return true;
}

uint64_t host_memory_bound(void)
{
	uint64_t bound = UINT64_MAX;

	each_group("memory", look_at_group_memory, &bound);
	return bound;
}

uint64_t host_memory_available(void)
{
	g_autofree char *text = file_read_virtual("/proc/meminfo", TEXT_MAX, NULL, NULL);
	const char *at = text != NULL ? strstr(text, "MemAvailable:") : NULL;
	uint64_t kib;

	return at != NULL && sscanf(at, "MemAvailable: %" SCNu64, &kib) == 1 ? kib * 1024 : 0;
}

struct limits_seen limits_look(unsigned guests)
{
	struct limits_seen s = { 0 };

	look_at_files(&s.limit[LIMIT_FILES], &s.limit[LIMIT_SYSTEM_FILES]);
	look_at_tasks(&s.limit[LIMIT_TASKS]);
	each_group("pids", look_at_group_tasks, &s.limit[LIMIT_GROUP_TASKS]);
	if (read_number("/proc/sys/fs/inotify/max_user_watches", &s.limit[LIMIT_WATCHES].max))
		s.limit[LIMIT_WATCHES].used = guests;
	if (!read_number("/proc/sys/fs/aio-max-nr", &s.limit[LIMIT_AIO].max) ||
	    !read_number("/proc/sys/fs/aio-nr", &s.limit[LIMIT_AIO].used))
		s.limit[LIMIT_AIO] = (struct limit_seen){ 0 };
	return s;
}
