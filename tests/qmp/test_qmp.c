/* SPDX-License-Identifier: Apache-2.0 */
/* A QMP connection against a scripted monitor. */
#include "base/fd.h"
#include "base/time.h"
#include "drive.h"
#include "engine/qmp.h"
#include "fake_qmp.h"

#include <sys/socket.h>

#define SCHEMA SCHEMAS "/7.2.json"
#define RUNNING "{\"running\": true, \"singlestep\": false, \"status\": \"running\"}"
#define UUID_REPLY "{\"UUID\": \"5c1a2a0e-9a3c-4e67-8a57-6b8d3f0f1d11\"}"

/* One connection with its fake, and what the handler was told. */
typedef struct Rig {
	Loop *loop;
	FakeQmp *fake;
	Qmp *qmp;
	unsigned n_ready, n_lost;
	GError *lost;    /* the last */
	GString *events; /* "NAME DATA;" */
	bool close_on_event;
} Rig;

static void on_ready(Qmp *q, void *data)
{
	(void)q;
	((Rig *)data)->n_ready++;
}

static void on_event(Qmp *q, const char *name, Json *args, uint64_t real_us, void *data)
{
	g_autofree char *text = json_print(args);
	Rig *r = data;

	g_assert_cmpuint(real_us, ==, UINT64_C(1700000000000005));
	g_string_append_printf(r->events, "%s %s;", name, text);
	if (r->close_on_event) {
		g_assert_true(q == r->qmp);
		r->qmp = qmp_close(r->qmp, NULL);
	}
}

static void on_lost(Qmp *q, const GError *e, void *data)
{
	Rig *r = data;

	(void)q;
	r->n_lost++;
	g_clear_error(&r->lost);
	r->lost = g_error_copy(e);
}

static const QmpHandler handler = { .ready = on_ready, .event = on_event, .lost = on_lost };

static void rig_init(Rig *r)
{
	*r = (Rig){ .loop = loop_new(NULL), .fake = fake_qmp_new(SCHEMA), .events = g_string_new(NULL) };
	r->qmp = qmp_new(r->loop, &handler, r);
}

/* The script is written down: let it play. */
static void rig_start(Rig *r)
{
	fake_start(r->fake);
	qmp_attach(r->qmp, fake_qmp_take_fd(r->fake));
}

static void rig_done(Rig *r)
{
	qmp_close(r->qmp, NULL);
	fake_finish(r->fake);
	drive_idle(r->loop);
	loop_free(r->loop);
	g_clear_error(&r->lost);
	g_string_free(r->events, TRUE);
}

/* What one qmp_send() came to. */
typedef struct Outcome {
	bool done;
	unsigned times;
	Json *reply;
	GError *error;
	unsigned order, *counter; /* of the ends of all outcomes that share the counter */
} Outcome;

static void on_outcome(Json *reply, const GError *e, void *data)
{
	Outcome *o = data;

	o->done = true;
	o->times++;
	o->reply = json_ref(reply);
	o->error = e != NULL ? g_error_copy(e) : NULL;
	if (o->counter != NULL)
		o->order = (*o->counter)++;
}

static void outcome_clear(Outcome *o)
{
	json_unref(o->reply);
	g_clear_error(&o->error);
	*o = (Outcome){ 0 };
}

static void test_calls_wait_for_the_greeting_and_are_answered(void)
{
	Outcome o = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_answer(r.fake, "query-status", NULL, RUNNING);
	rig_start(&r);
	qmp_send(r.qmp, "query-status", NULL, 0, on_outcome, &o);
	g_assert_false(o.done); /* never before it returns */
	drive_until(r.loop, &o.done);
	g_assert_no_error(o.error);
	g_assert_true(json_bool(o.reply, "running", false));
	g_assert_cmpuint(r.n_ready, ==, 1);
	outcome_clear(&o);
	rig_done(&r);
	g_assert_cmpuint(r.n_lost, ==, 0); /* closing is no loss */
}

static void call_status(void *data)
{
	Rig *r = data;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *reply = NULL;

	g_assert_true(qmp_wait_ready(r->qmp, 120 * SECONDS, &e));
	g_assert_no_error(e);
	reply = qmp_call(r->qmp, "query-status", NULL, 0, &e);
	g_assert_no_error(e);
	g_assert_cmpstr(json_str(reply, "status"), ==, "running");
}

static void test_a_worker_gets_its_answer(void)
{
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_answer(r.fake, "query-status", NULL, RUNNING);
	rig_start(&r);
	drive_worker(r.loop, call_status, &r);
	rig_done(&r);
}

static void call_several(void *data)
{
	struct qmp_ask ask[] = { { .command = "query-status" },
				 { .command = "query-unknown" },
				 { .command = "query-kvm" },
				 { .command = "query-uuid" } };
	g_autoptr(GError) e = NULL;
	Rig *r = data;

	g_assert_true(qmp_wait_ready(r->qmp, 120 * SECONDS, &e));
	qmp_call_all(r->qmp, ask, G_N_ELEMENTS(ask), 0);
	g_assert_no_error(ask[0].error);
	g_assert_cmpstr(json_str(ask[0].reply, "status"), ==, "running");
	g_assert_error(ask[1].error, ERR, ERR_INTERNAL); /* not in the table */
	g_assert_error(ask[2].error, ERR, ERR_QEMU);
	g_assert_null(ask[2].reply);
	g_assert_no_error(ask[3].error);
	g_assert_nonnull(json_str(ask[3].reply, "UUID"));
	for (size_t i = 0; i < G_N_ELEMENTS(ask); i++)
		qmp_ask_clear(&ask[i]);
}

/* The fake answers nothing before it has heard the last of them. */
static void test_several_calls_are_sent_before_the_first_answer(void)
{
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "query-status", NULL);
	fake_refuse(r.fake, "query-kvm", "GenericError", "no");
	fake_answer(r.fake, "query-uuid", NULL, UUID_REPLY);
	fake_answer_held(r.fake, 0, RUNNING);
	rig_start(&r);
	drive_worker(r.loop, call_several, &r);
	rig_done(&r);
}

static void test_answers_may_come_in_any_order(void)
{
	unsigned counter = 0;
	Outcome status = { .counter = &counter }, uuid = { .counter = &counter },
		kvm = { .counter = &counter };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "query-status", NULL);
	fake_hold(r.fake, "query-uuid", NULL);
	fake_hold(r.fake, "query-kvm", NULL);
	fake_answer_held(r.fake, 2, "{\"enabled\": false, \"present\": true}");
	fake_answer_held(r.fake, 0, RUNNING);
	fake_answer_held(r.fake, 1, UUID_REPLY);
	rig_start(&r);
	qmp_send(r.qmp, "query-status", NULL, 0, on_outcome, &status);
	qmp_send(r.qmp, "query-uuid", NULL, 0, on_outcome, &uuid);
	qmp_send(r.qmp, "query-kvm", NULL, 0, on_outcome, &kvm);
	drive_until_count(r.loop, &counter, 3);
	g_assert_cmpuint(kvm.order, ==, 0);
	g_assert_cmpuint(status.order, ==, 1);
	g_assert_cmpuint(uuid.order, ==, 2);
	g_assert_true(json_bool(kvm.reply, "present", false));
	g_assert_cmpstr(json_str(status.reply, "status"), ==, "running");
	g_assert_nonnull(json_str(uuid.reply, "UUID"));
	outcome_clear(&status);
	outcome_clear(&uuid);
	outcome_clear(&kvm);
	rig_done(&r);
}

static void test_refusals_become_errors_with_qemus_text(void)
{
	Outcome o = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_refuse(r.fake, "inject-nmi", "GenericError", "NMI is not supported");
	rig_start(&r);
	qmp_send(r.qmp, "inject-nmi", NULL, 0, on_outcome, &o);
	drive_until(r.loop, &o.done);
	g_assert_error(o.error, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(o.error->message, "NMI is not supported"));
	g_assert_null(o.reply);
	outcome_clear(&o);
	rig_done(&r);
}

static void test_what_is_not_in_the_table_is_not_sent(void)
{
	Outcome unknown = { 0 }, bad = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_answer(r.fake, "query-status", NULL, RUNNING); /* the first that arrives */
	rig_start(&r);
	qmp_send(r.qmp, "system_wakeup", NULL, 0, on_outcome, &unknown);
	qmp_send(r.qmp, "device_del", json_object(), 0, on_outcome, &bad);
	g_assert_false(unknown.done || bad.done);
	drive_until(r.loop, &unknown.done);
	drive_until(r.loop, &bad.done);
	g_assert_error(unknown.error, ERR, ERR_INTERNAL);
	g_assert_error(bad.error, ERR, ERR_INVALID);
	outcome_clear(&unknown);
	outcome_clear(&bad);
	drive_worker(r.loop, call_status, &r);
	rig_done(&r);
}

static void test_an_answer_of_another_form_is_refused(void)
{
	static const char wrong[] = "{\"return\": {\"running\": \"yes\"}, \"id\": 1}\r\n";
	Outcome o = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "query-status", NULL);
	fake_raw(r.fake, wrong, strlen(wrong));
	fake_answer(r.fake, "query-status", NULL, RUNNING);
	rig_start(&r);
	qmp_send(r.qmp, "query-status", NULL, 0, on_outcome, &o);
	drive_until(r.loop, &o.done);
	g_assert_error(o.error, ERR, ERR_QEMU);
	g_assert_nonnull(strstr(o.error->message, "running"));
	outcome_clear(&o);
	/* Only that call failed. */
	drive_worker(r.loop, call_status, &r);
	g_assert_cmpuint(r.n_lost, ==, 0);
	rig_done(&r);
}

static void test_a_deadline_ends_the_call_and_a_late_answer_is_dropped(void)
{
	Outcome late = { 0 }, next = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "query-uuid", NULL);
	fake_hold(r.fake, "query-status", NULL);
	fake_answer_held(r.fake, 0, UUID_REPLY);
	fake_answer_held(r.fake, 1, RUNNING);
	rig_start(&r);
	drive_until_count(r.loop, &r.n_ready, 1); /* what is late before it was sent is never sent */
	qmp_send(r.qmp, "query-uuid", NULL, SECONDS / 20, on_outcome, &late);
	drive_until(r.loop, &late.done);
	g_assert_error(late.error, ERR, ERR_TIMEOUT);
	g_assert_nonnull(err_advice(late.error));
	qmp_send(r.qmp, "query-status", NULL, 0, on_outcome, &next);
	drive_until(r.loop, &next.done);
	g_assert_no_error(next.error);
	g_assert_cmpstr(json_str(next.reply, "status"), ==, "running");
	g_assert_cmpuint(late.times, ==, 1);
	outcome_clear(&late);
	outcome_clear(&next);
	rig_done(&r);
}

static void test_a_monitor_that_never_greets_meets_the_deadline(void)
{
	Outcome o = { 0 };
	int fds[2];
	Rig r;

	rig_init(&r);
	g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), ==, 0);
	qmp_attach(r.qmp, fds[0]);
	qmp_send(r.qmp, "query-status", NULL, SECONDS / 50, on_outcome, &o);
	drive_until(r.loop, &o.done);
	g_assert_error(o.error, ERR, ERR_TIMEOUT);
	outcome_clear(&o);
	close(fds[1]);
	fake_start(r.fake);
	rig_done(&r);
}

static void test_a_lost_connection_ends_all_calls_once(void)
{
	Outcome o[3] = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "query-status", NULL);
	fake_hold(r.fake, "query-uuid", NULL);
	fake_hang_up(r.fake);
	rig_start(&r);
	qmp_send(r.qmp, "query-status", NULL, 0, on_outcome, &o[0]);
	qmp_send(r.qmp, "query-uuid", NULL, 0, on_outcome, &o[1]);
	drive_until_count(r.loop, &r.n_lost, 1);
	g_assert_error(o[0].error, ERR, ERR_UNAVAILABLE);
	g_assert_error(o[1].error, ERR, ERR_UNAVAILABLE);
	/* and those that come later fail at once */
	qmp_send(r.qmp, "query-status", NULL, 0, on_outcome, &o[2]);
	drive_until(r.loop, &o[2].done);
	g_assert_error(o[2].error, ERR, ERR_UNAVAILABLE);
	drive_idle(r.loop);
	for (size_t i = 0; i < G_N_ELEMENTS(o); i++) {
		g_assert_cmpuint(o[i].times, ==, 1);
		outcome_clear(&o[i]);
	}
	rig_done(&r);
}

static void test_a_lost_connection_can_be_made_again(void)
{
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hang_up(r.fake);
	fake_greet(r.fake);
	fake_answer(r.fake, "query-status", NULL, RUNNING);
	rig_start(&r);
	drive_until_count(r.loop, &r.n_lost, 1);
	qmp_attach(r.qmp, fake_qmp_next_fd(r.fake));
	drive_worker(r.loop, call_status, &r);
	g_assert_cmpuint(r.n_ready, ==, 2);
	rig_done(&r);
}

/* A worker that waits while the loop's thread closes. */
typedef struct Blocked {
	Rig *rig;
	GError *error;
} Blocked;

static void call_and_expect_failure(void *data)
{
	Blocked *b = data;

	g_assert_null(qmp_call(b->rig->qmp, "query-status", NULL, 0, &b->error));
}

static void close_now(void *data)
{
	Rig *r = data;

	qmp_close(qmp_ref(r->qmp), NULL); /* the rig keeps its own reference to the closed connection */
}

static void on_timer_close(void *data)
{
	close_now(data);
}

static void test_close_ends_calls_of_workers_and_callbacks_once(void)
{
	Outcome o = { 0 };
	Blocked b = { 0 };
	LoopSource *t;
	Rig r;

	rig_init(&r);
	b.rig = &r;
	fake_greet(r.fake);
	fake_hold(r.fake, "query-uuid", NULL);
	fake_hold(r.fake, "query-status", NULL);
	rig_start(&r);
	qmp_send(r.qmp, "query-uuid", NULL, 0, on_outcome, &o);
	drive_until_count(r.loop, &r.n_ready, 1);
	t = loop_add_timer(r.loop, SECONDS / 20, on_timer_close, &r);
	drive_worker(r.loop, call_and_expect_failure, &b);
	g_assert_error(b.error, ERR, ERR_CANCELLED);
	g_assert_true(o.done);
	g_assert_error(o.error, ERR, ERR_CANCELLED);
	g_assert_cmpuint(o.times, ==, 1);
	g_clear_error(&b.error);
	/* A call on a closed connection fails too. */
	drive_worker(r.loop, call_and_expect_failure, &b);
	g_assert_error(b.error, ERR, ERR_CANCELLED);
	g_clear_error(&b.error);
	g_assert_cmpuint(r.n_lost, ==, 0);
	outcome_clear(&o);
	loop_source_free(t);
	qmp_unref(r.qmp);
	r.qmp = NULL;
	rig_done(&r);
}

static void test_events_reach_the_handler_in_order(void)
{
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_event(r.fake, "STOP", "{}");
	fake_event(r.fake, "VSERPORT_CHANGE", "{\"id\": \"agent0\", \"open\": true}");
	fake_answer(r.fake, "query-status", NULL, RUNNING);
	rig_start(&r);
	drive_worker(r.loop, call_status, &r);
	g_assert_cmpstr(r.events->str, ==, "STOP {};VSERPORT_CHANGE {\"id\":\"agent0\",\"open\":true};");
	rig_done(&r);
}

static void test_closing_in_an_event_is_safe(void)
{
	Rig r;

	rig_init(&r);
	r.close_on_event = true;
	fake_greet(r.fake);
	fake_event(r.fake, "STOP", "{}");
	fake_event(r.fake, "RESUME", "{}");
	rig_start(&r);
	while (r.qmp != NULL)
		loop_turn(r.loop, SECONDS);
	g_assert_cmpstr(r.events->str, ==, "STOP {};");
	rig_done(&r);
	g_assert_cmpuint(r.n_lost, ==, 0);
}

/* Whatever a broken or hostile QEMU says ends the connection and nothing else. */
static void test_nonsense_ends_the_connection(gconstpointer bytes)
{
	Outcome o = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "query-uuid", NULL);
	fake_raw(r.fake, bytes, strlen(bytes));
	rig_start(&r);
	qmp_send(r.qmp, "query-uuid", NULL, 0, on_outcome, &o);
	drive_until_count(r.loop, &r.n_lost, 1);
	g_assert_true(o.done);
	g_assert_error(o.error, ERR, ERR_UNAVAILABLE);
	g_assert_error(r.lost, ERR, ERR_QEMU);
	g_assert_cmpuint(o.times, ==, 1);
	outcome_clear(&o);
	rig_done(&r);
}

static void test_an_endless_line_ends_the_connection(void)
{
	g_autofree char *flood = g_strnfill(QMP_LINE_MAX + 100, 'x');
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	fake_raw(r.fake, flood, QMP_LINE_MAX + 100);
	rig_start(&r);
	drive_until_count(r.loop, &r.n_lost, 1);
	g_assert_error(r.lost, ERR, ERR_LIMIT);
	rig_done(&r);
}

static void test_a_long_answer_comes_whole(void)
{
	g_autofree char *name = g_strnfill(4 << 20, 'n');
	g_autofree char *line =
	    g_strdup_printf("{\"return\": [{\"name\": \"%s\", \"type\": \"t\"}], \"id\": 1}\n", name);
	Json *args = json_object();
	Outcome o = { 0 };
	Rig r;

	json_put_str(args, "path", "/machine");
	rig_init(&r);
	fake_greet(r.fake);
	fake_hold(r.fake, "qom-list", "{\"path\": \"/machine\"}");
	fake_raw(r.fake, line, strlen(line));
	rig_start(&r);
	qmp_send(r.qmp, "qom-list", args, 0, on_outcome, &o);
	drive_until(r.loop, &o.done);
	g_assert_no_error(o.error);
	g_assert_cmpuint(strlen(json_str(json_array_get(o.reply, 0), "name")), ==, 4 << 20);
	outcome_clear(&o);
	rig_done(&r);
}

static void count_outcome(Json *reply, const GError *e, void *data)
{
	unsigned *n = data;

	(void)reply;
	n[e == NULL ? 0 : err_code(e) == ERR_LIMIT ? 1 : 2]++;
}

static void test_calls_under_way_are_bounded(void)
{
	unsigned n[3] = { 0 };
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	for (unsigned i = 0; i < QMP_CALLS_MAX; i++)
		fake_answer(r.fake, "query-uuid", NULL, UUID_REPLY);
	rig_start(&r);
	for (unsigned i = 0; i < QMP_CALLS_MAX + 5; i++)
		qmp_send(r.qmp, "query-uuid", NULL, 0, count_outcome, n);
	drive_until_count(r.loop, &n[0], QMP_CALLS_MAX);
	g_assert_cmpuint(n[1], ==, 5);
	g_assert_cmpuint(n[2], ==, 0);
	rig_done(&r);
}

#define THREADS 8
#define CALLS 100

static gpointer call_many(gpointer data)
{
	Rig *r = data;

	for (unsigned i = 0; i < CALLS; i++) {
		g_autoptr(GError) e = NULL;
		_cleanup_json_ Json *reply = qmp_call(r->qmp, "query-uuid", NULL, 0, &e);

		g_assert_no_error(e);
		g_assert_nonnull(json_str(reply, "UUID"));
	}
	return NULL;
}

static void call_from_many_threads(void *data)
{
	GThread *t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		t[i] = g_thread_new("caller", call_many, data);
	for (unsigned i = 0; i < THREADS; i++)
		g_thread_join(t[i]);
}

static void test_many_threads_may_call_at_once(void)
{
	Rig r;

	rig_init(&r);
	fake_greet(r.fake);
	for (unsigned i = 0; i < THREADS * CALLS; i++)
		fake_answer(r.fake, "query-uuid", NULL, UUID_REPLY);
	rig_start(&r);
	drive_worker(r.loop, call_from_many_threads, &r);
	rig_done(&r);
}

static gpointer call_briefly(gpointer data)
{
	Blocked *b = data;

	g_assert_null(qmp_call(b->rig->qmp, "query-status", NULL, SECONDS / 100, &b->error));
	return NULL;
}

static void test_a_loop_that_stands_still_does_not_hold_a_worker(void)
{
	Blocked b = { 0 };
	Rig r;

	rig_init(&r);
	b.rig = &r;
	fake_greet(r.fake);
	rig_start(&r);
	g_thread_join(g_thread_new("caller", call_briefly, &b)); /* nobody turns the loop */
	g_assert_error(b.error, ERR, ERR_TIMEOUT);
	g_clear_error(&b.error);
	drive_until_count(r.loop, &r.n_ready, 1);
	rig_done(&r);
}

static void test_waiting_fails_when_nobody_listens(void)
{
	g_autoptr(GError) e = NULL;
	Rig r;

	rig_init(&r);
	g_assert_false(qmp_connect(r.qmp, "/nowhere/qmp.sock", &e));
	g_assert_error(e, ERR, ERR_UNAVAILABLE);
	fake_start(r.fake);
	rig_done(&r);
}

static void wait_for_loss(void *data)
{
	Blocked *b = data;

	g_assert_false(qmp_wait_ready(b->rig->qmp, 120 * SECONDS, &b->error));
}

static void test_waiting_for_readiness_ends_with_the_connection(void)
{
	Blocked b = { 0 };
	Rig r;

	rig_init(&r);
	b.rig = &r;
	fake_hang_up(r.fake);
	rig_start(&r);
	drive_worker(r.loop, wait_for_loss, &b);
	g_assert_error(b.error, ERR, ERR_UNAVAILABLE);
	g_clear_error(&b.error);
	rig_done(&r);
}

static const char *const nonsense[] = {
	"this is not JSON\n",
	"{}\n",
	"[1, 2]\n",
	"{\"return\": {}}\n",
	"{\"return\": {}, \"id\": 77}\n",
	"{\"return\": {}, \"id\": \"one\"}\n",
	"{\"return\": {}, \"id\": 0}\n",
	"{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\n",
	"{\"QMP\": {\"version\": {}, \"capabilities\": []}}\n",
	"{\"event\": \"SHUTDOWN\", \"data\": {\"guest\": 1}}\n",
	"\xff\xff\n",
};

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/qmp/answered", test_calls_wait_for_the_greeting_and_are_answered);
	g_test_add_func("/qmp/worker", test_a_worker_gets_its_answer);
	g_test_add_func("/qmp/several", test_several_calls_are_sent_before_the_first_answer);
	g_test_add_func("/qmp/any-order", test_answers_may_come_in_any_order);
	g_test_add_func("/qmp/refusal", test_refusals_become_errors_with_qemus_text);
	g_test_add_func("/qmp/not-in-table", test_what_is_not_in_the_table_is_not_sent);
	g_test_add_func("/qmp/wrong-form", test_an_answer_of_another_form_is_refused);
	g_test_add_func("/qmp/deadline", test_a_deadline_ends_the_call_and_a_late_answer_is_dropped);
	g_test_add_func("/qmp/never-greets", test_a_monitor_that_never_greets_meets_the_deadline);
	g_test_add_func("/qmp/lost", test_a_lost_connection_ends_all_calls_once);
	g_test_add_func("/qmp/again", test_a_lost_connection_can_be_made_again);
	g_test_add_func("/qmp/close", test_close_ends_calls_of_workers_and_callbacks_once);
	g_test_add_func("/qmp/events", test_events_reach_the_handler_in_order);
	g_test_add_func("/qmp/close-in-event", test_closing_in_an_event_is_safe);
	for (size_t i = 0; i < G_N_ELEMENTS(nonsense); i++) {
		g_autofree char *path = g_strdup_printf("/qmp/nonsense/%zu", i);

		g_test_add_data_func(path, nonsense[i], test_nonsense_ends_the_connection);
	}
	g_test_add_func("/qmp/endless-line", test_an_endless_line_ends_the_connection);
	g_test_add_func("/qmp/long-answer", test_a_long_answer_comes_whole);
	g_test_add_func("/qmp/bounded", test_calls_under_way_are_bounded);
	g_test_add_func("/qmp/threads", test_many_threads_may_call_at_once);
	g_test_add_func("/qmp/still-loop", test_a_loop_that_stands_still_does_not_hold_a_worker);
	g_test_add_func("/qmp/nobody", test_waiting_fails_when_nobody_listens);
	g_test_add_func("/qmp/wait-lost", test_waiting_for_readiness_ends_with_the_connection);
	return g_test_run();
}
