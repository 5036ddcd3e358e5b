/* SPDX-License-Identifier: Apache-2.0 */
#include "core/model/operation.h"

#include <inttypes.h>

static const char *const state_names[_OPERATION_STATE_MAX] = {
#define X(name, text) [OPERATION_##name] = text,
	OPERATION_STATE_TABLE(X)
#undef X
};

#define FACT_KEY "@fact"

Operation *operation_new(const char *id, const char *kind, const char *now)
{
	Operation *op = g_new0(Operation, 1);

	op->id = g_strdup(id);
	op->kind = g_strdup(kind);
	op->created_at = g_strdup(now);
	op->plan = plan_new();
	op->index = -1;
	op->facts = json_object();
	op->result = json_object();
	op->begin = json_array();
	op->on_done = json_array();
	op->on_failed = json_array();
	return op;
}

Operation *operation_free(Operation *op)
{
	if (op == NULL)
		return NULL;
	g_free(op->id);
	g_free(op->kind);
	g_free(op->target_type);
	g_free(op->target_id);
	g_free(op->target_name);
	g_free(op->created_at);
	g_free(op->started_at);
	g_free(op->host);
	g_free(op->finished_at);
	g_free(op->user);
	g_free(op->note);
	plan_free(op->plan);
	json_unref(op->facts);
	json_unref(op->result);
	json_unref(op->error);
	json_unref(op->begin);
	json_unref(op->on_done);
	json_unref(op->on_failed);
	g_free(op);
	return NULL;
}

void operation_set_target(Operation *op, const char *type, const char *id, const char *name)
{
	g_free(op->target_type);
	g_free(op->target_id);
	g_free(op->target_name);
	op->target_type = g_strdup(type);
	op->target_id = g_strdup(id);
	op->target_name = g_strdup(name);
}

static void add_write(Json *list, const char *key, const char *how, Json *value)
{
	Json *w = json_object();

	json_put_str(w, "key", key);
	json_put(w, how, value != NULL ? value : json_null());
	json_array_append_new(list, w);
}

void operation_expect(Operation *op, const char *key, int64_t rev)
{
	Json *w = json_object();

	json_put_str(w, "key", key);
	json_put_int(w, "rev", rev);
	json_array_append_new(op->begin, w);
}

void operation_on_begin(Operation *op, const char *key, int64_t rev, Json *value)
{
	add_write(op->begin, key, "value", value);
	json_put_int(json_array_get(op->begin, json_array_size(op->begin) - 1), "rev", rev);
}

void operation_on_done(Operation *op, const char *key, Json *value)
{
	add_write(op->on_done, key, "value", value);
}

void operation_on_failed(Operation *op, const char *key, Json *value)
{
	add_write(op->on_failed, key, "value", value);
}

void operation_merge_on_done(Operation *op, const char *key, Json *members)
{
	add_write(op->on_done, key, "merge", members);
}

void operation_merge_on_failed(Operation *op, const char *key, Json *members)
{
	add_write(op->on_failed, key, "merge", members);
}

Json *operation_fact(const char *name)
{
	Json *j = json_object();

	json_put_str(j, FACT_KEY, name);
	return j;
}

const char *operation_state_name(OperationState s)
{
	g_assert(s < _OPERATION_STATE_MAX);
	return state_names[s];
}

bool operation_ended(const Operation *op)
{
	return op->state == OPERATION_DONE || op->state == OPERATION_FAILED ||
	       op->state == OPERATION_CANCELLED;
}

const char *operation_stage(const Operation *op)
{
	if (op->index < 0 || (guint)op->index >= op->plan->step->len || operation_ended(op))
		return operation_state_name(op->state);
	return op->note != NULL ? op->note : step_stage(plan_step(op->plan, (guint)op->index)->kind);
}

Json *operation_to_api(const Operation *op)
{
	Json *j = json_object(), *target = json_object();

	json_put_str(target, "type", op->target_type);
	json_put_str(target, "id", op->target_id);
	json_put_str(target, "name", op->target_name);
	json_put_str(j, "id", op->id);
	json_put_str(j, "kind", op->kind);
	json_put(j, "target", target);
	json_put_str(j, "status", operation_state_name(op->state));
	json_put_str(j, "stage", operation_stage(op));
	json_put_int(j, "progress", op->progress);
	json_put_bool(j, "may_cancel", op->may_cancel);
	json_put_str(j, "created_at", op->created_at);
	json_put_str(j, "started_at", op->started_at);
	json_put_str(j, "finished_at", op->finished_at);
	json_put_str(j, "user", op->user);
	json_put_str(j, "host", op->host);
	json_put(j, "result", json_ref(op->result));
	json_put(j, "error", op->error != NULL ? json_ref(op->error) : json_null());
	json_put(j, "plan", plan_to_json(op->plan));
	json_put_int(j, "index", op->index);
	return j;
}

Json *operation_to_json(const Operation *op)
{
	Json *j = operation_to_api(op);

	json_put(j, "facts", json_ref(op->facts));
	if (operation_ended(op))
		return j;
	if (op->note != NULL)
		json_put_str(j, "note", op->note);
	json_put(j, "on_done", json_ref(op->on_done));
	json_put(j, "on_failed", json_ref(op->on_failed));
	return j;
}

Json *operation_record_to_api(Json *record)
{
	static const char *const inner[] = { "facts", "note", "on_done", "on_failed" };

	for (size_t i = 0; i < G_N_ELEMENTS(inner); i++)
		json_object_del(record, inner[i]);
	return record;
}

static bool state_of_name(const char *name, OperationState *ret)
{
	for (OperationState s = 0; s < _OPERATION_STATE_MAX; s++)
		if (name != NULL && g_str_equal(state_names[s], name)) {
			*ret = s;
			return true;
		}
	return false;
}

/* Replaces *ret by the member; absent and null leave it as it is. */
static bool take(const Json *j, const char *key, json_type type, Json **ret, GError **err)
{
	const Json *v = json_object_get(j, key);

	if (v == NULL || json_is_null(v))
		return true;
	if (json_typeof(v) != type)
		return fail(err, ERR_INVALID, "a stored operation's '%s' is of the wrong type", key);
	json_unref(*ret);
	*ret = json_deep_copy(v);
	return true;
}

static bool take_number(const Json *j, const char *key, int min, int max, int *ret, GError **err)
{
	int64_t v = json_int(j, key, *ret);

	if (v < min || v > max)
		return fail(err, ERR_INVALID, "a stored operation's '%s' is %" PRId64, key, v);
	*ret = (int)v;
	return true;
}

Operation *operation_of_json(const Json *j, GError **err)
{
	const char *id = json_str(j, "id"), *kind = json_str(j, "kind"), *created = json_str(j, "created_at");
	const Json *target = json_obj(j, "target");
	g_autoptr(Operation) op = NULL;
	Plan *plan;

	if (id == NULL || kind == NULL || created == NULL) {
		fail(err, ERR_INVALID, "a stored operation lacks its id, kind or time");
		return NULL;
	}
	op = operation_new(id, kind, created);
	operation_set_target(op, json_str(target, "type"), json_str(target, "id"), json_str(target, "name"));
	if (!state_of_name(json_str(j, "status"), &op->state)) {
		fail(err, ERR_INVALID, "stored operation %s has no known status", id);
		return NULL;
	}
	plan = plan_of_json(json_object_get(j, "plan"), err);
	if (plan == NULL)
		return NULL;
	plan_free(op->plan);
	op->plan = plan;
	op->started_at = g_strdup(json_str(j, "started_at"));
	op->finished_at = g_strdup(json_str(j, "finished_at"));
	op->user = g_strdup(json_str(j, "user"));
	op->host = g_strdup(json_str(j, "host"));
	op->note = g_strdup(json_str(j, "note"));
	op->may_cancel = json_bool(j, "may_cancel", false);
	if (!take_number(j, "index", -1, (int)op->plan->step->len, &op->index, err) ||
	    !take_number(j, "progress", 0, 100, &op->progress, err) ||
	    !take(j, "facts", JSON_OBJECT, &op->facts, err) ||
	    !take(j, "result", JSON_OBJECT, &op->result, err) ||
	    !take(j, "error", JSON_OBJECT, &op->error, err) ||
	    !take(j, "on_done", JSON_ARRAY, &op->on_done, err) ||
	    !take(j, "on_failed", JSON_ARRAY, &op->on_failed, err))
		return NULL;
	return g_steal_pointer(&op);
}

/* Nesting is that of records which this program wrote: a few levels. */
static Json *with_facts(const Json *v, const Json *facts)
{
	const char *key;
	const char *name = json_object_size(v) == 1 ? json_str(v, FACT_KEY) : NULL;
	Json *item, *copy, *fact;
	size_t i;

	if (name != NULL) {
		fact = json_object_get(facts, name);
		return fact != NULL ? json_deep_copy(fact) : json_null();
	}
	if (json_is_object(v)) {
		copy = json_object();
		json_object_foreach((Json *)v, key, item) json_put(copy, key, with_facts(item, facts));
		return copy;
	}
	if (json_is_array(v)) {
		copy = json_array();
		json_array_foreach((Json *)v, i, item) json_array_append_new(copy, with_facts(item, facts));
		return copy;
	}
	return json_deep_copy(v);
}

void operation_fail_unrun(Operation *op)
{
	Json *w;
	size_t i;

	json_array_foreach(op->on_failed, i, w)
	{
		Json *lock = json_object_get(json_obj(w, "merge"), "operation");

		if (lock != NULL)
			json_put(w, "merge", json_pack("{s:O}", "operation", lock));
	}
}

void operation_fail_as_done(Operation *op)
{
	json_unref(op->on_failed);
	op->on_failed = json_deep_copy(op->on_done);
}

Json *operation_end_writes(const Operation *op)
{
	return with_facts(op->state == OPERATION_DONE ? op->on_done : op->on_failed, op->facts);
}

static StepKind kind_at(const Operation *op, guint i)
{
	return plan_step(op->plan, i)->kind;
}

bool operation_is_launch(const Operation *op)
{
	bool spawns = false, other = false;

	for (guint i = 0; i < op->plan->step->len; i++) {
		spawns = spawns || kind_at(op, i) == STEP_QEMU_SPAWN;
		other = other || kind_at(op, i) == STEP_RECEIVE_GUEST || kind_at(op, i) == STEP_BACKUP_COPY ||
			kind_at(op, i) == STEP_BACKUP_BOOT;
	}
	return spawns && !other;
}

uint64_t operation_memory_claim(const Operation *op)
{
	for (guint i = 0; i < op->plan->step->len; i++)
		if (kind_at(op, i) == STEP_QEMU_SPAWN)
			return json_uint(plan_step(op->plan, i)->args, "memory_claim", 0);
	return 0;
}

bool operation_begins_durable(const Operation *op)
{
	for (guint i = 0; i < op->plan->step->len; i++)
		if (step_is_lasting(kind_at(op, i)))
			return true;
	return false;
}

bool operation_stores_step(const Operation *op, guint i)
{
	if (i == 0 || step_is_told(kind_at(op, i)) || !step_is_point_of_no_return(kind_at(op, i)))
		return step_is_told(kind_at(op, i));
	for (guint before = 0; before < i; before++)
		if (step_is_point_of_no_return(kind_at(op, before)))
			return false;
	return true;
}

int operation_reach(const Operation *op)
{
	guint n = op->plan->step->len, i = (guint)(op->index + 1);

	if (op->state == OPERATION_UNDOING || op->index < 0)
		return op->index;
	while (i < n && !operation_stores_step(op, i))
		i++;
	return (int)i - 1;
}

static bool has_fact(const Json *v)
{
	const char *key;
	Json *item;
	size_t i;

	if (json_is_object(v) && json_object_get(v, FACT_KEY) != NULL)
		return true;
	json_object_foreach((Json *)v, key, item) if (has_fact(item)) return true;
	json_array_foreach((Json *)v, i, item) if (has_fact(item)) return true;
	return false;
}

bool operation_replays(const Operation *op)
{
	return op->plan->step->len > 0 && step_is_point_of_no_return(kind_at(op, 0)) &&
	       !has_fact(op->on_done);
}

bool operation_goes_forward(const Operation *op)
{
	if (op->state == OPERATION_UNDOING)
		return false;
	if (op->index >= (int)op->plan->step->len)
		return true;
	if (op->index >= 0 && step_decides(kind_at(op, (guint)op->index)))
		return true;
	for (int i = 0; i <= op->index; i++)
		if (step_is_point_of_no_return(plan_step(op->plan, (guint)i)->kind))
			return true;
	return false;
}
