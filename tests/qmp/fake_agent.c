/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_agent.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/socket.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

struct FakeAgent {
	const FakeAgentFunc *script;
	int listener, connection, stop; /* `stop` is an eventfd */
	GString *in;
	GThread *thread;
	gint n_connections;
};

/* False when the thread shall end, or the other side hung up with nothing to read. */
static bool wait_readable(FakeAgent *f, int fd)
{
	struct pollfd p[] = { { .fd = fd, .events = POLLIN }, { .fd = f->stop, .events = POLLIN } };

	return poll(p, 2, 120000) > 0 && p[1].revents == 0;
}

char *fake_read(FakeAgent *f)
{
	char buf[4096], *end, *line;

	while ((end = memchr(f->in->str, '\n', f->in->len)) == NULL) {
		ssize_t n = wait_readable(f, f->connection) ? recv(f->connection, buf, sizeof buf, 0) : 0;

		if (n <= 0)
			return NULL;
		g_string_append_len(f->in, buf, n);
	}
	*end = '\0';
	line = memrchr(f->in->str, 0xff, (size_t)(end - f->in->str));
	line = g_strdup(line != NULL ? line + 1 : f->in->str);
	g_string_erase(f->in, 0, end + 1 - f->in->str);
	return line;
}

bool fake_say(FakeAgent *f, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(f->connection, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes += n;
		len -= (size_t)n;
	}
	return true;
}

size_t fake_say_until_full(FakeAgent *f, const char *bytes, size_t len)
{
	size_t all = 0;
	ssize_t n;

	while ((n = send(f->connection, bytes, len, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
		all += (size_t)n;
	return all;
}

long long fake_sync_id(const char *line)
{
	_cleanup_json_ Json *j = json_parse(line, strlen(line), NULL);

	g_assert_cmpstr(json_str(j, "execute"), ==, "guest-sync-delimited");
	return json_int(json_obj(j, "arguments"), "id", -1);
}

static bool has_input(FakeAgent *f)
{
	struct pollfd p = { .fd = f->connection, .events = POLLIN };

	return f->in->len > 0 || poll(&p, 1, 0) > 0;
}

/* The next line if it is a sync and there already. Anything else is left for who reads next. */
static char *next_sync(FakeAgent *f)
{
	char *line = has_input(f) ? fake_read(f) : NULL;

	if (line == NULL || strstr(line, "\"guest-sync-delimited\"") != NULL)
		return line;
	g_string_prepend_c(f->in, '\n');
	g_string_prepend(f->in, line);
	g_free(line);
	return NULL;
}

void fake_sync(FakeAgent *f)
{
	char *line = fake_read(f);

	/* A sync that we were too slow for was sent again, and all of them are to be answered. */
	for (; line != NULL; line = next_sync(f)) {
		g_autofree char *answer = g_strdup_printf("\xff{\"return\": %lld}\n", fake_sync_id(line));

		g_free(line);
		fake_say(f, answer, strlen(answer));
	}
}

char *fake_serve(FakeAgent *f, const char *command, const char *line)
{
	g_autofree char *request = fake_read(f);
	_cleanup_json_ Json *j = NULL;
	Json *args;

	if (request == NULL)
		return NULL;
	j = json_parse(request, strlen(request), NULL);
	g_assert_cmpstr(json_str(j, "execute"), ==, command);
	fake_say(f, line, strlen(line));
	args = json_obj(j, "arguments");
	return args != NULL ? json_print(args) : g_strdup("{}");
}

void fake_wait_hang_up(FakeAgent *f)
{
	char *line;

	while ((line = fake_read(f)) != NULL)
		g_free(line);
}

static gpointer serve(gpointer data)
{
	FakeAgent *f = data;

	for (size_t i = 0; wait_readable(f, f->listener); i++) {
		f->connection = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
		g_assert_cmpint(f->connection, >=, 0);
		g_atomic_int_inc(&f->n_connections);
		g_string_truncate(f->in, 0);
		if (f->script[i] != NULL)
			f->script[i](f);
		else
			i--;
		if (f->script[i + 1] == NULL)
			fake_wait_hang_up(f);
		close(f->connection);
	}
	return NULL;
}

FakeAgent *fake_agent_new(const char *path, const FakeAgentFunc *script)
{
	FakeAgent *f = g_new0(FakeAgent, 1);
	g_autoptr(GError) e = NULL;

	f->script = script;
	f->listener = socket_listen(path, &e);
	g_assert_no_error(e);
	f->stop = eventfd(0, EFD_CLOEXEC);
	f->in = g_string_new(NULL);
	f->thread = g_thread_new("fake-agent", serve, f);
	return f;
}

unsigned fake_agent_connections(FakeAgent *f)
{
	return (unsigned)g_atomic_int_get(&f->n_connections);
}

void fake_agent_free(FakeAgent *f)
{
	uint64_t one = 1;

	g_assert_cmpint(fd_write_all(f->stop, &one, sizeof one), ==, 0);
	g_thread_join(f->thread);
	close(f->listener);
	close(f->stop);
	g_string_free(f->in, TRUE);
	g_free(f);
}
