/* SPDX-License-Identifier: Apache-2.0 */
/* The pool's certificates, and real TLS between a server with them and peer.h's client. */
#include "api/http.h"
#include "base/fd.h"
#include "base/time.h"
#include "engine/membership.h"
#include "engine/peer.h"
#include "engine/pki.h"

#include <string.h>
#include <sys/stat.h>

#define HOST_A "11111111-1111-4111-8111-111111111111"
#define HOST_B "22222222-2222-4222-8222-222222222222"
#define TIMEOUT UINT64_C(120000000)

static const char *const loopback[] = { "127.0.0.1", NULL };

/* Two hosts of one pool: folders a and b. */
typedef struct Rig {
	char *dir, *a, *b;
	/* the server of host a */
	GThread *thread;
	Loop *loop;
	HttpServer *server;
	GMutex lock;
	GCond cond;
	bool up;
	unsigned port;
	char *url;
} Rig;

static char *sub_dir(Rig *r, const char *name)
{
	char *path = g_build_filename(r->dir, name, NULL);
	g_autoptr(GError) e = NULL;

	dir_make(path, 0700, &e);
	g_assert_no_error(e);
	return path;
}

static void make_host(const char *folder, const char *id, uint64_t from, uint64_t until)
{
	const struct pki_subject s = { id, loopback, from, until };
	g_autoptr(GError) e = NULL;

	pki_host_make(folder, &s, &e);
	g_assert_no_error(e);
}

static void share_ca(const char *from, const char *to)
{
	static const char *const names[] = { PKI_CA, PKI_CA_KEY };
	g_autoptr(GError) e = NULL;

	for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
		g_autofree char *text = pki_file_read(from, names[i], &e);

		g_assert_no_error(e);
		pki_file_write(to, names[i], text, &e);
		g_assert_no_error(e);
	}
}

static void rig_init(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	memset(r, 0, sizeof *r);
	r->dir = g_dir_make_tmp("plim-pki-XXXXXX", &e);
	g_assert_no_error(e);
	r->a = sub_dir(r, "a");
	r->b = sub_dir(r, "b");
	pki_ca_make(r->a, "pool-1", time_real(), &e);
	g_assert_no_error(e);
	share_ca(r->a, r->b);
	make_host(r->a, HOST_A, time_real(), time_real() + PKI_HOST_LIFE);
	make_host(r->b, HOST_B, time_real(), time_real() + PKI_HOST_LIFE);
}

/* ---- the server ---- */

static void answer(HttpRequest *req, void *data)
{
	const struct http_peer *p = http_request_peer(req);
	const char *path = http_request_path(req), *user = http_request_header(req, "Plimsoll-User");
	g_autoptr(GError) e = NULL;
	size_t len;
	Json *j;

	(void)data;
	if (g_str_equal(path, "/v1/refuse")) {
		fail_advice(&e, ERR_BAD_STATE, "Stop it first.", "vm 'web1' runs");
		err_detail(&e, "state", json_string("running"));
		http_respond_error(req, e);
		return;
	}
	if (g_str_equal(path, "/v1/words")) {
		http_respond(req, 200, "text/plain", "words", 5);
		return;
	}
	j = json_object();
	json_put_str(j, "cn", p->cert_cn);
	json_put_str(j, "user", user);
	json_put_str(j, "method", http_request_method(req));
	json_put_str(j, "body", http_request_body(req, &len));
	http_respond_json(req, 200, j);
}

static gpointer serve(gpointer data)
{
	Rig *r = data;
	g_autofree char *ca = g_build_filename(r->a, PKI_CA, NULL);
	g_autofree char *cert = g_build_filename(r->a, PKI_CERT, NULL);
	g_autofree char *key = g_build_filename(r->a, PKI_KEY, NULL);
	const struct http_config cfg = { .tls_address = "127.0.0.1:0",
					 .tls_cert = cert,
					 .tls_key = key,
					 .tls_client_ca = ca,
					 .tls_client_cert = HTTP_CLIENT_CERT_OPTIONAL,
					 .handle = answer };
	g_autoptr(GError) e = NULL;

	r->loop = loop_new(&e);
	g_assert_no_error(e);
	r->server = http_server_new(r->loop, &cfg, &e);
	g_assert_no_error(e);
	g_mutex_lock(&r->lock);
	r->port = http_server_tls_port(r->server);
	r->up = true;
	g_cond_signal(&r->cond);
	g_mutex_unlock(&r->lock);
	loop_run(r->loop);
	http_server_free(r->server);
	loop_free(r->loop);
	return NULL;
}

static void server_start(Rig *r)
{
	r->thread = g_thread_new("server", serve, r);
	g_mutex_lock(&r->lock);
	while (!r->up)
		g_cond_wait(&r->cond, &r->lock);
	g_mutex_unlock(&r->lock);
	r->url = g_strdup_printf("https://127.0.0.1:%u", r->port);
}

static void end_loop(void *data)
{
	loop_quit(data, 0);
}

static void rig_done(Rig *r, gconstpointer data)
{
	(void)data;
	if (r->thread != NULL) {
		loop_post(r->loop, end_loop, r->loop);
		g_thread_join(r->thread);
	}
	dir_remove(r->dir, NULL);
	g_free(r->dir);
	g_free(r->a);
	g_free(r->b);
	g_free(r->url);
}

/* ---- files ---- */

static mode_t mode_of(const char *folder, const char *name)
{
	g_autofree char *path = g_build_filename(folder, name, NULL);
	struct stat st;

	g_assert_cmpint(stat(path, &st), ==, 0);
	return st.st_mode & 07777;
}

static void test_keys_are_for_their_owner_only(Rig *r, gconstpointer data)
{
	(void)data;
	g_assert_cmpint(mode_of(r->a, PKI_CA_KEY), ==, 0600);
	g_assert_cmpint(mode_of(r->a, PKI_KEY), ==, 0600);
	g_assert_cmpint(mode_of(r->b, PKI_CA_KEY), ==, 0600);
	g_assert_cmpint(mode_of(r->a, PKI_CERT), ==, 0644);
}

static void test_a_second_authority_is_refused(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL, none = NULL;
	g_autofree char *was = pki_file_read(r->a, PKI_CA, &none), *is = NULL;

	(void)data;
	g_assert_false(pki_ca_make(r->a, "pool-2", time_real(), &e));
	g_assert_error(e, ERR, ERR_CONFLICT);
	is = pki_file_read(r->a, PKI_CA, &none);
	g_assert_cmpstr(was, ==, is);
}

static void assert_denied(const char *folder, const char *id, uint64_t now, const char *words)
{
	g_autoptr(GError) e = NULL;

	g_assert_false(pki_check(folder, id, now, NULL, &e));
	g_assert_error(e, ERR, ERR_DENIED);
	g_assert_nonnull(strstr(e->message, words));
	g_assert_nonnull(err_advice(e));
}

static void test_a_check_says_what_is_wrong(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	uint64_t until = 0;

	(void)data;
	g_assert_true(pki_check(r->a, HOST_A, time_real(), &until, &e));
	g_assert_no_error(e);
	g_assert_cmpuint(until, >, time_real() + PKI_HOST_LIFE - PKI_DAY);
	assert_denied(r->a, HOST_B, time_real(), "is that of host '" HOST_A "'");
	assert_denied(r->a, HOST_A, time_real() + PKI_HOST_LIFE + PKI_DAY, "expired");
	assert_denied(r->a, HOST_A, time_real() - PKI_DAY, "only holds from");
}

static void test_a_certificate_of_another_key_is_found(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *other = pki_file_read(r->b, PKI_KEY, &e);

	(void)data;
	g_assert_true(pki_file_write(r->a, PKI_KEY, other, &e));
	assert_denied(r->a, HOST_A, time_real(), "does not belong to its key");
}

static void test_a_certificate_of_another_authority_is_found(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *c = sub_dir(r, "c"), *ca = NULL;

	(void)data;
	g_assert_true(pki_ca_make(c, "pool-1", time_real(), &e));
	ca = pki_file_read(c, PKI_CA, &e);
	g_assert_true(pki_file_write(r->a, PKI_CA, ca, &e));
	assert_denied(r->a, HOST_A, time_real(), "not signed by its pool's authority");
}

static void test_the_names_in_a_request_are_not_believed(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *c = sub_dir(r, "c"), *request = pki_request(c, HOST_A, &e), *pem = NULL;
	const struct pki_subject s = { HOST_B, NULL, time_real(), time_real() + PKI_DAY };

	(void)data;
	g_assert_no_error(e);
	pem = pki_sign(r->a, request, &s, &e);
	g_assert_no_error(e);
	share_ca(r->a, c);
	g_assert_true(pki_file_write(c, PKI_CERT, pem, &e));
	assert_denied(c, HOST_A, time_real(), "is that of host '" HOST_B "'");
	g_assert_true(pki_check(c, HOST_B, time_real(), NULL, &e));
}

static void test_what_is_no_request_is_refused(Rig *r, gconstpointer data)
{
	static const char *const bad[] = { "", "words", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n",
					   "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" };
	const struct pki_subject s = { HOST_B, NULL, time_real(), time_real() + PKI_DAY };

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_null(pki_sign(r->a, bad[i], &s, &e));
		g_assert_error(e, ERR, ERR_INVALID);
	}
}

static void test_a_fingerprint_tells_certificates_apart(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *ca = pki_file_read(r->a, PKI_CA, &e), *host = pki_file_read(r->a, PKI_CERT, &e),
			*x = pki_fingerprint(ca, &e), *y = pki_fingerprint(host, &e), *again = NULL;

	(void)data;
	g_assert_no_error(e);
	g_assert_cmpuint(strlen(x), ==, 64);
	g_assert_cmpstr(x, !=, y);
	again = pki_fingerprint(ca, &e);
	g_assert_cmpstr(x, ==, again);
	g_assert_null(pki_fingerprint("no certificate", &e));
	g_assert_error(e, ERR, ERR_INVALID);
}

/* A text of two certificates has the fingerprint of the first one; the second must not be believed with it.
 */
static void test_what_stands_behind_an_authority_is_left_out(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	g_autofree char *ca = pki_file_read(r->a, PKI_CA, &e), *other = pki_file_read(r->a, PKI_CERT, &e),
			*both = g_strconcat(ca, other, NULL), *x = pki_fingerprint(ca, &e),
			*y = pki_fingerprint(both, &e), *only = pki_only(both, &e);

	(void)data;
	g_assert_no_error(e);
	g_assert_cmpstr(x, ==, y);
	g_assert_cmpstr(only, ==, ca);
	g_assert_null(pki_only("no certificate", &e));
	g_assert_error(e, ERR, ERR_INVALID);
}

/* ---- calls ---- */

static Json *call(Rig *r, const char *folder, const char *id, const char *path, GError **err)
{
	const struct peer_target t = { .url = r->url, .host_id = id, .name = "b1", .folder = folder };
	const struct peer_request q = {
		.method = "POST", .path = path, .body = "{\"x\":1}", .user = "anna", .timeout = TIMEOUT
	};

	return peer_json(&t, &q, err);
}

static void test_hosts_of_a_pool_know_each_other(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = NULL;

	(void)data;
	server_start(r);
	j = call(r, r->b, HOST_A, "/v1/who", &e);
	g_assert_no_error(e);
	g_assert_cmpstr(json_str(j, "cn"), ==, HOST_B);
	g_assert_cmpstr(json_str(j, "user"), ==, "anna");
	g_assert_cmpstr(json_str(j, "method"), ==, "POST");
	g_assert_cmpstr(json_str(j, "body"), ==, "{\"x\":1}");
}

static void test_an_error_comes_back_whole_with_the_hosts_name(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	server_start(r);
	g_assert_null(call(r, r->b, HOST_A, "/v1/refuse", &e));
	g_assert_error(e, ERR, ERR_BAD_STATE);
	g_assert_cmpstr(e->message, ==, "b1: vm 'web1' runs");
	g_assert_cmpstr(err_advice(e), ==, "Stop it first.");
	g_assert_cmpstr(json_str(err_details(e), "state"), ==, "running");
}

static void test_an_answer_that_is_no_json_is_said_to_be_none(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	server_start(r);
	g_assert_null(call(r, r->b, HOST_A, "/v1/words", &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	g_assert_nonnull(strstr(e->message, "b1"));
}

static void test_an_address_that_went_to_another_host_is_noticed(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	server_start(r);
	g_assert_null(call(r, r->b, "33333333-3333-4333-8333-333333333333", "/v1/who", &e));
	g_assert_error(e, ERR, ERR_DENIED);
	g_assert_nonnull(strstr(e->message, "is not that host"));
	g_assert_nonnull(err_advice(e));
}

static void test_a_host_of_another_pool_is_refused_on_both_sides(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL, e2 = NULL;
	g_autofree char *c = sub_dir(r, "c"), *ours = NULL;

	(void)data;
	pki_ca_make(c, "pool-2", time_real(), &e);
	make_host(c, HOST_B, time_real(), time_real() + PKI_HOST_LIFE);
	g_assert_no_error(e);
	server_start(r);
	g_assert_null(call(r, c, HOST_A, "/v1/who", &e));
	g_assert_error(e, ERR, ERR_DENIED);
	g_assert_nonnull(strstr(e->message, "is not that host"));
	/* It believes us now, but we must not believe it. */
	ours = pki_file_read(r->a, PKI_CA, NULL);
	g_assert_true(pki_file_write(c, PKI_CA, ours, NULL));
	g_assert_null(call(r, c, HOST_A, "/v1/who", &e2));
	g_assert_error(e2, ERR, ERR_DENIED);
	g_assert_nonnull(strstr(e2->message, "does not accept this host's certificate"));
}

static void test_an_expired_certificate_is_refused(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	make_host(r->b, HOST_B, time_real() - 3 * PKI_DAY, time_real() - PKI_DAY);
	server_start(r);
	g_assert_null(call(r, r->b, HOST_A, "/v1/who", &e));
	g_assert_error(e, ERR, ERR_DENIED);
	g_assert_nonnull(strstr(e->message, "does not accept this host's certificate"));
}

static void test_a_server_with_an_expired_certificate_is_refused(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	make_host(r->a, HOST_A, time_real() - 3 * PKI_DAY, time_real() - PKI_DAY);
	server_start(r);
	g_assert_null(call(r, r->b, HOST_A, "/v1/who", &e));
	g_assert_error(e, ERR, ERR_DENIED);
	g_assert_nonnull(strstr(e->message, "is not that host"));
}

static void test_a_stranger_is_served_without_a_name(Rig *r, gconstpointer data)
{
	const struct peer_request q = { .method = "GET", .path = "/v1/who", .timeout = TIMEOUT };
	struct peer_target t = { .folder = r->b, .stranger = true };
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *j = NULL;

	(void)data;
	server_start(r);
	t.url = r->url;
	j = peer_json(&t, &q, &e);
	g_assert_no_error(e);
	g_assert_null(json_str(j, "cn"));
}

static void test_nobody_there_is_unavailable(Rig *r, gconstpointer data)
{
	g_autoptr(GError) e = NULL;

	(void)data;
	r->url = g_strdup("https://127.0.0.1:1");
	g_assert_null(call(r, r->b, HOST_A, "/v1/who", &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	g_assert_nonnull(strstr(e->message, "b1"));
}

static void test_a_name_can_not_bring_a_header_along(Rig *r, gconstpointer data)
{
	const struct peer_target t = { .url = "https://127.0.0.1:1", .folder = r->a };
	const struct peer_request with[] = {
		{ .method = "GET", .path = "/v1", .timeout = TIMEOUT, .user = "eve\r\nPlimsoll-Role: admin" },
		{ .method = "GET", .path = "/v1", .timeout = TIMEOUT, .user = "eve\nPlimsoll-Role: admin" },
		{ .method = "GET", .path = "/v1", .timeout = TIMEOUT, .role = "viewer\x7f" },
		{ .method = "GET", .path = "/v1", .timeout = TIMEOUT, .if_match = "\xff" },
	};

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(with); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_null(peer_exchange(&t, &with[i], &e));
		g_assert_error(e, ERR, ERR_INVALID);
		g_assert_nonnull(strstr(e->message, "control characters"));
	}
}

static void test_what_is_no_address_is_refused(Rig *r, gconstpointer data)
{
	static const char *const bad[] = { "http://127.0.0.1:1", "https://127.0.0.1", "https://127.0.0.1:1/x",
					   "127.0.0.1:1", "" };

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) e = NULL;

		g_free(r->url);
		r->url = g_strdup(bad[i]);
		g_assert_null(call(r, r->b, HOST_A, "/v1/who", &e));
		g_assert_error(e, ERR, ERR_INVALID);
	}
}

/* ---- addresses and the file ---- */

static void test_addresses_are_made_whole(void)
{
	static const struct {
		const char *text, *whole, *host;
	} table[] = {
		{ "192.0.2.1", "192.0.2.1:7443", "192.0.2.1" },
		{ "192.0.2.1:99", "192.0.2.1:99", "192.0.2.1" },
		{ "2001:db8::1", "[2001:db8::1]:7443", "2001:db8::1" },
		{ "[2001:db8::1]", "[2001:db8::1]:7443", "2001:db8::1" },
		{ "[2001:db8::1]:99", "[2001:db8::1]:99", "2001:db8::1" },
	};
	static const char *const bad[] = {
		"",  "0.0.0.0", "[::]:7443", "192.0.2.1:0",  "192.0.2.1:x", "192.0.2.1:", "192.0.2.1:70000",
		"[", "[]",      "]:1",       "host.example", "[192.0.2.1",  ":7443"
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		g_autoptr(GError) e = NULL;
		g_autofree char *whole = pool_address_parse(table[i].text, &e), *host = NULL;

		g_assert_no_error(e);
		host = pool_address_host(whole);
		g_assert_cmpstr(whole, ==, table[i].whole);
		g_assert_cmpstr(host, ==, table[i].host);
	}
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_null(pool_address_parse(bad[i], &e));
		g_assert_error(e, ERR, ERR_INVALID);
	}
}

static void test_a_membership_is_kept(Rig *r, gconstpointer data)
{
	char pool[] = "p", name[] = "lab", host[] = HOST_A, address[] = "192.0.2.1:7443", store[] = "mem:";
	const Membership m = {
		.pool_id = pool, .pool_name = name, .host_id = host, .address = address, .store = store
	};
	g_autoptr(Membership) got = NULL;
	g_autoptr(GError) e = NULL;

	(void)data;
	g_assert_null(membership_load(r->dir, MEMBERSHIP_FILE, &e));
	g_assert_no_error(e);
	g_assert_true(membership_save(&m, r->dir, MEMBERSHIP_FILE, &e));
	got = membership_load(r->dir, MEMBERSHIP_FILE, &e);
	g_assert_no_error(e);
	g_assert_cmpstr(got->host_id, ==, HOST_A);
	g_assert_cmpstr(got->store, ==, "mem:");
	g_assert_null(got->etcd);
	g_assert_cmpint(mode_of(r->dir, MEMBERSHIP_FILE), ==, 0600);
}

static void test_a_broken_membership_is_refused(Rig *r, gconstpointer data)
{
	static const char *const bad[] = { "", "{", "[]", "{\"pool\":\"p\"}", "{\"pool\":1}" };
	g_autofree char *path = g_build_filename(r->dir, MEMBERSHIP_FILE, NULL);

	(void)data;
	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) e = NULL;

		g_assert_true(file_write_atomic(path, bad[i], strlen(bad[i]), 0600, NULL));
		g_assert_null(membership_load(r->dir, MEMBERSHIP_FILE, &e));
		g_assert_error(e, ERR, ERR_INVALID);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/pki/" #name, Rig, NULL, rig_init, test_##name, rig_done)
	ADD(keys_are_for_their_owner_only);
	ADD(a_second_authority_is_refused);
	ADD(a_check_says_what_is_wrong);
	ADD(a_certificate_of_another_key_is_found);
	ADD(a_certificate_of_another_authority_is_found);
	ADD(the_names_in_a_request_are_not_believed);
	ADD(what_is_no_request_is_refused);
	ADD(a_fingerprint_tells_certificates_apart);
	ADD(what_stands_behind_an_authority_is_left_out);
	ADD(hosts_of_a_pool_know_each_other);
	ADD(an_error_comes_back_whole_with_the_hosts_name);
	ADD(an_answer_that_is_no_json_is_said_to_be_none);
	ADD(an_address_that_went_to_another_host_is_noticed);
	ADD(a_host_of_another_pool_is_refused_on_both_sides);
	ADD(an_expired_certificate_is_refused);
	ADD(a_server_with_an_expired_certificate_is_refused);
	ADD(a_stranger_is_served_without_a_name);
	ADD(nobody_there_is_unavailable);
	ADD(a_name_can_not_bring_a_header_along);
	ADD(what_is_no_address_is_refused);
	ADD(a_membership_is_kept);
	ADD(a_broken_membership_is_refused);
	g_test_add_func("/pki/addresses_are_made_whole", test_addresses_are_made_whole);
	return g_test_run();
}
