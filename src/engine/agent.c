/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/agent.h"
#include "base/fd.h"
#include "base/socket.h"
#include "base/time.h"
#include "engine/agent_wire.h"
#include "engine/form.h"
#include "engine/lines.h"
#include "engine/stream.h"

/* A request that the agent does not read, and a sync behind it. */
#define QUEUE_MAX (2 * AGENT_REQUEST_MAX)
#define TIMEOUT_MAX (UINT64_C(24) * 3600 * 1000000)
/* As in engine/qmp.c: a loop that does not turn must not hold a worker for ever. */
#define LOOP_GRACE UINT64_C(1000000)

#define NO_AGENT_ADVICE "Install the package qemu-guest-agent in the guest and start its service."

typedef struct AgentCmd {
	const char *name, *args, *reply;
} AgentCmd;

static const AgentCmd cmds[] = {
#define X(n, a, r) { .name = n, .args = a, .reply = r },
	AGENT_CMD_TABLE(X)
#undef X
};

/* Lies on the stack of the worker that waits for it. */
typedef struct Call {
	/* set by the caller */
	const AgentCmd *cmd;
	char *text;
	uint64_t deadline;
	bool tell; /* silence is success */
	/* results */
	char *line; /* of the answer, `len` bytes; NULL when there is none */
	size_t len;
	GError *error;
	bool done;
	GCond wake;
} Call;

typedef enum Phase {
	IDLE,
	SYNCING,
	CALLING,
} Phase;

struct Agent {
	gint refs;
	Loop *loop;
	char *path;
	AgentFunc func;
	void *data;

	GMutex lock; /* guards what follows, up to the next gap */
	bool open;
	GError *closed; /* why, or NULL */
	GCond changed;
	GQueue waiting; /* Call */
	Call *current;  /* whose turn it is */
	uint64_t calls;
	bool kicked; /* pump() is posted */

	/* the loop's thread only */
	Stream *stream;
	LineReader lines;
	LoopSource *deadline_timer, *sync_timer;
	Phase phase;
	bool in_sync;
	uint64_t first_sync, last_sync; /* ids of the syncs of this session that may be answered */
	uint64_t skipped;
};

/*
 * Ends of calls
 */

/* Locked. Takes line and e. */
static void call_end(Agent *a, Call *c, char *line, size_t len, GError *e)
{
	if (a->current == c)
		a->current = NULL;
	else
		g_queue_remove(&a->waiting, c);
	c->line = line;
	c->len = len;
	c->error = e;
	c->done = true;
	g_cond_signal(&c->wake);
}

/* Was the current call one that only a refusal would have answered, and was it sent? Locked. */
static bool is_told(const Agent *a)
{
	return a->current != NULL && a->current->tell && a->phase == CALLING;
}

/* Locked. The port closed or the agent is closed: nothing more will be answered. */
static void end_all(Agent *a, const GError *why)
{
	Call *c;

	/* A guest that shuts down stops its agent: that is what it was told. */
	if (g_error_matches(why, ERR, ERR_AGENT) && is_told(a))
		call_end(a, a->current, NULL, 0, NULL);
	while ((c = a->current != NULL ? a->current : g_queue_peek_head(&a->waiting)) != NULL)
		call_end(a, c, NULL, 0, g_error_copy(why));
}

static GError *timed_out(const Call *c)
{
	GError *e = NULL;

	fail_advice(&e, ERR_TIMEOUT, "The guest may be busy or hung: look at its console.",
		    "the guest agent did not answer '%s' in time", c->cmd->name);
	return e;
}

/*
 * The connection, on the loop's thread
 */

static void pump(Agent *a);
static void on_input(const char *bytes, size_t len, void *data);
static void on_closed(const GError *e, void *data);

static const StreamHandler stream_handler = { .input = on_input, .closed = on_closed };

static void rest(Agent *a)
{
	a->phase = IDLE;
	loop_timer_stop(a->sync_timer);
	if (a->stream != NULL)
		stream_pause(a->stream);
}

static void connect_port(Agent *a)
{
	int fd = socket_connect(a->path, NULL);

	line_reader_clear(&a->lines);
	a->in_sync = false;
	if (fd >= 0)
		a->stream = stream_new(a->loop, fd, QUEUE_MAX, &stream_handler, a);
	if (fd >= 0)
		stream_pause(a->stream);
}

/* What lies in the socket, either way, is dropped with it. */
static void reconnect(Agent *a)
{
	rest(a);
	a->stream = stream_free(a->stream);
	connect_port(a);
}

/* The call whose turn it is has failed, and with it the session. Takes e. */
static void fail_current(Agent *a, GError *e)
{
	g_mutex_lock(&a->lock);
	if (a->current != NULL)
		call_end(a, a->current, NULL, 0, g_steal_pointer(&e));
	g_mutex_unlock(&a->lock);
	g_clear_error(&e);
	reconnect(a);
	pump(a);
}

/* QEMU hung up: it ends, or somebody else was faster to connect. */
static void on_closed(const GError *e, void *data)
{
	g_autoptr(Agent) a = agent_ref(data);
	GError *lost = NULL;

	a->stream = stream_free(a->stream);
	a->in_sync = false;
	if (a->phase == IDLE)
		return; /* the next call connects again */
	g_mutex_lock(&a->lock);
	if (is_told(a)) /* the guest has powered off, and QEMU ends */
		call_end(a, a->current, NULL, 0, NULL);
	g_mutex_unlock(&a->lock);
	fail(&lost, ERR_AGENT, "the connection to the guest agent was lost: %s", e->message);
	fail_current(a, lost);
}

/*
 * One call, in the order it runs
 */

static bool write_text(Agent *a, const char *text)
{
	g_autoptr(GError) e = NULL;
	GError *busy = NULL;

	if (stream_write(a->stream, text, strlen(text), -EBADF, &e))
		return true;
	fail(&busy, ERR_AGENT, "the guest agent does not read what it is sent");
	fail_current(a, busy);
	return false;
}

static void send_sync(Agent *a)
{
	g_autofree char *text = NULL;

	a->last_sync++;
	text = agent_sync_print(a->last_sync);
	if (write_text(a, text))
		loop_timer_set(a->sync_timer, AGENT_SYNC_PAUSE);
}

static void on_sync_pause(void *data)
{
	Agent *a = data;

	if (a->phase == SYNCING)
		send_sync(a);
}

static void send_request(Agent *a)
{
	g_autofree char *text = NULL;

	a->phase = CALLING;
	a->in_sync = true;
	loop_timer_stop(a->sync_timer);
	g_mutex_lock(&a->lock);
	if (a->current != NULL)
		text = g_steal_pointer(&a->current->text);
	g_mutex_unlock(&a->lock);
	/* The worker may have given up meanwhile. */
	if (text == NULL)
		rest(a);
	else
		write_text(a, text);
}

static void begin(Agent *a)
{
	GError *e = NULL;

	a->skipped = 0;
	if (a->stream == NULL)
		connect_port(a);
	if (a->stream == NULL) {
		fail(&e, ERR_AGENT, "QEMU does not let us connect to the guest agent");
		fail_current(a, e);
		return;
	}
	stream_resume(a->stream);
	if (a->in_sync) {
		send_request(a);
		return;
	}
	a->phase = SYNCING;
	a->first_sync = a->last_sync + 1;
	send_sync(a);
}

static void on_answer(Agent *a, const char *line, size_t len)
{
	g_mutex_lock(&a->lock);
	if (a->current != NULL)
		call_end(a, a->current, g_memdup2(line, len), len, NULL);
	g_mutex_unlock(&a->lock);
	rest(a);
}

/*
 * Syncs are sent again while none is answered, and a slow agent answers all of
 * them in the end: each with a complaint about the mark first, which is a line
 * like the answer to a request. So nothing is asked before the last is answered.
 */
static void on_sync(Agent *a, uint64_t id)
{
	if (id < a->first_sync || id > a->last_sync)
		return;
	if (id == a->last_sync)
		send_request(a);
	else
		loop_timer_stop(a->sync_timer);
}

/* True while the line reader may go on: nothing it reads from was dropped. */
static bool on_line(const char *line, size_t len, void *data)
{
	Agent *a = data;
	Stream *s = a->stream;
	uint64_t id;

	switch (a->phase) {
	case SYNCING:
		if (agent_sync_parse(line, len, &id))
			on_sync(a, id);
		break;
	case CALLING:
		if (len > 0 && !agent_line_marked(line, len))
			on_answer(a, line, len);
		break;
	case IDLE:
		/* More than was asked for. */
		a->in_sync = false;
		break;
	}
	return a->stream == s;
}

static void on_input(const char *bytes, size_t len, void *data)
{
	g_autoptr(Agent) a = agent_ref(data);
	g_autoptr(GError) e = NULL;
	GError *flood = NULL;

	if (a->phase == IDLE)
		return; /* QEMU's last, read because it hung up */
	a->skipped += len;
	if (a->skipped > AGENT_SKIP_MAX || !line_reader_feed(&a->lines, bytes, len, on_line, a, &e)) {
		fail_advice(&flood, ERR_AGENT,
			    "Look for a broken or hostile program on the agent's port in the guest.",
			    "the guest sends more than an agent would");
		err_detail(&flood, "bound", json_integer((json_int_t)AGENT_LINE_MAX));
		fail_current(a, flood);
		return;
	}
	if (a->phase != IDLE)
		return;
	if (a->lines.rest->len > 0) {
		a->in_sync = false;
		line_reader_clear(&a->lines);
	}
	pump(a);
}

/* Locked. */
static uint64_t first_deadline(Agent *a)
{
	uint64_t first = a->current != NULL ? a->current->deadline : UINT64_MAX;

	for (GList *i = a->waiting.head; i != NULL; i = i->next)
		first = MIN(first, ((const Call *)i->data)->deadline);
	return first;
}

static void arm_deadline(Agent *a)
{
	uint64_t first, now = time_monotonic();

	g_mutex_lock(&a->lock);
	first = first_deadline(a);
	g_mutex_unlock(&a->lock);
	if (first == UINT64_MAX)
		loop_timer_stop(a->deadline_timer);
	else
		loop_timer_set(a->deadline_timer, first > now ? first - now : 0);
}

/* Locked. The waiting ones only. */
static void end_late_waiting(Agent *a, uint64_t now)
{
	GList *next;

	for (GList *i = a->waiting.head; i != NULL; i = next) {
		Call *c = i->data;

		next = i->next;
		if (c->deadline <= now)
			call_end(a, c, NULL, 0, timed_out(c));
	}
}

static void on_deadline(void *data)
{
	g_autoptr(Agent) a = agent_ref(data);
	uint64_t now = time_monotonic();
	bool late;

	g_mutex_lock(&a->lock);
	end_late_waiting(a, now);
	late = a->current != NULL && a->current->deadline <= now;
	if (late) /* told, and not refused: done */
		call_end(a, a->current, NULL, 0, is_told(a) ? NULL : timed_out(a->current));
	g_mutex_unlock(&a->lock);
	/* What the agent has not read is taken back: it must not act on it tomorrow. */
	if (late)
		reconnect(a);
	pump(a);
}

/* Whose turn is it? */
static void pump(Agent *a)
{
	bool next = false, abandoned;

	g_mutex_lock(&a->lock);
	a->kicked = false;
	abandoned = a->phase != IDLE && a->current == NULL; /* by a worker that lost patience */
	g_mutex_unlock(&a->lock);
	if (abandoned)
		reconnect(a);
	g_mutex_lock(&a->lock);
	if (a->phase == IDLE && a->open && a->current == NULL) {
		a->current = g_queue_pop_head(&a->waiting);
		next = a->current != NULL;
	}
	g_mutex_unlock(&a->lock);
	arm_deadline(a);
	if (next)
		begin(a);
}

static void pump_posted(void *data)
{
	g_autoptr(Agent) a = data;

	if (a->deadline_timer != NULL)
		pump(a);
}

static void desync_posted(void *data)
{
	g_autoptr(Agent) a = data;

	a->in_sync = false;
}

/*
 * Life
 */

Agent *agent_new(Loop *l, const char *path, AgentFunc func, void *data)
{
	Agent *a = g_new0(Agent, 1);
	uint8_t seed[4];

	a->refs = 1;
	a->loop = l;
	a->path = g_strdup(path);
	a->func = func;
	a->data = data;
	g_mutex_init(&a->lock);
	g_cond_init(&a->changed);
	line_reader_init(&a->lines, AGENT_LINE_MAX);
	a->deadline_timer = loop_add_timer(l, 0, on_deadline, a);
	a->sync_timer = loop_add_timer(l, 0, on_sync_pause, a);
	loop_timer_stop(a->deadline_timer);
	loop_timer_stop(a->sync_timer);
	/* Not the numbers of the client before us, whose answers may still come. */
	random_bytes(seed, sizeof seed);
	for (size_t i = 0; i < sizeof seed; i++)
		a->last_sync = a->last_sync << 8 | seed[i];
	a->last_sync <<= 16;
	connect_port(a);
	return a;
}

Agent *agent_ref(Agent *a)
{
	g_atomic_int_inc(&a->refs);
	return a;
}

void agent_unref(Agent *a)
{
	if (a == NULL || !g_atomic_int_dec_and_test(&a->refs))
		return;
	g_assert(a->deadline_timer == NULL && a->current == NULL);
	line_reader_done(&a->lines);
	g_mutex_clear(&a->lock);
	g_cond_clear(&a->changed);
	g_clear_error(&a->closed);
	g_free(a->path);
	g_free(a);
}

Agent *agent_close(Agent *a, const GError *why)
{
	if (a == NULL)
		return NULL;
	g_assert(loop_on_thread(a->loop));
	g_mutex_lock(&a->lock);
	g_clear_error(&a->closed);
	if (why != NULL)
		a->closed = g_error_copy(why);
	else
		fail(&a->closed, ERR_CANCELLED, "the guest is not looked after any more");
	a->open = false;
	end_all(a, a->closed);
	g_cond_broadcast(&a->changed);
	g_mutex_unlock(&a->lock);
	a->phase = IDLE;
	a->stream = stream_free(a->stream);
	a->deadline_timer = loop_source_free(a->deadline_timer);
	a->sync_timer = loop_source_free(a->sync_timer);
	agent_unref(a);
	return NULL;
}

void agent_set_open(Agent *a, bool open)
{
	g_autoptr(GError) away = NULL;
	bool news;

	g_mutex_lock(&a->lock);
	news = a->open != open && a->closed == NULL;
	if (news)
		a->open = open;
	if (news && !open) {
		fail(&away, ERR_AGENT, "the guest agent went away");
		end_all(a, away);
	}
	g_cond_broadcast(&a->changed);
	g_mutex_unlock(&a->lock);
	if (!news)
		return;
	/* What the agent before has not read must not reach the next one. */
	if (!open)
		reconnect(a);
	if (a->func != NULL)
		a->func(open, a->data);
}

/*
 * Worker threads
 */

bool agent_is_open(Agent *a)
{
	bool open;

	g_mutex_lock(&a->lock);
	open = a->open;
	g_mutex_unlock(&a->lock);
	return open;
}

/* Locked. */
static bool check_open(const Agent *a, GError **err)
{
	if (a->closed != NULL) {
		g_propagate_error(err, g_error_copy(a->closed));
		return false;
	}
	return a->open || fail_advice(err, ERR_AGENT, NO_AGENT_ADVICE, "no guest agent runs in the guest");
}

bool agent_wait_open(Agent *a, uint64_t timeout, GError **err)
{
	gint64 deadline = (gint64)(time_monotonic() + MIN(timeout, TIMEOUT_MAX));
	bool in_time = true, ok;

	g_assert(!loop_on_thread(a->loop));
	g_mutex_lock(&a->lock);
	while (in_time && !a->open && a->closed == NULL)
		in_time = g_cond_wait_until(&a->changed, &a->lock, deadline);
	ok = a->open;
	if (!ok && a->closed != NULL)
		check_open(a, err);
	else if (!ok)
		fail_advice(err, ERR_TIMEOUT, NO_AGENT_ADVICE, "no guest agent has come up in time");
	g_mutex_unlock(&a->lock);
	return ok;
}

bool agent_pause(Agent *a, uint64_t pause, GError **err)
{
	gint64 until = (gint64)(time_monotonic() + MIN(pause, TIMEOUT_MAX));
	bool waiting = true, ok;

	g_assert(!loop_on_thread(a->loop));
	g_mutex_lock(&a->lock);
	while (waiting && a->open)
		waiting = g_cond_wait_until(&a->changed, &a->lock, until);
	ok = check_open(a, err);
	g_mutex_unlock(&a->lock);
	return ok;
}

static const AgentCmd *cmd_find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(cmds); i++)
		if (g_str_equal(cmds[i].name, name))
			return &cmds[i];
	return NULL;
}

static bool call_prepare(Call *c, const char *command, const Json *args, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *none = json_object();
	g_autoptr(GError) e = NULL;

	c->cmd = cmd_find(command);
	if (c->cmd == NULL)
		return fail(err, ERR_INTERNAL, "the guest agent command '%s' is not in the table", command);
	if (!form_check_text(c->cmd->args, args != NULL ? args : none, FORM_SENT, &e))
		return fail(err, ERR_INVALID, "bad arguments for '%s': %s", command, e->message);
	c->text = agent_request_print(command, args);
	c->deadline = time_monotonic() + MIN(timeout, TIMEOUT_MAX);
	if (strlen(c->text) > AGENT_REQUEST_MAX)
		return fail(err, ERR_INVALID, "'%s' with more than %d KiB is too much for the guest agent",
			    command, (int)(AGENT_REQUEST_MAX / 1024));
	return true;
}

/* Locked. Until the loop ended it. */
static void call_wait(Agent *a, Call *c)
{
	bool in_time = true;

	g_queue_push_tail(&a->waiting, c);
	if (!a->kicked) {
		a->kicked = true;
		loop_post(a->loop, pump_posted, agent_ref(a));
	}
	while (!c->done && in_time)
		in_time = g_cond_wait_until(&c->wake, &a->lock, (gint64)(c->deadline + LOOP_GRACE));
	if (!c->done)
		call_end(a, c, NULL, 0, timed_out(c));
}

static bool call_run(Agent *a, Call *c, GError **err)
{
	g_assert(!loop_on_thread(a->loop));
	g_cond_init(&c->wake);
	g_mutex_lock(&a->lock);
	if (check_open(a, &c->error)) {
		a->calls++;
		if (a->waiting.length < AGENT_CALLS_MAX)
			call_wait(a, c);
		else
			fail(&c->error, ERR_BUSY, "%d calls wait for the guest agent already",
			     AGENT_CALLS_MAX);
	}
	g_mutex_unlock(&a->lock);
	g_cond_clear(&c->wake);
	g_clear_pointer(&c->text, g_free);
	if (c->error == NULL)
		return true;
	g_propagate_error(err, c->error);
	return false;
}

/* On the thread that asked: a guest may make this expensive. */
static Json *read_reply(Agent *a, const Call *c, GError **err)
{
	g_autoptr(GError) e = NULL;
	bool sense;
	Json *reply = agent_reply_parse(c->cmd->name, c->line, c->len, &sense, err);

	if (!sense)
		loop_post(a->loop, desync_posted, agent_ref(a));
	if (reply == NULL || form_check_text(c->cmd->reply, reply, FORM_READ, &e))
		return reply;
	json_unref(reply);
	fail(err, ERR_AGENT, "the guest agent's answer to '%s' makes no sense: %s", c->cmd->name, e->message);
	return NULL;
}

uint64_t agent_calls(Agent *a)
{
	uint64_t n;

	g_mutex_lock(&a->lock);
	n = a->calls;
	g_mutex_unlock(&a->lock);
	return n;
}

Json *agent_call(Agent *a, const char *command, Json *args, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *own = args;
	g_autofree char *line = NULL;
	Call c = { 0 };

	if (!call_prepare(&c, command, own, timeout, err)) {
		g_free(c.text);
		return NULL;
	}
	if (!call_run(a, &c, err))
		return NULL;
	line = c.line;
	return read_reply(a, &c, err);
}

bool agent_tell(Agent *a, const char *command, Json *args, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *own = args, *reply = NULL;
	g_autofree char *line = NULL;
	Call c = { .tell = true };

	if (!call_prepare(&c, command, own, timeout, err)) {
		g_free(c.text);
		return false;
	}
	if (!call_run(a, &c, err))
		return false;
	line = c.line;
	if (line == NULL)
		return true;
	reply = read_reply(a, &c, err);
	return reply != NULL;
}
