/* SPDX-License-Identifier: Apache-2.0 */
#include "api/http_head.h"

#include <string.h>

#define LINE(text) text "\r\n"
#define HOST LINE("Host: x")
#define GET(target) LINE("GET " target " HTTP/1.1") HOST LINE("")

static unsigned parse(const char *text, struct http_head *ret, GError **err)
{
	size_t len = strlen(text);

	g_assert_cmpint(http_head_end((const uint8_t *)text, len, 0), ==, (ssize_t)len);
	return http_head_parse((const uint8_t *)text, len, ret, err);
}

static void test_fields_of_a_request(void)
{
	g_autoptr(GError) err = NULL;
	struct http_head h;

	g_assert_cmpuint(parse(LINE("PATCH /v1/vms/a%2Fb?x=1&&y=a+b%3D&z HTTP/1.1")
				   HOST LINE("Content-Length:  12 ") LINE("IF-MATCH: \"7\"")
				       LINE("Expect: 100-Continue") LINE(""),
			       &h, &err),
			 ==, 0);
	g_assert_no_error(err);
	g_assert_cmpstr(h.method, ==, "PATCH");
	g_assert_cmpstr(h.path, ==, "/v1/vms/a%2Fb");
	g_assert_cmpstr(h.segment[2], ==, "a/b");
	g_assert_null(h.segment[3]);
	g_assert_cmpuint(h.n_query, ==, 3);
	g_assert_cmpstr(h.query[1].value, ==, "a b=");
	g_assert_cmpstr(h.query[2].value, ==, "");
	g_assert_cmpuint(h.length, ==, 12);
	g_assert_cmpstr(http_head_get(&h, "if-match"), ==, "\"7\"");
	g_assert_null(http_head_get(&h, "accept"));
	g_assert_true(h.expect_continue && h.keep_alive && !h.chunked);
	http_head_clear(&h);
}

static void test_connection_tokens(void)
{
	static const struct {
		const char *text;
		bool keep_alive, ws;
	} table[] = {
		{ GET("/"), true, false },
		{ LINE("GET / HTTP/1.1") HOST LINE("Connection: Close") LINE(""), false, false },
		{ LINE("GET / HTTP/1.1") HOST LINE("Connection: foo ,\tclose") LINE(""), false, false },
		{ LINE("GET / HTTP/1.1") HOST LINE("Connection: foo") LINE("Connection: close") LINE(""),
		  false, false },
		{ LINE("GET / HTTP/1.1") HOST LINE("Connection: closer, not-close") LINE(""), true, false },
		{ LINE("GET / HTTP/1.0") LINE("Connection: keep-alive") LINE(""), false, false },
		{ LINE("GET / HTTP/1.1") HOST LINE("Connection: Upgrade") LINE("Upgrade: WebSocket")
		      LINE("Sec-WebSocket-Key: k") LINE(""),
		  true, true },
		{ LINE("GET / HTTP/1.1") HOST LINE("Upgrade: websocket") LINE("Sec-WebSocket-Key: k")
		      LINE(""),
		  true, false },
		{ LINE("POST / HTTP/1.1") HOST LINE("Connection: upgrade") LINE("Upgrade: websocket")
		      LINE("Sec-WebSocket-Key: k") LINE(""),
		  true, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		struct http_head h;

		g_assert_cmpuint(parse(table[i].text, &h, NULL), ==, 0);
		g_assert_cmpint(h.keep_alive, ==, table[i].keep_alive);
		g_assert_cmpint(h.ws_key != NULL, ==, table[i].ws);
		http_head_clear(&h);
	}
}

/* The refusals over a socket are in tests/http; these are about the limits themselves. */
static void test_limits_are_exact(void)
{
	static const struct {
		const char *unit;
		const char *before, *behind;
		unsigned most, status;
	} table[] = {
		{ "/a", "GET ", " HTTP/1.1\r\nHost: x\r\n\r\n", HTTP_SEGMENTS_MAX, 414 },
		{ "a&", "GET /?", " HTTP/1.1\r\nHost: x\r\n\r\n", HTTP_QUERY_MAX, 414 },
		{ "A: b\r\n", "GET / HTTP/1.1\r\nHost: x\r\n", "\r\n", HTTP_HEADERS_MAX - 1, 431 },
		{ "M", "", " / HTTP/1.1\r\nHost: x\r\n\r\n", 32, 400 },
		{ "9", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: ", "\r\n\r\n", 18, 400 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		g_autoptr(GString) s = g_string_new(table[i].before);
		g_autoptr(GError) err = NULL;
		struct http_head h;

		for (unsigned n = 0; n < table[i].most; n++)
			g_string_append(s, table[i].unit);
		g_string_append(s, table[i].behind);
		g_assert_cmpuint(parse(s->str, &h, &err), ==, 0);
		http_head_clear(&h);
		g_string_insert(s, (gssize)strlen(table[i].before), table[i].unit);
		g_assert_cmpuint(parse(s->str, &h, &err), ==, table[i].status);
		g_assert_nonnull(err);
	}
}

static void test_end_is_found_wherever_the_search_begins(void)
{
	static const char text[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\nnext";
	const size_t end = sizeof text - 1 - 4;

	for (size_t len = 0; len < sizeof text; len++)
		for (size_t from = 0; from <= MIN(len, end - 1); from++)
			g_assert_cmpint(http_head_end((const uint8_t *)text, len, from), ==,
					len >= end ? (ssize_t)end : 0);
	g_assert_cmpint(http_head_end((const uint8_t *)"GET /\n", 6, 0), ==, -1);
	g_assert_cmpint(http_head_end((const uint8_t *)"\n", 1, 0), ==, -1);
}

static void test_percent_decode(void)
{
	static const struct {
		const char *in, *out; /* NULL: refused */
		bool plus;
	} table[] = {
		{ "", "", false },         { "a%20b", "a b", false },    { "a+b", "a+b", false },
		{ "a+b", "a b", true },    { "%2b+", "+ ", true },       { "%C3%A4", "ä", false },
		{ "%c3%a4", "ä", false },  { "%", NULL, false },         { "%2", NULL, false },
		{ "%2x", NULL, false },    { "%00", NULL, false },       { "%0A", NULL, false },
		{ "%7f", NULL, false },    { "%ff", NULL, false },       { "%C3", NULL, false },
		{ "%C0%80", NULL, false }, { "%ED%A0%80", NULL, false }, { "%2525", "%25", false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		char out[64];
		ssize_t n = http_percent_decode(table[i].in, strlen(table[i].in), table[i].plus, out);

		if (table[i].out == NULL) {
			g_assert_cmpint(n, ==, -1);
		} else {
			g_assert_cmpstr(out, ==, table[i].out);
			g_assert_cmpint(n, ==, (ssize_t)strlen(table[i].out));
		}
	}
}

/* Feeds pieces of `step` bytes; the body, or NULL when refused. *ret_rest: bytes behind its end. */
static char *dechunk(const char *text, size_t step, size_t *ret_rest)
{
	g_autoptr(GString) body = g_string_new(NULL);
	struct http_chunks c = { 0 };
	size_t len = strlen(text), at = 0, used, n;
	const uint8_t *data;

	while (at < len) {
		size_t have = MIN(step, len - at);

		switch (http_chunks_step(&c, (const uint8_t *)text + at, have, &used, &data, &n)) {
		case HTTP_CHUNK_DATA:
			g_string_append_len(body, (const char *)data, (gssize)n);
			break;
		case HTTP_CHUNK_MORE:
			g_assert_cmpuint(used, ==, have);
			break;
		case HTTP_CHUNK_END:
			*ret_rest = len - at - used;
			return g_string_free(g_steal_pointer(&body), FALSE);
		case HTTP_CHUNK_BAD:
			return NULL;
		}
		at += used;
	}
	return NULL;
}

static void test_chunks_in_pieces_of_any_size(void)
{
	static const char text[] =
	    "5\r\nhello\r\n00b ; x=\"y\"\r\n, good day\n\r\n0\r\nA: b\r\nC: d\r\n\r\nGET";

	for (size_t step = 1; step < sizeof text; step++) {
		size_t rest = 0;
		g_autofree char *body = dechunk(text, step, &rest);

		g_assert_cmpstr(body, ==, "hello, good day\n");
		g_assert_cmpuint(rest, ==, 3);
	}
}

static void test_malformed_chunks_are_refused(void)
{
	static const char *const table[] = {
		"\r\n",     "g\r\n",       "-1\r\n",      "+1\r\n",    "0x1\r\n", "1\n",
		" 1\r\n",   "1\r\nab\r\n", "1\r\na\n1\r", "1\r\na\r1", "1;\n",    "0\r\n\n",
		"0\r\n\rx", "0\r\nA\n",    "0\r\nA\rx",   "1\rx",      "1 \nx",   "1234567890123456\r\n",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(table); i++) {
		size_t rest;

		for (size_t step = 1; step <= strlen(table[i]); step++)
			g_assert_null(dechunk(table[i], step, &rest));
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/http-head/fields-of-a-request", test_fields_of_a_request);
	g_test_add_func("/http-head/connection-tokens", test_connection_tokens);
	g_test_add_func("/http-head/limits-are-exact", test_limits_are_exact);
	g_test_add_func("/http-head/end-is-found-wherever-the-search-begins",
			test_end_is_found_wherever_the_search_begins);
	g_test_add_func("/http-head/percent-decode", test_percent_decode);
	g_test_add_func("/http-head/chunks-in-pieces-of-any-size", test_chunks_in_pieces_of_any_size);
	g_test_add_func("/http-head/malformed-chunks-are-refused", test_malformed_chunks_are_refused);
	return g_test_run();
}
