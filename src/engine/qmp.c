/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/qmp.h"
#include "base/fd.h"
#include "base/socket.h"
#include "base/time.h"
#include "engine/lines.h"
#include "engine/qmp_wire.h"
#include "engine/stream.h"

/* qmp_capabilities; calls count from 1. */
#define HANDSHAKE_ID 0
/* What waits to be written; longer than any request. */
#define QUEUE_MAX QMP_LINE_MAX
/* No deadline is further away than this: sums must not overflow. */
#define TIMEOUT_MAX (UINT64_C(365) * 24 * 3600 * 1000000)
/* The loop ends calls at their deadline. A loop that does not turn must not hold a worker for ever. */
#define LOOP_GRACE UINT64_C(1000000)

typedef enum QmpState {
	QMP_DETACHED,
	QMP_GREETING_DUE,
	QMP_NEGOTIATING,
	QMP_READY,
	QMP_CLOSED,
} QmpState;

/*
 * One call under way. It is in `calls` from its start to its end. A worker's
 * lies on the worker's stack and ends with `done`; the loop's own is on the
 * heap and ends with `func`.
 */
typedef struct Call {
	/* set by the caller */
	const QmpCmd *cmd;
	uint64_t id, deadline;
	char *text; /* the request; NULL once it is sent */
	int fd;     /* the caller's, travels with it; or -EBADF */
	bool blocking;
	QmpReplyFunc func;
	void *data;
	/* results */
	Json *reply;
	GError *error;
	/* a worker waits for it */
	bool done;
	GCond wake;
} Call;

struct Qmp {
	gint refs;
	Loop *loop;
	const QmpHandler *handler;
	void *data;

	GMutex lock; /* guards what follows, up to the next gap */
	QmpState state;
	GCond state_changed;
	GError *why;       /* why it is detached or closed; NULL: never attached */
	GHashTable *calls; /* &id -> Call */
	GQueue outgoing;   /* Call, in the order of qmp_call() */
	uint64_t last_id;
	bool kicked; /* send_outgoing() is posted */

	/* the loop's thread only */
	Stream *stream;
	LineReader lines;
	LoopSource *timer;
};

typedef struct Attachment {
	Qmp *q;
	int fd;
} Attachment;

Qmp *qmp_new(Loop *l, const QmpHandler *h, void *data)
{
	Qmp *q = g_new0(Qmp, 1);

	q->refs = 1;
	q->loop = l;
	q->handler = h;
	q->data = data;
	g_mutex_init(&q->lock);
	g_cond_init(&q->state_changed);
	q->calls = g_hash_table_new(g_int64_hash, g_int64_equal);
	line_reader_init(&q->lines, QMP_LINE_MAX);
	return q;
}

Qmp *qmp_ref(Qmp *q)
{
	g_atomic_int_inc(&q->refs);
	return q;
}

void qmp_unref(Qmp *q)
{
	if (q == NULL || !g_atomic_int_dec_and_test(&q->refs))
		return;
	/* While attached the stream would point here: the owner closes first. */
	g_assert(q->stream == NULL && q->timer == NULL && g_hash_table_size(q->calls) == 0);
	g_hash_table_unref(q->calls);
	line_reader_done(&q->lines);
	g_clear_error(&q->why);
	g_cond_clear(&q->state_changed);
	g_mutex_clear(&q->lock);
	g_free(q);
}

/*
 * Ends of calls
 */

/* Locked. Takes reply and e. The loop's own calls are put on `ended`, for run_ended(). */
static void call_end(Qmp *q, Call *c, Json *reply, GError *e, GQueue *ended)
{
	g_hash_table_remove(q->calls, &c->id);
	if (c->text != NULL)
		g_queue_remove(&q->outgoing, c);
	g_clear_pointer(&c->text, g_free);
	c->reply = reply;
	c->error = e;
	if (c->blocking) {
		c->done = true;
		g_cond_signal(&c->wake);
	} else {
		g_queue_push_tail(ended, c);
	}
}

static void call_report(Call *c)
{
	if (c->func != NULL)
		c->func(c->reply, c->error, c->data);
	json_unref(c->reply);
	g_clear_error(&c->error);
	g_free(c->text);
	g_free(c);
}

/* Unlocked: callbacks may call. */
static void run_ended(GQueue *ended)
{
	Call *c;

	while ((c = g_queue_pop_head(ended)) != NULL)
		call_report(c);
}

static gint compare_ids(gconstpointer a, gconstpointer b)
{
	const Call *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* Locked. In the order they were made. */
static void end_all(Qmp *q, const GError *e, GQueue *ended)
{
	GList *all = g_list_sort(g_hash_table_get_values(q->calls), compare_ids);

	for (GList *i = all; i != NULL; i = i->next)
		call_end(q, i->data, NULL, g_error_copy(e), ended);
	g_list_free(all);
}

static GError *timed_out(const Call *c)
{
	GError *e = NULL;

	fail_advice(
	    &e, ERR_TIMEOUT,
	    "QEMU's main loop may be waiting for storage: look at the host's disks and network file systems.",
	    "QEMU did not answer '%s' in time", c->cmd->name);
	return e;
}

/* Locked. */
static void arm_timer(Qmp *q)
{
	uint64_t first = UINT64_MAX, now = time_monotonic();
	GHashTableIter i;
	gpointer v;

	g_hash_table_iter_init(&i, q->calls);
	while (g_hash_table_iter_next(&i, NULL, &v))
		first = MIN(first, ((const Call *)v)->deadline);
	if (q->timer == NULL)
		return;
	if (first == UINT64_MAX)
		loop_timer_stop(q->timer);
	else
		loop_timer_set(q->timer, first > now ? first - now : 0);
}

static void on_deadline(void *data)
{
	Qmp *q = data;
	GQueue ended = G_QUEUE_INIT;
	uint64_t now = time_monotonic();
	GList *all;

	g_mutex_lock(&q->lock);
	all = g_hash_table_get_values(q->calls);
	for (GList *i = all; i != NULL; i = i->next) {
		Call *c = i->data;

		if (c->deadline <= now)
			call_end(q, c, NULL, timed_out(c), &ended);
	}
	g_list_free(all);
	arm_timer(q);
	g_mutex_unlock(&q->lock);
	run_ended(&ended);
}

/*
 * The connection
 */

static void on_input(const char *bytes, size_t len, void *data);
static void on_closed(const GError *e, void *data);

static const StreamHandler stream_handler = { .input = on_input, .closed = on_closed };

static void drop_stream(Qmp *q)
{
	q->stream = stream_free(q->stream);
	q->timer = loop_source_free(q->timer);
	line_reader_clear(&q->lines);
}

static void lose(Qmp *q, const GError *e)
{
	GQueue ended = G_QUEUE_INIT;

	drop_stream(q);
	g_mutex_lock(&q->lock);
	q->state = QMP_DETACHED;
	g_clear_error(&q->why);
	fail(&q->why, ERR_UNAVAILABLE, "the connection to QEMU's monitor was lost: %s", e->message);
	end_all(q, q->why, &ended);
	g_cond_broadcast(&q->state_changed);
	g_mutex_unlock(&q->lock);
	run_ended(&ended);
	/* One of those may have closed it. */
	if (q->state != QMP_CLOSED && q->handler->lost != NULL)
		q->handler->lost(q, e, q->data);
}

static void on_closed(const GError *e, void *data)
{
	Qmp *q = qmp_ref(data);

	lose(q, e);
	qmp_unref(q);
}

static void start_stream(void *data)
{
	g_autofree Attachment *a = data;
	g_autoptr(Qmp) q = a->q;
	bool closed;

	g_mutex_lock(&q->lock);
	closed = q->state == QMP_CLOSED;
	g_mutex_unlock(&q->lock);
	if (closed) {
		fd_closep(&a->fd);
		return;
	}
	q->timer = loop_add_timer(q->loop, 0, on_deadline, q);
	q->stream = stream_new(q->loop, a->fd, QUEUE_MAX, &stream_handler, q);
}

void qmp_attach(Qmp *q, int fd)
{
	Attachment *a = g_new(Attachment, 1);

	g_mutex_lock(&q->lock);
	g_assert(q->state == QMP_DETACHED || q->state == QMP_CLOSED);
	if (q->state == QMP_DETACHED)
		q->state = QMP_GREETING_DUE;
	g_mutex_unlock(&q->lock);
	*a = (Attachment){ .q = qmp_ref(q), .fd = fd };
	loop_post(q->loop, start_stream, a);
}

bool qmp_connect(Qmp *q, const char *path, GError **err)
{
	int fd = socket_connect(path, err);

	if (fd < 0)
		return false;
	qmp_attach(q, fd);
	return true;
}

/* Locked. Why nothing can be sent in this state. */
static bool fail_state(const Qmp *q, GError **err)
{
	if (q->why == NULL)
		return fail(err, ERR_UNAVAILABLE, "there is no connection to QEMU's monitor");
	g_propagate_error(err, g_error_copy(q->why));
	return false;
}

bool qmp_wait_ready(Qmp *q, uint64_t timeout, GError **err)
{
	gint64 deadline = (gint64)(time_monotonic() + MIN(timeout, TIMEOUT_MAX));
	bool in_time = true, ok;

	g_assert(!loop_on_thread(q->loop));
	g_mutex_lock(&q->lock);
	while (in_time && (q->state == QMP_GREETING_DUE || q->state == QMP_NEGOTIATING))
		in_time = g_cond_wait_until(&q->state_changed, &q->lock, deadline);
	ok = q->state == QMP_READY;
	if (!in_time && !ok)
		fail(err, ERR_TIMEOUT, "QEMU did not greet in time");
	else if (!ok)
		fail_state(q, err);
	g_mutex_unlock(&q->lock);
	return ok;
}

Qmp *qmp_close(Qmp *q, const GError *why)
{
	GQueue ended = G_QUEUE_INIT;

	if (q == NULL)
		return NULL;
	g_assert(loop_on_thread(q->loop));
	drop_stream(q);
	g_mutex_lock(&q->lock);
	q->state = QMP_CLOSED;
	g_clear_error(&q->why);
	if (why != NULL)
		q->why = g_error_copy(why);
	else
		fail(&q->why, ERR_CANCELLED, "the connection to QEMU's monitor was closed");
	end_all(q, q->why, &ended);
	g_cond_broadcast(&q->state_changed);
	g_mutex_unlock(&q->lock);
	run_ended(&ended);
	qmp_unref(q);
	return NULL;
}

uint64_t qmp_calls(Qmp *q)
{
	uint64_t n;

	g_mutex_lock(&q->lock);
	n = q->last_id;
	g_mutex_unlock(&q->lock);
	return n;
}

void qmp_drain(Qmp *q)
{
	qmp_ref(q);
	if (q->stream != NULL)
		stream_drain(q->stream);
	qmp_unref(q);
}

/*
 * Sending
 */

static void send_outgoing(void *data)
{
	g_autoptr(Qmp) q = data;
	GQueue ended = G_QUEUE_INIT;
	Call *c;

	g_mutex_lock(&q->lock);
	q->kicked = false;
	while (q->state == QMP_READY && (c = g_queue_pop_head(&q->outgoing)) != NULL) {
		g_autofree char *text = g_steal_pointer(&c->text);
		GError *e = NULL;

		if (!stream_write(q->stream, text, strlen(text), c->fd, &e))
			call_end(q, c, NULL, e, &ended);
	}
	arm_timer(q);
	g_mutex_unlock(&q->lock);
	run_ended(&ended);
}

/* Locked. False with *err when there is nowhere to send it. */
static bool may_call(Qmp *q, GError **err)
{
	if (q->state == QMP_CLOSED || q->state == QMP_DETACHED)
		return fail_state(q, err);
	if (g_hash_table_size(q->calls) >= QMP_CALLS_MAX)
		return fail(err, ERR_LIMIT, "%d commands wait for QEMU already", QMP_CALLS_MAX);
	return true;
}

/* The command, its arguments in the right form, its text. Takes args. */
static bool call_prepare(Call *c, const char *command, Json *args, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *own = args != NULL ? args : json_object();
	g_autoptr(GError) e = NULL;

	c->cmd = qmp_cmd_find(command);
	if (c->cmd == NULL)
		return fail(err, ERR_INTERNAL, "the QMP command '%s' is not in the table", command);
	if (!form_check_text(c->cmd->args, own, FORM_SENT, &e))
		return fail(err, ERR_INVALID, "bad arguments for the QMP command '%s': %s", command,
			    e->message);
	c->deadline = time_monotonic() + MIN(timeout != 0 ? timeout : c->cmd->timeout, TIMEOUT_MAX);
	return true;
}

/* Locked. */
static void call_begin(Qmp *q, Call *c, const Json *args)
{
	c->id = ++q->last_id;
	c->text = qmp_request_print(c->cmd->name, args, c->id);
	g_hash_table_insert(q->calls, &c->id, c);
	g_queue_push_tail(&q->outgoing, c);
	if (!q->kicked) {
		q->kicked = true;
		loop_post(q->loop, send_outgoing, qmp_ref(q));
	}
}

static void report_later(void *data)
{
	call_report(data);
}

void qmp_send(Qmp *q, const char *command, Json *args, uint64_t timeout, QmpReplyFunc func, void *data)
{
	_cleanup_json_ Json *own = json_ref(args);
	Call *c = g_new0(Call, 1);

	g_assert(loop_on_thread(q->loop));
	c->fd = -EBADF;
	c->func = func;
	c->data = data;
	if (call_prepare(c, command, args, timeout, &c->error)) {
		g_mutex_lock(&q->lock);
		if (may_call(q, &c->error))
			call_begin(q, c, own);
		g_mutex_unlock(&q->lock);
	}
	if (c->error != NULL)
		loop_post(q->loop, report_later, c);
}

/* Locked. Until the loop ended the call, or does not seem to turn any more. */
static void call_wait(Qmp *q, Call *c)
{
	bool in_time = true;

	while (!c->done && in_time)
		in_time = g_cond_wait_until(&c->wake, &q->lock, (gint64)(c->deadline + LOOP_GRACE));
	if (!c->done)
		call_end(q, c, NULL, timed_out(c), NULL);
}

Json *qmp_call_fd(Qmp *q, const char *command, Json *args, int fd, uint64_t timeout, GError **err)
{
	_cleanup_json_ Json *own = json_ref(args);
	Call c = { .fd = fd, .blocking = true };

	g_assert(!loop_on_thread(q->loop));
	if (!call_prepare(&c, command, args, timeout, err))
		return NULL;
	g_cond_init(&c.wake);
	g_mutex_lock(&q->lock);
	if (may_call(q, &c.error)) {
		call_begin(q, &c, own);
		call_wait(q, &c);
	}
	g_mutex_unlock(&q->lock);
	g_cond_clear(&c.wake);
	if (c.error != NULL)
		g_propagate_error(err, c.error);
	return c.reply;
}

Json *qmp_call(Qmp *q, const char *command, Json *args, uint64_t timeout, GError **err)
{
	return qmp_call_fd(q, command, args, -EBADF, timeout, err);
}

/* Locked. */
static void begin_all(Qmp *q, struct qmp_ask *ask, Call *call, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (call[i].error == NULL && may_call(q, &call[i].error))
			call_begin(q, &call[i], ask[i].args);
}

void qmp_call_all(Qmp *q, struct qmp_ask *ask, size_t n, uint64_t timeout)
{
	g_autofree Call *call = g_new0(Call, n);

	g_assert(!loop_on_thread(q->loop));
	for (size_t i = 0; i < n; i++) {
		call[i] = (Call){ .fd = -EBADF, .blocking = true };
		g_cond_init(&call[i].wake);
		call_prepare(&call[i], ask[i].command, json_ref(ask[i].args), timeout, &call[i].error);
	}
	g_mutex_lock(&q->lock);
	begin_all(q, ask, call, n);
	for (size_t i = 0; i < n; i++)
		if (call[i].id != 0)
			call_wait(q, &call[i]);
	g_mutex_unlock(&q->lock);
	for (size_t i = 0; i < n; i++) {
		g_cond_clear(&call[i].wake);
		json_unref(ask[i].args);
		ask[i].args = NULL;
		ask[i].reply = call[i].reply;
		ask[i].error = call[i].error;
	}
}

void qmp_ask_clear(struct qmp_ask *a)
{
	json_unref(a->args);
	json_unref(a->reply);
	g_clear_error(&a->error);
	*a = (struct qmp_ask){ 0 };
}

/*
 * Receiving
 */

static bool on_greeting(Qmp *q, GError **err)
{
	g_autofree char *text = qmp_request_print("qmp_capabilities", NULL, HANDSHAKE_ID);

	if (q->state != QMP_GREETING_DUE)
		return fail(err, ERR_QEMU, "QEMU greeted twice");
	g_mutex_lock(&q->lock);
	q->state = QMP_NEGOTIATING;
	g_mutex_unlock(&q->lock);
	return stream_write(q->stream, text, strlen(text), -EBADF, err);
}

static bool on_negotiated(Qmp *q, const QmpMessage *m, GError **err)
{
	if (q->state != QMP_NEGOTIATING || m->kind != QMP_RETURN)
		return fail(err, ERR_QEMU, "QEMU refused to open its monitor: %s",
			    m->text != NULL ? m->text : "it did so twice");
	g_mutex_lock(&q->lock);
	q->state = QMP_READY;
	g_clear_error(&q->why);
	g_cond_broadcast(&q->state_changed);
	g_mutex_unlock(&q->lock);
	send_outgoing(qmp_ref(q));
	if (q->handler->ready != NULL)
		q->handler->ready(q, q->data);
	return true;
}

/* Locked. What the caller of `c` gets. */
static Json *reply_of(const Call *c, QmpMessage *m, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (m->kind == QMP_ERROR)
		g_propagate_error(err, qmp_refusal(c->cmd->name, m->name, m->text));
	else if (!form_check_text(c->cmd->reply, m->value, FORM_READ, &e))
		fail(err, ERR_QEMU, "QEMU's answer to '%s' makes no sense: %s", c->cmd->name, e->message);
	else
		return g_steal_pointer(&m->value);
	return NULL;
}

static bool on_reply(Qmp *q, QmpMessage *m, GError **err)
{
	GQueue ended = G_QUEUE_INIT;
	GError *e = NULL;
	bool known;
	Call *c;

	if (!m->has_id)
		return fail(err, ERR_QEMU, "QEMU did not understand a request: %s",
			    m->text != NULL ? m->text : "its answer has no id");
	if (m->id == HANDSHAKE_ID)
		return on_negotiated(q, m, err);
	g_mutex_lock(&q->lock);
	known = m->id <= q->last_id;
	c = g_hash_table_lookup(q->calls, &m->id);
	/* One that was sent and is not there any more timed out; its late answer is of no use. */
	if (c != NULL && c->text == NULL) {
		Json *reply = reply_of(c, m, &e);

		call_end(q, c, reply, e, &ended);
	}
	g_mutex_unlock(&q->lock);
	run_ended(&ended);
	return known || fail(err, ERR_QEMU, "QEMU answered a request that was never made");
}

static bool on_event(Qmp *q, const QmpMessage *m, GError **err)
{
	const QmpEvent *known = qmp_event_find(m->name);
	g_autoptr(GError) e = NULL;

	if (known != NULL && !form_check_text(known->data, m->value, FORM_READ, &e))
		return fail(err, ERR_QEMU, "QEMU's event '%s' makes no sense: %s", m->name, e->message);
	if (q->handler->event != NULL)
		q->handler->event(q, m->name, m->value, m->real_us, q->data);
	return true;
}

static bool on_message(Qmp *q, QmpMessage *m, GError **err)
{
	switch (m->kind) {
	case QMP_GREETING:
		return on_greeting(q, err);
	case QMP_RETURN:
	case QMP_ERROR:
		return on_reply(q, m, err);
	case QMP_EVENT:
		return on_event(q, m, err);
	}
	g_assert_not_reached();
}

static bool on_line(const char *line, size_t len, void *data)
{
	g_auto(QmpMessage) m = { 0 };
	g_autoptr(GError) e = NULL;
	Qmp *q = data;

	if ((!qmp_message_parse(line, len, &m, &e) || !on_message(q, &m, &e)) && q->stream != NULL)
		lose(q, e);
	return q->stream != NULL;
}

static void on_input(const char *bytes, size_t len, void *data)
{
	g_autoptr(Qmp) q = qmp_ref(data);
	g_autoptr(GError) e = NULL;

	if (!line_reader_feed(&q->lines, bytes, len, on_line, q, &e))
		lose(q, e);
}
