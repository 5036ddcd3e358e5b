/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/etcd_member.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/time.h"
#include "engine/lasting.h"
#include "engine/vmm_log.h"
#include "store/etcd_client.h"

#include <string.h>

#define RECORD "member.json"
#define RECORD_MAX 65536
#define FILES_MAX 8192
/* From SIGTERM to SIGKILL: a leader hands over first. */
#define END_TIMEOUT UINT64_C(10000000)
/* A handshake takes seconds on a host that is very busy. */
#define ASK_US UINT64_C(5000000)
#define PAUSE_US UINT64_C(20000)

EtcdMember *etcd_member_free(EtcdMember *m)
{
	if (m == NULL)
		return NULL;
	g_free(m->name);
	g_free(m->address);
	g_free(m->ca);
	g_free(m->cert);
	g_free(m->key);
	g_free(m->cluster);
	g_free(m->join);
	g_free(m);
	return NULL;
}

static char *url(const EtcdMember *m, uint16_t port)
{
	bool v6 = strchr(m->address, ':') != NULL;

	return g_strdup_printf("%s://%s%s%s:%u", m->ca != NULL ? "https" : "http", v6 ? "[" : "", m->address,
			       v6 ? "]" : "", port);
}

char *etcd_member_client_url(const EtcdMember *m)
{
	return url(m, m->client_port);
}

char *etcd_member_peer_url(const EtcdMember *m)
{
	return url(m, m->peer_port);
}

/* ---- the record ---- */

static char *record_print(const EtcdMember *m)
{
	_cleanup_json_ Json *j = json_object();

	json_put_str(j, "name", m->name);
	json_put_str(j, "address", m->address);
	json_put_int(j, "client_port", m->client_port);
	json_put_int(j, "peer_port", m->peer_port);
	json_put_str(j, "ca", m->ca);
	json_put_str(j, "cert", m->cert);
	json_put_str(j, "key", m->key);
	json_put_str(j, "cluster", m->cluster);
	json_put_str(j, "join", m->join);
	return json_print_pretty(j);
}

static bool port_read(const Json *j, const char *name, uint16_t *ret)
{
	int64_t port = json_int(j, name, 0);

	*ret = (uint16_t)port;
	return port > 0 && port <= UINT16_MAX;
}

static EtcdMember *record_parse(const char *text, size_t len)
{
	_cleanup_json_ Json *j = json_parse(text, len, NULL);
	g_autoptr(EtcdMember) m = g_new0(EtcdMember, 1);

	if (j == NULL || !port_read(j, "client_port", &m->client_port) ||
	    !port_read(j, "peer_port", &m->peer_port))
		return NULL;
	m->name = g_strdup(json_str(j, "name"));
	m->address = g_strdup(json_str(j, "address"));
	m->ca = g_strdup(json_str(j, "ca"));
	m->cert = g_strdup(json_str(j, "cert"));
	m->key = g_strdup(json_str(j, "key"));
	m->cluster = g_strdup(json_str(j, "cluster"));
	m->join = g_strdup(json_str(j, "join"));
	if (m->name == NULL || m->address == NULL || m->cluster == NULL ||
	    (m->ca == NULL) != (m->cert == NULL) || (m->ca == NULL) != (m->key == NULL))
		return NULL;
	return g_steal_pointer(&m);
}

EtcdMember *etcd_member_load(const char *folder, GError **err)
{
	g_autofree char *path = g_build_filename(folder, RECORD, NULL), *text = NULL;
	g_autoptr(GError) e = NULL;
	EtcdMember *m;
	size_t len = 0;

	text = file_read(path, RECORD_MAX, &len, &e);
	if (text == NULL && g_error_matches(e, ERR, ERR_NOT_FOUND))
		return NULL;
	if (text == NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return NULL;
	}
	m = record_parse(text, len);
	if (m == NULL)
		fail_advice(err, ERR_STORE, "Remove this host from the pool's voters, and it is made anew.",
			    "'%s' is not the record of a member of etcd", path);
	return m;
}

bool etcd_member_make(const char *folder, const EtcdMember *m, GError **err)
{
	g_autofree char *path = g_build_filename(folder, RECORD, NULL),
			*data = g_build_filename(folder, "data", NULL), *text = record_print(m);

	if (etcd_member_running(folder) > 0)
		return fail_advice(err, ERR_CONFLICT, "Stop it first.", "a member of etcd runs in '%s'",
				   folder);
	return dir_remove(data, err) && dir_make(folder, 0700, err) &&
	       file_write_atomic(path, text, strlen(text), 0600, err);
}

/* ---- the process ---- */

/* What is in `l` points to what is to be freed. */
struct found_by {
	char *pid_path, *mark;
	struct lasting l;
};

static struct found_by found_by(const char *folder)
{
	struct found_by f = { .pid_path = g_build_filename(folder, "etcd.pid", NULL),
			      .mark = g_strdup_printf("--data-dir=%s/data", folder) };

	f.l = (struct lasting){ .program = "etcd", .pid_path = f.pid_path, .mark = f.mark };
	return f;
}

static void found_by_done(struct found_by *f)
{
	g_free(f->pid_path);
	g_free(f->mark);
}

pid_t etcd_member_running(const char *folder)
{
	struct found_by f = found_by(folder);
	pid_t pid = lasting_running(&f.l);

	found_by_done(&f);
	return pid;
}

bool etcd_member_stop(const char *folder, GError **err)
{
	struct found_by f = found_by(folder);
	bool ok = lasting_end(&f.l, END_TIMEOUT, err);

	found_by_done(&f);
	return ok;
}

bool etcd_member_remove(const char *folder, GError **err)
{
	return etcd_member_stop(folder, err) && dir_remove(folder, err);
}

static void add(GPtrArray *argv, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
static void add(GPtrArray *argv, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	g_ptr_array_add(argv, g_strdup_vprintf(fmt, ap));
	va_end(ap);
}

static void add_tls(GPtrArray *argv, const EtcdMember *m)
{
	static const char *const sides[] = { "", "peer-" };

	for (size_t i = 0; m->ca != NULL && i < G_N_ELEMENTS(sides); i++) {
		add(argv, "--%sclient-cert-auth=true", sides[i]);
		add(argv, "--%strusted-ca-file=%s", sides[i], m->ca);
		add(argv, "--%scert-file=%s", sides[i], m->cert);
		add(argv, "--%skey-file=%s", sides[i], m->key);
	}
}

static GPtrArray *argv_of(const char *folder, const EtcdMember *m, const char *program)
{
	GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
	g_autofree char *client = etcd_member_client_url(m), *peer = etcd_member_peer_url(m);

	add(argv, "%s", program);
	add(argv, "--name=%s", m->name);
	add(argv, "--data-dir=%s/data", folder);
	add(argv, "--listen-client-urls=%s", client);
	add(argv, "--advertise-client-urls=%s", client);
	add(argv, "--listen-peer-urls=%s", peer);
	add(argv, "--initial-advertise-peer-urls=%s", peer);
	/* These count at the first start only. */
	add(argv, "--initial-cluster-token=%s", m->cluster);
	add(argv, "--initial-cluster-state=%s", m->join != NULL ? "existing" : "new");
	if (m->join != NULL)
		add(argv, "--initial-cluster=%s", m->join);
	else
		add(argv, "--initial-cluster=%s=%s", m->name, peer);
	/* One that comes back from a partition must not unseat a leader that is fine. */
	add(argv, "--pre-vote=true");
	/* A host may call from another of its addresses than the one in its certificate. */
	add(argv, "--experimental-peer-skip-client-san-verification=true");
	add(argv, "--auto-compaction-mode=periodic");
	add(argv, "--auto-compaction-retention=1h");
	/* The most keys of one transaction, and the mark that goes with it. */
	add(argv, "--max-txn-ops=256");
	add(argv, "--snapshot-count=10000");
	add(argv, "--logger=zap");
	add(argv, "--log-level=warn");
	add_tls(argv, m);
	g_ptr_array_add(argv, NULL);
	return argv;
}

char *etcd_member_program(GError **err)
{
	char *program = g_find_program_in_path("etcd");

	if (program == NULL)
		fail_advice(err, ERR_NOT_FOUND, "Install the package etcd-server.",
			    "there is no etcd on this host");
	return program;
}

static bool spawn_member(const char *folder, const EtcdMember *m, int *ret_pidfd, GError **err)
{
	g_autofree char *program = etcd_member_program(err),
			*log_path = g_build_filename(folder, "etcd.log", NULL);
	g_autoptr(GPtrArray) argv = NULL;
	struct found_by f;
	_cleanup_close_ int log = -EBADF;
	pid_t pid;
	bool ok;

	if (program == NULL)
		return false;
	log = vmm_log_open(log_path, err);
	if (log < 0)
		return false;
	argv = argv_of(folder, m, program);
	if (!vmm_log_begin(log, "etcd", (const char *const *)argv->pdata, err))
		return false;
	f = found_by(folder);
	ok = spawn_process(&(struct spawn){ .argv = (const char *const *)argv->pdata,
					    .output = log,
					    .pid_path = f.pid_path,
					    .max_files = FILES_MAX },
			   &pid, ret_pidfd, err);
	found_by_done(&f);
	return ok;
}

/* ---- is it ready? ---- */

static bool answers(const EtcdMember *m, uint64_t timeout)
{
	g_autoptr(GPtrArray) one = g_ptr_array_new_with_free_func(g_free);
	EtcdConfig config = { .endpoint = one,
			      .root = (char *)"",
			      .ca = m->ca,
			      .cert = m->cert,
			      .key = m->key,
			      .timeout = timeout };
	g_autoptr(EtcdClient) c = etcd_client_new(&config, NULL);
	_cleanup_json_ Json *status = NULL;

	g_ptr_array_add(one, etcd_member_client_url(m));
	status = etcd_client_call(c, &(EtcdCall){ .path = "maintenance/status", .body = "{}" }, NULL);
	return status != NULL;
}

static bool fail_ended(const char *folder, GError **err)
{
	g_autofree char *log_path = g_build_filename(folder, "etcd.log", NULL),
			*words = vmm_log_last_words(log_path);

	fail_advice(err, ERR_STORE, "Its words are in etcd.log, in the pool's folder of this host.",
		    "etcd ended as soon as it was started");
	return err_detail(err, "output", json_string(words));
}

typedef enum Ready { READY_YES, READY_NOT_YET, READY_ENDED } Ready;

/* `pidfd` is -EBADF for one that was running already. */
static Ready wait_ready(const char *folder, const EtcdMember *m, int pidfd, uint64_t end)
{
	struct process_end how;
	uint64_t now;

	while (!answers(m, ASK_US)) {
		if (pidfd >= 0 ? process_ended(pidfd, &how) : etcd_member_running(folder) == 0)
			return READY_ENDED;
		now = time_monotonic();
		if (now >= end)
			return READY_NOT_YET;
		g_usleep(MIN(PAUSE_US, end - now));
	}
	return READY_YES;
}

static bool start(const char *folder, const EtcdMember *m, uint64_t end, GError **err)
{
	_cleanup_close_ int pidfd = -EBADF;
	Ready r = READY_ENDED;

	/* One that runs may be about to end; then it is started like one that has. */
	if (etcd_member_running(folder) > 0)
		r = wait_ready(folder, m, pidfd, end);
	if (r == READY_ENDED) {
		/* One that ended, and was ours, must be waited for before its number is forgotten. */
		if (!etcd_member_stop(folder, err) || !spawn_member(folder, m, &pidfd, err))
			return false;
		r = wait_ready(folder, m, pidfd, end);
	}
	if (r == READY_ENDED)
		return fail_ended(folder, err);
	return r == READY_YES ||
	       fail_advice(err, ERR_TIMEOUT,
			   "Start etcd on the other voters: more than half of them must run.",
			   "etcd runs, and takes no clients yet");
}

bool etcd_member_start(const char *folder, uint64_t timeout, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(EtcdMember) m = etcd_member_load(folder, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (m == NULL)
		return fail(err, ERR_NOT_FOUND, "there is no member of etcd in '%s'", folder);
	return start(folder, m, time_monotonic() + timeout, err);
}
