/* SPDX-License-Identifier: Apache-2.0 */
/* The guest agent's client against agents that are honest, stale, slow, silent, lying and flooding. */
#include "base/fd.h"
#include "base/time.h"
#include "drive.h"
#include "engine/agent_clock.h"
#include "engine/agent_ops.h"
#include "fake_agent.h"

#define PATIENCE (120 * SECONDS)
/* A call that is to fail for its deadline must get so far before: with more time when the machine is busy. */
static const uint64_t deadline[] = { SECONDS / 4, 4 * SECONDS, 40 * SECONDS };

typedef struct Rig {
	Loop *loop;
	Agent *agent;
	FakeAgent *fake;
	FakeAgentFunc *script; /* of rig_play() */
	char *dir;
	unsigned n_changes;
	/* for workers */
	uint64_t timeout;
	GError *error;
	bool ok;
	Json *reply;
	void (*work)(struct Rig *r);
	unsigned n_done;
	unsigned n_busy;
} Rig;

static void on_change(bool open, void *data)
{
	(void)open;
	((Rig *)data)->n_changes++;
}

static void rig_init(Rig *r, const FakeAgentFunc *script)
{
	g_autofree char *path = NULL;

	*r =
	    (Rig){ .loop = loop_new(NULL), .dir = g_dir_make_tmp("agent-XXXXXX", NULL), .timeout = PATIENCE };
	path = g_strdup_printf("%s/agent.sock", r->dir);
	r->fake = fake_agent_new(path, script);
	r->agent = agent_new(r->loop, path, on_change, r);
	agent_set_open(r->agent, true);
}

/* An agent that does one thing. */
static void rig_play(Rig *r, FakeAgentFunc what)
{
	FakeAgentFunc *script = g_new0(FakeAgentFunc, 2);

	script[0] = what;
	rig_init(r, script);
	r->script = script;
}

static void rig_done(Rig *r)
{
	agent_close(r->agent, NULL);
	drive_idle(r->loop);
	fake_agent_free(r->fake);
	loop_free(r->loop);
	dir_remove(r->dir, NULL);
	g_free(r->dir);
	g_clear_error(&r->error);
	json_unref(r->reply);
	g_free(r->script);
}

static void run_work(void *data)
{
	Rig *r = data;

	g_clear_error(&r->error);
	r->work(r);
}

/* Run a function with the rig on a worker while the loop turns. */
static void worker(Rig *r, void (*work)(Rig *r))
{
	r->work = work;
	drive_worker(r->loop, run_work, r);
}

static void goes_well(FakeAgentFunc what, void (*work)(Rig *r))
{
	Rig r;

	rig_play(&r, what);
	worker(&r, work);
	g_assert_no_error(r.error);
	rig_done(&r);
}

static void ping(Rig *r)
{
	r->ok = agent_ping(r->agent, r->timeout, &r->error);
	g_assert_cmpint(r->ok, ==, r->error == NULL);
}

/*
 * Sessions
 */

static void script_ping_twice(FakeAgent *f)
{
	fake_sync(f);
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n"));
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n")); /* without another sync */
}

static void test_a_session_is_synchronised_once(void)
{
	Rig r;

	rig_play(&r, script_ping_twice);
	worker(&r, ping);
	g_assert_no_error(r.error);
	worker(&r, ping);
	g_assert_no_error(r.error);
	g_assert_cmpuint(fake_agent_connections(r.fake), ==, 1);
	rig_done(&r);
}

static void script_stale(FakeAgent *f)
{
	static const char stale[] =
	    "{\"return\": {\"pid\": 77}}\n\xff{\"return\": 3}\nnonsense\n"
	    "\xff{\"error\": {\"class\": \"x\", \"desc\": \"y\"}}\n{\"return\": {\"cut off";

	fake_say(f, stale, strlen(stale));
	fake_sync(f);
	g_free(fake_serve(f, "guest-ping", "\n{\"return\": {}}\n"));
}

static void test_stale_answers_are_skipped(void)
{
	goes_well(script_stale, ping);
}

static void script_late_to_wake(FakeAgent *f)
{
	g_free(fake_read(f)); /* lost: the agent was starting */
	fake_sync(f);
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n"));
}

static void test_the_sync_is_repeated_until_it_is_answered(void)
{
	goes_well(script_late_to_wake, ping);
}

/* As qemu-ga does: it complains of the mark, then answers behind one. */
static void answer_sync(FakeAgent *f, const char *line)
{
	static const char complaint[] =
	    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray\"}}\n";
	g_autofree char *answer =
	    g_strdup_printf("%s\xff{\"return\": %lld}\n", complaint, fake_sync_id(line));

	fake_say(f, answer, strlen(answer));
}

static void script_slow(FakeAgent *f)
{
	char *sync[3];

	for (size_t i = 0; i < G_N_ELEMENTS(sync); i++)
		sync[i] = fake_read(f);
	for (size_t i = 0; i < G_N_ELEMENTS(sync); i++) {
		answer_sync(f, sync[i]);
		g_free(sync[i]);
	}
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n"));
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n"));
}

static void test_a_slow_agent_s_answers_to_all_syncs_are_waited_for(void)
{
	Rig r;

	rig_play(&r, script_slow);
	worker(&r, ping);
	g_assert_no_error(r.error);
	worker(&r, ping);
	g_assert_no_error(r.error);
	rig_done(&r);
}

static void test_without_an_agent_calls_fail_at_once(void)
{
	static const FakeAgentFunc script[] = { NULL };
	uint64_t began = time_monotonic();
	Rig r;

	rig_init(&r, script);
	agent_set_open(r.agent, false);
	g_assert_false(agent_is_open(r.agent));
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_AGENT);
	g_assert_nonnull(strstr(err_advice(r.error), "qemu-guest-agent"));
	g_assert_cmpuint(time_monotonic() - began, <, r.timeout);
	rig_done(&r);
}

/*
 * Guests that misbehave
 */

static void script_silent(FakeAgent *f)
{
	fake_sync(f);
	fake_wait_hang_up(f);
}

static void test_silence_ends_with_the_deadline_and_the_next_call_works(void)
{
	static const FakeAgentFunc script[] = { script_silent, script_ping_twice, NULL };
	Rig r;

	rig_init(&r, script);
	r.timeout = SECONDS / 5;
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_TIMEOUT);
	g_assert_nonnull(err_advice(r.error));
	r.timeout = PATIENCE;
	worker(&r, ping);
	g_assert_no_error(r.error);
	g_assert_cmpuint(fake_agent_connections(r.fake), ==, 2);
	rig_done(&r);
}

static void script_endless_line(FakeAgent *f)
{
	g_autofree char *x = g_strnfill(1 << 20, 'x');

	fake_sync(f);
	while (fake_say(f, x, 1 << 20))
		continue;
}

static void script_endless_marks(FakeAgent *f)
{
	g_autoptr(GString) s = g_string_new(NULL);

	fake_sync(f);
	while (s->len < 1 << 20)
		g_string_append(s, "\xff{\"return\": 1}\n");
	while (fake_say(f, s->str, s->len))
		continue;
}

static void script_endless_stale(FakeAgent *f)
{
	g_autoptr(GString) s = g_string_new(NULL);

	while (s->len < 1 << 20)
		g_string_append(s, "{\"return\": {}}\n");
	while (fake_say(f, s->str, s->len))
		continue;
}

static void test_a_flood_ends_the_call_and_the_next_one_works(gconstpointer data)
{
	const FakeAgentFunc script[] = { (FakeAgentFunc)data, script_ping_twice, NULL };
	Rig r;

	rig_init(&r, script);
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_AGENT);
	worker(&r, ping);
	g_assert_no_error(r.error);
	rig_done(&r);
}

static gint flooded;

static void script_flood_unasked(FakeAgent *f)
{
	g_autofree char *x = g_strnfill(65536, '\n');

	fake_sync(f);
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n"));
	g_atomic_int_set(&flooded, (gint)fake_say_until_full(f, x, 65536));
	fake_wait_hang_up(f);
}

static void test_while_nobody_asks_nothing_is_read(void)
{
	static const FakeAgentFunc script[] = { script_flood_unasked, NULL };
	gint n;
	Rig r;

	flooded = 0;
	rig_init(&r, script);
	worker(&r, ping);
	g_assert_no_error(r.error);
	while ((n = g_atomic_int_get(&flooded)) == 0)
		loop_turn(r.loop, SECONDS / 100);
	drive_idle(r.loop);
	/* What sockets hold, no more: the rest waits in the guest. */
	g_assert_cmpint(n, <, 2 << 20);
	rig_done(&r);
}

static const char *lie;

static void script_lie(FakeAgent *f)
{
	g_autofree char *request = NULL;

	fake_sync(f);
	request = fake_read(f);
	fake_say(f, lie, strlen(lie));
	fake_wait_hang_up(f);
}

static void call_everything(Rig *r)
{
	static const char *const commands[] = {
		"guest-info",        "guest-get-osinfo", "guest-network-get-interfaces",
		"guest-exec-status", "guest-file-read",  "guest-fsfreeze-status"
	};
	g_autofree char *command = g_strdup(commands[r->n_done % G_N_ELEMENTS(commands)]);
	Json *args = json_object();

	if (g_str_equal(command, "guest-exec-status"))
		json_put_int(args, "pid", 1);
	if (g_str_equal(command, "guest-file-read"))
		json_put_int(args, "handle", 1);
	r->reply = agent_call(r->agent, command, args, r->timeout, &r->error);
}

static void test_lies_are_refused(void)
{
	static const FakeAgentFunc script[] = { script_lie, NULL };
	static const char *const lies[] = {
		"hello\n",
		"{}\n",
		"[]\n",
		"{\"return\": \"x\\u0000y\"}\n",
		"{\"return\": 18446744073709551615}\n",
		"{\"return\": [{\"name\": 1}]}\n",
		"{\"return\": {\"version\": 7, \"exited\": 1, \"count\": \"1\", \"id\": 1}}\n",
		"{\"error\": 7}\n",
		"{\"error\": {}}\n",
		"{\"error\": {\"class\": \"GenericError\", \"desc\": \"because\"}}\n",
		"\xc3\x28\n",
		"{\"return\": {}, \"return\": {}}\n",
	};

	for (size_t i = 0; i < G_N_ELEMENTS(lies); i++)
		for (unsigned command = 0; command < 6; command++) {
			Rig r;

			lie = lies[i];
			rig_init(&r, script);
			r.n_done = command;
			worker(&r, call_everything);
			/* "x\0y" is a string: a status that is neither thawed nor frozen, no more. */
			if (r.reply == NULL)
				g_assert_error(r.error, ERR, ERR_AGENT);
			else
				g_assert_true(json_is_string(r.reply) && command == 5);
			rig_done(&r);
		}
}

static void script_refuse(FakeAgent *f)
{
	fake_sync(f);
	g_free(fake_serve(f, "guest-ping",
			  "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no such command\"}}\n"));
	g_free(fake_serve(f, "guest-ping",
			  "{\"error\": {\"class\": \"GenericError\", \"desc\": \"I am frozen\"}}\n"));
	g_free(fake_serve(f, "guest-ping", "{\"return\": {}}\n"));
}

static void test_refusals_keep_the_agents_words(void)
{
	Rig r;

	rig_play(&r, script_refuse);
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_UNSUPPORTED);
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_AGENT);
	g_assert_nonnull(strstr(r.error->message, "I am frozen"));
	worker(&r, ping); /* a refusal is an answer: the session goes on */
	g_assert_no_error(r.error);
	rig_done(&r);
}

/*
 * Agents that come and go
 */

/* Does something to a rig's agent once its fake has come so far: until then the timer goes on. */
typedef struct Meanwhile {
	Rig *rig;
	LoopSource *timer;
	bool (*reached)(Rig *r);
	void (*func)(Agent *a);
} Meanwhile;

static void on_meanwhile(void *data)
{
	Meanwhile *m = data;

	if (m->reached(m->rig))
		m->func(m->rig->agent);
	else
		loop_timer_set(m->timer, SECONDS / 100);
}

static void meanwhile(Meanwhile *m, Rig *r, bool (*reached)(Rig *r), void (*func)(Agent *a))
{
	*m = (Meanwhile){ .rig = r, .reached = reached, .func = func };
	m->timer = loop_add_timer(r->loop, SECONDS / 10, on_meanwhile, m);
}

static bool has_connected(Rig *r)
{
	return fake_agent_connections(r->fake) > 0;
}

static void close_port(Agent *a)
{
	agent_set_open(a, false);
}

static void test_a_closed_port_ends_the_call_and_takes_back_what_was_not_read(void)
{
	static const FakeAgentFunc script[] = { script_silent, script_ping_twice, NULL };
	Meanwhile m;
	Rig r;

	rig_init(&r, script);
	meanwhile(&m, &r, has_connected, close_port);
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_AGENT);
	loop_source_free(m.timer);
	agent_set_open(r.agent, true);
	/* The second script would fail on a request before its sync. */
	worker(&r, ping);
	g_assert_no_error(r.error);
	g_assert_cmpuint(r.n_changes, ==, 3);
	rig_done(&r);
}

static void wait_open(Rig *r)
{
	r->ok = agent_wait_open(r->agent, r->timeout, &r->error);
}

static void open_port(void *data)
{
	agent_set_open(data, true);
}

static void test_an_agent_can_be_waited_for(void)
{
	static const FakeAgentFunc script[] = { NULL };
	LoopSource *t;
	Rig r;

	rig_init(&r, script);
	agent_set_open(r.agent, false);
	r.timeout = SECONDS / 20;
	worker(&r, wait_open);
	g_assert_error(r.error, ERR, ERR_TIMEOUT);
	r.timeout = PATIENCE;
	t = loop_add_timer(r.loop, SECONDS / 20, open_port, r.agent);
	worker(&r, wait_open);
	g_assert_no_error(r.error);
	g_assert_true(r.ok);
	loop_source_free(t);
	rig_done(&r);
}

static void close_agent(Agent *a)
{
	agent_close(agent_ref(a), NULL); /* the rig keeps a reference */
}

static void test_close_ends_calls_once(void)
{
	Meanwhile m;
	Rig r;

	rig_play(&r, script_silent);
	meanwhile(&m, &r, has_connected, close_agent);
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_CANCELLED);
	worker(&r, ping);
	g_assert_error(r.error, ERR, ERR_CANCELLED);
	loop_source_free(m.timer);
	agent_unref(g_steal_pointer(&r.agent));
	rig_done(&r);
}

static void script_ping_many(FakeAgent *f)
{
	char *args;

	fake_sync(f);
	while ((args = fake_serve(f, "guest-ping", "{\"return\": {}}\n")) != NULL)
		g_free(args);
}

#define THREADS 8
#define EACH 50

static gpointer ping_many(gpointer data)
{
	Rig *r = data;

	for (unsigned i = 0; i < EACH; i++) {
		g_autoptr(GError) e = NULL;

		agent_ping(r->agent, r->timeout, &e);
		g_assert_no_error(e);
	}
	return NULL;
}

static void ping_from_threads(Rig *r)
{
	GThread *t[THREADS];

	for (unsigned i = 0; i < THREADS; i++)
		t[i] = g_thread_new("caller", ping_many, r);
	for (unsigned i = 0; i < THREADS; i++)
		g_thread_join(t[i]);
}

static void test_many_threads_take_turns(void)
{
	Rig r;

	rig_play(&r, script_ping_many);
	worker(&r, ping_from_threads);
	rig_done(&r);
}

static gpointer ping_in_crowd(gpointer data)
{
	Rig *r = data;
	g_autoptr(GError) e = NULL;

	g_assert_false(agent_ping(r->agent, r->timeout, &e));
	if (g_error_matches(e, ERR, ERR_BUSY))
		g_atomic_int_inc((gint *)&r->n_busy);
	else
		g_assert_error(e, ERR, ERR_TIMEOUT);
	return NULL;
}

static void crowd(Rig *r)
{
	GThread *t[AGENT_CALLS_MAX + 4];

	for (unsigned i = 0; i < G_N_ELEMENTS(t); i++)
		t[i] = g_thread_new("caller", ping_in_crowd, r);
	for (unsigned i = 0; i < G_N_ELEMENTS(t); i++)
		g_thread_join(t[i]);
}

static void test_calls_that_wait_are_bounded_and_keep_their_deadlines(void)
{
	Rig r;

	rig_play(&r, script_silent);
	/* One may be at the agent, the bound waits. All must have begun before the first is too late. */
	for (size_t i = 0; i < G_N_ELEMENTS(deadline) && r.n_busy < 3; i++) {
		r.n_busy = 0;
		r.timeout = MAX(deadline[i], SECONDS);
		worker(&r, crowd);
		g_assert_cmpuint(r.n_busy, <=, 4);
	}
	g_assert_cmpuint(r.n_busy, >=, 3);
	rig_done(&r);
}

/*
 * What is done through it
 */

static void script_info(FakeAgent *f)
{
	g_autofree char *longest = g_strnfill(5000, 'v');
	g_autofree char *os = g_strdup_printf(
	    "{\"return\": {\"id\": \"debian\", \"pretty-name\": \"%s\", \"new\": 1}}\n", longest);

	fake_sync(f);
	g_free(fake_serve(
	    f, "guest-info",
	    "{\"return\": {\"version\": \"7.2.22\", \"supported_commands\": [{\"enabled\": true, \"name\": "
	    "\"guest-ping\", \"success-response\": true}, {\"enabled\": false, \"name\": "
	    "\"guest-exec\", \"success-response\": true}]}}\n"));
	g_free(fake_serve(f, "guest-get-osinfo", os));
	g_free(fake_serve(
	    f, "guest-network-get-interfaces",
	    "{\"return\": [{\"name\": \"lo\", \"ip-addresses\": [{\"ip-address-type\": \"ipv4\", "
	    "\"ip-address\": \"127.0.0.1\", \"prefix\": 8}, {\"ip-address-type\": \"ipv6\", \"ip-address\": "
	    "\"::1\", \"prefix\": 128}], \"statistics\": {\"tx-packets\": 1}}, {\"name\": \"eth0\", "
	    "\"hardware-address\": \"52:54:00:12:34:56\", \"ip-addresses\": [{\"ip-address-type\": \"ipv4\", "
	    "\"ip-address\": \"10.0.2.15\", \"prefix\": 24}, {\"ip-address-type\": \"ipv6\", \"ip-address\": "
	    "\"fe80::1\", \"prefix\": 64}, {\"ip-address-type\": \"ipv6\", \"ip-address\": \"fec0::2\", "
	    "\"prefix\": 64}, {\"ip-address-type\": \"ipv4\", \"ip-address\": \"$(reboot)\", \"prefix\": 24}, "
	    "{\"ip-address-type\": \"ipv4\", \"ip-address\": \"10.0.0.1\", \"prefix\": 1000}]}, {\"name\": "
	    "\"eth1\"}]}\n"));
	g_free(fake_serve(f, "guest-get-host-name", "{\"return\": {\"host-name\": \"demo\"}}\n"));
	g_free(fake_serve(f, "guest-fsfreeze-status", "{\"return\": \"frozen\"}\n"));
}

static void ask_all(Rig *r)
{
	_cleanup_json_ Json *info = agent_info(r->agent, r->timeout, &r->error);
	_cleanup_json_ Json *os = agent_osinfo(r->agent, r->timeout, &r->error);
	_cleanup_json_ Json *addresses = agent_addresses(r->agent, r->timeout, &r->error);
	g_autofree char *host = agent_host_name(r->agent, r->timeout, &r->error);
	g_autofree char *a = NULL, *i = NULL;
	bool frozen = false;

	g_assert_true(agent_frozen(r->agent, r->timeout, &frozen, &r->error));
	g_assert_no_error(r->error);
	i = json_print(info);
	a = json_print(addresses);
	g_assert_cmpstr(i, ==,
			"{\"version\":\"7.2.22\",\"commands\":[\"guest-ping\"],"
			"\"disabled\":[\"guest-exec\"]}");
	g_assert_cmpstr(json_str(os, "id"), ==, "debian");
	g_assert_cmpuint(strlen(json_str(os, "pretty-name")), ==, AGENT_TEXT_MAX);
	g_assert_cmpuint(json_object_size(os), ==, 2);
	g_assert_cmpstr(
	    a, ==,
	    "[{\"interface\":\"eth0\",\"mac\":\"52:54:00:12:34:56\",\"address\":\"10.0.2.15\",\"prefix\":24,"
	    "\"family\":\"ipv4\"},{\"interface\":\"eth0\",\"mac\":\"52:54:00:12:34:56\",\"address\":"
	    "\"fec0::2\",\"prefix\":64,\"family\":\"ipv6\"}]");
	g_assert_cmpstr(host, ==, "demo");
	g_assert_true(frozen);
}

static void test_what_the_guest_tells_is_cut_and_sorted_out(void)
{
	Rig r;

	rig_play(&r, script_info);
	worker(&r, ask_all);
	rig_done(&r);
}

static void script_exec(FakeAgent *f)
{
	g_autofree char *args = NULL;

	fake_sync(f);
	args = fake_serve(f, "guest-exec", "{\"return\": {\"pid\": 42}}\n");
	g_assert_cmpstr(
	    args, ==,
	    "{\"path\":\"/bin/cat\",\"arg\":[\"-u\"],\"input-data\":\"aGVsbG8=\",\"capture-output\":true}");
	g_free(fake_serve(f, "guest-exec-status", "{\"return\": {\"exited\": false}}\n"));
	g_free(fake_serve(f, "guest-exec-status", "{\"return\": {\"exited\": false}}\n"));
	g_free(fake_serve(f, "guest-exec-status",
			  "{\"return\": {\"exited\": true, \"exitcode\": 3, \"out-data\": \"aGVsbG8=\", "
			  "\"out-truncated\": true}}\n"));
}

static void exec_cat(Rig *r)
{
	static const char *const args[] = { "-u", NULL };
	struct agent_exec e = { .path = "/bin/cat", .args = args, .input = "hello", .input_len = 5 };
	g_auto(AgentExecResult) got = { 0 };
	gsize n;

	r->ok = agent_exec(r->agent, &e, r->timeout, &got, &r->error);
	g_assert_cmpint(r->ok, ==, r->error == NULL);
	if (!r->ok)
		return;
	g_assert_cmpint(got.pid, ==, 42);
	g_assert_true(got.has_code);
	g_assert_cmpint(got.code, ==, 3);
	g_assert_cmpint(got.signal, ==, 0);
	g_assert_cmpint(memcmp(g_bytes_get_data(got.out, &n), "hello", 5), ==, 0);
	g_assert_cmpuint(n, ==, 5);
	g_assert_cmpuint(g_bytes_get_size(got.errors), ==, 0);
	g_assert_true(got.out_truncated);
	g_assert_false(got.errors_truncated);
}

static void test_exec_waits_for_the_program_and_brings_its_output(void)
{
	goes_well(script_exec, exec_cat);
}

static void script_exec_for_ever(FakeAgent *f)
{
	char *args = NULL;

	fake_sync(f);
	g_free(fake_serve(f, "guest-exec", "{\"return\": {\"pid\": 42}}\n"));
	while ((args = fake_serve(f, "guest-exec-status", "{\"return\": {\"exited\": false}}\n")) != NULL)
		g_free(args);
}

static void test_a_program_that_does_not_end_meets_the_deadline(void)
{
	int64_t pid = 0;
	Rig r;

	for (size_t i = 0; i < G_N_ELEMENTS(deadline) && pid == 0; i++) {
		rig_play(&r, script_exec_for_ever);
		r.timeout = deadline[i];
		worker(&r, exec_cat);
		g_assert_error(r.error, ERR, ERR_TIMEOUT);
		pid = json_int(err_details(r.error), "pid", 0);
		rig_done(&r);
	}
	g_assert_cmpint(pid, ==, 42);
}

static bool is_over(void *data)
{
	unsigned *looks = data;

	return ++*looks == 3;
}

static void exec_until_over(Rig *r)
{
	unsigned looks = 0;
	struct agent_exec e = { .path = "/bin/cat", .ended = is_over, .data = &looks };
	g_auto(AgentExecResult) got = { 0 };

	r->ok = agent_exec(r->agent, &e, r->timeout, &got, &r->error);
	g_assert_cmpuint(looks, ==, 3);
}

static void test_a_program_is_not_waited_for_when_the_caller_ends(void)
{
	Rig r;

	rig_play(&r, script_exec_for_ever);
	worker(&r, exec_until_over);
	g_assert_error(r.error, ERR, ERR_CANCELLED);
	rig_done(&r);
}

/* "guest-file-read" answers of a file with `n` bytes in two pieces. */
static void script_file(FakeAgent *f)
{
	fake_sync(f);
	g_free(fake_serve(f, "guest-file-open", "{\"return\": 1000}\n"));
	g_free(fake_serve(f, "guest-file-read",
			  "{\"return\": {\"count\": 5, \"buf-b64\": \"aGVsbG8=\", \"eof\": false}}\n"));
	g_free(fake_serve(f, "guest-file-read",
			  "{\"return\": {\"count\": 5, \"buf-b64\": \"aGVsbG8=\", \"eof\": true}}\n"));
	g_free(fake_serve(f, "guest-file-close", "{\"return\": {}}\n"));
	g_free(fake_serve(f, "guest-file-open", "{\"return\": 1001}\n"));
	g_free(fake_serve(f, "guest-file-read",
			  "{\"return\": {\"count\": 4, \"buf-b64\": \"aGVsbA==\", \"eof\": false}}\n"));
	g_free(fake_serve(f, "guest-file-close", "{\"return\": {}}\n"));
	/* lies: no progress, and more than was asked for */
	g_free(fake_serve(f, "guest-file-open", "{\"return\": 1002}\n"));
	g_free(fake_serve(f, "guest-file-read",
			  "{\"return\": {\"count\": 0, \"buf-b64\": \"\", \"eof\": false}}\n"));
	g_free(fake_serve(f, "guest-file-close", "{\"return\": {}}\n"));
	g_free(fake_serve(f, "guest-file-open", "{\"return\": 1003}\n"));
	g_free(fake_serve(f, "guest-file-read",
			  "{\"return\": {\"count\": 1, \"buf-b64\": \"aGVsbG8=\", \"eof\": true}}\n"));
	g_free(fake_serve(f, "guest-file-close", "{\"return\": {}}\n"));
}

static void read_files(Rig *r)
{
	bool whole = false;
	g_autoptr(GBytes) all = agent_file_read(r->agent, "/etc/x", 100, r->timeout, &whole, &r->error),
			  some = NULL;

	g_assert_no_error(r->error);
	g_assert_true(whole);
	g_assert_cmpuint(g_bytes_get_size(all), ==, 10);
	some = agent_file_read(r->agent, "/etc/x", 3, r->timeout, &whole, &r->error);
	g_assert_no_error(r->error);
	g_assert_false(whole);
	g_assert_cmpuint(g_bytes_get_size(some), ==, 3);
	for (unsigned i = 0; i < 2; i++) {
		g_assert_null(agent_file_read(r->agent, "/etc/x", 3, r->timeout, &whole, &r->error));
		g_assert_error(r->error, ERR, ERR_AGENT);
		g_clear_error(&r->error);
	}
	g_assert_null(agent_file_read(r->agent, "/etc/x", AGENT_FILE_MAX + 1, r->timeout, &whole, &r->error));
	g_assert_error(r->error, ERR, ERR_INVALID);
}

static void test_files_are_read_to_a_bound(void)
{
	Rig r;

	rig_play(&r, script_file);
	worker(&r, read_files);
	rig_done(&r);
}

static void shut_down(Rig *r)
{
	r->ok = agent_shutdown(r->agent, AGENT_REBOOT, r->timeout, &r->error);
}

static gint order_read; /* atomic */

static void script_obey(FakeAgent *f)
{
	g_autofree char *args = NULL;

	fake_sync(f);
	args = fake_serve(f, "guest-shutdown", "");
	if (args == NULL)
		return; /* too late: the test tries again */
	g_assert_cmpstr(args, ==, "{\"mode\":\"reboot\"}");
	g_atomic_int_set(&order_read, 1);
	fake_wait_hang_up(f);
}

static bool has_read_the_order(Rig *r)
{
	(void)r;
	return g_atomic_int_get(&order_read) != 0;
}

static void script_obey_and_vanish(FakeAgent *f)
{
	fake_sync(f);
	g_free(fake_serve(f, "guest-shutdown", ""));
}

static void script_disobey(FakeAgent *f)
{
	fake_sync(f);
	g_free(fake_serve(f, "guest-shutdown",
			  "{\"error\": {\"class\": \"GenericError\", \"desc\": \"not now\"}}\n"));
}

static void test_silence_is_obedience_when_told_to_shut_down(void)
{
	Rig r;

	g_atomic_int_set(&order_read, 0);
	for (size_t i = 0; i < G_N_ELEMENTS(deadline) && !has_read_the_order(&r); i++) {
		rig_play(&r, script_obey);
		r.timeout = deadline[i];
		worker(&r, shut_down);
		if (!g_error_matches(r.error, ERR, ERR_TIMEOUT) || has_read_the_order(&r)) {
			g_assert_no_error(r.error);
			g_assert_true(r.ok);
		}
		rig_done(&r);
	}
	g_assert_true(has_read_the_order(&r));
}

static void test_so_is_a_port_that_closes(void)
{
	Meanwhile m;
	Rig r;

	g_atomic_int_set(&order_read, 0);
	rig_play(&r, script_obey);
	meanwhile(&m, &r, has_read_the_order, close_port);
	worker(&r, shut_down);
	g_assert_no_error(r.error);
	g_assert_true(r.ok);
	loop_source_free(m.timer);
	rig_done(&r);
}

static void test_so_is_a_qemu_that_ends(void)
{
	static const FakeAgentFunc script[] = { script_obey_and_vanish, script_ping_twice, NULL };
	Rig r;

	rig_init(&r, script);
	worker(&r, shut_down);
	g_assert_no_error(r.error);
	g_assert_true(r.ok);
	rig_done(&r);
}

static void test_a_refusal_to_shut_down_is_told(void)
{
	Rig r;

	rig_play(&r, script_disobey);
	worker(&r, shut_down);
	g_assert_error(r.error, ERR, ERR_AGENT);
	g_assert_nonnull(strstr(r.error->message, "not now"));
	rig_done(&r);
}

static void test_an_order_that_was_never_read_is_not_obeyed(void)
{
	Rig r;

	rig_play(&r, fake_wait_hang_up);
	r.timeout = SECONDS / 4;
	worker(&r, shut_down); /* not even the sync is answered */
	g_assert_error(r.error, ERR, ERR_TIMEOUT);
	rig_done(&r);
}

static gint clock_set; /* atomic; 1: as it should have been, -1: to another time */

/* It is `ahead` of ours when it is asked, however long the question took. */
static void say_time(FakeAgent *f, int64_t ahead)
{
	g_autofree char *line =
	    g_strdup_printf("{\"return\": %" G_GINT64_FORMAT "}\n", ((int64_t)time_real() + ahead) * 1000);

	fake_say(f, line, strlen(line));
}

static void take_time(FakeAgent *f, const Json *args, int64_t want)
{
	int64_t got = json_int(args, "time", 0) / 1000;

	g_assert_cmpint(g_atomic_int_get(&clock_set), ==, 0); /* once */
	g_atomic_int_set(&clock_set,
			 got >= want && got <= (int64_t)time_real() + 5 * (int64_t)SECONDS ? 1 : -1);
	fake_say(f, "{\"return\": {}}\n", strlen("{\"return\": {}}\n"));
}

/* Late by a second; takes the time that it should have. Is asked again when an answer took too long. */
static void agent_is_late(FakeAgent *f)
{
	int64_t want = (int64_t)time_real() + 5 * (int64_t)SECONDS;
	char *line;

	fake_sync(f);
	while ((line = fake_read(f)) != NULL) {
		_cleanup_json_ Json *j = json_parse(line, strlen(line), NULL);

		g_free(line);
		if (g_strcmp0(json_str(j, "execute"), "guest-set-time") == 0) {
			take_time(f, json_obj(j, "arguments"), want);
			continue;
		}
		g_assert_cmpstr(json_str(j, "execute"), ==, "guest-get-time");
		say_time(f, (g_atomic_int_get(&clock_set) == 0 ? 4 : 5) * (int64_t)SECONDS);
	}
}

static void restore_twice(Rig *r)
{
	/* It was five seconds ahead before, on purpose. */
	const struct agent_clock was = { 5 * (int64_t)SECONDS, 0 };
	uint64_t since = time_real() - 60 * SECONDS;
	int64_t late = 0;

	r->ok = agent_clock_restore(r->agent, &was, since, PATIENCE, &late, &r->error);
	g_assert_cmpint(late, >, (int64_t)SECONDS / 2);
	g_assert_true(r->ok && agent_clock_restore(r->agent, &was, since, PATIENCE, &late, &r->error));
	g_assert_cmpint(late, ==, 0);
}

static void test_a_late_clock_is_set_once_to_where_it_was(void)
{
	const FakeAgentFunc script[] = { agent_is_late, agent_is_late, agent_is_late, NULL };
	Rig r;

	rig_init(&r, script);
	worker(&r, restore_twice);
	g_assert_no_error(r.error);
	g_assert_true(r.ok);
	g_assert_cmpint(g_atomic_int_get(&clock_set), ==, 1);
	rig_done(&r);
}

/* Each answer takes longer than a narrow one may. */
#define SLOW (SECONDS * 3 / 10)

/* Takes the time, as late as it answers, and complains of its clock of hardware. */
static void agent_is_late_and_slow(FakeAgent *f)
{
	static const char refusal[] =
	    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no hwclock\"}}\n";
	char *line;

	fake_sync(f);
	while ((line = fake_read(f)) != NULL) {
		_cleanup_json_ Json *j = json_parse(line, strlen(line), NULL);

		g_free(line);
		g_usleep(SLOW);
		if (g_strcmp0(json_str(j, "execute"), "guest-set-time") == 0) {
			g_atomic_int_add(&clock_set, 1);
			fake_say(f, refusal, strlen(refusal));
			continue;
		}
		say_time(f, g_atomic_int_get(&clock_set) == 0 ? -6 * (int64_t)SECONDS : -(int64_t)SLOW);
	}
}

/* Of a guest that is late by six seconds that is sure enough, if it could be right when it was asked before.
 */
static void restore_the_slow(Rig *r)
{
	const struct agent_clock vague = { 0, 6 * (int64_t)SECONDS }, was = { 0, (int64_t)SLOW };
	uint64_t since = time_real() - 60 * SECONDS;
	struct agent_clock now;
	int64_t late = 0;

	g_assert_true(agent_clock_ask(r->agent, &now, &r->error));
	g_assert_cmpint(now.doubt, >=, (int64_t)SLOW / 2);
	g_assert_cmpint(ABS(now.offset + 6 * (int64_t)SECONDS), <=, now.doubt);
	g_assert_true(agent_clock_restore(r->agent, &vague, since, SECONDS, &late, &r->error));
	g_assert_cmpint(late, ==, 0);
	r->ok = agent_clock_restore(r->agent, &was, since, PATIENCE, &late, &r->error);
	g_assert_cmpint(late, >, 5 * (int64_t)SECONDS);
}

static void test_a_late_clock_of_a_slow_guest_is_set_when_that_is_sure(void)
{
	const FakeAgentFunc script[] = { agent_is_late_and_slow, agent_is_late_and_slow,
					 agent_is_late_and_slow, NULL };
	Rig r;

	g_atomic_int_set(&clock_set, 0);
	rig_init(&r, script);
	worker(&r, restore_the_slow);
	g_assert_no_error(r.error);
	g_assert_true(r.ok);
	g_assert_cmpint(g_atomic_int_get(&clock_set), ==, 1);
	rig_done(&r);
}

static void test_a_clock_of_which_no_doubt_is_told_is_one_of_a_narrow_answer(void)
{
	_cleanup_json_ Json *older = json_pack("{s:i}", "o", -7),
			    *newer = json_pack("{s:i, s:i}", "o", 7, "d", 9),
			    *senseless = json_pack("{s:i, s:i}", "o", 7, "d", -9),
			    *none = json_pack("{s:n}", "o");
	struct agent_clock c;

	g_assert_true(agent_clock_read(older, "o", "d", &c));
	g_assert_true(c.offset == -7 && c.doubt == 50000);
	g_assert_true(agent_clock_read(newer, "o", "d", &c));
	g_assert_true(c.offset == 7 && c.doubt == 9);
	g_assert_true(agent_clock_read(senseless, "o", "d", &c));
	g_assert_true(c.offset == 7 && c.doubt == 50000);
	g_assert_false(agent_clock_read(none, "o", "d", &c));
	g_assert_false(agent_clock_read(NULL, "o", "d", &c));
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/agent/session", test_a_session_is_synchronised_once);
	g_test_add_func("/agent/stale", test_stale_answers_are_skipped);
	g_test_add_func("/agent/sync-again", test_the_sync_is_repeated_until_it_is_answered);
	g_test_add_func("/agent/sync-slow", test_a_slow_agent_s_answers_to_all_syncs_are_waited_for);
	g_test_add_func("/agent/none", test_without_an_agent_calls_fail_at_once);
	g_test_add_func("/agent/silence", test_silence_ends_with_the_deadline_and_the_next_call_works);
	g_test_add_data_func("/agent/flood/line", script_endless_line,
			     test_a_flood_ends_the_call_and_the_next_one_works);
	g_test_add_data_func("/agent/flood/marks", script_endless_marks,
			     test_a_flood_ends_the_call_and_the_next_one_works);
	g_test_add_data_func("/agent/flood/stale", script_endless_stale,
			     test_a_flood_ends_the_call_and_the_next_one_works);
	g_test_add_func("/agent/flood/unasked", test_while_nobody_asks_nothing_is_read);
	g_test_add_func("/agent/lies", test_lies_are_refused);
	g_test_add_func("/agent/refusals", test_refusals_keep_the_agents_words);
	g_test_add_func("/agent/port-closes",
			test_a_closed_port_ends_the_call_and_takes_back_what_was_not_read);
	g_test_add_func("/agent/wait", test_an_agent_can_be_waited_for);
	g_test_add_func("/agent/close", test_close_ends_calls_once);
	g_test_add_func("/agent/threads", test_many_threads_take_turns);
	g_test_add_func("/agent/bounded", test_calls_that_wait_are_bounded_and_keep_their_deadlines);
	g_test_add_func("/agent/info", test_what_the_guest_tells_is_cut_and_sorted_out);
	g_test_add_func("/agent/exec", test_exec_waits_for_the_program_and_brings_its_output);
	g_test_add_func("/agent/exec-for-ever", test_a_program_that_does_not_end_meets_the_deadline);
	g_test_add_func("/agent/exec-ended", test_a_program_is_not_waited_for_when_the_caller_ends);
	g_test_add_func("/agent/file", test_files_are_read_to_a_bound);
	g_test_add_func("/agent/shutdown/silence", test_silence_is_obedience_when_told_to_shut_down);
	g_test_add_func("/agent/shutdown/port", test_so_is_a_port_that_closes);
	g_test_add_func("/agent/shutdown/end", test_so_is_a_qemu_that_ends);
	g_test_add_func("/agent/shutdown/refused", test_a_refusal_to_shut_down_is_told);
	g_test_add_func("/agent/shutdown/unread", test_an_order_that_was_never_read_is_not_obeyed);
	g_test_add_func("/agent/a_late_clock_is_set_once_to_where_it_was",
			test_a_late_clock_is_set_once_to_where_it_was);
	g_test_add_func("/agent/clock/slow", test_a_late_clock_of_a_slow_guest_is_set_when_that_is_sure);
	g_test_add_func("/agent/clock/no_doubt",
			test_a_clock_of_which_no_doubt_is_told_is_one_of_a_narrow_answer);
	return g_test_run();
}
