/* SPDX-License-Identifier: Apache-2.0 */
/* URLs of etcd, and what is read from its answers and refused in them. */
#include "store/etcd_config.h"
#include "store/store-etcd-wire.h"

#include <string.h>

#define HEADER "\"header\":{\"cluster_id\":\"18446744073709551615\",\"revision\":\"7\"}"

/* ---- URLs ---- */

static void test_a_url_says_where_and_how(void)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(EtcdConfig) c = etcd_config_parse(
	    "https://a.example,http://[::1]:4001/?root=/pool%2F1&ca=/c&cert=/d&key=/e&user=u&password-file=/p&timeout=2s",
	    &err);

	g_assert_no_error(err);
	g_assert_cmpuint(c->endpoint->len, ==, 2);
	g_assert_cmpstr(c->endpoint->pdata[0], ==, "https://a.example:2379");
	g_assert_cmpstr(c->endpoint->pdata[1], ==, "http://[::1]:4001");
	g_assert_cmpstr(c->root, ==, "/pool/1");
	g_assert_cmpstr(c->ca, ==, "/c");
	g_assert_cmpstr(c->cert, ==, "/d");
	g_assert_cmpstr(c->key, ==, "/e");
	g_assert_cmpstr(c->user, ==, "u");
	g_assert_cmpstr(c->password_file, ==, "/p");
	g_assert_cmpuint(c->timeout, ==, 2000000);
}

static void test_an_endpoint_without_a_port_gets_the_usual_one(void)
{
	g_autoptr(EtcdConfig) name = etcd_config_parse("http://a", NULL),
			      v6 = etcd_config_parse("http://[fe80::1]", NULL);

	g_assert_cmpstr(name->endpoint->pdata[0], ==, "http://a:2379");
	g_assert_cmpstr(v6->endpoint->pdata[0], ==, "http://[fe80::1]:2379");
}

static void test_bad_urls_are_refused_without_their_secrets(void)
{
	static const char *const bad[] = {
		"",
		"a:2379",
		"ftp://a",
		"http://",
		"http://a,",
		"http://user:hunter2@a",
		"http://a/path?x",
		"http://a?nosuch=hunter2",
		"http://a?root",
		"http://a?root=%zz",
		"http://a?root=a%20b",
		"http://a?cert=/c",
		"http://a?user=u",
		"http://a?password-file=/p",
		"http://a?timeout=1ms",
		"http://a?timeout=soon",
		"http://a http://b",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;

		g_assert_null(etcd_config_parse(bad[i], &err));
		g_assert_error(err, ERR, ERR_INVALID);
		g_assert_null(strstr(err->message, "hunter2"));
	}
}

static void test_endpoints_are_bounded(void)
{
	g_autoptr(GString) many = g_string_new("http://a");
	g_autoptr(GError) err = NULL;

	for (int i = 0; i < ETCD_ENDPOINTS_MAX; i++)
		g_string_append(many, ",http://a");
	g_assert_null(etcd_config_parse(many->str, &err));
	g_assert_error(err, ERR, ERR_INVALID);
}

/* ---- requests ---- */

/* "b64(text)" where base64 stands, so that a request can be read. */
static char *readable(char *take_request)
{
	g_autofree char *request = take_request;
	g_autoptr(GRegex) re = g_regex_new("\"(key|value|range_end)\":\"([^\"]*)\"", 0, 0, NULL);
	GString *s = g_string_new(NULL);
	GMatchInfo *m = NULL;
	int from = 0, begin, end;

	for (g_regex_match(re, request, 0, &m); g_match_info_matches(m); g_match_info_next(m, NULL)) {
		g_autofree char *name = g_match_info_fetch(m, 1), *text = g_match_info_fetch(m, 2),
				*plain = NULL;
		gsize n;

		plain = (char *)g_base64_decode(text, &n);
		g_match_info_fetch_pos(m, 0, &begin, &end);
		g_string_append_len(s, request + from, begin - from);
		g_string_append_printf(s, "%s=<%.*s>", name, (int)n,
				       n == 1 && plain[0] == '\0' ? "0" : plain);
		from = end;
	}
	g_match_info_free(m);
	g_string_append(s, request + from);
	return g_string_free(s, FALSE);
}

static void assert_request(char *take_request, const char *should)
{
	g_autofree char *is = readable(take_request);

	g_assert_cmpstr(is, ==, should);
}

static void test_ranges_cover_a_prefix_and_nothing_else(void)
{
	assert_request(wire_range("/r", "k", 0, 0, 0), "{key=</rk>}");
	assert_request(wire_range("/r", "k", WIRE_PREFIX, 5, 9),
		       "{key=</rk>,range_end=</rl>,\"revision\":\"5\",\"limit\":\"9\"}");
	assert_request(wire_range("", "a~", WIRE_PREFIX | WIRE_KEYS_ONLY, 0, 0),
		       "{key=<a~>,range_end=<a\x7f>,\"keys_only\":true}");
	assert_request(wire_range("", "", WIRE_PREFIX, 0, 0), "{key=<0>,range_end=<0>}");
	assert_request(wire_page("/r", "", "/rk", 3, 10),
		       "{key=</rk\x01>,range_end=</s>,\"revision\":\"3\",\"limit\":\"10\"}");
}

static void test_a_transaction_compares_all_that_it_expects(void)
{
	struct wire_mark mark = { .key = "plimsoll commit 1", .value = "n", .rev = 4 };
	g_autoptr(StoreTx) tx = store_tx_new();

	store_tx_set(tx, "a", 7, "1");
	store_tx_set(tx, "b", 0, NULL);
	store_tx_set(tx, "c", STORE_ANY, "");
	store_tx_expect(tx, "d", 9);
	assert_request(
	    wire_tx("/", tx, &mark),
	    "{\"compare\":["
	    "{\"target\":\"MOD\",\"result\":\"EQUAL\",key=</a>,\"mod_revision\":\"7\"},"
	    "{\"target\":\"MOD\",\"result\":\"EQUAL\",key=</b>,\"mod_revision\":\"0\"},"
	    "{\"target\":\"MOD\",\"result\":\"EQUAL\",key=</d>,\"mod_revision\":\"9\"},"
	    "{\"target\":\"MOD\",\"result\":\"EQUAL\",key=</plimsoll commit 1>,\"mod_revision\":\"4\"}],"
	    "\"success\":[{\"request_put\":{key=</a>,value=<1>}},"
	    "{\"request_delete_range\":{key=</b>}},"
	    "{\"request_put\":{key=</c>,value=<>}},"
	    "{\"request_put\":{key=</plimsoll commit 1>,value=<n>}}],"
	    "\"failure\":[{\"request_range\":{key=</a>,\"keys_only\":true}},"
	    "{\"request_range\":{key=</b>,\"keys_only\":true}},"
	    "{\"request_range\":{key=</d>,\"keys_only\":true}},"
	    "{\"request_range\":{key=</plimsoll commit 1>}}]}");
}

/* ---- answers ---- */

static Json *parsed(const char *text)
{
	g_autoptr(GError) err = NULL;
	Json *j = json_parse(text, strlen(text), &err);

	g_assert_no_error(err);
	return j;
}

static void test_numbers_may_use_all_their_bits(void)
{
	_cleanup_json_ Json *j = parsed("{" HEADER "}");
	struct wire_header h;

	g_assert_true(wire_header_read(j, &h, NULL));
	g_assert_cmpuint(h.cluster, ==, UINT64_MAX);
	g_assert_cmpint(h.rev, ==, 7);
}

static void test_odd_headers_are_refused(void)
{
	static const char *const bad[] = {
		"{}",
		"{\"header\":3}",
		"{\"header\":{\"revision\":\"7\"}}",
		"{\"header\":{\"cluster_id\":\"x\",\"revision\":\"7\"}}",
		"{\"header\":{\"cluster_id\":\"99999999999999999999\",\"revision\":\"7\"}}",
		"{\"header\":{\"cluster_id\":\"1\",\"revision\":\"-7\"}}",
		"{\"header\":{\"cluster_id\":\"1\",\"revision\":\"7 \"}}",
		"{\"header\":{\"cluster_id\":\"1\",\"revision\":\"9223372036854775808\"}}",
		"{\"header\":{\"cluster_id\":\"1\",\"revision\":[]}}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		_cleanup_json_ Json *j = parsed(bad[i]);
		g_autoptr(GError) err = NULL;
		struct wire_header h;

		g_assert_false(wire_header_read(j, &h, &err));
		g_assert_error(err, ERR, ERR_STORE);
	}
}

/* Keys: "/r" + a; + "plimsoll schema"; another root; a key with a NUL in it. */
static void test_what_is_no_item_is_passed_over(void)
{
	_cleanup_json_ Json *j =
	    parsed("{\"kvs\":[{\"key\":\"L3Jh\",\"mod_revision\":\"5\",\"value\":\"MQ==\"},"
		   "{\"key\":\"L3JwbGltc29sbCBzY2hlbWE=\",\"mod_revision\":\"6\"},"
		   "{\"key\":\"L3hh\",\"mod_revision\":\"7\"},"
		   "{\"key\":\"L3JhAGI=\",\"mod_revision\":\"7\"}]}");
	g_autoptr(GPtrArray) items = store_items_new();
	const StoreItem *i;

	g_assert_true(wire_items_read(j, "/r", items, NULL, NULL));
	g_assert_cmpuint(items->len, ==, 1);
	i = items->pdata[0];
	g_assert_cmpstr(i->key, ==, "a");
	g_assert_cmpstr(i->value, ==, "1");
	g_assert_cmpint(i->rev, ==, 5);
}

static void test_a_value_that_is_no_text_is_an_error(void)
{
	_cleanup_json_ Json *j =
	    parsed("{\"kvs\":[{\"key\":\"YQ==\",\"mod_revision\":\"5\",\"value\":\"//8=\"}]}");
	g_autoptr(GPtrArray) items = store_items_new();
	g_autoptr(GError) err = NULL;

	g_assert_false(wire_items_read(j, "", items, NULL, &err));
	g_assert_error(err, ERR, ERR_STORE);
	g_assert_nonnull(err_advice(err));
}

static void test_a_refusal_names_the_first_key_that_moved(void)
{
	g_autoptr(StoreTx) tx = store_tx_new();
	struct wire_outcome o;
	_cleanup_json_ Json *j =
	    parsed("{\"responses\":[{\"response_range\":{\"kvs\":[{\"mod_revision\":\"7\"}]}},"
		   "{\"response_range\":{}}]}");

	store_tx_set(tx, "any", STORE_ANY, "1");
	store_tx_set(tx, "a", 7, "1");
	store_tx_set(tx, "b", 9, "1");
	g_assert_true(wire_outcome_read(j, tx, NULL, &o, NULL));
	g_assert_false(o.succeeded);
	g_assert_true(o.conflict == tx->write->pdata[2]);
	g_assert_cmpint(o.found, ==, 0);
}

/* A gateway that did not understand the transaction must not look like one that carried it out. */
static void test_an_outcome_without_a_reason_is_an_error(void)
{
	g_autoptr(StoreTx) tx = store_tx_new();
	_cleanup_json_ Json
	    *all_as_expected =
		parsed("{\"responses\":[{\"response_range\":{\"kvs\":[{\"mod_revision\":\"7\"}]}}]}"),
	    *empty = parsed("{}"), *text = parsed("{\"succeeded\":\"true\"}");
	struct wire_outcome o;

	store_tx_set(tx, "a", 7, "1");
	g_assert_false(wire_outcome_read(all_as_expected, tx, NULL, &o, NULL));
	g_assert_false(wire_outcome_read(empty, tx, NULL, &o, NULL));
	g_assert_false(wire_outcome_read(text, tx, NULL, &o, NULL));
}

/* ---- lines of a watch ---- */

static void read_line(const char *line, struct wire_event *ret)
{
	g_autoptr(GError) err = NULL;

	g_assert_true(wire_event_read(line, strlen(line), "", ret, &err));
	g_assert_no_error(err);
}

static void test_lines_of_a_watch(void)
{
	struct wire_event e;

	read_line("{\"result\":{" HEADER ",\"created\":true}}", &e);
	g_assert_true(e.created && !e.progress);
	g_assert_cmpint(e.header.rev, ==, 7);
	wire_event_clear(&e);
	read_line("{\"result\":{" HEADER "}}", &e);
	g_assert_true(e.progress);
	wire_event_clear(&e);
	read_line("{\"result\":{" HEADER ",\"canceled\":true,\"compact_revision\":\"4\"}}", &e);
	g_assert_cmpint(e.compacted, ==, 4);
	g_assert_null(e.words);
	wire_event_clear(&e);
	read_line("{\"result\":{" HEADER ",\"canceled\":true,\"cancel_reason\":\"no\"}}", &e);
	g_assert_cmpstr(e.words, ==, "no");
	wire_event_clear(&e);
	read_line("{\"error\":{\"grpc_code\":14,\"http_code\":503,\"message\":\"etcdserver: no leader\"}}",
		  &e);
	g_assert_cmpstr(e.words, ==, "etcdserver: no leader");
	g_assert_cmpint(e.grpc_code, ==, 14);
	wire_event_clear(&e);
}

static void test_changes_of_a_watch(void)
{
	struct wire_event e;

	read_line("{\"result\":{" HEADER ",\"fragment\":true,\"events\":["
		  "{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"5\",\"value\":\"MQ==\"}},"
		  "{\"type\":\"DELETE\",\"kv\":{\"key\":\"Yg==\",\"mod_revision\":\"6\"}},"
		  "{\"kv\":{\"key\":\"cGxpbXNvbGwgeA==\",\"mod_revision\":\"6\",\"value\":\"MQ==\"}}]}}",
		  &e);
	g_assert_true(e.fragment && !e.progress);
	g_assert_cmpint(e.last, ==, 6);
	g_assert_cmpuint(e.items->len, ==, 2);
	g_assert_cmpstr(((StoreItem *)e.items->pdata[0])->value, ==, "1");
	g_assert_cmpstr(((StoreItem *)e.items->pdata[1])->key, ==, "b");
	g_assert_null(((StoreItem *)e.items->pdata[1])->value);
	wire_event_clear(&e);
}

static void test_odd_lines_are_refused(void)
{
	static const char *const bad[] = {
		"",
		"x",
		"[]",
		"{}",
		"{\"result\":{}}",
		"{\"result\":{" HEADER ",\"events\":[3]}}",
		"{\"result\":{" HEADER ",\"events\":[{}]}}",
		"{\"result\":{" HEADER ",\"events\":[{\"kv\":{\"key\":\"YQ==\"}}]}}",
		"{\"result\":{" HEADER ",\"events\":[{\"kv\":{\"key\":3,\"mod_revision\":\"1\"}}]}}",
		"{\"result\":{" HEADER ",\"events\":[{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"6\"}},"
		"{\"kv\":{\"key\":\"YQ==\",\"mod_revision\":\"5\"}}]}}",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(GError) err = NULL;
		struct wire_event e;

		g_assert_false(wire_event_read(bad[i], strlen(bad[i]), "", &e, &err));
		g_assert_error(err, ERR, ERR_STORE);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
#define T(name) g_test_add_func("/etcd-wire/" #name, test_##name)
	T(a_url_says_where_and_how);
	T(an_endpoint_without_a_port_gets_the_usual_one);
	T(bad_urls_are_refused_without_their_secrets);
	T(endpoints_are_bounded);
	T(ranges_cover_a_prefix_and_nothing_else);
	T(a_transaction_compares_all_that_it_expects);
	T(numbers_may_use_all_their_bits);
	T(odd_headers_are_refused);
	T(what_is_no_item_is_passed_over);
	T(a_value_that_is_no_text_is_an_error);
	T(a_refusal_names_the_first_key_that_moved);
	T(an_outcome_without_a_reason_is_an_error);
	T(lines_of_a_watch);
	T(changes_of_a_watch);
	T(odd_lines_are_refused);
	return g_test_run();
}
