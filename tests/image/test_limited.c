/* SPDX-License-Identifier: Apache-2.0 */
/* Programs under limits: what they get, and that nothing gets past the walls. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/image/limited.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#define SECOND UINT64_C(1000000)
#define NOBODY 65534

static char *folder(void)
{
	char *dir = g_strdup("/tmp/test-limited-XXXXXX");

	g_assert_nonnull(mkdtemp(dir));
	g_assert_cmpint(chmod(dir, 0777), ==, 0);
	return dir;
}

static struct limited shell(const char *const *argv)
{
	return (struct limited){
		.argv = argv, .uid = LIMITED_KEEP_USER, .deadline = 120 * SECOND, .output_max = 4096
	};
}

#define SH(text) ((const char *const[]){ "sh", "-c", text, NULL })

static bool has_landlock(void)
{
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0;
}

static void test_what_it_prints_comes_back(void)
{
	struct limited l = shell(SH("echo out; echo err >&2; exit 7"));
	_cleanup_limited_ struct limited_result r = { 0 };
	g_autoptr(GError) err = NULL;

	g_assert_true(limited_run(&l, &r, &err));
	g_assert_cmpint(r.status, ==, 7);
	g_assert_cmpstr(r.out, ==, "out\n");
	g_assert_cmpstr(r.err, ==, "err\n");
}

static void test_it_gets_nothing_of_ours(void)
{
	struct limited l = shell(SH("echo /proc/self/fd/*; env; cat; umask"));
	_cleanup_limited_ struct limited_result r = { 0 };
	_cleanup_close_ int leak = dup(2); /* without close-on-exec */

	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_true(g_str_has_prefix(r.out, "/proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2"));
	g_assert_null(strstr(r.out, "fd/4"));
	g_assert_null(strstr(r.out, "HOME"));
	g_assert_nonnull(strstr(r.out, "LC_ALL=C.UTF-8"));
	g_assert_true(g_str_has_suffix(r.out, "0077\n"));
}

static void test_errors_keep_their_end(void)
{
	struct limited l =
	    shell(SH("i=0; while [ $i -lt 3000 ]; do echo line $i >&2; i=$((i+1)); done; echo end >&2"));
	_cleanup_limited_ struct limited_result r = { 0 };

	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_true(g_str_has_suffix(r.err, "line 2999\nend\n"));
	g_assert_cmpuint(strlen(r.err), <=, 4096);
}

static void assert_killed(struct limited *l, ErrCode code)
{
	_cleanup_limited_ struct limited_result r = { 0 };
	g_autoptr(GError) err = NULL;
	uint64_t start = time_monotonic();

	g_assert_false(limited_run(l, &r, &err));
	g_assert_error(err, ERR, (gint)code);
	g_assert_nonnull(err_advice(err));
	g_assert_cmpuint(time_monotonic() - start, <, 90 * SECOND); /* a command here sleeps for 100 */
}

static void test_missing_programs_are_named(void)
{
	static const char *const argv[] = { "no-such-program", NULL }, *const absolute[] = {
		"/no/such/program", NULL
	};
	struct limited l = shell(argv), m = shell(absolute);

	assert_killed(&l, ERR_NOT_FOUND);
	assert_killed(&m, ERR_NOT_FOUND);
}

static void test_deadlines_hold(void)
{
	struct limited l = shell(SH("sleep 100"));

	l.deadline = SECOND / 5;
	assert_killed(&l, ERR_TIMEOUT);
}

static bool say_cancelled(void *data)
{
	return ++*(int *)data > 3;
}

static void test_it_can_be_cancelled(void)
{
	int asked = 0;
	struct hooks hooks = { .cancelled = say_cancelled, .data = &asked };
	struct limited l = shell(SH("sleep 100"));

	l.hooks = &hooks;
	assert_killed(&l, ERR_CANCELLED);
}

static void test_floods_are_cut(void)
{
	struct limited l = shell(SH("yes"));

	assert_killed(&l, ERR_LIMIT);
}

static void count(const char *text, size_t len, void *data)
{
	(void)text;
	*(size_t *)data += len;
}

static void test_output_can_be_followed(void)
{
	struct limited l = shell(SH("head -c 300000 /dev/zero"));
	_cleanup_limited_ struct limited_result r = { 0 };
	const char *const zero[] = { "/dev/zero", NULL };
	size_t n = 0;

	l.readable = zero;
	l.on_output = count;
	l.data = &n;
	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_cmpuint(n, ==, 300000);
	g_assert_cmpstr(r.out, ==, "");
}

static void test_processor_time_is_bounded(void)
{
	struct limited l = shell(SH("while :; do :; done"));

	l.cpu = SECOND / 2;
	assert_killed(&l, ERR_LIMIT);
}

static void test_memory_and_files_are_bounded(void)
{
	g_autofree char *dir = folder();
	struct limited l = shell(SH("dd if=/dev/null of=/dev/null bs=1G count=1")),
		       f = shell(SH("yes | head -c 5000000 >big || exit 9"));
	_cleanup_limited_ struct limited_result r = { 0 }, q = { 0 };

	l.memory = 256 << 20;
	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_cmpint(r.status, !=, 0);
	f.cwd = dir;
	f.file_size = 1 << 20;
	g_assert_true(limited_run(&f, &q, NULL));
	g_assert_cmpint(q.status, ==, 9);
	g_assert_nonnull(strstr(q.err, "File too large"));
	g_assert_true(dir_remove(dir, NULL));
}

static void test_root_becomes_nobody(void)
{
	struct limited l = shell(SH("id -u; id -g; id -G"));
	_cleanup_limited_ struct limited_result r = { 0 };

	if (geteuid() != 0) {
		g_test_skip("needs root");
		return;
	}
	l.uid = l.gid = NOBODY;
	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_cmpstr(r.out, ==, "65534\n65534\n65534\n");
}

/* Root without the right to make namespaces (in a container) runs without them. */
static bool has_namespaces(void)
{
	struct limited l = shell(SH("echo $$"));
	_cleanup_limited_ struct limited_result r = { 0 };

	g_assert_true(limited_run(&l, &r, NULL));
	return g_str_equal(r.out, "1\n");
}

static void test_there_is_no_network(void)
{
	struct limited l = shell(SH("cat /proc/self/net/dev | grep -c :"));
	_cleanup_limited_ struct limited_result r = { 0 };

	if (!has_namespaces()) {
		g_test_skip("no right to make namespaces");
		return;
	}
	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_cmpstr(r.out, ==, "1\n"); /* lo */
}

static void test_other_files_are_out_of_reach(void)
{
	g_autofree char *dir = folder(), *other = folder(), *file = g_build_filename(other, "f", NULL),
			*sh = NULL;
	const char *const readable[] = { other, NULL };
	_cleanup_limited_ struct limited_result r = { 0 }, q = { 0 }, w = { 0 };
	struct limited l;

	if (!has_landlock()) {
		g_test_skip("this kernel has no Landlock");
		return;
	}
	sh = g_strdup_printf("echo new >here && cat here; cat /etc/passwd %s; echo x >%s", file, file);
	g_assert_true(g_file_set_contents(file, "secret\n", -1, NULL));
	l = shell(SH(sh));
	l.cwd = dir;
	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_cmpstr(r.out, ==, "new\n");
	g_assert_nonnull(strstr(r.err, "/etc/passwd: Permission denied"));
	l.readable = readable;
	g_assert_true(limited_run(&l, &q, NULL));
	g_assert_cmpstr(q.out, ==, "new\nsecret\n");
	g_assert_cmpint(q.status, !=, 0);
	l.writable = readable;
	g_assert_true(limited_run(&l, &w, NULL));
	g_assert_cmpint(w.status, ==, 0);
	g_assert_true(dir_remove(dir, NULL) && dir_remove(other, NULL));
}

static bool runs(const char *arg)
{
	g_autoptr(GDir) proc = g_dir_open("/proc", 0, NULL);
	const char *name;

	while ((name = g_dir_read_name(proc)) != NULL) {
		g_autofree char *path = g_build_filename("/proc", name, "cmdline", NULL), *text = NULL;
		gsize n;

		if (g_file_get_contents(path, &text, &n, NULL) && memmem(text, n, arg, strlen(arg)) != NULL)
			return true;
	}
	return false;
}

static void test_nothing_outlives_it(void)
{
	g_autofree char *arg = g_strdup_printf("%d.125", 100000 + getpid()), *sh = NULL;
	_cleanup_limited_ struct limited_result r = { 0 };
	struct limited l;
	uint64_t end = time_monotonic() + 120 * SECOND;

	if (!has_namespaces()) {
		g_test_skip("no right to make namespaces");
		return;
	}
	sh = g_strdup_printf("setsid sleep %s & echo started", arg);
	l = shell(SH(sh));
	g_assert_true(limited_run(&l, &r, NULL));
	g_assert_cmpstr(r.out, ==, "started\n");
	while (runs(arg) && time_monotonic() < end)
		g_usleep(10000);
	g_assert_false(runs(arg));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/limited/output", test_what_it_prints_comes_back);
	g_test_add_func("/limited/clean", test_it_gets_nothing_of_ours);
	g_test_add_func("/limited/errors", test_errors_keep_their_end);
	g_test_add_func("/limited/missing", test_missing_programs_are_named);
	g_test_add_func("/limited/deadline", test_deadlines_hold);
	g_test_add_func("/limited/cancel", test_it_can_be_cancelled);
	g_test_add_func("/limited/flood", test_floods_are_cut);
	g_test_add_func("/limited/follow", test_output_can_be_followed);
	g_test_add_func("/limited/cpu", test_processor_time_is_bounded);
	g_test_add_func("/limited/memory-files", test_memory_and_files_are_bounded);
	g_test_add_func("/limited/user", test_root_becomes_nobody);
	g_test_add_func("/limited/network", test_there_is_no_network);
	g_test_add_func("/limited/landlock", test_other_files_are_out_of_reach);
	g_test_add_func("/limited/outlive", test_nothing_outlives_it);
	return g_test_run();
}
