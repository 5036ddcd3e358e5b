/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/socket.h"
#include "cli/exchange.h"

#include <string.h>
#include <sys/socket.h>

static void test_heads_are_understood_or_refused(void)
{
	static const struct {
		const char *head;
		unsigned status; /* 0: refused */
		uint64_t length;
	} row[] = {
		{ "HTTP/1.1 200 OK\r\n\r\n", 200, ANSWER_LENGTH_UNKNOWN },
		{ "HTTP/1.0 404\r\ncontent-length:  17 \r\n\r\n", 404, 17 },
		{ "HTTP/1.1 202 Accepted\r\nX: Content-Length: 5\r\nContent-Length: 0\r\n\r\n", 202, 0 },
		{ "HTTP/2 200 OK\r\n\r\n", 0, 0 },
		{ "HTTP/1.1 2000 OK\r\n\r\n", 0, 0 },
		{ "HTTP/1.1 999 No\r\n\r\n", 0, 0 },
		{ "HTTP/1.", 0, 0 },
		{ "SSH-2.0-OpenSSH_9.2\r\n\r\n", 0, 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 5x\r\n\r\n", 0, 0 },
		{ "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", 0, 0 },
		{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0 },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(GError) err = NULL;
		struct answer_head h = { 0 };
		bool ok = answer_head_parse(row[i].head, &h, &err);

		g_assert_cmpint(ok, ==, row[i].status != 0);
		g_assert_cmpuint(h.status, ==, row[i].status);
		g_assert_cmpuint(h.length, ==, row[i].length);
		if (!ok)
			g_assert_error(err, ERR, ERR_UNAVAILABLE);
	}
}

/* A server of one client: takes a request and says `answer`; `hold` keeps the connection until the client
 * goes. */
typedef struct Server {
	char *dir, *path;
	int listener;
	const char *answer[4]; /* sent in these pieces */
	bool hold;
	char *request;
	GThread *thread;
} Server;

static gpointer serve(gpointer data)
{
	Server *s = data;
	_cleanup_close_ int fd = accept(s->listener, NULL, NULL);
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof buf);

	s->request = g_strndup(buf, (gsize)MAX(n, 0));
	for (size_t i = 0; s->answer[i] != NULL; i++)
		fd_write_all(fd, s->answer[i], strlen(s->answer[i]));
	while (s->hold && read(fd, buf, sizeof buf) > 0)
		continue;
	return NULL;
}

static void server_begin(Server *s)
{
	g_autoptr(GError) err = NULL;

	s->dir = g_dir_make_tmp("exchange-XXXXXX", &err);
	g_assert_no_error(err);
	s->path = g_build_filename(s->dir, "s", NULL);
	s->listener = socket_listen(s->path, &err);
	g_assert_no_error(err);
	s->thread = g_thread_new("server", serve, s);
}

static void server_join(Server *s)
{
	if (s->thread != NULL)
		g_thread_join(g_steal_pointer(&s->thread));
}

static void server_end(Server *s)
{
	server_join(s);
	close(s->listener);
	g_assert_true(dir_remove(s->dir, NULL));
	g_free(s->request);
	g_free(s->path);
	g_free(s->dir);
}

static Exchange *ask(const Server *s, uint64_t timeout, GError **err)
{
	const struct exchange_request r = {
		.socket = s->path, .method = "POST", .path = "/v1?wait=1", .body = "{}", .timeout = timeout
	};

	return exchange_open(&r, err);
}

/* The body as far as it comes. */
static char *read_all(Exchange *x, GError **err)
{
	GString *s = g_string_new(NULL);
	char buf[7];
	size_t n = 1;

	while (n > 0 && exchange_read(x, buf, sizeof buf, &n, err))
		g_string_append_len(s, buf, (gssize)n);
	return g_string_free(s, FALSE);
}

static void test_answer_comes_whole_in_any_pieces(void)
{
	Server s = { .answer = { "HTTP/1.1 202 Acc", "epted\r\nContent-Length: 11\r\n\r\nhello",
				 " world more" },
		     .hold = true };
	g_autoptr(GError) err = NULL;
	g_autofree char *body = NULL;
	Exchange *x;

	server_begin(&s);
	x = ask(&s, 0, &err);
	g_assert_no_error(err);
	g_assert_cmpuint(exchange_status(x), ==, 202);
	body = read_all(x, &err);
	g_assert_no_error(err);
	g_assert_cmpstr(body, ==, "hello world");
	exchange_free(x);
	server_join(&s);
	g_assert_cmpstr(s.request, ==,
			"POST /v1?wait=1 HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n"
			"Content-Length: 2\r\n\r\n{}");
	server_end(&s);
}

static void test_answer_without_a_length_ends_with_the_connection(void)
{
	Server s = { .answer = { "HTTP/1.0 200 OK\r\n\r\n", "all ", "of it" } };
	g_autoptr(GError) err = NULL;
	g_autofree char *body = NULL;
	Exchange *x;

	server_begin(&s);
	x = ask(&s, 0, &err);
	g_assert_no_error(err);
	body = read_all(x, &err);
	g_assert_no_error(err);
	g_assert_cmpstr(body, ==, "all of it");
	exchange_free(x);
	server_end(&s);
}

static void test_answer_that_is_cut_short_is_an_error(void)
{
	static const char *const cut[] = { "", "HTTP/1.1 200 OK\r\nConte",
					   "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal" };

	for (size_t i = 0; i < G_N_ELEMENTS(cut); i++) {
		Server s = { .answer = { cut[i] } };
		g_autoptr(GError) err = NULL;
		g_autofree char *body = NULL;
		g_autoptr(Exchange) x = NULL;

		server_begin(&s);
		x = ask(&s, 0, &err);
		if (x != NULL)
			body = read_all(x, &err);
		g_assert_error(err, ERR, ERR_UNAVAILABLE);
		g_assert_nonnull(err_advice(err));
		server_end(&s);
	}
}

static void test_head_without_an_end_is_refused(void)
{
	g_autofree char *flood = g_strnfill(ANSWER_HEAD_MAX + 1, 'x');
	Server s = { .answer = { "HTTP/1.1 200 OK\r\nX: ", flood } };
	g_autoptr(GError) err = NULL;

	server_begin(&s);
	g_assert_null(ask(&s, 0, &err));
	g_assert_error(err, ERR, ERR_UNAVAILABLE);
	server_end(&s);
}

static void test_silent_server_is_a_timeout(void)
{
	Server s = { .answer = { "HTTP/1.1 200 OK\r\n" }, .hold = true };
	g_autoptr(GError) err = NULL;

	server_begin(&s);
	g_assert_null(ask(&s, 50000, &err));
	g_assert_error(err, ERR, ERR_TIMEOUT);
	server_end(&s);
}

static void test_path_that_would_be_another_request_is_refused(void)
{
	Server s = { .answer = { "" } };
	struct exchange_request r = { .method = "GET", .path = "/v1 HTTP/1.1\r\nX: y" };
	g_autoptr(GError) err = NULL;

	server_begin(&s);
	r.socket = s.path;
	g_assert_null(exchange_open(&r, &err));
	g_assert_error(err, ERR, ERR_INVALID);
	server_end(&s);
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/exchange/heads", test_heads_are_understood_or_refused);
	g_test_add_func("/exchange/pieces", test_answer_comes_whole_in_any_pieces);
	g_test_add_func("/exchange/no-length", test_answer_without_a_length_ends_with_the_connection);
	g_test_add_func("/exchange/cut", test_answer_that_is_cut_short_is_an_error);
	g_test_add_func("/exchange/endless", test_head_without_an_end_is_refused);
	g_test_add_func("/exchange/silent", test_silent_server_is_a_timeout);
	g_test_add_func("/exchange/path", test_path_that_would_be_another_request_is_refused);
	return g_test_run();
}
