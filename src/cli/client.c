/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/client.h"
#include "base/str.h"
#include "cli/exchange.h"

#include <stdio.h>
#include <string.h>

#define ANSWER_MAX (UINT64_C(256) << 20)
#define PIECE (64 * 1024)

struct Client {
	char *socket;
	bool debug;
	uint64_t timeout;
};

Client *client_new(const char *socket, bool debug)
{
	Client *c = g_new0(Client, 1);

	c->socket = g_strdup(socket);
	c->debug = debug;
	return c;
}

Client *client_free(Client *c)
{
	if (c != NULL) {
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

/* As sd_booted(3) asks. */
static bool under_systemd(void)
{
	return g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR);
}

/* Nobody listens, or not for us: said in the user's words. */
static bool explain(const Client *c, GError *e, GError **err)
{
	g_autoptr(GError) held = e;

	if (g_error_matches(e, ERR, ERR_DENIED)) {
		fail(err, ERR_DENIED, "you may not use the daemon's socket '%s'", c->socket);
		return err_advise(err, "Become root, or have yourself put into the group plimsoll.");
	}
	if (g_error_matches(e, ERR, ERR_UNAVAILABLE) && err_advice(e) == NULL) {
		fail(err, ERR_UNAVAILABLE, "no daemon listens on '%s'", c->socket);
		return err_advise(err, "Start it (`%s`), or name another socket with --socket.",
				  under_systemd() ? "systemctl start plimsolld" : "plimsolld &");
	}
	g_propagate_error(err, g_steal_pointer(&held));
	return false;
}

static Exchange *ask(const Client *c, const struct exchange_request *r, GError **err)
{
	GError *e = NULL;
	Exchange *x;

	if (c->debug)
		fprintf(stderr, "> %s %s\n", r->method, r->path);
	if (c->debug && r->body != NULL)
		fprintf(stderr, "> %s\n", r->body);
	x = exchange_open(r, &e);
	if (x == NULL)
		explain(c, e, err);
	return x;
}

static bool read_all(Exchange *x, GByteArray *answer, GError **err)
{
	size_t n = 1;

	while (n > 0) {
		guint before = answer->len;

		g_byte_array_set_size(answer, before + PIECE);
		if (!exchange_read(x, answer->data + before, PIECE, &n, err))
			return false;
		g_byte_array_set_size(answer, before + (guint)n);
		if (answer->len > ANSWER_MAX)
			return fail(err, ERR_LIMIT, "the daemon's answer is too long");
	}
	return true;
}

GError *client_error(const Json *error)
{
	static const char *const words[] = { "message", "advice" };
	_cleanup_json_ Json *copy = json_copy((Json *)error);

	for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
		g_autofree char *text = text_harmless(g_strdup(json_str(error, words[i])), true);

		json_put_str(copy, words[i], text);
	}
	return err_of_json(copy);
}

/* The rest of the answer. Status 400 and above carry the daemon's error. */
static bool take_answer(const Client *c, Exchange *x, GByteArray *answer, GError **err)
{
	_cleanup_json_ Json *j = NULL;

	if (!read_all(x, answer, err))
		return false;
	if (c->debug)
		fprintf(stderr, "< %u %.*s\n", exchange_status(x), (int)MIN(answer->len, 2000),
			(const char *)answer->data);
	if (exchange_status(x) < 400)
		return true;
	j = json_parse((const char *)answer->data, answer->len, NULL);
	if (j == NULL)
		return fail(err, ERR_INTERNAL, "the daemon answered %u without saying why",
			    exchange_status(x));
	g_propagate_error(err, client_error(j));
	return false;
}

static bool perform(const Client *c, const char *method, const char *path, const Json *body,
		    GByteArray *answer, GError **err)
{
	g_autofree char *text = body != NULL ? json_print(body) : NULL;
	const struct exchange_request r = {
		.socket = c->socket, .method = method, .path = path, .body = text
	};
	g_autoptr(Exchange) x = ask(c, &r, err);

	return x != NULL && take_answer(c, x, answer, err);
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

static void take_lines(Streaming *s, const char *bytes, size_t n)
{
	for (size_t i = 0; i < n && !s->ended; i++) {
		if (bytes[i] == '\n')
			take_line(s);
		else
			g_string_append_c(s->line, bytes[i]);
	}
}

static bool follow(Exchange *x, Streaming *s, GError **err)
{
	size_t n = 1;

	while (n > 0 && !s->ended) {
		char buf[4096];

		if (!exchange_read(x, buf, sizeof buf, &n, err))
			return false;
		take_lines(s, buf, n);
	}
	return true;
}

bool client_stream(Client *c, const char *path, ClientEventFunc func, void *data, GError **err)
{
	g_autoptr(GByteArray) error = g_byte_array_new();
	g_autoptr(GString) line = g_string_new(NULL), event = g_string_new(NULL);
	Streaming s = { .func = func, .data = data, .line = line, .event = event };
	const struct exchange_request r = {
		.socket = c->socket,
		.method = "GET",
		.path = path,
		.accept = "text/event-stream",
		.timeout = c->timeout,
	};
	g_autoptr(GError) e = NULL;
	g_autoptr(Exchange) x = ask(c, &r, &e);

	if (x != NULL && exchange_status(x) >= 400)
		return take_answer(c, x, error, err);
	if (x != NULL && follow(x, &s, &e))
		return true;
	if (g_error_matches(e, ERR, ERR_TIMEOUT))
		return fail(err, ERR_TIMEOUT, "what was waited for did not happen in time");
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}
