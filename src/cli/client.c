/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MAX (UINT64_C(256) << 20)

struct Client {
	CURL *curl;
	char *socket;
	bool debug;
	uint64_t timeout;
};

Client *client_new(const char *socket, bool debug)
{
	Client *c = g_new0(Client, 1);

	c->socket = g_strdup(socket);
	c->debug = debug;
	c->curl = curl_easy_init();
	g_assert(c->curl != NULL);
	return c;
}

Client *client_free(Client *c)
{
	if (c != NULL) {
		curl_easy_cleanup(c->curl);
		g_free(c->socket);
		g_free(c);
	}
	return NULL;
}

void client_set_timeout(Client *c, uint64_t us)
{
	c->timeout = us;
}

const char *client_socket(const Client *c)
{
	return c->socket;
}

static size_t collect(char *bytes, size_t size, size_t n, void *data)
{
	GByteArray *a = data;

	if (a->len + size * n > ANSWER_MAX)
		return 0;
	g_byte_array_append(a, (const guint8 *)bytes, (guint)(size * n));
	return size * n;
}

static void prepare(Client *c, const char *method, const char *path, curl_write_callback write, void *data)
{
	g_autofree char *url = g_strconcat("http://localhost", path, NULL);

	curl_easy_reset(c->curl);
	curl_easy_setopt(c->curl, CURLOPT_UNIX_SOCKET_PATH, c->socket);
	curl_easy_setopt(c->curl, CURLOPT_URL, url);
	curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(c->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http");
	curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, write);
	curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, data);
	if (c->debug)
		fprintf(stderr, "> %s %s\n", method, path);
}

static bool fail_transport(Client *c, CURLcode r, GError **err)
{
	long os_error = 0;

	curl_easy_getinfo(c->curl, CURLINFO_OS_ERRNO, &os_error);
	if (r == CURLE_COULDNT_CONNECT && os_error == EACCES) {
		fail(err, ERR_DENIED, "you may not use the daemon's socket '%s'", c->socket);
		return err_advise(err, "Become root, or have yourself put into the group plimsoll.");
	}
	if (r == CURLE_COULDNT_CONNECT) {
		fail(err, ERR_UNAVAILABLE, "no daemon listens on '%s'", c->socket);
		return err_advise(
		    err, "Start it (`systemctl start plimsolld`), or name another socket with --socket.");
	}
	fail(err, ERR_UNAVAILABLE, "the daemon did not answer: %s", curl_easy_strerror(r));
	return err_advise(err, "Look into the daemon's log, and try again.");
}

/* Status 400 and above carry the daemon's error. */
static bool check_status(Client *c, const GByteArray *answer, GError **err)
{
	long status = 0;
	_cleanup_json_ Json *j = NULL;

	curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	if (c->debug)
		fprintf(stderr, "< %ld %.*s\n", status, (int)MIN(answer->len, 2000),
			(const char *)answer->data);
	if (status < 400)
		return true;
	j = json_parse((const char *)answer->data, answer->len, NULL);
	if (j == NULL)
		return fail(err, ERR_INTERNAL, "the daemon answered %ld without saying why", status);
	g_propagate_error(err, err_of_json(j));
	return false;
}

static bool perform(Client *c, const char *method, const char *path, const Json *body, GByteArray *answer,
		    GError **err)
{
	g_autofree char *text = body != NULL ? json_print(body) : NULL;
	struct curl_slist *headers = NULL;
	CURLcode r;

	prepare(c, method, path, (curl_write_callback)collect, answer);
	if (text != NULL) {
		if (c->debug)
			fprintf(stderr, "> %s\n", text);
		headers = curl_slist_append(headers, "Content-Type: application/json");
		curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(c->curl, CURLOPT_POSTFIELDS, text);
	}
	r = curl_easy_perform(c->curl);
	curl_slist_free_all(headers);
	return r == CURLE_OK ? check_status(c, answer, err) : fail_transport(c, r, err);
}

Json *client_call(Client *c, const char *method, const char *path, const Json *body, GError **err)
{
	g_autoptr(GByteArray) answer = g_byte_array_new();

	if (!perform(c, method, path, body, answer, err))
		return NULL;
	return answer->len > 0 ? json_parse((const char *)answer->data, answer->len, err) : json_null();
}

GBytes *client_fetch(Client *c, const char *path, GError **err)
{
	g_autoptr(GByteArray) answer = g_byte_array_new();

	if (!perform(c, "GET", path, NULL, answer, err))
		return NULL;
	return g_byte_array_free_to_bytes(g_steal_pointer(&answer));
}

typedef struct Streaming {
	ClientEventFunc func;
	void *data;
	Client *client;
	GByteArray *error; /* the body of an answer that is no stream */
	GString *line, *event;
	bool ended;
} Streaming;

/* A line of a stream: "data: ..." adds to the event, an empty one ends it (WHATWG HTML, 9.2.6). */
static void take_line(Streaming *s)
{
	_cleanup_json_ Json *j = NULL;

	if (g_str_has_prefix(s->line->str, "data: ")) {
		g_string_append(s->event, s->line->str + strlen("data: "));
	} else if (s->line->len == 0 && s->event->len > 0) {
		j = json_parse(s->event->str, s->event->len, NULL);
		if (j != NULL && !s->func(j, s->data))
			s->ended = true;
		g_string_truncate(s->event, 0);
	}
	g_string_truncate(s->line, 0);
}

static size_t take_stream(char *bytes, size_t size, size_t n, void *data)
{
	Streaming *s = data;
	long status = 0;

	curl_easy_getinfo(s->client->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 400)
		return collect(bytes, size, n, s->error);
	for (size_t i = 0; i < size * n && !s->ended; i++) {
		if (bytes[i] == '\n')
			take_line(s);
		else
			g_string_append_c(s->line, bytes[i]);
	}
	return s->ended ? 0 : size * n;
}

bool client_stream(Client *c, const char *path, ClientEventFunc func, void *data, GError **err)
{
	g_autoptr(GByteArray) error = g_byte_array_new();
	g_autoptr(GString) line = g_string_new(NULL), event = g_string_new(NULL);
	Streaming s = {
		.func = func, .data = data, .client = c, .error = error, .line = line, .event = event
	};
	struct curl_slist *headers = curl_slist_append(NULL, "Accept: text/event-stream");
	CURLcode r;

	prepare(c, "GET", path, (curl_write_callback)take_stream, &s);
	curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(c->curl, CURLOPT_TIMEOUT_MS, (long)(c->timeout / 1000));
	r = curl_easy_perform(c->curl);
	curl_slist_free_all(headers);
	if (s.ended)
		return true;
	if (r == CURLE_OPERATION_TIMEDOUT)
		return fail(err, ERR_TIMEOUT, "what was waited for did not happen in time");
	return r == CURLE_OK ? check_status(c, error, err) : fail_transport(c, r, err);
}
