/* SPDX-License-Identifier: Apache-2.0 */
/* Real members of etcd, with the pool's own certificates: started, found again, taken in, taken out. */
#include "base/fd.h"
#include "base/time.h"
#include "engine/etcd_cluster.h"
#include "engine/etcd_member.h"
#include "engine/pki.h"
#include "store/store.h"

#include <arpa/inet.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

#define DEADLINE UINT64_C(120000000)

enum { N = 3 };

typedef struct Rig {
	char *dir, *pki;
	char *folder[N];
	EtcdMember *m[N];
} Rig;

static int bind_free(uint16_t *ret_port)
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
static void give_free_ports(EtcdMember *m)
{
	_cleanup_close_ int client = bind_free(&m->client_port), peer = bind_free(&m->peer_port);

	g_assert_cmpint(m->client_port, !=, m->peer_port);
}

static EtcdMember *member_new(Rig *r, const char *name)
{
	EtcdMember *m = g_new0(EtcdMember, 1);

	m->name = g_strdup(name);
	m->address = g_strdup("127.0.0.1");
	give_free_ports(m);
	m->ca = g_build_filename(r->pki, PKI_CA, NULL);
	m->cert = g_build_filename(r->pki, PKI_CERT, NULL);
	m->key = g_build_filename(r->pki, PKI_KEY, NULL);
	m->cluster = g_strdup("test");
	return m;
}

static bool rig_up(Rig *r)
{
	static const char *const names[] = { "127.0.0.1", NULL };
	g_autofree char *program = g_find_program_in_path("etcd");
	g_autoptr(GError) e = NULL;
	uint64_t now = time_real();

	*r = (Rig){ 0 };
	if (program == NULL) {
		g_test_skip("there is no etcd (Debian package etcd-server)");
		return false;
	}
	r->dir = g_dir_make_tmp("test-etcd-XXXXXX", NULL);
	r->pki = g_build_filename(r->dir, "pki", NULL);
	g_assert_true(dir_make(r->pki, 0700, NULL));
	pki_ca_make(r->pki, "test", now, &e);
	g_assert_no_error(e);
	pki_host_make(r->pki,
		      &(struct pki_subject){ .host_id = "00000000-0000-4000-8000-000000000001",
					     .names = names,
					     .from = now - PKI_DAY,
					     .until = now + PKI_DAY },
		      &e);
	g_assert_no_error(e);
	for (int i = 0; i < N; i++) {
		g_autofree char *name = g_strdup_printf("h%d", i);

		r->folder[i] = g_build_filename(r->dir, name, NULL);
		r->m[i] = member_new(r, name);
	}
	return true;
}

static void rig_down(Rig *r)
{
	for (int i = 0; i < N; i++) {
		g_autoptr(GError) e = NULL;

		etcd_member_remove(r->folder[i], &e);
		g_assert_no_error(e);
		g_assert_false(g_file_test(r->folder[i], G_FILE_TEST_EXISTS));
		etcd_member_free(r->m[i]);
		g_free(r->folder[i]);
	}
	g_assert_true(dir_remove(r->dir, NULL));
	g_free(r->pki);
	g_free(r->dir);
}

/* Another process may take a port in the moment before etcd does. */
static void make_and_start(Rig *r, int i)
{
	for (int tries = 3;; tries--) {
		g_autoptr(GError) e = NULL;

		g_assert_true(etcd_member_make(r->folder[i], r->m[i], NULL));
		if (etcd_member_start(r->folder[i], DEADLINE, &e))
			return;
		if (tries == 0 || r->m[i]->join != NULL)
			g_assert_no_error(e);
		give_free_ports(r->m[i]);
	}
}

static char *store_url(const Rig *r, int i)
{
	g_autofree char *url = etcd_member_client_url(r->m[i]);

	return g_strdup_printf("%s?ca=%s&cert=%s&key=%s", url, r->m[i]->ca, r->m[i]->cert, r->m[i]->key);
}

static void put(const Rig *r, int i, const char *key)
{
	g_autofree char *part = store_url(r, i), *url = g_strconcat("etcd:", part, NULL);
	g_autoptr(GError) e = NULL;
	g_autoptr(Store) s = store_open(url, &e);
	StoreTx *tx = store_tx_new();

	g_assert_no_error(e);
	store_tx_set(tx, key, STORE_ANY, "1");
	store_commit(s, tx, STORE_DURABLE, NULL, &e);
	g_assert_no_error(e);
}

static bool has(const Rig *r, int i, const char *key)
{
	g_autofree char *part = store_url(r, i), *url = g_strconcat("etcd:", part, NULL);
	g_autoptr(GError) e = NULL;
	g_autoptr(Store) s = store_open(url, &e);
	g_autoptr(StoreItem) item = NULL;

	g_assert_no_error(e);
	item = store_get(s, key, &e);
	g_assert_no_error(e);
	return item != NULL;
}

static void test_a_member_is_found_again_and_ended(void)
{
	Rig r;
	pid_t pid;

	if (!rig_up(&r))
		return;
	make_and_start(&r, 0);
	pid = etcd_member_running(r.folder[0]);
	g_assert_cmpint(pid, >, 0);
	put(&r, 0, "a");
	g_assert_true(etcd_member_start(r.folder[0], DEADLINE, NULL)); /* it runs */
	g_assert_cmpint(etcd_member_running(r.folder[0]), ==, pid);
	g_assert_false(etcd_member_make(r.folder[0], r.m[0], NULL));
	g_assert_true(etcd_member_stop(r.folder[0], NULL));
	g_assert_cmpint(etcd_member_running(r.folder[0]), ==, 0);
	g_assert_true(etcd_member_stop(r.folder[0], NULL));
	g_assert_true(etcd_member_start(r.folder[0], DEADLINE, NULL));
	g_assert_true(has(&r, 0, "a"));
	rig_down(&r);
}

static void test_a_killed_member_starts_with_all_it_had(void)
{
	Rig r;

	if (!rig_up(&r))
		return;
	make_and_start(&r, 0);
	put(&r, 0, "a");
	g_assert_cmpint(kill(etcd_member_running(r.folder[0]), SIGKILL), ==, 0);
	g_assert_true(etcd_member_start(r.folder[0], DEADLINE, NULL));
	g_assert_true(has(&r, 0, "a"));
	rig_down(&r);
}

static void test_who_has_no_certificate_is_turned_away(void)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *url = NULL, *store = NULL;
	Rig r;

	if (!rig_up(&r))
		return;
	make_and_start(&r, 0);
	url = etcd_member_client_url(r.m[0]);
	store = g_strdup_printf("etcd:%s?ca=%s", url, r.m[0]->ca);
	g_assert_null(store_open(store, &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	g_assert_nonnull(err_advice(e));
	rig_down(&r);
}

static void test_what_ended_it_is_told(void)
{
	g_autoptr(GError) e = NULL;
	Rig r;

	if (!rig_up(&r))
		return;
	g_free(r.m[0]->cert);
	r.m[0]->cert = g_build_filename(r.dir, "nosuch.pem", NULL);
	g_assert_true(etcd_member_make(r.folder[0], r.m[0], NULL));
	g_assert_false(etcd_member_start(r.folder[0], DEADLINE, &e));
	g_assert_error(e, ERR, ERR_STORE);
	g_assert_nonnull(strstr(json_str(err_details(e), "output"), "nosuch.pem"));
	rig_down(&r);
}

static void test_a_broken_record_is_refused(void)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[]",
		"{\"name\":\"a\",\"address\":\"a\",\"cluster\":\"c\",\"client_port\":0,\"peer_port\":1}",
		"{\"name\":\"a\",\"address\":\"a\",\"cluster\":\"c\",\"client_port\":1,\"peer_port\":65536}",
		"{\"name\":\"a\",\"address\":\"a\",\"cluster\":\"c\",\"client_port\":1,\"peer_port\":1,\"ca\":\"x\"}"
	};
	Rig r;

	if (!rig_up(&r))
		return;
	g_assert_true(dir_make(r.folder[0], 0700, NULL));
	g_assert_null(etcd_member_load(r.folder[0], NULL));
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autofree char *path = g_build_filename(r.folder[0], "member.json", NULL);
		g_autoptr(GError) e = NULL;

		g_assert_true(file_write_atomic(path, bad[i], strlen(bad[i]), 0600, NULL));
		g_assert_null(etcd_member_load(r.folder[0], &e));
		g_assert_error(e, ERR, ERR_STORE);
		g_clear_error(&e);
		g_assert_false(etcd_member_start(r.folder[0], 1, &e));
		g_assert_error(e, ERR, ERR_STORE);
	}
	rig_down(&r);
}

/* ---- a cluster ---- */

static EtcdClient *client_of(const Rig *r, int i, EtcdConfig **ret_config)
{
	g_autofree char *url = store_url(r, i);

	*ret_config = etcd_config_parse(url, NULL);
	return etcd_client_new(*ret_config, NULL);
}

static void promote(EtcdClient *c, uint64_t id)
{
	for (uint64_t end = time_monotonic() + DEADLINE;; g_usleep(20000)) {
		g_autoptr(GError) e = NULL;

		if (etcd_cluster_promote(c, id, &e))
			return;
		g_assert_error(e, ERR, ERR_BUSY);
		g_assert_cmpuint(time_monotonic(), <, end);
	}
}

/* The members before it must all be connected, which they are some seconds after they started. */
static uint64_t take_in(Rig *r, EtcdClient *c, int i)
{
	g_autofree char *url = etcd_member_peer_url(r->m[i]), *again = NULL;
	uint64_t id = 0, same = 0;

	for (uint64_t end = time_monotonic() + DEADLINE;; g_usleep(50000)) {
		g_autoptr(GError) e = NULL;

		if (etcd_cluster_add(c, r->m[i]->name, url, &id, &r->m[i]->join, &e))
			break;
		g_assert_error(e, ERR, ERR_UNAVAILABLE);
		g_assert_cmpuint(time_monotonic(), <, end);
	}
	g_assert_true(etcd_cluster_add(c, r->m[i]->name, url, &same, &again, NULL));
	g_assert_cmpuint(same, ==, id);
	g_assert_cmpstr(again, ==, r->m[i]->join);
	make_and_start(r, i);
	promote(c, id);
	promote(c, id); /* it has its vote */
	return id;
}

static bool is_healthy(const EtcdConfig *config, const EtcdPeer *p, guint *leaders)
{
	EtcdHealth h;
	bool ok;

	etcd_cluster_health(config, p, DEADLINE, &h);
	ok = h.reachable && h.problem == NULL && h.has_leader && h.db_size > 0;
	*leaders += h.leader;
	etcd_health_clear(&h);
	return ok && !p->learner;
}

static bool are_healthy(EtcdClient *c, const EtcdConfig *config, guint n)
{
	g_autoptr(GPtrArray) all = etcd_cluster_list(c, NULL);
	g_auto(GStrv) alarms = etcd_cluster_alarms(c, NULL);
	guint leaders = 0, healthy = 0;

	for (guint i = 0; all != NULL && i < all->len; i++)
		healthy += is_healthy(config, all->pdata[i], &leaders);
	return all != NULL && all->len == n && healthy == n && leaders == 1 && alarms != NULL &&
	       alarms[0] == NULL;
}

/* They may elect another leader at any time, and on a busy machine they do. */
static void await_health(EtcdClient *c, const EtcdConfig *config, guint n)
{
	for (uint64_t end = time_monotonic() + DEADLINE; !are_healthy(c, config, n); g_usleep(20000))
		g_assert_cmpuint(time_monotonic(), <, end);
}

static void test_members_come_and_go_and_the_data_stays(void)
{
	EtcdConfig *config = NULL;
	EtcdClient *c;
	uint64_t id[N];
	Rig r;

	if (!rig_up(&r))
		return;
	make_and_start(&r, 0);
	put(&r, 0, "before");
	c = client_of(&r, 0, &config);
	id[1] = take_in(&r, c, 1);
	g_assert_true(has(&r, 1, "before"));
	id[2] = take_in(&r, c, 2);
	await_health(c, config, 3);
	g_assert_true(etcd_cluster_remove(c, id[1], NULL));
	g_assert_true(etcd_cluster_remove(c, id[1], NULL)); /* again is fine */
	g_assert_true(etcd_member_remove(r.folder[1], NULL));
	put(&r, 0, "after");
	g_assert_true(has(&r, 2, "after"));
	etcd_client_free(c);
	etcd_config_free(config);
	rig_down(&r);
}

static void test_the_health_of_one_that_is_away_is_told(void)
{
	EtcdPeer never = { .id = 1, .client = (char *[]){ NULL } };
	uint16_t port;
	/* Held, and nobody listens there. */
	_cleanup_close_ int fd = bind_free(&port);
	g_autofree char *url = g_strdup_printf("http://127.0.0.1:%u", port);
	EtcdPeer away = { .id = 1, .client = (char *[]){ url, NULL } };
	g_autoptr(EtcdConfig) config = etcd_config_parse(url, NULL);
	EtcdHealth h;

	etcd_cluster_health(config, &never, 1000000, &h);
	g_assert_false(h.reachable);
	g_assert_nonnull(h.problem);
	etcd_health_clear(&h);
	etcd_cluster_health(config, &away, 200000, &h);
	g_assert_false(h.reachable);
	g_assert_nonnull(strstr(h.problem, url));
	etcd_health_clear(&h);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/etcd-member/" #name, test_##name)
	T(a_member_is_found_again_and_ended);
	T(a_killed_member_starts_with_all_it_had);
	T(who_has_no_certificate_is_turned_away);
	T(what_ended_it_is_told);
	T(a_broken_record_is_refused);
	T(members_come_and_go_and_the_data_stays);
	T(the_health_of_one_that_is_away_is_told);
	return g_test_run();
}
