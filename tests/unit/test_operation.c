/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/operation.h"

#include <string.h>

#define NOW "2026-01-01T00:00:00Z"

static Operation *stop_of_web1(void)
{
	Operation *op = operation_new("op7", "vm.stop", NOW);
	Json *runtime = json_object(), *applied = json_object();

	operation_set_target(op, "vm", "ID", "web1");
	plan_add(op->plan, STEP_GUEST_SHUTDOWN, "web1", NULL);
	plan_add(op->plan, STEP_QEMU_QUIT, "web1", NULL);
	plan_add(op->plan, STEP_NET_TAP_DEL, "net0", NULL);
	json_put(runtime, "exit", operation_fact("exit"));
	json_put_str(applied, "description", "@fact:exit");
	json_put(runtime, "applied", applied);
	operation_on_done(op, "/k/runtime", runtime);
	operation_on_done(op, "/k/lock", NULL);
	operation_on_failed(op, "/k/failed", operation_fact("missing"));
	return op;
}

static void test_an_operation_survives_the_store(void)
{
	g_autoptr(Operation) op = stop_of_web1(), back = NULL;
	_cleanup_json_ Json *j = NULL, *again = NULL;

	op->state = OPERATION_UNDOING;
	op->index = 1;
	op->progress = 40;
	op->may_cancel = true;
	op->user = g_strdup("root");
	op->note = g_strdup("agent asked 1x");
	json_put_int(op->facts, "pid", 42);
	op->error = json_object();
	j = operation_to_json(op);
	back = operation_of_json(j, NULL);
	g_assert_nonnull(back);
	again = operation_to_json(back);
	g_assert_true(json_equal(j, again));
	g_assert_cmpint(back->state, ==, OPERATION_UNDOING);
	g_assert_cmpstr(back->target_name, ==, "web1");
}

static void test_bad_records_are_refused(void)
{
	static const struct {
		const char *key, *json;
	} bad[] = {
		{ "id", "null" },         { "kind", "7" },
		{ "created_at", "null" }, { "status", "\"odd\"" },
		{ "status", "3" },        { "plan", "{}" },
		{ "plan", "null" },       { "index", "4" },
		{ "index", "-2" },        { "progress", "101" },
		{ "facts", "[]" },        { "result", "\"x\"" },
		{ "on_done", "{}" },      { "on_failed", "1" },
		{ "error", "\"x\"" },     { "index", "9223372036854775807" },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
		g_autoptr(Operation) op = stop_of_web1();
		_cleanup_json_ Json *j = operation_to_json(op);
		g_autoptr(GError) err = NULL;

		json_put(j, bad[i].key, json_parse(bad[i].json, strlen(bad[i].json), NULL));
		g_test_message("%s: %s", bad[i].key, bad[i].json);
		g_assert_null(operation_of_json(j, &err));
		g_assert_error(err, ERR, ERR_INVALID);
	}
}

static void test_facts_are_put_into_the_writes_of_the_end(void)
{
	g_autoptr(Operation) op = stop_of_web1();
	_cleanup_json_ Json *writes = NULL, *failed = NULL;
	const Json *runtime;

	json_put_str(op->facts, "exit", "powered off");
	op->state = OPERATION_DONE;
	writes = operation_end_writes(op);
	g_assert_cmpuint(json_array_size(writes), ==, 2);
	g_assert_cmpstr(json_str(json_array_get(writes, 0), "key"), ==, "/k/runtime");
	runtime = json_object_get(json_array_get(writes, 0), "value");
	g_assert_cmpstr(json_str(runtime, "exit"), ==, "powered off");
	g_assert_true(json_is_null(json_object_get(json_array_get(writes, 1), "value")));
	op->state = OPERATION_FAILED;
	failed = operation_end_writes(op);
	g_assert_cmpuint(json_array_size(failed), ==, 1);
	g_assert_true(json_is_null(json_object_get(json_array_get(failed, 0), "value")));
}

/* What a user wrote stays what it was, whatever it looks like. */
static void test_text_of_users_is_never_taken_for_a_fact(void)
{
	g_autoptr(Operation) op = stop_of_web1();
	_cleanup_json_ Json *writes = NULL;
	const Json *runtime;

	json_put_str(op->facts, "exit", "powered off");
	op->state = OPERATION_DONE;
	writes = operation_end_writes(op);
	runtime = json_object_get(json_array_get(writes, 0), "value");
	g_assert_cmpstr(json_str(json_obj(runtime, "applied"), "description"), ==, "@fact:exit");
}

static void test_a_crash_ends_in_going_on_or_in_undoing(void)
{
	/* index of the step that was begun; the stop's point of no return is step 1 */
	static const struct {
		int index;
		bool undoing, forward;
	} row[] = {
		{ -1, false, false }, { 0, false, false }, { 1, false, true },
		{ 2, false, true },   { 3, false, true },  { 1, true, false },
	};

	for (size_t i = 0; i < G_N_ELEMENTS(row); i++) {
		g_autoptr(Operation) op = stop_of_web1();

		op->state = row[i].undoing ? OPERATION_UNDOING : OPERATION_RUNNING;
		op->index = row[i].index;
		g_assert_cmpint(operation_goes_forward(op), ==, row[i].forward);
	}
}

static Operation *operation_of_steps(const StepKind *kind, size_t n)
{
	Operation *op = operation_new("op", "vm.start", "2026-01-01T00:00:00Z");

	for (size_t i = 0; i < n; i++)
		plan_add(op->plan, kind[i], "x", NULL);
	return op;
}

/* A letter a step: is its beginning stored? And how far undoing reaches from each index. */
static void test_what_is_not_stored_is_within_reach(void)
{
	static const StepKind start[] = { STEP_RUN_DIR_MAKE, STEP_NET_TAP_ADD, STEP_NET_TAP_ADD,
					  STEP_QEMU_SPAWN, STEP_QEMU_CONT };
	static const StepKind stop[] = { STEP_GUEST_SHUTDOWN, STEP_QEMU_QUIT, STEP_NET_TAP_DEL,
					 STEP_RUN_DIR_REMOVE };
	static const StepKind kill[] = { STEP_QEMU_QUIT, STEP_RUN_DIR_REMOVE };
	static const StepKind delete[] = { STEP_VOLUME_DELETE, STEP_VOLUME_DELETE, STEP_VM_DIR_REMOVE };
	static const struct {
		const StepKind *kind;
		size_t n;
		const char *stored;
		int reach[5];
		bool durable;
	} row[] = {
		{ start, G_N_ELEMENTS(start), "---ss", { 2, 2, 2, 3, 4 }, false },
		{ stop, G_N_ELEMENTS(stop), "ss--", { 0, 3, 3, 3 }, false },
		{ kill, G_N_ELEMENTS(kill), "--", { 1, 1 }, false },
		{ delete, G_N_ELEMENTS(delete), "ss-", { 0, 2, 2 }, true },
	};

	for (size_t r = 0; r < G_N_ELEMENTS(row); r++) {
		g_autoptr(Operation) op = operation_of_steps(row[r].kind, row[r].n);

		g_assert_cmpint(operation_begins_durable(op), ==, row[r].durable);
		g_assert_cmpint(operation_reach(op), ==, -1);
		for (guint i = 0; i < row[r].n; i++) {
			g_assert_cmpint(operation_stores_step(op, i), ==, row[r].stored[i] == 's');
			op->state = OPERATION_RUNNING;
			op->index = (int)i;
			g_assert_cmpint(operation_reach(op), ==, row[r].reach[i]);
			op->state = OPERATION_UNDOING;
			g_assert_cmpint(operation_reach(op), ==, i);
		}
	}
}

static void test_an_end_that_the_begin_leads_to_replays(void)
{
	static const StepKind kill[] = { STEP_QEMU_QUIT, STEP_RUN_DIR_REMOVE },
			      later[] = { STEP_GUEST_SHUTDOWN, STEP_QEMU_QUIT };
	g_autoptr(Operation) op = operation_of_steps(kill, G_N_ELEMENTS(kill));
	g_autoptr(Operation) stop = operation_of_steps(later, G_N_ELEMENTS(later));
	g_autoptr(Operation) none = operation_of_steps(NULL, 0);
	Json *found = json_object(), *list = json_array();

	operation_on_done(op, "/k", json_object());
	g_assert_true(operation_replays(op));
	g_assert_false(operation_replays(stop));
	g_assert_false(operation_replays(none));
	json_array_append_new(list, operation_fact("pid"));
	json_put(found, "deep", list);
	operation_merge_on_done(op, "/k", found);
	g_assert_false(operation_replays(op));
}

static void test_the_stage_is_that_of_the_step(void)
{
	g_autoptr(Operation) op = stop_of_web1();

	g_assert_cmpstr(operation_stage(op), ==, "pending");
	op->state = OPERATION_RUNNING;
	g_assert_cmpstr(operation_stage(op), ==, "running");
	op->index = 1;
	g_assert_cmpstr(operation_stage(op), ==, step_stage(STEP_QEMU_QUIT));
	op->index = 3;
	g_assert_cmpstr(operation_stage(op), ==, "running");
	op->state = OPERATION_DONE;
	op->index = 1;
	g_assert_cmpstr(operation_stage(op), ==, "done");
}

static void test_a_step_may_say_more_than_its_stage(void)
{
	g_autoptr(Operation) op = stop_of_web1();

	op->state = OPERATION_RUNNING;
	op->index = 0;
	op->note = g_strdup("power button pressed 2x");
	g_assert_cmpstr(operation_stage(op), ==, "power button pressed 2x");
	op->state = OPERATION_DONE;
	g_assert_cmpstr(operation_stage(op), ==, "done");
}

static void test_the_api_shows_no_inner_workings(void)
{
	static const char *const hidden[] = { "facts", "note", "on_done", "on_failed" };
	g_autoptr(Operation) op = stop_of_web1();
	_cleanup_json_ Json *j = NULL, *stored = NULL;

	op->note = g_strdup("agent asked 1x");
	j = operation_to_api(op);
	stored = operation_to_json(op);
	g_assert_true(json_equal(j, operation_record_to_api(stored)));
	for (size_t i = 0; i < G_N_ELEMENTS(hidden); i++)
		g_assert_null(json_object_get(j, hidden[i]));
	g_assert_cmpstr(json_str(j, "status"), ==, "pending");
	g_assert_cmpuint(json_array_size(json_arr(j, "plan")), ==, 3);
}

static void test_only_three_states_are_ends(void)
{
	g_autoptr(Operation) op = stop_of_web1();

	for (OperationState s = 0; s < _OPERATION_STATE_MAX; s++) {
		op->state = s;
		g_assert_cmpint(operation_ended(op), ==, s >= OPERATION_DONE);
	}
}

int main(int argc, char **argv)
{
	g_test_init(&argc, &argv, NULL);
	g_test_add_func("/operation/round-trip", test_an_operation_survives_the_store);
	g_test_add_func("/operation/bad", test_bad_records_are_refused);
	g_test_add_func("/operation/facts", test_facts_are_put_into_the_writes_of_the_end);
	g_test_add_func("/operation/no-injection", test_text_of_users_is_never_taken_for_a_fact);
	g_test_add_func("/operation/crash", test_a_crash_ends_in_going_on_or_in_undoing);
	g_test_add_func("/operation/reach", test_what_is_not_stored_is_within_reach);
	g_test_add_func("/operation/replays", test_an_end_that_the_begin_leads_to_replays);
	g_test_add_func("/operation/stage", test_the_stage_is_that_of_the_step);
	g_test_add_func("/operation/note", test_a_step_may_say_more_than_its_stage);
	g_test_add_func("/operation/api", test_the_api_shows_no_inner_workings);
	g_test_add_func("/operation/ended", test_only_three_states_are_ends);
	return g_test_run();
}
