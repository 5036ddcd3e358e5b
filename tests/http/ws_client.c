/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What `plim vm console` does with cli/ws.h, without a terminal: passes stdin
 * on as binary messages and prints what comes back, until the end of stdin or
 * of the server. Says "closed CODE REASON" on stderr.
 *
 *	ws_client TIMEOUT --unix SOCKET PATH
 *	ws_client TIMEOUT URL CA CERT KEY PATH
 */
#include "base/str.h"
#include "cli/ws.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define QUEUE_MAX (256 * 1024)

static CURL *make_curl(char **argv)
{
	CURL *curl = curl_easy_init();

	if (strcmp(argv[2], "--unix") == 0) {
		curl_easy_setopt(curl, CURLOPT_URL, "http://localhost");
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, argv[3]);
	} else {
		curl_easy_setopt(curl, CURLOPT_URL, argv[2]);
		curl_easy_setopt(curl, CURLOPT_CAINFO, argv[3]);
		curl_easy_setopt(curl, CURLOPT_SSLCERT, argv[4]);
		curl_easy_setopt(curl, CURLOPT_SSLKEY, argv[5]);
	}
	return curl;
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
		ws = ws_connect(make_curl(argv), argv[argc - 1], headers, timeout, &err);
	if (ws == NULL || !talk(ws, &err)) {
		fprintf(stderr, "%s: %s (%s)\n", err_name(err_code(err)), err->message, err_advice(err));
		return err_exit_status(err_code(err));
	}
	ws_closed(ws, &code, &reason);
	fprintf(stderr, "closed %u %s\n", code, reason);
	return 0;
}
