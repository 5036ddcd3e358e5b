/* SPDX-License-Identifier: Apache-2.0 */
#include "fake_qmp.h"
#include "base/fd.h"
#include "schema.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define PATIENCE_MS 120000
#define GREETING                                                                                             \
	"{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \"package\": "      \
	"\"fake\"}, \"capabilities\": [\"oob\"]}}\r\n"

typedef enum StepKind {
	EXPECT, /* `name` with `args`; then `text` as the rest of a reply, or nothing to hold it */
	SAY,    /* `text`, as it is */
	ANSWER_HELD,
	HANG_UP,
} StepKind;

typedef struct Step {
	StepKind kind;
	char *name, *args; /* EXPECT; args as compact JSON, NULL: none */
	char *text;        /* SAY; and "\"return\": ..." or "\"error\": ..." of a reply */
	size_t len;        /* SAY */
	unsigned nth;
} Step;

struct FakeQmp {
	Schema *schema;
	GPtrArray *step; /* Step */
	GPtrArray *held; /* names of held commands, for the check of their answers */
	int client[8], server[8];
	unsigned n_made, n_taken;
	GThread *thread;
	/* the thread's */
	unsigned connection;
	GString *in;
	GArray *held_ids; /* json_int_t */
};

static void step_free(gpointer p)
{
	Step *s = p;

	g_free(s->name);
	g_free(s->args);
	g_free(s->text);
	g_free(s);
}

static Step *step_add(FakeQmp *f, StepKind kind)
{
	Step *s = g_new0(Step, 1);

	s->kind = kind;
	g_ptr_array_add(f->step, s);
	return s;
}

static void connection_make(FakeQmp *f)
{
	int fds[2];

	g_assert_cmpuint(f->n_made, <, G_N_ELEMENTS(f->client));
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	f->client[f->n_made] = fds[0];
	f->server[f->n_made] = fds[1];
	f->n_made++;
}

FakeQmp *fake_qmp_new(const char *schema_path)
{
	FakeQmp *f = g_new0(FakeQmp, 1);

	f->schema = schema_load(schema_path);
	f->step = g_ptr_array_new_with_free_func(step_free);
	f->held = g_ptr_array_new_with_free_func(g_free);
	f->in = g_string_new(NULL);
	f->held_ids = g_array_new(FALSE, FALSE, sizeof(json_int_t));
	connection_make(f);
	return f;
}

int fake_qmp_take_fd(FakeQmp *f)
{
	g_assert_cmpuint(f->n_taken, ==, 0);
	return f->client[f->n_taken++];
}

int fake_qmp_next_fd(FakeQmp *f)
{
	g_assert_cmpuint(f->n_taken, <, f->n_made);
	return f->client[f->n_taken++];
}

/*
 * Writing the script down
 */

static Json *parsed(const char *text)
{
	g_autoptr(GError) e = NULL;
	Json *j = json_parse(text, strlen(text), &e);

	g_assert_no_error(e);
	return j;
}

/* Fails the test when QEMU would not send, or take, this. Returns it in its shortest form. */
static char *checked(FakeQmp *f, const char *kind, const char *name, const char *which, const char *text)
{
	const char *type = schema_type_of(f->schema, kind, name, which);
	_cleanup_json_ Json *j = parsed(text != NULL ? text : "{}");
	g_autoptr(GError) e = NULL;

	if (type == NULL)
		g_error("QEMU has no %s '%s'", kind, name);
	schema_check_value(f->schema, type, j, &e);
	g_assert_no_error(e);
	return json_print(j);
}

void fake_raw(FakeQmp *f, const char *bytes, size_t len)
{
	Step *s = step_add(f, SAY);

	s->text = g_memdup2(bytes, len);
	s->len = len;
}

void fake_event(FakeQmp *f, const char *name, const char *data)
{
	g_autofree char *d = checked(f, "event", name, "arg-type", data);
	g_autofree char *line =
	    g_strdup_printf("{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 5}, "
			    "\"event\": \"%s\", \"data\": %s}\r\n",
			    name, d);

	fake_raw(f, line, strlen(line));
}

static Step *expect(FakeQmp *f, const char *command, const char *args)
{
	Step *s = step_add(f, EXPECT);

	s->name = g_strdup(command);
	if (args != NULL)
		s->args = checked(f, "command", command, "arg-type", args);
	return s;
}

void fake_answer(FakeQmp *f, const char *command, const char *args, const char *reply)
{
	Step *s = expect(f, command, args);
	g_autofree char *r = checked(f, "command", command, "ret-type", reply);

	s->text = g_strdup_printf("\"return\": %s", r);
}

void fake_refuse(FakeQmp *f, const char *command, const char *class, const char *text)
{
	expect(f, command, NULL)->text =
	    g_strdup_printf("\"error\": {\"class\": \"%s\", \"desc\": \"%s\"}", class, text);
}

void fake_hold(FakeQmp *f, const char *command, const char *args)
{
	expect(f, command, args);
	g_ptr_array_add(f->held, g_strdup(command));
}

void fake_answer_held(FakeQmp *f, unsigned nth, const char *reply)
{
	g_autofree char *r = NULL;
	Step *s = step_add(f, ANSWER_HELD);

	g_assert_cmpuint(nth, <, f->held->len);
	r = checked(f, "command", f->held->pdata[nth], "ret-type", reply);
	s->nth = nth;
	s->text = g_strdup_printf("\"return\": %s", r);
}

void fake_greet(FakeQmp *f)
{
	fake_raw(f, GREETING, strlen(GREETING));
	fake_answer(f, "qmp_capabilities", NULL, "{}");
}

void fake_hang_up(FakeQmp *f)
{
	step_add(f, HANG_UP);
	connection_make(f);
}

/*
 * Playing it
 */

static void say(FakeQmp *f, const char *bytes, size_t len)
{
	int fd = f->server[f->connection];

	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			return; /* the client hung up: what it makes of it is the test's business */
		bytes += n;
		len -= (size_t)n;
	}
}

static char *read_line(FakeQmp *f)
{
	struct pollfd p = { .fd = f->server[f->connection], .events = POLLIN };
	char buf[4096], *end;

	while ((end = memchr(f->in->str, '\n', f->in->len)) == NULL) {
		ssize_t n;

		if (poll(&p, 1, PATIENCE_MS) != 1)
			g_error("the client sends nothing");
		n = recv(p.fd, buf, sizeof buf, 0);
		if (n <= 0)
			g_error("the client hung up in the middle of the script");
		g_string_append_len(f->in, buf, n);
	}
	*end = '\0';
	end = g_strdup(f->in->str);
	g_string_erase(f->in, 0, (gssize)strlen(end) + 1);
	return end;
}

static void reply(FakeQmp *f, const char *text, json_int_t id)
{
	g_autofree char *line = g_strdup_printf("{\"id\": %lld, %s}\r\n", (long long)id, text);

	say(f, line, strlen(line));
}

static void play_expect(FakeQmp *f, const Step *s)
{
	g_autofree char *line = read_line(f), *args = NULL;
	_cleanup_json_ Json *j = parsed(line);
	json_int_t id = json_int(j, "id", -1);

	g_assert_cmpstr(json_str(j, "execute"), ==, s->name);
	if (json_obj(j, "arguments") != NULL)
		args = json_print(json_obj(j, "arguments"));
	g_assert_cmpstr(args, ==, s->args);
	if (s->text != NULL)
		reply(f, s->text, id);
	else
		g_array_append_val(f->held_ids, id);
}

static void play_step(FakeQmp *f, const Step *s)
{
	switch (s->kind) {
	case EXPECT:
		play_expect(f, s);
		break;
	case SAY:
		say(f, s->text, s->len);
		break;
	case ANSWER_HELD:
		reply(f, s->text, g_array_index(f->held_ids, json_int_t, s->nth));
		break;
	case HANG_UP:
		close(f->server[f->connection++]);
		g_string_truncate(f->in, 0);
		break;
	}
}

static gpointer play(gpointer data)
{
	FakeQmp *f = data;

	for (guint i = 0; i < f->step->len; i++)
		play_step(f, f->step->pdata[i]);
	return NULL;
}

void fake_start(FakeQmp *f)
{
	f->thread = g_thread_new("fake-qmp", play, f);
}

void fake_finish(FakeQmp *f)
{
	g_thread_join(f->thread);
	for (unsigned i = f->n_taken; i < f->n_made; i++)
		close(f->client[i]);
	for (unsigned i = f->connection; i < f->n_made; i++)
		close(f->server[i]);
	g_ptr_array_unref(f->step);
	g_ptr_array_unref(f->held);
	g_array_unref(f->held_ids);
	g_string_free(f->in, TRUE);
	schema_free(f->schema);
	g_free(f);
}
