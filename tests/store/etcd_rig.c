/* SPDX-License-Identifier: Apache-2.0 */
#include "etcd_rig.h"
#include "base/fd.h"
#include "base/time.h"
#include "store/etcd_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define DEADLINE UINT64_C(120000000)

static bool have_network;

/* A command of the system that must succeed. */
static void run(const char *fmt, ...) G_GNUC_PRINTF(1, 2);
static void run(const char *fmt, ...)
{
	g_autofree char *command = NULL;
	va_list ap;
	int status = -1;

	va_start(ap, fmt);
	command = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	g_assert_true(g_spawn_command_line_sync(command, NULL, NULL, &status, NULL));
	if (status != 0)
		g_error("'%s' ends with %d", command, status);
}

bool rig_main_begin(void)
{
	have_network = unshare(CLONE_NEWNET) == 0;
	if (!have_network)
		return false;
	run("ip link set lo up");
	run("ip link add br0 type bridge");
	run("ip addr add 10.99.0.1/24 dev br0");
	run("ip link set br0 up");
	return true;
}

static int bind_free(int *ret_port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	g_assert_cmpint(bind(fd, (struct sockaddr *)&a, sizeof a), ==, 0);
	g_assert_cmpint(getsockname(fd, (struct sockaddr *)&a, &len), ==, 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

/* Both are held until both are known: else they may be the same. */
static void give_free_ports(Rig *r, int i)
{
	_cleanup_close_ int client = bind_free(&r->m[i].client), peer = bind_free(&r->m[i].peer);

	g_assert_cmpint(r->m[i].client, !=, r->m[i].peer);
}

char *rig_data(const Rig *r, int i)
{
	return g_strdup_printf("%s/data%d", r->dir, i);
}

static char **argv_of(const Rig *r, int i)
{
	GStrvBuilder *b = g_strv_builder_new();
	g_autoptr(GString) all = g_string_new(NULL);
	g_autofree char *client = g_strdup_printf("http://%s:%d", r->m[i].ip, r->m[i].client),
			*peer = g_strdup_printf("http://%s:%d", r->m[i].ip, r->m[i].peer),
			*data = rig_data(r, i), *name = g_strdup_printf("m%d", i);
	char **argv;

	for (int k = 0; k < r->n; k++)
		g_string_append_printf(all, "%sm%d=http://%s:%d", k > 0 ? "," : "", k, r->m[k].ip,
				       r->m[k].peer);
	g_strv_builder_add_many(b, "etcd", "--name", name, "--data-dir", data, "--listen-client-urls", client,
				"--advertise-client-urls", client, "--listen-peer-urls", peer,
				"--initial-advertise-peer-urls", peer, "--initial-cluster", all->str,
				"--heartbeat-interval", "100", "--election-timeout", "1000", "--pre-vote",
				"--logger", "zap", "--log-level", "error", NULL);
	for (size_t k = 0; r->more != NULL && r->more[k] != NULL; k++)
		g_strv_builder_add(b, r->more[k]);
	argv = g_strv_builder_end(b);
	g_strv_builder_unref(b);
	return argv;
}

/* In the child: only system calls. Waits until its network is there. */
static void child(const Rig *r, char **argv, int go, int log, int ready)
{
	char c;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (r->n > 1 && (unshare(CLONE_NEWNET) < 0 || write(ready, "r", 1) != 1 || read(go, &c, 1) != 1))
		_exit(1);
	dup2(log, STDOUT_FILENO);
	dup2(log, STDERR_FILENO);
	execvp(argv[0], argv);
	_exit(1);
}

static void give_network(const Rig *r, int i, pid_t pid)
{
	run("ip link add v%d type veth peer name e0 netns %d", i, (int)pid);
	run("ip link set v%d master br0 up", i);
	run("nsenter -t %d -n ip link set lo up", (int)pid);
	run("nsenter -t %d -n ip addr add %s/24 dev e0", (int)pid, r->m[i].ip);
	run("nsenter -t %d -n ip link set e0 up", (int)pid);
}

void rig_start(Rig *r, int i)
{
	g_auto(GStrv) argv = argv_of(r, i);
	g_autofree char *log_path = g_strdup_printf("%s/log%d", r->dir, i);
	_cleanup_close_ int log = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	int go[2], ready[2];
	pid_t pid;
	char c;

	g_assert_true(pipe2(go, O_CLOEXEC) == 0 && pipe2(ready, O_CLOEXEC) == 0);
	pid = fork();
	g_assert_cmpint(pid, >=, 0);
	if (pid == 0)
		child(r, argv, go[0], log, ready[1]);
	close(ready[1]);
	if (r->n > 1) {
		g_assert_cmpint(read(ready[0], &c, 1), ==, 1);
		give_network(r, i, pid);
		g_assert_cmpint(write(go[1], "g", 1), ==, 1);
	}
	close(ready[0]);
	close(go[0]);
	close(go[1]);
	r->m[i].pid = pid;
}

static bool ask(const Rig *r, int i, const char *path, const char *body, Json **ret)
{
	g_autofree char *url = g_strdup_printf("http://%s:%d", r->m[i].ip, r->m[i].client);
	g_autoptr(EtcdConfig) config = etcd_config_parse(url, NULL);
	g_autoptr(EtcdClient) c = etcd_client_new(config, NULL);

	*ret = etcd_client_call(
	    c, &(EtcdCall){ .path = path, .body = body, .once = true, .timeout = 1000000 }, NULL);
	return *ret != NULL;
}

void rig_wait(Rig *r, int i)
{
	for (uint64_t end = time_monotonic() + DEADLINE; time_monotonic() < end; g_usleep(10000)) {
		_cleanup_json_ Json *j = NULL;

		if (ask(r, i, "kv/range", "{\"key\":\"YQ==\"}", &j))
			return;
		if (r->m[i].pid > 0 && waitpid(r->m[i].pid, NULL, WNOHANG) == r->m[i].pid)
			break;
	}
	run("cat %s/log%d", r->dir, i);
	g_error("member %d of etcd does not answer", i);
}

int rig_leader(Rig *r)
{
	for (uint64_t end = time_monotonic() + DEADLINE; time_monotonic() < end; g_usleep(10000))
		for (int i = 0; i < r->n; i++) {
			_cleanup_json_ Json *j = NULL;

			if (r->m[i].pid > 0 && ask(r, i, "maintenance/status", "{}", &j) &&
			    g_strcmp0(json_str(j, "leader"), json_str(json_obj(j, "header"), "member_id")) ==
				0)
				return i;
		}
	g_error("etcd has no leader");
}

bool rig_up(Rig *r, int n, const char *const *more)
{
	g_autofree char *program = g_find_program_in_path("etcd");
	bool memory = access("/dev/shm", W_OK) == 0;
	GString *url = g_string_new(NULL);

	*r = (Rig){ .n = n, .more = more };
	if (program == NULL || (n > 1 && !have_network)) {
		g_test_skip(program == NULL ? "there is no etcd (Debian package etcd-server)"
					    : "network namespaces need root");
		g_string_free(url, TRUE);
		return false;
	}
	/* Memory where there is some: what is tested is not the disk. */
	r->dir = memory ? g_strdup("/dev/shm/plimsoll-rig-XXXXXX")
			: g_build_filename(g_get_tmp_dir(), "plimsoll-rig-XXXXXX", NULL);
	g_assert_nonnull(g_mkdtemp(r->dir));
	for (int i = 0; i < n; i++) {
		r->m[i].ip = n > 1 ? g_strdup_printf("10.99.0.%d", 10 + i) : g_strdup("127.0.0.1");
		if (n == 1) {
			give_free_ports(r, i);
		} else {
			r->m[i].client = 2379;
			r->m[i].peer = 2380;
		}
		g_string_append_printf(url, "%shttp://%s:%d", i > 0 ? "," : "", r->m[i].ip, r->m[i].client);
	}
	r->url = g_string_free(url, FALSE);
	for (int i = 0; i < n; i++)
		rig_start(r, i);
	for (int i = 0; i < n; i++)
		rig_wait(r, i);
	return true;
}

void rig_kill(Rig *r, int i)
{
	if (r->m[i].pid == 0)
		return;
	kill(r->m[i].pid, SIGKILL);
	waitpid(r->m[i].pid, NULL, 0);
	r->m[i].pid = 0;
	if (r->n > 1) { /* its half goes with the namespace, a moment later */
		g_autofree char *command = g_strdup_printf("ip link del v%d", i);

		g_spawn_command_line_sync(command, NULL, NULL, NULL, NULL);
	}
}

void rig_down(Rig *r)
{
	for (int i = 0; i < r->n; i++) {
		rig_kill(r, i);
		g_free(r->m[i].ip);
	}
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->dir);
	g_free(r->url);
}

void rig_signal(Rig *r, int i, int signo)
{
	g_assert_cmpint(kill(r->m[i].pid, signo), ==, 0);
}

static void route(Rig *r, int i, const char *verb)
{
	for (int k = 0; k < r->n; k++)
		if (k != i)
			run("nsenter -t %d -n ip route %s blackhole %s/32", (int)r->m[i].pid, verb,
			    r->m[k].ip);
}

void rig_cut(Rig *r, int i)
{
	route(r, i, "add");
}

void rig_join(Rig *r, int i)
{
	route(r, i, "del");
}

/* ---- the proxy ---- */

struct lossy {
	int listening, port, lose;
};

struct link {
	struct lossy *at;
	int fd;
};

static int connect_to(int port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port) };

	g_assert_cmpint(connect(fd, (struct sockaddr *)&a, sizeof a), ==, 0);
	return fd;
}

/* One piece is one request or answer here: they are small, and each waits for the other. */
static gpointer serve_link(gpointer data)
{
	g_autofree struct link *l = data;
	_cleanup_close_ int client = l->fd, server = connect_to(l->at->port);
	struct pollfd p[] = { { .fd = client, .events = POLLIN }, { .fd = server, .events = POLLIN } };
	bool lost = false;
	char buf[65536];

	while (poll(p, 2, -1) > 0) {
		bool up = p[0].revents != 0;
		ssize_t n = read(up ? client : server, buf, sizeof buf);
		int dice = up ? g_random_int_range(0, 100) : 100;

		if (n <= 0 || (!up && lost))
			return NULL; /* the answer is lost: the connection ends */
		if (dice >= l->at->lose && dice < 2 * l->at->lose)
			return NULL; /* the request is lost */
		lost = lost || dice < l->at->lose;
		if (fd_write_all(up ? server : client, buf, (size_t)n) != 0)
			return NULL;
	}
	return NULL;
}

static gpointer serve_proxy(gpointer data)
{
	struct lossy *at = data;

	for (;;) {
		struct link *l = g_new(struct link, 1);

		*l = (struct link){ .at = at, .fd = accept4(at->listening, NULL, NULL, SOCK_CLOEXEC) };
		g_assert_cmpint(l->fd, >=, 0);
		g_thread_unref(g_thread_new("link", serve_link, l));
	}
	return NULL;
}

int rig_lossy_proxy(const Rig *r, int lose)
{
	struct lossy *at = g_new(struct lossy, 1);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;

	*at = (struct lossy){ .listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
			      .port = r->m[0].client,
			      .lose = lose };
	g_assert_cmpint(bind(at->listening, (struct sockaddr *)&a, sizeof a), ==, 0);
	g_assert_cmpint(listen(at->listening, 64), ==, 0);
	g_assert_cmpint(getsockname(at->listening, (struct sockaddr *)&a, &len), ==, 0);
	g_thread_unref(g_thread_new("proxy", serve_proxy, at));
	return ntohs(a.sin_port);
}
