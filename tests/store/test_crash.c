/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that is killed at any moment: every write that it acknowledged is
 * there, none is there by half, and the next process gets the file at once.
 * And a file system that really runs full.
 */
#include "base/fd.h"
#include "base/time.h"
#include "own_mounts.h"
#include "store/store.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>

enum { ROUNDS = 25 };

static const char *const keys[] = { "/n/a", "/n/b", "/n/c" };

static Store *open_store(const char *dir)
{
	g_autofree char *url = g_strdup_printf("sqlite:%s/state.db", dir);
	g_autoptr(GError) err = NULL;
	Store *s = store_open(url, &err);

	g_assert_no_error(err);
	return s;
}

static bool commit_number(Store *s, uint32_t n, StoreFlags flags, GError **err)
{
	g_autofree char *pad = g_strnfill(n % 32 == 0 ? 200000 : 20, 'x'),
			*value = g_strdup_printf("%u %s", n, pad);
	StoreTx *tx = store_tx_new();

	for (size_t i = 0; i < G_N_ELEMENTS(keys); i++)
		store_tx_set(tx, keys[i], STORE_ANY, value);
	return store_commit(s, tx, flags, NULL, err);
}

static uint32_t number_of(const StoreItem *item)
{
	return (uint32_t)g_ascii_strtoull(item->value, NULL, 10);
}

static uint32_t read_number(Store *s)
{
	g_autoptr(GPtrArray) items = store_list(s, "/n/", NULL, NULL);

	g_assert_nonnull(items);
	if (items->len == 0)
		return 0;
	g_assert_cmpuint(items->len, ==, G_N_ELEMENTS(keys));
	for (guint i = 1; i < items->len; i++)
		g_assert_cmpstr(((StoreItem *)items->pdata[i])->value, ==,
				((StoreItem *)items->pdata[0])->value);
	return number_of(items->pdata[0]);
}

/* The child: counts on from what it finds and acknowledges each commit, till it is killed. */
static int count_for_ever(const char *dir, int fd)
{
	Store *s = open_store(dir);

	for (uint32_t n = read_number(s) + 1;; n++) {
		/* A kill is no power cut: relaxed commits must outlive it too. */
		if (!commit_number(s, n, n % 2 == 0 ? STORE_RELAXED : STORE_DURABLE, NULL))
			return 1;
		if (fd_write_all(fd, &n, sizeof n) < 0)
			return 1;
	}
}

/* This program again, because a forked copy would share SQLite's own state. */
static pid_t spawn_counter(const char *dir, int *ret_fd)
{
	char fd_text[16];
	int p[2];
	pid_t pid;

	g_assert_cmpint(pipe2(p, O_CLOEXEC), ==, 0);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0) {
		int out = dup(p[1]); /* without O_CLOEXEC */

		g_snprintf(fd_text, sizeof fd_text, "%d", out);
		execl("/proc/self/exe", "test_crash", "--count", dir, fd_text, NULL);
		_exit(127);
	}
	close(p[1]);
	*ret_fd = p[0];
	return pid;
}

static uint32_t read_acknowledged(int fd, uint32_t *ret)
{
	ssize_t r = read(fd, ret, sizeof *ret);

	g_assert_true(r == 0 || r == sizeof *ret);
	return r == sizeof *ret;
}

/* Returns the last number that the child acknowledged before it died. */
static uint32_t kill_counter(const char *dir, uint32_t before)
{
	_cleanup_close_ int fd = -EBADF;
	pid_t pid = spawn_counter(dir, &fd);
	uint32_t last = before, n, wait_for = before + (uint32_t)g_test_rand_int_range(0, 60);
	int status;

	do {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		g_assert_cmpint(poll(&p, 1, 120000), ==, 1);
		g_assert_true(read_acknowledged(fd, &n));
		last = n;
	} while (last < wait_for);
	/* At a random point inside one of the next commits. */
	for (uint64_t end = time_monotonic() + (uint64_t)g_test_rand_int_range(0, 3000);
	     time_monotonic() < end;)
		;
	kill(pid, SIGKILL);
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFSIGNALED(status));
	while (read_acknowledged(fd, &n))
		last = n;
	return last;
}

static void check_history(Store *s, uint32_t from, uint32_t last)
{
	g_autoptr(StoreWatch) w = store_watch_open(s, keys[0], 0, NULL);
	uint32_t n = from;
	bool more = true;

	g_assert_nonnull(w);
	while (more) {
		g_autoptr(GPtrArray) some = NULL;

		g_assert_true(store_watch_next(w, &some, NULL));
		more = some->len > 0;
		for (guint i = 0; i < some->len; i++)
			g_assert_cmpuint(number_of(some->pdata[i]), ==, ++n);
	}
	g_assert_cmpuint(n, ==, last);
}

static void test_kill_loses_nothing_acknowledged(void)
{
	g_autofree char *dir = g_dir_make_tmp("plimsoll-crash-XXXXXX", NULL);
	int64_t rev = 0;
	uint32_t n = 0;

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t acknowledged = kill_counter(dir, n);
		g_autoptr(Store) s = open_store(dir);

		n = read_number(s);
		g_assert_cmpuint(n, >=, acknowledged);
		g_assert_cmpuint(n, <=, acknowledged + 1);
		check_history(s, 0, n);
		g_assert_cmpint(store_revision(s, NULL), >, rev);
		rev = store_revision(s, NULL);
	}
	g_assert_cmpuint(n, >, ROUNDS);
	g_assert_true(dir_remove(dir, NULL));
}

/* ---- a file system that is full, in a mount namespace of a child's own ---- */

enum { PASSED = 0, FAILED = 1, CANNOT = 77 };

#define CHECK(cond)                                                                                          \
	do {                                                                                                 \
		if (!(cond)) {                                                                               \
			g_printerr("%s:%d: %s\n", __FILE__, __LINE__, #cond);                                \
			return FAILED;                                                                       \
		}                                                                                            \
	} while (0)

static bool mount_small(const char *dir)
{
	return (own_mounts(0) || own_mounts(CLONE_NEWUSER)) &&
	       mount("tmpfs", dir, "tmpfs", MS_NOSUID | MS_NODEV, "size=2m,mode=0700") == 0;
}

/* Takes all the room there is; returns whether it found any. */
static bool fill(const char *path)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	char block[4096] = { 0 };
	bool any = false;

	while (write(fd, block, sizeof block) > 0)
		any = true;
	return any;
}

static int run_full(const char *dir)
{
	g_autofree char *filler = g_build_filename(dir, "filler", NULL);
	g_autoptr(GError) err = NULL;
	g_autoptr(Store) s = NULL;
	uint32_t n = 0;
	int64_t rev;

	if (!mount_small(dir))
		return CANNOT;
	s = open_store(dir);
	CHECK(commit_number(s, ++n, STORE_DURABLE, NULL));
	CHECK(fill(filler));
	/* What is allotted already may still take a few. */
	while (commit_number(s, n + 1, STORE_DURABLE, &err)) {
		CHECK(n < 1000);
		n++;
	}
	CHECK(err_code(err) == ERR_NO_SPACE);
	CHECK(err_advice(err) != NULL);
	rev = store_revision(s, NULL);
	CHECK(!commit_number(s, 5000, STORE_RELAXED, NULL));
	CHECK(store_revision(s, NULL) == rev);
	CHECK(read_number(s) == n);
	CHECK(unlink(filler) == 0);
	CHECK(commit_number(s, ++n, STORE_DURABLE, NULL));
	s = store_close(s);
	s = open_store(dir);
	CHECK(read_number(s) == n);
	return PASSED;
}

static void test_full_file_system_changes_nothing(void)
{
	g_autofree char *dir = g_dir_make_tmp("plimsoll-full-XXXXXX", NULL);
	pid_t pid = fork();
	int status;

	g_assert_cmpint(pid, >=, 0);
	if (pid == 0)
		_exit(run_full(dir));
	g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
	g_assert_true(WIFEXITED(status));
	g_assert_true(dir_remove(dir, NULL));
	if (WEXITSTATUS(status) == CANNOT)
		g_test_skip("this user can't mount a file system of its own");
	else
		g_assert_cmpint(WEXITSTATUS(status), ==, PASSED);
}

int main(int argc, char **argv)
{
	if (argc == 4 && g_str_equal(argv[1], "--count"))
		return count_for_ever(argv[2], atoi(argv[3]));
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/crash/full_file_system_changes_nothing", test_full_file_system_changes_nothing);
	g_test_add_func("/crash/kill_loses_nothing_acknowledged", test_kill_loses_nothing_acknowledged);
	return g_test_run();
}
