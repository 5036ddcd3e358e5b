/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What our way to a running QEMU costs, beside the barest one.
 *
 *     spawn QEMU KERNEL [ROUNDS]
 *
 * Bare: posix_spawn() of the same command line, then a blocking client that
 * reads the greeting, negotiates and asks query-status; `quit`, waitpid().
 * Ours: vmm_launch(), the same question through qmp_call(); vmm_quit(). The two
 * take turns, so that whatever else the machine does hits both alike; medians
 * are compared. Then what making the process alone costs, by vfork() and by
 * fork(), with a little and with a lot of memory in use.
 */
#include "base/fd.h"
#include "base/socket.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/vmm.h"
#include "engine/vmm_argv.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define ROUNDS 20
#define ROUNDS_MAX 1000
#define TIMEOUT UINT64_C(60000000)

struct cost {
	uint64_t start, stop;
};

struct bench {
	const char *qemu, *kernel;
	unsigned rounds;
	char *dir;
	Loop *loop;
	VmmHost *host;
	struct cost *bare, *ours;
};

static const char *const words[] = {
	"-nodefaults", "-no-user-config",
	"-display",    "none",
	"-machine",    "q35,accel=tcg,hpet=off",
	"-m",          "16",
	"-append",     "job=idle",
	"-chardev",    "socket,id=qmp,fd=@fd:qmp@,server=on,wait=off",
	"-mon",        "chardev=qmp,mode=control",
};

static char **command_line(const struct bench *b, const char *uuid)
{
	GPtrArray *v = g_ptr_array_new();

	g_ptr_array_add(v, g_strdup(b->qemu));
	for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
		g_ptr_array_add(v, g_strdup(words[i]));
	g_ptr_array_add(v, g_strdup("-kernel"));
	g_ptr_array_add(v, g_strdup(b->kernel));
	g_ptr_array_add(v, g_strdup("-uuid"));
	g_ptr_array_add(v, g_strdup(uuid));
	g_ptr_array_add(v, NULL);
	return (char **)g_ptr_array_free(v, FALSE);
}

G_NORETURN static void give_up(const GError *e)
{
	fprintf(stderr, "spawn: %s\n", e->message);
	exit(1);
}

/*
 * Bare
 */

static int same_number(const char *name, void *data)
{
	(void)name;
	return *(const int *)data;
}

/* The answer that holds `want`; everything before it is passed over. */
static void ask(int fd, const char *request, const char *want)
{
	g_autoptr(GString) got = g_string_new(NULL);
	char buf[4096];

	if (fd_write_all(fd, request, strlen(request)) < 0)
		exit(1);
	while (strstr(got->str, want) == NULL) {
		ssize_t n = read(fd, buf, sizeof buf);

		if (n <= 0)
			exit(1);
		g_string_append_len(got, buf, n);
	}
}

static struct cost run_bare(const struct bench *b)
{
	g_autofree char *uuid = uuid_new(), *path = g_strdup_printf("%s/bare.sock", b->dir);
	g_auto(GStrv) template = command_line(b, uuid), argv = NULL;
	_cleanup_close_ int client = -EBADF;
	uint64_t began = time_monotonic(), running, told;
	g_autoptr(GError) e = NULL;
	int listener = socket_listen(path, &e);
	pid_t pid;

	if (listener < 0)
		give_up(e);
	fcntl(listener, F_SETFD, 0);
	argv = vmm_argv_expand((const char *const *)template, same_number, &listener);
	if (posix_spawn(&pid, argv[0], NULL, NULL, argv, environ) != 0)
		exit(1);
	client = socket_connect(path, &e);
	if (client < 0)
		give_up(e);
	close(listener);
	fcntl(client, F_SETFL, 0);
	ask(client, "", "capabilities");
	ask(client, "{\"execute\":\"qmp_capabilities\"}\n", "return");
	ask(client, "{\"execute\":\"query-status\"}\n", "\"running\": true");
	running = time_monotonic();
	ask(client, "{\"execute\":\"quit\"}\n", "return");
	waitpid(pid, NULL, 0);
	told = time_monotonic();
	return (struct cost){ .start = running - began, .stop = told - running };
}

/*
 * Ours
 */

static struct cost run_ours(const struct bench *b)
{
	static const VmmHandler nothing;
	g_autofree char *uuid = uuid_new(), *log = g_strdup_printf("%s/ours.log", b->dir);
	g_auto(GStrv) argv = command_line(b, uuid);
	struct vmm_spec spec = {
		.name = "bench",
		.uuid = uuid,
		.dir = b->dir,
		.log_path = log,
		.argv = (const char *const *)argv,
	};
	uint64_t began = time_monotonic(), running;
	g_autoptr(GError) e = NULL;
	g_autoptr(Vmm) v = vmm_launch(b->host, &spec, &nothing, NULL, TIMEOUT, &e);
	_cleanup_json_ Json *status = v != NULL ? qmp_call(vmm_qmp(v), "query-status", NULL, 0, &e) : NULL;

	if (status == NULL || !json_bool(status, "running", false))
		give_up(e);
	running = time_monotonic();
	if (!vmm_quit(v, TIMEOUT, &e))
		give_up(e);
	return (struct cost){ .start = running - began, .stop = time_monotonic() - running };
}

static void stop_loop(void *data)
{
	loop_quit(data, 0);
}

static gpointer run_rounds(gpointer data)
{
	struct bench *b = data;

	/* The first of each fills the host's caches. */
	run_bare(b);
	run_ours(b);
	for (unsigned i = 0; i < b->rounds; i++) {
		b->bare[i] = run_bare(b);
		b->ours[i] = run_ours(b);
	}
	loop_post(b->loop, stop_loop, b->loop);
	return NULL;
}

/*
 * The process alone
 */

static uint64_t time_of_vfork(int output)
{
	const char *argv[] = { "/bin/true", NULL };
	struct spawn s = { .argv = argv, .output = output, .max_files = 1024 };
	_cleanup_close_ int pidfd = -EBADF;
	uint64_t began = time_monotonic(), took;
	struct pollfd p = { .events = POLLIN };
	struct process_end end;
	g_autoptr(GError) e = NULL;
	pid_t pid;

	if (!spawn_process(&s, &pid, &pidfd, &e))
		give_up(e);
	took = time_monotonic() - began;
	p.fd = pidfd;
	poll(&p, 1, -1);
	process_ended(pidfd, &end);
	return took;
}

static uint64_t time_of_fork(void)
{
	uint64_t began = time_monotonic(), took;
	int fds[2];
	char c;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		exit(1);
	pid = fork();
	if (pid == 0) {
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	close(fds[1]);
	if (read(fds[0], &c, 1) != 0) /* its execve() closes the pipe */
		exit(1);
	took = time_monotonic() - began;
	close(fds[0]);
	waitpid(pid, NULL, 0);
	return took;
}

/*
 * Results
 */

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static double median_ms(uint64_t *v, size_t n)
{
	qsort(v, n, sizeof *v, compare);
	return (double)v[n / 2] / 1000;
}

static void print_row(const struct bench *b, const char *what, size_t offset)
{
	g_autofree uint64_t *bare = g_new(uint64_t, b->rounds), *ours = g_new(uint64_t, b->rounds);
	double x, y;

	for (unsigned i = 0; i < b->rounds; i++) {
		memcpy(&bare[i], (const char *)&b->bare[i] + offset, sizeof *bare);
		memcpy(&ours[i], (const char *)&b->ours[i] + offset, sizeof *ours);
	}
	x = median_ms(bare, b->rounds);
	y = median_ms(ours, b->rounds);
	printf("%-24s %8.1f ms %8.1f ms   %.2f\n", what, x, y, y / x);
}

static void print_process_costs(size_t megabytes)
{
	size_t bytes = megabytes << 20;
	_cleanup_close_ int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	uint64_t forks[ROUNDS], vforks[ROUNDS];
	char *ballast = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (ballast == MAP_FAILED || madvise(ballast, bytes, MADV_NOHUGEPAGE) < 0)
		exit(1);
	for (size_t i = 0; i < ROUNDS; i++) {
		memset(ballast, (int)i, bytes);
		forks[i] = time_of_fork();
		memset(ballast, (int)i, bytes);
		vforks[i] = time_of_vfork(null);
	}
	munmap(ballast, bytes);
	printf("process, %4zu MiB in use  %8.2f ms %8.2f ms   %s\n", megabytes, median_ms(forks, ROUNDS),
	       median_ms(vforks, ROUNDS), "fork() | spawn_process()");
}

static void bench_run(struct bench *b)
{
	g_autoptr(GError) e = NULL;
	GThread *t;

	b->loop = loop_new(&e);
	b->host = b->loop != NULL ? vmm_host_new(b->loop, NULL, &e) : NULL;
	b->dir = b->host != NULL ? g_dir_make_tmp("bench-XXXXXX", &e) : NULL;
	if (b->dir == NULL)
		give_up(e);
	b->bare = g_new0(struct cost, b->rounds);
	b->ours = g_new0(struct cost, b->rounds);
	t = g_thread_new("bench", run_rounds, b);
	loop_run(b->loop);
	g_thread_join(t);
	printf("%-24s %11s %11s   %s\n", "median", "bare QEMU", "ours", "ratio");
	print_row(b, "start to running", offsetof(struct cost, start));
	print_row(b, "quit to gone", offsetof(struct cost, stop));
	dir_remove(b->dir, NULL);
	vmm_host_free(b->host);
	loop_free(b->loop);
	g_free(b->dir);
	g_free(b->bare);
	g_free(b->ours);
}

int main(int argc, char **argv)
{
	struct bench b = { .rounds = ROUNDS };
	g_autoptr(GError) e = NULL;
	uint64_t rounds;

	if (argc < 3) {
		fprintf(stderr, "usage: spawn QEMU KERNEL [ROUNDS]\n");
		return 2;
	}
	b.qemu = argv[1];
	b.kernel = argv[2];
	if (argc > 3) {
		if (!parse_uint(argv[3], 1, ROUNDS_MAX, &rounds, &e))
			give_up(e);
		b.rounds = (unsigned)rounds;
	}
	bench_run(&b);
	print_process_costs(1);
	print_process_costs(50);
	print_process_costs(200);
	return 0;
}
