/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/web.h"

#define KEY "00112233445566778899aabbccddeeff"
#define PORT 7000
#define HEAD(host, cookie) "GET /web/ HTTP/1.1\r\n" host cookie "\r\n"
#define HERE "Host: 127.0.0.1:7000\r\n"

static void test_only_who_has_the_secret_and_means_this_server_is_let_in(void)
{
	static const struct {
		const char *head;
		bool allowed;
	} row[] = {
		{ HEAD(HERE, "Cookie: plim-7000=" KEY "\r\n"), true },
		{ HEAD("host: localhost:7000\r\n", "cookie: a=b; plim-7000=" KEY "; c=d\r\n"), true },
		{ HEAD(HERE, ""), false },
		{ HEAD(HERE, "Cookie: plim-7000=00112233445566778899aabbccddeef0\r\n"), false },
		{ HEAD(HERE, "Cookie: plim-7000=" KEY "0\r\n"), false },
		{ HEAD(HERE, "Cookie: plim-7000=\r\n"), false },
		{ HEAD(HERE, "Cookie: plim-7001=" KEY "\r\n"), false },
		{ HEAD(HERE, "X-Cookie: plim-7000=" KEY "\r\n"), false },
		{ HEAD("Host: evil.example:7000\r\n", "Cookie: plim-7000=" KEY "\r\n"), false },
		{ HEAD("Host: 127.0.0.1:7001\r\n", "Cookie: plim-7000=" KEY "\r\n"), false },
		{ HEAD("", "Cookie: plim-7000=" KEY "\r\n"), false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++)
		g_assert_cmpint(web_head_allowed(row[i].head, KEY, PORT), ==, row[i].allowed);
}

static void test_a_connection_carries_one_request(void)
{
	g_autofree char
	    *plain = web_head_single("GET / HTTP/1.1\r\nHost: x\r\nconnection: keep-alive\r\nA: b\r\n\r\n"),
	    *socket = web_head_single(
		"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n");

	g_assert_cmpstr(plain, ==, "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\nConnection: close\r\n\r\n");
	g_assert_cmpstr(socket, ==,
			"GET / HTTP/1.1\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\r\n");
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/web/only_who_has_the_secret_and_means_this_server_is_let_in",
			test_only_who_has_the_secret_and_means_this_server_is_let_in);
	g_test_add_func("/web/a_connection_carries_one_request", test_a_connection_carries_one_request);
	return g_test_run();
}
