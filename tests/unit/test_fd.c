/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

typedef struct Fixture {
	char *dir, *file;
} Fixture;

static void set_up(Fixture *f, gconstpointer unused)
{
	(void)unused;
	f->dir = g_dir_make_tmp("plimsoll-fd-XXXXXX", NULL);
	g_assert_nonnull(f->dir);
	f->file = g_build_filename(f->dir, "file", NULL);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
	(void)unused;
	g_assert_true(dir_remove(f->dir, NULL));
	g_free(f->file);
	g_free(f->dir);
}

static guint count_names(const char *path)
{
	g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
	guint n = 0;

	g_assert_nonnull(dir);
	while (g_dir_read_name(dir) != NULL)
		n++;
	return n;
}

static void assert_holds(const char *path, const char *text)
{
	g_autoptr(GError) err = NULL;
	size_t len = 0;
	g_autofree char *is = file_read(path, 1 << 20, &len, &err);

	g_assert_no_error(err);
	g_assert_cmpstr(is, ==, text);
	g_assert_cmpuint(len, ==, strlen(text));
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void test_cleanup_closes_and_keeps_errno(void)
{
	int seen, kept;

	errno = ERANGE;
	{
		_cleanup_close_ int fd = dup(STDIN_FILENO), moved = dup(STDIN_FILENO), unset = -EBADF;

		g_assert_cmpint(fd, >=, 0);
		g_assert_cmpint(unset, <, 0);
		seen = fd;
		kept = fd_take(&moved);
		g_assert_cmpint(moved, ==, -EBADF);
		errno = ERANGE;
	}
	g_assert_cmpint(errno, ==, ERANGE);
	g_assert_false(is_open(seen));
	g_assert_true(is_open(kept));
	close(kept);
}

static gpointer read_slowly(gpointer data)
{
	GByteArray *all = g_byte_array_new();
	guint8 buf[777];
	ssize_t n;

	while ((n = read(GPOINTER_TO_INT(data), buf, sizeof buf)) > 0)
		g_byte_array_append(all, buf, (guint)n);
	return all;
}

/* More than a pipe holds, so that writes are short. */
static void test_write_all_goes_past_short_writes(void)
{
	enum { LEN = 300000 };
	g_autofree guint8 *data = g_malloc(LEN);
	g_autoptr(GByteArray) got = NULL;
	GThread *reader;
	int p[2];

	for (int i = 0; i < LEN; i++)
		data[i] = (guint8)g_test_rand_int();
	g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
	reader = g_thread_new("read", read_slowly, GINT_TO_POINTER(p[0]));
	g_assert_cmpint(fd_write_all(p[1], data, LEN), ==, 0);
	close(p[1]);
	got = g_thread_join(reader);
	close(p[0]);
	g_assert_cmpuint(got->len, ==, LEN);
	g_assert_true(memcmp(got->data, data, LEN) == 0);
}

static void test_write_all_tells_errno(void)
{
	g_assert_cmpint(fd_write_all(-EBADF, "x", 1), ==, -EBADF);
	g_assert_cmpint(fd_write_all(-EBADF, "", 0), ==, 0);
}

static void test_read_is_bounded(Fixture *f, gconstpointer unused)
{
	g_autofree char *text = g_strnfill(5000, 'x'), *back = NULL;
	g_autoptr(GError) err = NULL;
	size_t len = 0;

	(void)unused;
	g_assert_true(g_file_set_contents(f->file, text, 5000, NULL));
	back = file_read(f->file, 5000, &len, &err);
	g_assert_no_error(err);
	g_assert_cmpuint(len, ==, 5000);
	g_assert_cmpstr(back, ==, text);
	len = 1;
	g_assert_null(file_read(f->file, 4999, &len, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	g_assert_cmpuint(len, ==, 1);
	g_clear_error(&err);
	/* What says no size is bounded too. */
	g_assert_null(file_read_virtual("/dev/zero", 100000, NULL, &err));
	g_assert_error(err, ERR, ERR_INVALID);
}

static void test_read_keeps_every_byte(Fixture *f, gconstpointer unused)
{
	static const char bytes[] = "a\0b\xff\n";
	size_t len = 0;
	g_autofree char *back = NULL, *empty = NULL;

	(void)unused;
	g_assert_true(g_file_set_contents(f->file, bytes, sizeof bytes, NULL));
	back = file_read(f->file, 100, &len, NULL);
	g_assert_cmpuint(len, ==, sizeof bytes);
	g_assert_true(memcmp(back, bytes, sizeof bytes) == 0);
	g_assert_cmpint(back[len], ==, '\0');
	g_assert_true(g_file_set_contents(f->file, "", 0, NULL));
	empty = file_read(f->file, 0, &len, NULL);
	g_assert_cmpuint(len, ==, 0);
	g_assert_cmpstr(empty, ==, "");
}

static void assert_unreadable(const char *path, ErrCode code)
{
	g_autoptr(GError) err = NULL;

	g_assert_null(file_read(path, 1000, NULL, &err));
	g_assert_error(err, ERR, (gint)code);
	g_assert_nonnull(strstr(err->message, path));
}

/* None of these may block or give anything. */
static void test_only_regular_files_are_read(Fixture *f, gconstpointer unused)
{
	(void)unused;
	assert_unreadable(f->file, ERR_NOT_FOUND);
	assert_unreadable(f->dir, ERR_INVALID);
	assert_unreadable("/dev/zero", ERR_INVALID);
	g_assert_cmpint(mkfifo(f->file, 0600), ==, 0);
	assert_unreadable(f->file, ERR_INVALID);
}

static void test_virtual_files_are_read(void)
{
	g_autoptr(GError) err = NULL;
	g_autofree char *text = file_read_virtual("/proc/self/stat", 4096, NULL, &err);
	g_autofree char *pid = g_strdup_printf("%d (", (int)getpid());

	g_assert_no_error(err);
	g_assert_true(g_str_has_prefix(text, pid));
}

static void write_text(const char *path, const char *text, mode_t mode)
{
	g_autoptr(GError) err = NULL;

	g_assert_true(file_write_atomic(path, text, strlen(text), mode, &err));
	g_assert_no_error(err);
}

static void test_atomic_write_replaces_and_leaves_no_rest(Fixture *f, gconstpointer unused)
{
	mode_t old = umask(0077);
	struct stat before, after;

	(void)unused;
	write_text(f->file, "first", 0644);
	g_assert_cmpint(stat(f->file, &before), ==, 0);
	g_assert_cmphex(before.st_mode, ==, S_IFREG | 0644); /* as asked, whatever the umask */
	write_text(f->file, "second", 0600);
	umask(old);
	g_assert_cmpint(stat(f->file, &after), ==, 0);
	g_assert_cmphex(after.st_mode, ==, S_IFREG | 0600);
	g_assert_cmpuint(after.st_ino, !=, before.st_ino); /* who has the old one open keeps it whole */
	assert_holds(f->file, "second");
	g_assert_cmpuint(count_names(f->dir), ==, 1);
}

static void test_failed_atomic_write_leaves_no_rest(Fixture *f, gconstpointer unused)
{
	g_autofree char *inside = g_build_filename(f->file, "x", NULL);
	g_autoptr(GError) e1 = NULL, e2 = NULL;

	(void)unused;
	g_assert_cmpint(mkdir(f->file, 0700), ==, 0);
	g_assert_false(file_write_atomic(f->file, "x", 1, 0600, &e1)); /* a folder can't be replaced */
	g_assert_nonnull(e1);
	g_assert_cmpuint(count_names(f->dir), ==, 1);
	g_assert_cmpint(rmdir(f->file), ==, 0);
	g_assert_false(file_write_atomic(inside, "x", 1, 0600, &e2));
	g_assert_error(e2, ERR, ERR_NOT_FOUND);
	g_assert_cmpuint(count_names(f->dir), ==, 0);
}

struct reader {
	const char *path;
	gint stop, seen[2];
};

/* Reads for as long as it is written: every read is the one text or the other, whole. */
static gpointer read_again_and_again(gpointer data)
{
	struct reader *r = data;

	while (!g_atomic_int_get(&r->stop)) {
		g_autofree char *text = file_read(r->path, 100000, NULL, NULL);

		g_assert_nonnull(text);
		g_assert_true(strspn(text, text[0] == 'a' ? "a" : "b") == (text[0] == 'a' ? 50000 : 60000));
		r->seen[text[0] - 'a']++;
	}
	return NULL;
}

static void test_readers_see_the_old_or_the_new(Fixture *f, gconstpointer unused)
{
	g_autofree char *a = g_strnfill(50000, 'a'), *b = g_strnfill(60000, 'b');
	struct reader r = { .path = f->file };
	GThread *t;

	(void)unused;
	write_text(f->file, a, 0600);
	t = g_thread_new("read", read_again_and_again, &r);
	for (int i = 0; i < 30; i++)
		write_text(f->file, i % 2 == 0 ? b : a, 0600);
	g_atomic_int_set(&r.stop, 1);
	g_thread_join(t);
	g_assert_cmpint(r.seen[0] + r.seen[1], >, 0);
}

static void test_folders_are_made_with_their_parents(Fixture *f, gconstpointer unused)
{
	g_autofree char *deep = g_build_filename(f->dir, "a", "b", "c", NULL),
			*below_file = g_build_filename(f->file, "x", NULL);
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_true(dir_make(deep, 0700, &err));
	g_assert_true(dir_make(deep, 0700, &err));
	g_assert_no_error(err);
	g_assert_true(dir_sync(deep, NULL));
	write_text(f->file, "x", 0600);
	g_assert_false(dir_make(f->file, 0700, &err));
	g_assert_nonnull(err);
	g_clear_error(&err);
	g_assert_false(dir_make(below_file, 0700, &err));
	g_assert_nonnull(err);
	assert_holds(f->file, "x");
}

static void test_sync_tells_what_is_no_folder(Fixture *f, gconstpointer unused)
{
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_false(dir_sync(f->file, &err));
	g_assert_error(err, ERR, ERR_NOT_FOUND);
}

static void test_remove_does_not_follow_links(Fixture *f, gconstpointer unused)
{
	g_autofree char *outside = g_build_filename(f->dir, "outside", NULL),
			*kept = g_build_filename(outside, "kept", NULL),
			*tree = g_build_filename(f->dir, "tree", NULL),
			*deep = g_build_filename(tree, "a", "b", NULL),
			*link = g_build_filename(deep, "link", NULL),
			*file_link = g_build_filename(deep, "file-link", NULL),
			*broken = g_build_filename(deep, "broken", NULL),
			*fifo = g_build_filename(deep, "fifo", NULL);
	g_autoptr(GError) err = NULL;

	(void)unused;
	g_assert_true(dir_make(outside, 0700, NULL) && dir_make(deep, 0700, NULL));
	write_text(kept, "kept", 0600);
	g_assert_cmpint(symlink(outside, link), ==, 0);
	g_assert_cmpint(symlink(kept, file_link), ==, 0);
	g_assert_cmpint(symlink("nowhere", broken), ==, 0);
	g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
	g_assert_true(dir_remove(tree, &err));
	g_assert_no_error(err);
	g_assert_false(g_file_test(tree, G_FILE_TEST_EXISTS));
	assert_holds(kept, "kept");
	g_assert_true(dir_remove(tree, &err)); /* absent is fine */
	/* A link in its own right: it goes, what it names stays. */
	g_assert_cmpint(symlink(outside, tree), ==, 0);
	g_assert_true(dir_remove(tree, &err));
	g_assert_no_error(err);
	g_assert_false(g_file_test(tree, G_FILE_TEST_IS_SYMLINK));
	assert_holds(kept, "kept");
}

int main(int argc, char **argv)
{
	static const struct {
		const char *path;
		void (*func)(Fixture *f, gconstpointer unused);
	} tests[] = {
		{ "/file/read_is_bounded", test_read_is_bounded },
		{ "/file/read_keeps_every_byte", test_read_keeps_every_byte },
		{ "/file/only_regular", test_only_regular_files_are_read },
		{ "/file/atomic_write_replaces", test_atomic_write_replaces_and_leaves_no_rest },
		{ "/file/failed_atomic_write", test_failed_atomic_write_leaves_no_rest },
		{ "/file/readers_see_old_or_new", test_readers_see_the_old_or_the_new },
		{ "/dir/made_with_parents", test_folders_are_made_with_their_parents },
		{ "/dir/sync", test_sync_tells_what_is_no_folder },
		{ "/dir/remove_does_not_follow_links", test_remove_does_not_follow_links },
	};

	g_test_init(&argc, &argv, NULL);
	for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
		g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].func, tear_down);
	g_test_add_func("/fd/cleanup", test_cleanup_closes_and_keeps_errno);
	g_test_add_func("/fd/write_all_short", test_write_all_goes_past_short_writes);
	g_test_add_func("/fd/write_all_errno", test_write_all_tells_errno);
	g_test_add_func("/file/virtual", test_virtual_files_are_read);
	return g_test_run();
}
