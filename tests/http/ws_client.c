/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `plim vm console` does with base/ws.h, without a terminal: passes stdin
 * on as binary messages and prints what comes back, until the end of stdin or
 * of the server. Says "closed CODE REASON" on stderr.
 *
 *	ws_client TIMEOUT --unix SOCKET PATH
 *	ws_client TIMEOUT URL CA CERT KEY PATH
 */
#include "base/str.h"
#include "base/ws.h"

#include <curl/curl.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_MAX (256 * 1024)

static ssize_t curl_recv(void *curl, void *buf, size_t len)
{
	size_t n = 0;
	CURLcode r = curl_easy_recv(curl, buf, len, &n);

	if (r == CURLE_AGAIN)
		return -EAGAIN;
	return r == CURLE_OK ? (ssize_t)n : -EIO;
}

static ssize_t curl_send(void *curl, const void *buf, size_t len)
{
	size_t n = 0;
	CURLcode r = curl_easy_send(curl, buf, len, &n);

	if (r == CURLE_AGAIN)
		return -EAGAIN;
	return r == CURLE_OK ? (ssize_t)n : -EIO;
}

static void curl_close(void *curl)
{
	curl_easy_cleanup(curl);
}

static Ws *connect_tls(char **argv, const char *const *headers, uint64_t timeout, GError **err)
{
	CURL *curl = curl_easy_init();
	curl_socket_t fd = CURL_SOCKET_BAD;
	struct ws_connection c = { .data = curl, .recv = curl_recv, .send = curl_send, .close = curl_close };
	CURLcode r;

	curl_easy_setopt(curl, CURLOPT_URL, argv[2]);
	curl_easy_setopt(curl, CURLOPT_CAINFO, argv[3]);
	curl_easy_setopt(curl, CURLOPT_SSLCERT, argv[4]);
	curl_easy_setopt(curl, CURLOPT_SSLKEY, argv[5]);
	curl_easy_setopt(curl, CURLOPT_CONNECT_ONLY, 1L);
	curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	r = curl_easy_perform(curl);
	if (r == CURLE_OK)
		r = curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd);
	if (r != CURLE_OK) {
		curl_close(curl);
		fail_advice(err, ERR_UNAVAILABLE, "See what it says.", "can't reach the daemon: %s",
			    curl_easy_strerror(r));
		return NULL;
	}
	c.fd = fd;
	return ws_connect(&c, "127.0.0.1", argv[6], headers, timeout, err);
}

static bool pass_stdin_on(Ws *ws, bool *at_end)
{
	char buf[60000];
	ssize_t n = read(STDIN_FILENO, buf, sizeof buf);

	*at_end = n <= 0;
	if (n > 0)
		return ws_send(ws, false, buf, (size_t)n);
	return ws_send(ws, true, "close", 5); /* what the test's server understands */
}

static bool talk(Ws *ws, GError **err)
{
	struct ws_message *m;
	bool at_end = false;

	while (!ws_closed(ws, NULL, NULL)) {
		bool full = at_end || ws_queued(ws) > QUEUE_MAX;
		struct pollfd p[] = { { .fd = full ? -1 : STDIN_FILENO, .events = POLLIN },
				      { .fd = ws_fd(ws), .events = ws_events(ws) } };

		poll(p, 2, -1);
		if (p[0].revents != 0)
			pass_stdin_on(ws, &at_end);
		if (!ws_service(ws, err))
			return false;
		while ((m = ws_next(ws)) != NULL) {
			fwrite(m->data, 1, m->len, stdout);
			g_free(m);
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	static const char *const headers[] = { "X-Test: ws", NULL };
	g_autoptr(GError) err = NULL;
	g_autoptr(Ws) ws = NULL;
	uint64_t timeout;
	const char *reason;
	unsigned code;

	if (parse_duration(argv[1], &timeout, &err))
		ws = argc == 5 ? ws_connect_unix(argv[3], argv[4], headers, timeout, &err)
			       : connect_tls(argv, headers, timeout, &err);
	if (ws == NULL || !talk(ws, &err)) {
		fprintf(stderr, "%s: %s (%s)\n", err_name(err_code(err)), err->message, err_advice(err));
		return err_exit_status(err_code(err));
	}
	ws_closed(ws, &code, &reason);
	fprintf(stderr, "closed %u %s\n", code, reason);
	return 0;
}
