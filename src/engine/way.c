/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/way.h"
#include "base/fd.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

/* As many links as the kernel follows. */
#define LINKS_MAX 40

struct walk {
	Way *way;
	GQueue rest; /* names that are left, to be freed */
	unsigned links;
};

static void part_clear(gpointer p)
{
	g_free(((struct way_part *)p)->path);
}

void way_clear(Way *w)
{
	g_clear_pointer(&w->path, g_free);
	g_clear_pointer(&w->part, g_array_unref);
	fd_closep(&w->fd);
	w->fd = -EBADF;
}

static bool fail_way(const char *path, int error, GError **err)
{
	fail_errno(err, error, "can't find '%s'", path);
	return err_advise(err, "Check the path of the disk, and that what it lies on is mounted.");
}

/* In front of what is left. */
static void push_names(struct walk *k, const char *path)
{
	g_auto(GStrv) names = g_strsplit(path, "/", -1);

	for (guint i = g_strv_length(names); i > 0; i--)
		if (names[i - 1][0] != '\0' && !g_str_equal(names[i - 1], "."))
			g_queue_push_head(&k->rest, g_strdup(names[i - 1]));
}

static void note_part(struct walk *k, const char *path, const struct stat *st)
{
	struct way_part p = { .path = g_strdup(path),
			      .owner = st->st_uid,
			      .is_link = S_ISLNK(st->st_mode),
			      .is_open = S_ISDIR(st->st_mode) && (st->st_mode & (S_IWGRP | S_IWOTH)) != 0 };

	g_array_append_val(k->way->part, p);
}

static bool start_at_root(struct walk *k, GError **err)
{
	Way *w = k->way;

	fd_closep(&w->fd);
	w->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	g_free(w->path);
	w->path = g_strdup("/");
	if (w->fd < 0 || fstat(w->fd, &w->st) < 0)
		return fail_way("/", errno, err);
	note_part(k, "/", &w->st);
	return true;
}

static char *path_below(const char *dir, const char *name)
{
	if (g_str_equal(name, ".."))
		return g_path_get_dirname(dir);
	return g_build_filename(dir, name, NULL);
}

static bool follow(struct walk *k, const char *path, int link, GError **err)
{
	char to[PATH_MAX];
	ssize_t n = readlinkat(link, "", to, sizeof to - 1);

	if (n < 0)
		return fail_way(path, errno, err);
	to[n] = '\0';
	if (++k->links > LINKS_MAX || n == sizeof to - 1)
		return fail_way(path, ELOOP, err);
	push_names(k, to);
	return to[0] != '/' || start_at_root(k, err);
}

/* One name further. */
static bool step(struct walk *k, const char *name, GError **err)
{
	Way *w = k->way;
	g_autofree char *path = path_below(w->path, name);
	_cleanup_close_ int fd = openat(w->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail_way(path, errno, err);
	if (S_ISLNK(st.st_mode) || S_ISDIR(st.st_mode))
		note_part(k, path, &st);
	if (S_ISLNK(st.st_mode))
		return follow(k, path, fd, err);
	fd_closep(&w->fd);
	w->fd = fd_take(&fd);
	w->st = st;
	g_free(w->path);
	w->path = g_steal_pointer(&path);
	return true;
}

bool way_walk(const char *path, Way *ret, GError **err)
{
	g_auto(Way) w = { .fd = -EBADF, .part = g_array_new(FALSE, FALSE, sizeof(struct way_part)) };
	struct walk k = { .way = &w, .rest = G_QUEUE_INIT };
	struct stat st;
	bool ok;

	g_array_set_clear_func(w.part, part_clear);
	/* What is mounted when it is asked for is there then; the walk alone would not ask. */
	if (stat(path, &st) < 0)
		return fail_way(path, errno, err);
	push_names(&k, path);
	ok = start_at_root(&k, err);
	while (ok && k.rest.length > 0) {
		g_autofree char *name = g_queue_pop_head(&k.rest);

		ok = step(&k, name, err);
	}
	g_queue_clear_full(&k.rest, g_free);
	if (ok) {
		*ret = w;
		w = (Way){ .fd = -EBADF };
	}
	return ok;
}

const struct way_part *way_stranger(const Way *w, uid_t owner, bool links_only)
{
	for (guint i = 0; i < w->part->len; i++) {
		const struct way_part *p = &g_array_index(w->part, struct way_part, i);

		if (p->owner != 0 && p->owner != owner && (p->is_link || !links_only))
			return p;
	}
	return NULL;
}

/* Behind the last folder of the way comes the file. */
static const struct way_part *last_folder(const Way *w)
{
	for (guint i = w->part->len; i > 0; i--) {
		const struct way_part *p = &g_array_index(w->part, struct way_part, i - 1);

		if (!p->is_link)
			return p;
	}
	return NULL;
}

const struct way_part *way_second_name(const Way *w)
{
	const struct way_part *folder = last_folder(w);

	return S_ISREG(w->st.st_mode) && w->st.st_nlink > 1 && folder != NULL && folder->is_open ? folder
												 : NULL;
}

bool way_has_links(const Way *w)
{
	for (guint i = 0; i < w->part->len; i++)
		if (g_array_index(w->part, struct way_part, i).is_link)
			return true;
	return false;
}
