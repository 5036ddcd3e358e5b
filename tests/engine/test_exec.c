/* SPDX-License-Identifier: Apache-2.0 */
/* The executor on the simulated engine: ends, undoing, cancelling, and a kill at every point. */
#include "base/fd.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/events.h"
#include "engine/sim.h"
#include "put.h"
#include "store/store-impl.h"

#include <string.h>
#include <sys/wait.h>

typedef struct Bench {
	char *dir, *url, *world, *orders;
	Store *store;
	Sim *sim;
	WorkerPool *pool;
	Exec *exec;
} Bench;

static void bench_open(Bench *b)
{
	g_autoptr(GError) err = NULL;
	struct exec_config config = { .steps = sim_steps };

	b->store = store_open(b->url, &err);
	g_assert_no_error(err);
	b->sim = sim_open(b->world, b->orders);
	b->pool = worker_pool_new(2);
	config.store = b->store;
	config.pool = b->pool;
	config.engine = b->sim;
	b->exec = exec_new(&config);
}

static void bench_close(Bench *b)
{
	b->exec = exec_free(b->exec);
	b->pool = worker_pool_free(b->pool);
	b->sim = sim_close(b->sim);
	b->store = store_close(b->store);
}

static void bench_paths(Bench *b, const char *dir)
{
	b->dir = g_strdup(dir);
	b->url = g_strdup_printf("sqlite:%s/state.db", b->dir);
	b->world = g_build_filename(b->dir, "world.json", NULL);
	b->orders = g_build_filename(b->dir, "orders.json", NULL);
}

static void bench_init(Bench *b)
{
	g_autofree char *dir = g_dir_make_tmp("plimsoll-exec-XXXXXX", NULL);

	bench_paths(b, dir);
	bench_open(b);
}

static void bench_done(Bench *b)
{
	bench_close(b);
	g_assert_true(dir_remove(b->dir, NULL));
	g_free(b->dir);
	g_free(b->url);
	g_free(b->world);
	g_free(b->orders);
}

static void order(Bench *b, const char *json)
{
	g_assert_true(file_write_atomic(b->orders, json, strlen(json), 0600, NULL));
}

static Json *args_of(const char *key, const char *value)
{
	Json *j = json_object();

	json_put_str(j, key, value);
	return j;
}

/* A start of a vm in miniature: folder, tap, QEMU; a record that the end changes. */
static Operation *make_start(const char *id)
{
	Operation *op = operation_new(id, "vm.start", "2026-01-01T00:00:00Z");
	Json *members = json_object();

	operation_set_target(op, "vm", "v", "web1");
	plan_add(op->plan, STEP_RUN_DIR_MAKE, "web1", args_of("vm", "v"));
	plan_add(op->plan, STEP_NET_TAP_ADD, "net0", args_of("tap", "t0"));
	plan_add(op->plan, STEP_QEMU_SPAWN, "web1", args_of("vm", "v"));
	plan_add(op->plan, STEP_QEMU_CONT, "web1", args_of("vm", "v"));
	json_put_str(members, "state", "running");
	json_put_str(members, "started_at", "@fact:started_at");
	operation_merge_on_done(op, "/plimsoll/v1/vms/v/runtime", members);
	operation_merge_on_failed(op, "/plimsoll/v1/vms/v/runtime", args_of("state", "stopped"));
	return op;
}

static Operation *make_delete(const char *id)
{
	Operation *op = operation_new(id, "vm.delete", "2026-01-01T00:00:00Z");

	operation_set_target(op, "vm", "v", "web1");
	plan_add(op->plan, STEP_VOLUME_DELETE, "root", args_of("volume", "r"));
	plan_add(op->plan, STEP_VM_DIR_REMOVE, "web1", args_of("vm", "v"));
	operation_on_done(op, "/plimsoll/v1/vms/v/runtime", NULL);
	return op;
}

/* It replays: synced at its begin, its end is relaxed. */
static Operation *make_kill(const char *id)
{
	Operation *op = operation_new(id, "vm.kill", "2026-01-01T00:00:00Z");

	operation_set_target(op, "vm", "v", "web1");
	plan_add(op->plan, STEP_QEMU_QUIT, "web1", args_of("vm", "v"));
	plan_add(op->plan, STEP_NET_TAP_DEL, "net0", args_of("tap", "t0"));
	plan_add(op->plan, STEP_RUN_DIR_REMOVE, "web1", args_of("vm", "v"));
	operation_merge_on_done(op, "/plimsoll/v1/vms/v/runtime", args_of("state", "stopped"));
	return op;
}

static Json *get(Store *s, const char *key)
{
	g_autoptr(StoreItem) item = store_get(s, key, NULL);

	return item != NULL ? json_parse(item->value, strlen(item->value), NULL) : NULL;
}

static Operation *get_operation(Bench *b, const char *id)
{
	g_autofree char *key = key_operation(id);
	_cleanup_json_ Json *j = get(b->store, key);
	g_autoptr(GError) err = NULL;
	Operation *op = operation_of_json(j, &err);

	g_assert_no_error(err);
	return op;
}

static void submit_and_wait(Bench *b, Operation *op)
{
	g_autofree char *id = g_strdup(op->id);
	g_autoptr(GError) err = NULL;

	exec_submit(b->exec, op, &err);
	g_assert_no_error(err);
	g_assert_true(exec_wait(b->exec, id, UINT64_C(30000000)));
}

static void assert_world(Bench *b, const char *want)
{
	g_autofree char *got = sim_print(b->sim);

	g_assert_cmpstr(got, ==, want);
}

static void test_done_commits_its_end_with_facts(void)
{
	Bench b;
	g_autoptr(Operation) op = NULL;
	_cleanup_json_ Json *runtime = NULL;

	bench_init(&b);
	put(b.store, "/plimsoll/v1/vms/v/runtime", "{\"state\":\"stopped\",\"kept\":1}");
	submit_and_wait(&b, make_start("op1"));
	op = get_operation(&b, "op1");
	g_assert_cmpint(op->state, ==, OPERATION_DONE);
	g_assert_cmpint(op->progress, ==, 100);
	runtime = get(b.store, "/plimsoll/v1/vms/v/runtime");
	g_assert_cmpstr(json_str(runtime, "state"), ==, "running");
	g_assert_nonnull(json_str(runtime, "started_at"));
	g_assert_cmpint(json_int(runtime, "kept", 0), ==, 1);
	assert_world(&b, "qemu:v\nrun:v\ntap:t0\n");
	bench_done(&b);
}

static void check_failure_undoes(const char *orders, const char *message)
{
	Bench b;
	g_autoptr(Operation) op = NULL;
	_cleanup_json_ Json *runtime = NULL;

	bench_init(&b);
	put(b.store, "/plimsoll/v1/vms/v/runtime", "{\"state\":\"starting\"}");
	order(&b, orders);
	submit_and_wait(&b, make_start("op1"));
	op = get_operation(&b, "op1");
	g_assert_cmpint(op->state, ==, OPERATION_FAILED);
	g_assert_cmpstr(json_str(op->error, "message"), ==, message);
	runtime = get(b.store, "/plimsoll/v1/vms/v/runtime");
	g_assert_cmpstr(json_str(runtime, "state"), ==, "stopped");
	assert_world(&b, "");
	bench_done(&b);
}

static void test_failure_undoes_what_was_begun(void)
{
	check_failure_undoes("{\"fail\":{\"QEMU_SPAWN\":\"no\"}}", "no");
	check_failure_undoes("{\"fail_after\":{\"QEMU_SPAWN\":\"late\"}}", "late");
	check_failure_undoes("{\"fail\":{\"QEMU_CONT\":\"never\"}}", "never");
}

static void test_cancel_undoes_and_says_so(void)
{
	Bench b;
	g_autoptr(GError) err = NULL;
	g_autoptr(Operation) op = make_start("op1"), got = NULL;

	bench_init(&b);
	order(&b, "{\"delay_ms\":{\"NET_TAP_ADD\":20000}}");
	op->may_cancel = true;
	exec_submit(b.exec, g_steal_pointer(&op), &err);
	g_assert_no_error(err);
	g_assert_true(exec_cancel(b.exec, "op1", &err));
	g_assert_true(exec_wait(b.exec, "op1", UINT64_C(30000000)));
	got = get_operation(&b, "op1");
	g_assert_cmpint(got->state, ==, OPERATION_CANCELLED);
	assert_world(&b, "");
	g_assert_false(exec_cancel(b.exec, "op1", &err));
	g_assert_error(err, ERR, ERR_BAD_STATE);
	bench_done(&b);
}

static Exec *executor;

/* Of the last step, which looks no more. */
static bool add_tap_and_be_cancelled(StepContext *ctx, const Json *args, GError **err)
{
	return sim_steps[STEP_NET_TAP_ADD].run(ctx, args, err) &&
	       exec_cancel(executor, step_operation(ctx)->id, err);
}

static void test_a_cancel_that_was_accepted_undoes_the_last_step_too(void)
{
	g_autofree struct step_impl *steps = g_memdup2(sim_steps, sizeof sim_steps);
	struct exec_config config = { .steps = steps };
	Bench b;
	Operation *op = operation_new("op1", "vm.start", "2026-01-01T00:00:00Z");
	g_autoptr(Operation) got = NULL;

	steps[STEP_NET_TAP_ADD].run = add_tap_and_be_cancelled;
	bench_init(&b);
	exec_free(b.exec);
	config.store = b.store;
	config.pool = b.pool;
	config.engine = b.sim;
	executor = b.exec = exec_new(&config);
	operation_set_target(op, "vm", "v", "web1");
	plan_add(op->plan, STEP_RUN_DIR_MAKE, "web1", args_of("vm", "v"));
	plan_add(op->plan, STEP_NET_TAP_ADD, "net0", args_of("tap", "t0"));
	op->may_cancel = true;
	g_assert_true(exec_submit(b.exec, op, NULL));
	g_assert_true(exec_wait(b.exec, "op1", UINT64_C(120000000)));
	got = get_operation(&b, "op1");
	g_assert_cmpint(got->state, ==, OPERATION_CANCELLED);
	assert_world(&b, "");
	bench_done(&b);
}

/* A guest may come back to a host where the operation with which it left still removes what it had there. */
static void test_an_object_is_idle_when_its_operations_have_ended(void)
{
	Bench b;
	g_autoptr(Operation) op = make_start("op1");

	bench_init(&b);
	order(&b, "{\"delay_ms\":{\"NET_TAP_ADD\":600000}}");
	op->may_cancel = true;
	g_assert_true(exec_wait_target(b.exec, "v", 0));
	g_assert_true(exec_submit(b.exec, g_steal_pointer(&op), NULL));
	g_assert_false(exec_wait_target(b.exec, "v", 10000));
	g_assert_true(exec_wait_target(b.exec, "w", 0));
	g_assert_true(exec_cancel(b.exec, "op1", NULL));
	g_assert_true(exec_wait_target(b.exec, "v", UINT64_C(120000000)));
	assert_world(&b, "");
	bench_done(&b);
}

static void test_what_may_not_be_cancelled_is_not(void)
{
	Bench b;
	g_autoptr(GError) err = NULL;

	bench_init(&b);
	order(&b, "{\"delay_ms\":{\"NET_TAP_ADD\":200}}");
	g_assert_true(exec_submit(b.exec, make_start("op1"), NULL));
	g_assert_false(exec_cancel(b.exec, "op1", &err));
	g_assert_error(err, ERR, ERR_UNSUPPORTED);
	g_assert_true(exec_wait(b.exec, "op1", UINT64_C(30000000)));
	assert_world(&b, "qemu:v\nrun:v\ntap:t0\n");
	bench_done(&b);
}

static void test_conflict_at_the_beginning_changes_nothing(void)
{
	Bench b;
	g_autoptr(GError) err = NULL;
	Operation *op = make_start("op1");
	g_autoptr(StoreItem) item = NULL;

	bench_init(&b);
	put(b.store, "/plimsoll/v1/names/vms/web1", "\"other\"");
	operation_on_begin(op, "/plimsoll/v1/names/vms/web1", 0, json_string("v"));
	g_assert_false(exec_submit(b.exec, op, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	item = store_get(b.store, "/plimsoll/v1/operations/op1", NULL);
	g_assert_null(item);
	assert_world(&b, "");
	bench_done(&b);
}

static void test_a_stop_of_the_daemon_leaves_the_plan_for_the_next(void)
{
	Bench b;
	g_autoptr(Operation) op = NULL;

	bench_init(&b);
	order(&b, "{\"delay_ms\":{\"QEMU_SPAWN\":20000}}");
	g_assert_true(exec_submit(b.exec, make_start("op1"), NULL));
	bench_close(&b);
	order(&b, "{}");
	bench_open(&b);
	op = get_operation(&b, "op1");
	g_assert_false(operation_ended(op));
	g_assert_true(exec_recover(b.exec, NULL, NULL, NULL));
	g_assert_true(exec_wait(b.exec, "op1", UINT64_C(30000000)));
	operation_free(op);
	op = get_operation(&b, "op1");
	g_assert_cmpint(op->state, ==, OPERATION_FAILED);
	assert_world(&b, "");
	bench_done(&b);
}

typedef Operation *(*MakeFunc)(const char *id);

static const struct {
	const char *name;
	MakeFunc make;
} makers[] = { { "start", make_start }, { "delete", make_delete }, { "kill", make_kill } };

/* The program runs itself for this: a fork of a process with threads is no daemon. */
static int child_main(const char *dir, const char *maker)
{
	Bench b;

	bench_paths(&b, dir);
	bench_open(&b);
	for (size_t i = 0; i < G_N_ELEMENTS(makers); i++)
		if (g_str_equal(makers[i].name, maker) && exec_recover(b.exec, NULL, NULL, NULL) &&
		    exec_submit(b.exec, makers[i].make("op1"), NULL) && exec_sync(b.exec, "op1", NULL) &&
		    exec_wait(b.exec, "op1", UINT64_C(30000000)))
			return 0;
	return 1;
}

/* In a child that is killed at kill point `at`; true when it got through. */
static bool run_killed(Bench *b, const char *maker, int at)
{
	g_autofree char *orders = g_strdup_printf("{\"kill_at\":%d}", at);
	char *argv[] = { (char *)"/proc/self/exe", (char *)"--child", b->dir, (char *)maker, NULL };
	g_autoptr(GError) err = NULL;
	int status;

	order(b, orders);
	g_spawn_sync(NULL, argv, NULL, 0, NULL, NULL, NULL, NULL, &status, &err);
	g_assert_no_error(err);
	g_assert_true(WIFEXITED(status));
	g_assert_true(WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 9);
	return WEXITSTATUS(status) == 0;
}

static void recover(Bench *b)
{
	bench_open(b);
	g_assert_true(exec_recover(b->exec, NULL, NULL, NULL));
	g_assert_true(exec_wait(b->exec, "op1", UINT64_C(30000000)));
}

/* Killed at the n-th point, then recovered: the world is as before or as after, and the record agrees. */
static void check_kills(const char *maker, const char *world_before, const char *before, const char *after)
{
	bool through = false;
	int kills = 0;

	for (int at = 1; !through; at++) {
		Bench b;
		g_autoptr(Operation) op = NULL;
		_cleanup_json_ Json *runtime = NULL;

		bench_init(&b);
		put(b.store, "/plimsoll/v1/vms/v/runtime", "{\"state\":\"stopped\"}");
		bench_close(&b);
		g_assert_true(file_write_atomic(b.world, world_before, strlen(world_before), 0600, NULL));
		through = run_killed(&b, maker, at);
		order(&b, "{}");
		recover(&b);
		op = get_operation(&b, "op1");
		g_assert_true(operation_ended(op));
		assert_world(&b, op->state == OPERATION_DONE ? after : before);
		g_assert_true(!through || op->state == OPERATION_DONE);
		kills += !through;
		bench_done(&b);
	}
	g_assert_cmpint(kills, >=, 4);
}

static void test_a_kill_at_every_point_of_a_start_is_recovered(void)
{
	check_kills("start", "{}", "", "qemu:v\nrun:v\ntap:t0\n");
}

static void test_a_kill_at_every_point_of_a_delete_is_finished(void)
{
	check_kills("delete", "{\"volume:r\":true,\"dir:v\":true}", "dir:v\nvolume:r\n", "");
}

/* ---- several daemons on one store ---- */

static Json *event_at(Store *s, guint64 seq)
{
	g_autofree char *key = key_event(seq);

	return get(s, key);
}

static void test_events_of_two_daemons_are_numbered_together(void)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(Store) s = store_open("mem:", &err);
	Events *a = events_open(s, &err), *b = events_open(s, &err);

	g_assert_no_error(err);
	for (int i = 0; i < 40; i++)
		events_emit(a, EVENT_DAEMON_STARTED, NULL, NULL, NULL, NULL, "a%d", i);
	for (int i = 0; i < 3; i++) {
		events_emit(b, EVENT_DAEMON_STARTED, NULL, NULL, NULL, json_object(), "b%d", i);
		events_emit(a, EVENT_DAEMON_STARTED, NULL, NULL, NULL, NULL, "c%d", i);
	}
	for (guint64 seq = 1; seq <= 46; seq++) {
		_cleanup_json_ Json *j = event_at(s, seq);
		g_autofree char *want =
		    seq <= 40 ? g_strdup_printf("a%d", (int)seq - 1)
			      : g_strdup_printf("%c%d", seq % 2 == 1 ? 'b' : 'c', (int)(seq - 41) / 2);

		g_assert_cmpstr(json_str(j, "message"), ==, want);
	}
	g_assert_null(event_at(s, 47));
	events_close(a);
	events_close(b);
}

/* As who is 10000 events ahead leaves it: the last is there, and what the other one knew is deleted. */
static void test_events_of_a_quiet_daemon_are_numbered_behind_all_others(void)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(Store) s = store_open("mem:", &err);
	Events *quiet = events_open(s, &err);
	g_autofree char *known = key_event(2), *last = key_event(30000);
	_cleanup_json_ Json *old = NULL, *new = NULL;
	StoreTx *tx = store_tx_new();

	g_assert_no_error(err);
	for (int i = 0; i < 2; i++)
		events_emit(quiet, EVENT_DAEMON_STARTED, NULL, NULL, NULL, NULL, "q%d", i);
	store_tx_set(tx, known, STORE_ANY, NULL);
	store_tx_set(tx, last, 0, "{}");
	g_assert_true(store_commit(s, tx, STORE_RELAXED, NULL, NULL));
	for (int i = 2; i < 4; i++)
		events_emit(quiet, EVENT_DAEMON_STARTED, NULL, NULL, NULL, NULL, "q%d", i);
	g_assert_null(event_at(s, 3));
	old = event_at(s, 30001);
	new = event_at(s, 30002);
	g_assert_cmpstr(json_str(old, "message"), ==, "q2");
	g_assert_cmpstr(json_str(new, "message"), ==, "q3");
	events_close(quiet);
}

static Operation *stored(Store *s, const char *id, const char *host, OperationState state)
{
	Operation *op = make_start(id);
	g_autofree char *key = key_operation(id), *text = NULL;
	_cleanup_json_ Json *j = NULL;

	op->host = g_strdup(host);
	op->state = state;
	j = operation_to_json(op);
	text = json_print(j);
	put(s, key, text);
	return op;
}

static void count_recovered(const Operation *op, bool forward, void *data)
{
	GString *found = data;

	(void)forward;
	g_string_append_printf(found, "%s ", op->id);
}

static void test_operations_of_other_hosts_are_left_alone(void)
{
	g_autoptr(GString) found = g_string_new(NULL);
	g_autoptr(GError) err = NULL;
	Bench b;
	Operation *op;
	_cleanup_json_ Json *other = NULL;

	bench_init(&b);
	exec_free(b.exec);
	operation_free(stored(b.store, "mine", "h1", OPERATION_RUNNING));
	operation_free(stored(b.store, "other", "h2", OPERATION_RUNNING));
	operation_free(stored(b.store, "old", NULL, OPERATION_RUNNING));
	/* Its version may be a newer one, with steps that nobody knows here. */
	put(b.store, "/plimsoll/v1/operations/newer",
	    "{\"id\":\"newer\",\"host\":\"h2\",\"plan\":[{\"step\":\"TELEPORT\",\"target\":\"x\",\"args\":{}}]}");
	b.exec = exec_new(&(struct exec_config){
	    .store = b.store, .pool = b.pool, .steps = sim_steps, .engine = b.sim, .host = "h1" });
	g_assert_true(exec_recover(b.exec, count_recovered, found, &err));
	g_assert_no_error(err);
	g_assert_true(exec_wait(b.exec, "mine", UINT64_C(30000000)) &&
		      exec_wait(b.exec, "old", UINT64_C(30000000)));
	g_assert_cmpstr(found->str, ==, "mine old ");
	op = make_start("new");
	g_assert_true(exec_submit(b.exec, op, &err));
	g_assert_true(exec_wait(b.exec, "new", UINT64_C(30000000)));
	other = get(b.store, "/plimsoll/v1/operations/other");
	g_assert_cmpstr(json_str(other, "status"), ==, "running");
	json_unref(other);
	other = get(b.store, "/plimsoll/v1/operations/new");
	g_assert_cmpstr(json_str(other, "host"), ==, "h1");
	bench_done(&b);
}

static void test_a_frozen_executor_takes_nothing(void)
{
	g_autoptr(GError) err = NULL, busy = NULL;
	Bench b;

	bench_init(&b);
	order(&b, "{\"delay_ms\":{\"QEMU_SPAWN\":300}}");
	g_assert_true(exec_submit(b.exec, make_start("slow"), &err));
	g_assert_false(exec_freeze(b.exec, 1000, &busy));
	g_assert_error(busy, ERR, ERR_BUSY);
	g_assert_true(exec_freeze(b.exec, UINT64_C(30000000), &err));
	g_assert_no_error(err);
	g_clear_error(&busy);
	/* Who freezes it a second time would thaw it while the first one counts on it. */
	g_assert_false(exec_freeze(b.exec, UINT64_C(30000000), &busy));
	g_assert_error(busy, ERR, ERR_BUSY);
	g_assert_false(exec_submit(b.exec, make_start("late"), &err));
	g_assert_error(err, ERR, ERR_UNAVAILABLE);
	g_clear_error(&err);
	exec_thaw(b.exec);
	g_assert_true(exec_submit(b.exec, make_start("again"), &err));
	g_assert_true(exec_wait(b.exec, "again", UINT64_C(30000000)));
	bench_done(&b);
}

static bool refuse(const Operation *op, StoreTx *tx, void *data, GError **err)
{
	(void)op, (void)tx, (void)data;
	return fail(err, ERR_UNAVAILABLE, "no lease");
}

static void test_what_is_not_admitted_leaves_no_record(void)
{
	g_autoptr(GError) err = NULL;
	Bench b;

	bench_init(&b);
	exec_free(b.exec);
	b.exec = exec_new(&(struct exec_config){
	    .store = b.store, .pool = b.pool, .steps = sim_steps, .engine = b.sim, .admit = refuse });
	g_assert_false(exec_submit(b.exec, make_start("x"), &err));
	g_assert_error(err, ERR, ERR_UNAVAILABLE);
	g_assert_null(get(b.store, "/plimsoll/v1/operations/x"));
	bench_done(&b);
}

static bool let_in(const Operation *op, StoreTx *tx, void *data, GError **err)
{
	GPtrArray *in = data;

	(void)tx, (void)err;
	g_ptr_array_add(in, g_strdup(op->id));
	return true;
}

static void let_go(const Operation *op, void *data)
{
	GPtrArray *in = data;
	guint i;

	g_assert_true(g_ptr_array_find_with_equal_func(in, op->id, g_str_equal, &i));
	g_ptr_array_remove_index(in, i);
}

static void test_what_was_admitted_and_not_stored_is_dismissed(void)
{
	g_autoptr(GPtrArray) in = g_ptr_array_new_with_free_func(g_free);
	g_autoptr(GError) err = NULL;
	Operation *op = make_start("x");
	Bench b;

	bench_init(&b);
	exec_free(b.exec);
	b.exec = exec_new(&(struct exec_config){ .store = b.store,
						 .pool = b.pool,
						 .steps = sim_steps,
						 .engine = b.sim,
						 .admit = let_in,
						 .dismiss = let_go,
						 .data = in });
	operation_expect(op, "/plimsoll/v1/vms/v/config", 77);
	g_assert_false(exec_submit(b.exec, op, &err));
	g_assert_error(err, ERR, ERR_CONFLICT);
	g_assert_cmpuint(in->len, ==, 0);
	g_assert_true(exec_submit(b.exec, make_start("y"), NULL));
	g_assert_true(exec_wait(b.exec, "y", UINT64_C(60000000)));
	g_assert_cmpuint(in->len, ==, 1);
	bench_done(&b);
}

/* ---- a store that does not answer ---- */

static struct {
	const StoreBackend *real;
	StoreBackend be;
	bool arrives; /* the first commit does, and its answer does not */
	int left;     /* commits that are not answered */
} lying;

static bool lying_commit(Store *s, const StoreTx *tx, StoreFlags flags, int64_t *ret_rev, GError **err)
{
	if (lying.left == 0)
		return lying.real->commit(s, tx, flags, ret_rev, err);
	lying.left--;
	if (lying.arrives)
		g_assert_true(lying.real->commit(s, tx, flags, ret_rev, NULL));
	lying.arrives = false;
	return fail(err, ERR_UNAVAILABLE, "nobody answers");
}

/* It has failed for who asked, and neither runs nor can begin later. */
static void check_unknown_begin(bool arrives)
{
	g_autoptr(GError) err = NULL;
	g_autoptr(Operation) got = NULL;
	_cleanup_json_ Json *runtime = NULL;
	Operation *op = operation_new("op1", "vm.start", "2026-01-01T00:00:00Z");
	Json *ended = args_of("state", "crashed");
	StoreTx *late = store_tx_new();
	Bench b;

	bench_init(&b);
	put(b.store, "/plimsoll/v1/vms/v/runtime", "{\"state\":\"paused\",\"operation\":\"op1\"}");
	json_put(ended, "operation", json_null());
	operation_merge_on_failed(op, "/plimsoll/v1/vms/v/runtime", ended);
	lying.real = b.store->be;
	lying.be = *lying.real;
	lying.be.commit = lying_commit;
	lying.arrives = arrives;
	lying.left = 2;
	b.store->be = &lying.be;
	plan_add(op->plan, STEP_RUN_DIR_MAKE, "web1", args_of("vm", "v"));
	g_assert_false(exec_submit(b.exec, op, &err));
	g_assert_error(err, ERR, ERR_UNAVAILABLE);
	g_assert_true(exec_wait(b.exec, "op1", UINT64_C(120000000)));
	got = get_operation(&b, "op1");
	g_assert_cmpint(got->state, ==, OPERATION_FAILED);
	g_assert_cmpstr(json_str(got->error, "message"), ==, "nobody answers");
	assert_world(&b, "");
	runtime = get(b.store, "/plimsoll/v1/vms/v/runtime");
	g_assert_cmpstr(json_str(runtime, "state"), ==, "paused");
	g_assert_cmpint(json_str(runtime, "operation") == NULL, ==, arrives);
	store_tx_set(late, "/plimsoll/v1/operations/op1", 0, "{}");
	g_clear_error(&err);
	g_assert_false(store_commit(b.store, late, STORE_DURABLE, NULL, &err));
	g_assert_true(store_is_conflict(err));
	b.store->be = lying.real;
	bench_done(&b);
}

static void test_a_begin_that_nobody_knows_of_has_failed_or_can_not_happen(void)
{
	check_unknown_begin(true);
	check_unknown_begin(false);
}

/* ---- many at once ---- */

static Exec *exec_with_launch_pool(const Bench *b, WorkerPool *launch)
{
	return exec_new(&(struct exec_config){ .store = b->store,
					       .pool = b->pool,
					       .launch_pool = launch,
					       .steps = sim_steps,
					       .engine = b->sim });
}

/* The most of these operations that ran at the same time, from their records. */
static guint most_at_once(Bench *b, const char *prefix, guint n)
{
	g_autofree uint64_t *from = g_new(uint64_t, n), *to = g_new(uint64_t, n);
	guint most = 0;

	for (guint i = 0; i < n; i++) {
		g_autofree char *key = g_strdup_printf("/plimsoll/v1/operations/%s%u", prefix, i);
		_cleanup_json_ Json *op = get(b->store, key);

		g_assert_cmpstr(json_str(op, "status"), ==, "done");
		g_assert_true(time_parse(json_str(op, "started_at"), &from[i]));
		g_assert_true(time_parse(json_str(op, "finished_at"), &to[i]));
	}
	for (guint i = 0; i < n; i++) {
		guint at_once = 0;

		for (guint k = 0; k < n; k++)
			at_once += from[k] <= from[i] && from[i] < to[k];
		most = MAX(most, at_once);
	}
	return most;
}

static void test_launches_queue_and_nothing_else_waits_for_them(void)
{
	g_autoptr(WorkerPool) launch = worker_pool_new(3);
	const guint n = 24;
	Bench b;

	bench_init(&b);
	exec_free(b.exec);
	b.exec = exec_with_launch_pool(&b, launch);
	order(&b, "{\"delay_ms\":{\"QEMU_SPAWN\":100}}");
	for (guint i = 0; i < n; i++) {
		g_autofree char *id = g_strdup_printf("s%u", i);

		g_assert_true(exec_submit(b.exec, make_start(id), NULL));
	}
	/* Behind all of them in time, and through before them. */
	g_assert_true(exec_submit(b.exec, make_delete("other"), NULL));
	g_assert_true(exec_wait(b.exec, "other", UINT64_C(60000000)));
	g_assert_false(exec_wait(b.exec, "s23", 0));
	for (guint i = 0; i < n; i++) {
		g_autofree char *id = g_strdup_printf("s%u", i);

		g_assert_true(exec_wait(b.exec, id, UINT64_C(120000000)));
	}
	g_assert_cmpuint(most_at_once(&b, "s", n), ==, 3);
	b.exec = exec_free(b.exec);
	bench_done(&b);
}

static bool rests(StepContext *ctx, const Json *args, GError **err)
{
	GMutex *gate = step_engine(ctx);
	bool rest = step_rest(ctx);

	(void)args, (void)err;
	g_mutex_lock(gate); /* the guest takes its time */
	g_mutex_unlock(gate);
	if (rest)
		step_wake(ctx);
	return true;
}

static Operation *make_single(const char *id, StepKind kind)
{
	Operation *op = operation_new(id, "vm.stop", "2026-01-01T00:00:00Z");

	plan_add(op->plan, kind, "web1", args_of("vm", "v"));
	return op;
}

static void test_steps_that_wait_for_guests_hold_up_nobody(void)
{
	struct step_impl steps[_STEP_MAX];
	GMutex gate;
	Bench b;

	bench_init(&b);
	exec_free(b.exec);
	memcpy(steps, sim_steps, sizeof steps);
	steps[STEP_GUEST_SHUTDOWN].run = rests;
	g_mutex_init(&gate);
	b.exec = exec_new(
	    &(struct exec_config){ .store = b.store, .pool = b.pool, .steps = steps, .engine = &gate });
	g_mutex_lock(&gate);
	for (guint i = 0; i < 20; i++) {
		g_autofree char *id = g_strdup_printf("stop%u", i);

		g_assert_true(exec_submit(b.exec, make_single(id, STEP_GUEST_SHUTDOWN), NULL));
	}
	/* Two threads and twenty guests that don't end: an operation without a step gets its turn all the
	 * same. */
	g_assert_true(exec_submit(b.exec, operation_new("quick", "vm.set", "2026-01-01T00:00:00Z"), NULL));
	g_assert_true(exec_wait(b.exec, "quick", UINT64_C(60000000)));
	g_assert_false(exec_wait(b.exec, "stop0", 0));
	g_mutex_unlock(&gate);
	for (guint i = 0; i < 20; i++) {
		g_autofree char *id = g_strdup_printf("stop%u", i);

		g_assert_true(exec_wait(b.exec, id, UINT64_C(60000000)));
	}
	b.exec = exec_free(b.exec);
	g_mutex_clear(&gate);
	bench_done(&b);
}

static void test_ended_operations_do_not_pile_up(void)
{
	g_autoptr(GPtrArray) left = NULL;
	g_autofree char *oldest = NULL;
	Bench b;

	bench_init(&b);
	for (guint i = 0; i < 1200; i++) {
		g_autofree char *id = g_strdup_printf("n%04u", i);

		g_assert_true(exec_submit(b.exec, operation_new(id, "vm.set", "2026-01-01T00:00:00Z"), NULL));
		g_assert_true(exec_wait(b.exec, id, UINT64_C(60000000)));
	}
	left = store_list(b.store, "/plimsoll/v1/operations/", NULL, NULL);
	g_assert_cmpuint(left->len, <=, 1064);
	g_assert_cmpuint(left->len, >=, 1000);
	oldest = g_strdup(((const StoreItem *)left->pdata[0])->key);
	g_assert_cmpstr(oldest, >, "/plimsoll/v1/operations/n0100"); /* the oldest went, not just some */
	bench_done(&b);
}

/* A vm that was given to another host while this one was frozen in the middle of its start. */
static Operation *make_locked_start(const char *id, const char *runtime)
{
	Operation *op = make_start(id);
	Json *unlocked = args_of("state", "running");

	json_put(unlocked, "operation", json_null());
	operation_merge_on_done(op, runtime, unlocked);
	return op;
}

static void test_an_end_without_the_lock_changes_nothing(void)
{
	static const char runtime[] = "/plimsoll/v1/vms/w/runtime",
			  theirs[] = "{\"host\":\"b\",\"operation\":\"x\"}";
	g_autoptr(StoreItem) item = NULL, first = NULL;
	g_autoptr(Operation) op = NULL;
	Bench b;

	bench_init(&b);
	put(b.store, runtime, theirs);
	put(b.store, "/plimsoll/v1/vms/v/runtime", "{}");
	submit_and_wait(&b, make_locked_start("op1", runtime));
	op = get_operation(&b, "op1");
	g_assert_cmpint(op->state, ==, OPERATION_FAILED);
	g_assert_cmpstr(json_str(op->error, "code"), ==, "gone");
	g_assert_nonnull(strstr(json_str(op->error, "message"), "went on without this host"));
	item = store_get(b.store, runtime, NULL);
	g_assert_cmpstr(item->value, ==, theirs);
	/* Not half of it either. */
	first = store_get(b.store, "/plimsoll/v1/vms/v/runtime", NULL);
	g_assert_cmpstr(first->value, ==, "{}");
	bench_done(&b);
}

static void test_an_end_with_the_lock_is_written(void)
{
	static const char runtime[] = "/plimsoll/v1/vms/w/runtime";
	_cleanup_json_ Json *j = NULL;
	g_autoptr(Operation) op = NULL;
	Bench b;

	bench_init(&b);
	put(b.store, runtime, "{\"host\":\"b\",\"operation\":\"op1\"}");
	submit_and_wait(&b, make_locked_start("op1", runtime));
	op = get_operation(&b, "op1");
	g_assert_cmpint(op->state, ==, OPERATION_DONE);
	j = get(b.store, runtime);
	g_assert_cmpstr(json_str(j, "state"), ==, "running");
	g_assert_null(json_str(j, "operation"));
	bench_done(&b);
}

static void test_a_kill_at_every_point_of_a_kill_is_finished(void)
{
	check_kills("kill", "{\"qemu:v\":true,\"run:v\":true,\"tap:t0\":true}", "", "");
}

int main(int argc, char **argv)
{
	if (argc == 4 && g_str_equal(argv[1], "--child"))
		_exit(child_main(argv[2], argv[3])); /* it ends as it stands: what it holds is no leak */
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/exec/done", test_done_commits_its_end_with_facts);
	g_test_add_func("/exec/undo", test_failure_undoes_what_was_begun);
	g_test_add_func("/exec/lock-lost", test_an_end_without_the_lock_changes_nothing);
	g_test_add_func("/exec/lock-held", test_an_end_with_the_lock_is_written);
	g_test_add_func("/exec/cancel-at-the-end", test_a_cancel_that_was_accepted_undoes_the_last_step_too);
	g_test_add_func("/exec/cancel", test_cancel_undoes_and_says_so);
	g_test_add_func("/exec/idle", test_an_object_is_idle_when_its_operations_have_ended);
	g_test_add_func("/exec/no-cancel", test_what_may_not_be_cancelled_is_not);
	g_test_add_func("/exec/conflict", test_conflict_at_the_beginning_changes_nothing);
	g_test_add_func("/exec/interrupted", test_a_stop_of_the_daemon_leaves_the_plan_for_the_next);
	g_test_add_func("/exec/kill-start", test_a_kill_at_every_point_of_a_start_is_recovered);
	g_test_add_func("/exec/kill-delete", test_a_kill_at_every_point_of_a_delete_is_finished);
	g_test_add_func("/exec/events", test_events_of_two_daemons_are_numbered_together);
	g_test_add_func("/exec/events-behind", test_events_of_a_quiet_daemon_are_numbered_behind_all_others);
	g_test_add_func("/exec/foreign", test_operations_of_other_hosts_are_left_alone);
	g_test_add_func("/exec/frozen", test_a_frozen_executor_takes_nothing);
	g_test_add_func("/exec/not-admitted", test_what_is_not_admitted_leaves_no_record);
	g_test_add_func("/exec/dismissed", test_what_was_admitted_and_not_stored_is_dismissed);
	g_test_add_func("/exec/unknown-begin",
			test_a_begin_that_nobody_knows_of_has_failed_or_can_not_happen);
	g_test_add_func("/exec/launches", test_launches_queue_and_nothing_else_waits_for_them);
	g_test_add_func("/exec/rest", test_steps_that_wait_for_guests_hold_up_nobody);
	g_test_add_func("/exec/pile", test_ended_operations_do_not_pile_up);
	g_test_add_func("/exec/kill-kill", test_a_kill_at_every_point_of_a_kill_is_finished);
	return g_test_run();
}
