/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/end_writes.h"
#include "engine/exec-impl.h"

#include <string.h>

/* Ended operations that are kept for people to look at, and how many more there may be before some go. */
#define KEEP_ENDED 1000
#define KEEP_SLACK 64
/* How often the end of an operation is tried again while the store refuses it. */
#define END_TRIES 60
#define END_PAUSE UINT64_C(1000000)

Exec *exec_new(const struct exec_config *config)
{
	Exec *e = g_new0(Exec, 1);

	for (StepKind k = 0; k < _STEP_MAX; k++)
		g_assert((config->steps[k].undo != NULL) == step_undoes(k));
	e->config = *config;
	g_mutex_init(&e->lock);
	g_cond_init(&e->ended);
	e->task = g_hash_table_new(g_str_hash, g_str_equal);
	return e;
}

void exec_stop(Exec *e)
{
	g_atomic_int_set(&e->stopping, 1);
	g_mutex_lock(&e->lock);
	while (g_hash_table_size(e->task) > 0)
		g_cond_wait(&e->ended, &e->lock);
	g_mutex_unlock(&e->lock);
}

Exec *exec_free(Exec *e)
{
	if (e == NULL)
		return NULL;
	exec_stop(e);
	g_hash_table_unref(e->task);
	g_queue_clear_full(&e->past, g_free);
	g_mutex_clear(&e->lock);
	g_cond_clear(&e->ended);
	g_free(e);
	return NULL;
}

Operation *exec_parse_item(const StoreItem *item, GError **err)
{
	_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), err);

	return j != NULL ? operation_of_json(j, err) : NULL;
}

void exec_put_operation(StoreTx *tx, const Operation *op, int64_t rev)
{
	g_autofree char *key = key_operation(op->id);
	_cleanup_json_ Json *j = operation_to_json(op);
	g_autofree char *text = json_print(j);

	store_tx_set(tx, key, rev, text);
}

void exec_store_progress(Exec *e, const Operation *op)
{
	StoreTx *tx = store_tx_new();
	g_autoptr(GError) err = NULL;

	exec_put_operation(tx, op, STORE_ANY);
	if (!store_commit(e->config.store, tx, STORE_RELAXED, NULL, &err))
		log_warning("operation %s: progress was not stored: %s", op->id, err->message);
}

static bool commit_end(const Task *t, bool *ret_lost, GError **err)
{
	StoreFlags flags = g_atomic_int_get(&t->synced) ? STORE_RELAXED : STORE_DURABLE;
	const Operation *op = t->op;
	Exec *e = t->exec;
	StoreTx *tx = store_tx_new();

	exec_put_operation(tx, op, STORE_ANY);
	if (!end_writes_add(e->config.store, tx, op, ret_lost, err)) {
		store_tx_free(tx);
		return false;
	}
	return store_commit(e->config.store, tx, flags, NULL, err);
}

/* The end that others wrote, or that was written by a commit whose answer did not come, counts. */
static bool take_end(Operation *op, Store *store)
{
	g_autofree char *key = key_operation(op->id);
	g_autoptr(StoreItem) item = store_get(store, key, NULL);
	g_autoptr(Operation) is = item != NULL ? exec_parse_item(item, NULL) : NULL;

	if (is == NULL || !operation_ended(is))
		return false;
	op->state = is->state;
	json_unref(op->error);
	op->error = json_ref(is->error);
	return true;
}

/* True when nothing is left to be stored; else the operation has failed, and writes nothing but that. */
static bool end_lost(Operation *op, Store *store, const GError *why)
{
	if (take_end(op, store))
		return true;
	op->state = OPERATION_FAILED;
	json_unref(op->error);
	op->error = err_to_json(why);
	json_array_clear(op->on_failed);
	return false;
}

/*
 * The end must not be lost while the daemon lives: a full disk is waited for.
 * What is still not stored when the tries are used up is recovered at the next
 * start. A conflict only means that a merged record moved: try at once.
 */
static void store_end(const Task *t)
{
	Store *store = t->exec->config.store;
	Operation *op = t->op;
	bool fresh = false;

	for (int tries = 0; tries < END_TRIES;) {
		g_autoptr(GError) err = NULL;
		bool lost = false;

		if (commit_end(t, &lost, &err))
			return;
		/* It may have become the operation's a moment ago, by another host: the copy is no proof yet.
		 */
		if (lost && !fresh) {
			g_clear_error(&err);
			fresh = store_catch_up(store, &err);
			lost = false;
			if (fresh)
				continue;
		}
		if (lost && end_lost(op, store, err))
			return;
		if (lost || g_error_matches(err, ERR, ERR_CONFLICT))
			continue;
		tries++;
		log_error("operation %s (%s): its end was not stored, trying again: %s", op->id, op->kind,
			  err->message);
		g_usleep(END_PAUSE);
	}
}

bool exec_forbid_cancel(Task *t, GError **err)
{
	bool ok;

	g_mutex_lock(&t->exec->lock);
	ok = g_atomic_int_get(&t->cancelled) == 0;
	if (ok)
		t->op->may_cancel = false;
	g_mutex_unlock(&t->exec->lock);
	return ok || fail(err, ERR_CANCELLED, "the operation was cancelled");
}

/* From now on it does not run, for who would cancel it. */
static void set_end(Task *t, OperationState state)
{
	Operation *op = t->op;

	g_free(op->finished_at);
	op->finished_at = time_stamp();
	if (state == OPERATION_DONE)
		op->progress = 100;
	g_mutex_lock(&t->exec->lock);
	op->may_cancel = false;
	op->state = state;
	g_mutex_unlock(&t->exec->lock);
}

static bool call_step(Task *t, guint i, bool undo, GError **err)
{
	const Step *s = plan_step(t->op->plan, i);
	const struct step_impl *impl = &t->exec->config.steps[s->kind];
	StepContext ctx = { .task = t, .step = i, .n_steps = t->op->plan->step->len };
	bool ok = undo ? impl->undo(&ctx, s->args, err) : impl->run(&ctx, s->args, err);

	g_assert(ok || err == NULL || *err != NULL);
	return ok;
}

/* Goes on past a step that can't be undone: the rest must not stay behind as well. */
static void undo_begun(Task *t)
{
	Operation *op = t->op;

	op->state = OPERATION_UNDOING;
	g_clear_pointer(&op->note, g_free);
	for (; op->index >= 0; op->index--) {
		g_autoptr(GError) err = NULL;
		const Step *s;

		if (op->index >= (int)op->plan->step->len)
			continue;
		s = plan_step(op->plan, (guint)op->index);
		if (!step_undoes(s->kind))
			continue;
		exec_store_progress(t->exec, op);
		if (!call_step(t, (guint)op->index, true, &err))
			log_error("operation %s (%s): can't undo %s %s: %s", op->id, op->kind,
				  step_name(s->kind), s->target, err->message);
	}
}

static bool run_from(Task *t, int first, GError **err)
{
	Operation *op = t->op;
	guint n = op->plan->step->len;

	for (guint i = (guint)MAX(first, 0); i < n; i++) {
		if (g_atomic_int_get(&t->cancelled))
			return fail(err, ERR_CANCELLED, "the operation was cancelled");
		op->index = (int)i;
		op->progress = (int)(i * 100 / n);
		g_clear_pointer(&op->note, g_free);
		if (step_is_point_of_no_return(plan_step(op->plan, i)->kind) && !exec_forbid_cancel(t, err))
			return false;
		if (operation_stores_step(op, i))
			exec_store_progress(t->exec, op);
		if (!call_step(t, i, false, err))
			return false;
	}
	/* Who was told that it is cancelled finds it undone, also when no step looked any more. */
	if (!exec_forbid_cancel(t, err))
		return false;
	op->index = (int)n;
	return true;
}

static void finish(Task *t, GError *failure)
{
	Operation *op = t->op;

	if (failure == NULL) {
		set_end(t, OPERATION_DONE);
	} else {
		json_unref(op->error);
		op->error = err_to_json(failure);
		undo_begun(t);
		set_end(t, g_error_matches(failure, ERR, ERR_CANCELLED) ? OPERATION_CANCELLED
									: OPERATION_FAILED);
	}
	store_end(t);
}

/* The end of a task that was found after a crash and must go backwards. */
static void finish_backwards(Task *t)
{
	Operation *op = t->op;

	if (op->error == NULL) {
		g_autoptr(GError) err = NULL;

		fail_advice(&err, ERR_UNAVAILABLE, "What was begun has been undone; ask for it again.",
			    "the daemon ended in the middle of this operation");
		err_detail(&err, OPERATION_INTERRUPTED, json_true());
		op->error = err_to_json(err);
	}
	op->index = operation_reach(op);
	undo_begun(t);
	set_end(t, OPERATION_FAILED);
	store_end(t);
}

/* Locked. The ids of those that are too many, oldest first; mostly none. */
static GPtrArray *take_too_many(Exec *e)
{
	GPtrArray *ids = g_ptr_array_new_with_free_func(g_free);

	if (e->past.length > KEEP_ENDED + KEEP_SLACK)
		while (e->past.length > KEEP_ENDED)
			g_ptr_array_add(ids, g_queue_pop_head(&e->past));
	return ids;
}

/* News of yesterday: what is not deleted now is deleted at the next start of the daemon. */
static void delete_operations(Exec *e, const GPtrArray *ids)
{
	for (guint i = 0; i < ids->len;) {
		StoreTx *tx = store_tx_new();
		g_autoptr(GError) err = NULL;

		for (guint n = 0; n < STORE_TX_MAX && i < ids->len; n++, i++) {
			g_autofree char *key = key_operation(ids->pdata[i]);

			store_tx_set(tx, key, STORE_ANY, NULL);
		}
		if (!store_commit(e->config.store, tx, STORE_RELAXED, NULL, &err))
			log_warning("old operations were not deleted: %s", err->message);
	}
}

static void forget_past(Exec *e, const char *ended)
{
	g_autoptr(GPtrArray) ids = NULL;

	g_mutex_lock(&e->lock);
	g_queue_push_tail(&e->past, g_strdup(ended));
	ids = take_too_many(e);
	g_mutex_unlock(&e->lock);
	delete_operations(e, ids);
}

static void task_end(Task *t, bool ended)
{
	Exec *e = t->exec;

	if (ended && e->config.on_end != NULL)
		e->config.on_end(t->op, e->config.data);
	if (ended)
		forget_past(e, t->op->id);
	g_mutex_lock(&e->lock);
	g_hash_table_remove(e->task, t->op->id);
	g_cond_broadcast(&e->ended);
	g_mutex_unlock(&e->lock);
	operation_free(t->op);
	g_free(t);
}

bool exec_is_stopping(const Exec *e)
{
	return g_atomic_int_get(&e->stopping) != 0;
}

static void run_task(void *data)
{
	Task *t = data;
	g_autoptr(GError) err = NULL;

	if (exec_is_stopping(t->exec)) {
		task_end(t, false);
		return;
	}
	t->op->state = OPERATION_RUNNING;
	if (t->op->started_at == NULL)
		t->op->started_at = time_stamp();
	if (!run_from(t, t->op->index, &err) && exec_is_stopping(t->exec) &&
	    g_error_matches(err, ERR, ERR_CANCELLED) && !g_atomic_int_get(&t->cancelled)) {
		/* Interrupted, not cancelled: the next start finishes or undoes it. */
		task_end(t, false);
		return;
	}
	finish(t, err);
	task_end(t, true);
}

static void undo_task(void *data)
{
	Task *t = data;

	finish_backwards(t);
	task_end(t, true);
}

/* Takes op. */
static Task *task_add(Exec *e, Operation *op)
{
	Task *t = g_new0(Task, 1);

	t->exec = e;
	t->op = op;
	t->pool =
	    e->config.launch_pool != NULL && operation_is_launch(op) ? e->config.launch_pool : e->config.pool;
	g_mutex_lock(&e->lock);
	g_hash_table_insert(e->task, op->id, t);
	g_mutex_unlock(&e->lock);
	return t;
}

static void add_begin_writes(StoreTx *tx, const Operation *op)
{
	Json *w;
	size_t i;

	json_array_foreach(op->begin, i, w)
	{
		const Json *value = json_object_get(w, "value");
		g_autofree char *text = value == NULL || json_is_null(value) ? NULL : json_print(value);
		const char *key = json_str(w, "key");

		if (value == NULL)
			store_tx_expect(tx, key, json_int(w, "rev", STORE_ANY));
		else
			store_tx_set(tx, key, json_int(w, "rev", STORE_ANY), text);
	}
}

static bool begin_submit(Exec *e, GError **err)
{
	bool frozen;

	if (exec_is_stopping(e))
		return fail_advice(err, ERR_UNAVAILABLE, "Try again in a few seconds.",
				   "the daemon is stopping");
	g_mutex_lock(&e->lock);
	frozen = e->frozen;
	e->submitting += !frozen;
	g_mutex_unlock(&e->lock);
	return !frozen || fail_advice(err, ERR_UNAVAILABLE, "Try again in a few seconds.",
				      "the daemon is about to begin anew");
}

static void end_submit(Exec *e)
{
	g_mutex_lock(&e->lock);
	e->submitting--;
	g_cond_broadcast(&e->ended);
	g_mutex_unlock(&e->lock);
}

static void task_push(Task *t, WorkerFunc run)
{
	worker_pool_push(t->pool, run, t);
}

typedef enum Begun { BEGUN_UNKNOWN, BEGUN_NOT, BEGUN } Begun;

/* What the record says. One that has ended never began: that it has failed was written in its place. */
static Begun look_whether_begun(const Task *t)
{
	Store *store = t->exec->config.store;
	g_autofree char *key = key_operation(t->op->id);
	g_autoptr(StoreItem) item = store_catch_up(store, NULL) ? store_get(store, key, NULL) : NULL;
	g_autoptr(Operation) is = item != NULL ? exec_parse_item(item, NULL) : NULL;

	if (is == NULL)
		return BEGUN_UNKNOWN;
	return operation_ended(is) ? BEGUN_NOT : BEGUN;
}

/* That it has failed is written where its beginning would write: after that it can't begin any more. */
static Begun try_to_keep_from_beginning(const Task *t)
{
	g_autoptr(GError) err = NULL;
	StoreTx *tx = store_tx_new();

	exec_put_operation(tx, t->op, 0);
	if (store_commit(t->exec->config.store, tx, STORE_DURABLE, NULL, &err))
		return BEGUN_NOT;
	return store_is_conflict(err) ? look_whether_begun(t) : BEGUN_UNKNOWN;
}

/* Of one of which nobody knows whether it has begun. None of its steps has run, and none will. */
static void settle_task(void *data)
{
	Task *t = data;
	bool rests = worker_pool_rest(t->pool, RESTING_MAX);
	Begun begun = BEGUN_UNKNOWN;

	set_end(t, OPERATION_FAILED);
	while (begun == BEGUN_UNKNOWN && !exec_is_stopping(t->exec)) {
		begun = try_to_keep_from_beginning(t);
		if (begun == BEGUN_UNKNOWN)
			g_usleep(END_PAUSE);
	}
	if (rests)
		worker_pool_wake(t->pool);
	if (begun == BEGUN) {
		operation_fail_unrun(t->op);
		store_end(t);
	}
	task_end(t, begun != BEGUN_UNKNOWN);
}

/* Its beginning was not stored, for all that we know. Takes op. */
static void begin_failed(Exec *e, Operation *op, const GError *why)
{
	if (!store_came_to_nothing(why)) {
		op->error = err_to_json(why);
		task_push(task_add(e, op), settle_task);
		return;
	}
	if (e->config.dismiss != NULL)
		e->config.dismiss(op, e->config.data);
	operation_free(op);
}

/* Takes op. */
static bool submit(Exec *e, Operation *op, GError **err)
{
	g_autoptr(GError) why = NULL;
	StoreTx *tx = store_tx_new();

	g_free(op->host);
	op->host = g_strdup(e->config.host);
	if (op->plan->step->len > 0)
		op->index = 0;
	add_begin_writes(tx, op);
	exec_put_operation(tx, op, 0);
	if (e->config.admit != NULL && !e->config.admit(op, tx, e->config.data, err)) {
		store_tx_free(tx);
		operation_free(op);
		return false;
	}
	if (!store_commit(e->config.store, tx, operation_begins_durable(op) ? STORE_DURABLE : STORE_RELAXED,
			  NULL, &why)) {
		begin_failed(e, op, why);
		g_propagate_error(err, g_steal_pointer(&why));
		return false;
	}
	task_push(task_add(e, op), run_task);
	return true;
}

bool exec_submit(Exec *e, Operation *op, GError **err)
{
	bool ok;

	if (!begin_submit(e, err)) {
		operation_free(op);
		return false;
	}
	ok = submit(e, op, err);
	end_submit(e);
	return ok;
}

bool exec_freeze(Exec *e, uint64_t timeout, GError **err)
{
	gint64 until = g_get_monotonic_time() + (gint64)MIN(timeout, INT64_MAX / 2);
	guint left;

	g_mutex_lock(&e->lock);
	if (e->frozen) {
		g_mutex_unlock(&e->lock);
		return fail_advice(err, ERR_BUSY, "Wait for its end: `plim pool status`.",
				   "this host joins or leaves a pool right now, or its daemon begins anew");
	}
	e->frozen = true;
	while (g_hash_table_size(e->task) + e->submitting > 0)
		if (!g_cond_wait_until(&e->ended, &e->lock, until))
			break;
	left = g_hash_table_size(e->task) + e->submitting;
	e->frozen = left == 0;
	g_mutex_unlock(&e->lock);
	return left == 0 ||
	       fail_advice(err, ERR_BUSY,
			   "`plim operation list` shows them. Wait for their end, or cancel them.",
			   "%u operations are under way on this host", left);
}

void exec_thaw(Exec *e)
{
	g_mutex_lock(&e->lock);
	e->frozen = false;
	g_mutex_unlock(&e->lock);
}

bool exec_sync(Exec *e, const char *id, GError **err)
{
	Task *t;

	if (!store_sync(e->config.store, err))
		return false;
	g_mutex_lock(&e->lock);
	t = g_hash_table_lookup(e->task, id);
	if (t != NULL && operation_replays(t->op))
		g_atomic_int_set(&t->synced, 1);
	g_mutex_unlock(&e->lock);
	return true;
}

static gint64 time_until(uint64_t timeout)
{
	return timeout > INT64_MAX / 2 ? INT64_MAX : g_get_monotonic_time() + (gint64)timeout;
}

bool exec_wait(Exec *e, const char *id, uint64_t timeout)
{
	gint64 until = time_until(timeout);
	bool ended;

	g_mutex_lock(&e->lock);
	while (g_hash_table_contains(e->task, id))
		if (!g_cond_wait_until(&e->ended, &e->lock, until))
			break;
	ended = !g_hash_table_contains(e->task, id);
	g_mutex_unlock(&e->lock);
	return ended;
}

/* Under the lock. */
static bool is_about(const Exec *e, const char *target_id)
{
	GHashTableIter iter;
	gpointer task;

	g_hash_table_iter_init(&iter, e->task);
	while (g_hash_table_iter_next(&iter, NULL, &task))
		if (g_strcmp0(((const Task *)task)->op->target_id, target_id) == 0)
			return true;
	return false;
}

bool exec_wait_target(Exec *e, const char *target_id, uint64_t timeout)
{
	gint64 until = time_until(timeout);
	bool ended;

	g_mutex_lock(&e->lock);
	while (is_about(e, target_id))
		if (!g_cond_wait_until(&e->ended, &e->lock, until))
			break;
	ended = !is_about(e, target_id);
	g_mutex_unlock(&e->lock);
	return ended;
}

bool exec_cancel(Exec *e, const char *id, GError **err)
{
	bool found = false, allowed = false;
	Task *t;

	g_mutex_lock(&e->lock);
	t = g_hash_table_lookup(e->task, id);
	if (t != NULL && !operation_ended(t->op)) {
		found = true;
		allowed = t->op->may_cancel;
		if (allowed)
			g_atomic_int_set(&t->cancelled, 1);
	}
	g_mutex_unlock(&e->lock);
	if (!found)
		return fail_advice(err, ERR_BAD_STATE, "`plim operation list` shows what runs.",
				   "operation %s does not run", id);
	if (!allowed)
		return fail(err, ERR_UNSUPPORTED, "operation %s can't be cancelled any more", id);
	return true;
}

/* Sorted by time. */
static void remember_past(Exec *e, const GPtrArray *ended)
{
	g_autoptr(GPtrArray) ids = NULL;

	g_mutex_lock(&e->lock);
	for (guint i = 0; i < ended->len; i++)
		g_queue_push_tail(&e->past, g_strdup(((const Operation *)ended->pdata[i])->id));
	ids = take_too_many(e);
	g_mutex_unlock(&e->lock);
	delete_operations(e, ids);
}

static gint by_time(gconstpointer a, gconstpointer b)
{
	const Operation *x = *(Operation *const *)a, *y = *(Operation *const *)b;

	return strcmp(x->created_at, y->created_at);
}

static void drop_operation(gpointer p)
{
	operation_free(p);
}

/*
 * Of another host's executor, which may be at it right now. More need not be understood of it: that host's
 * version may be a newer one.
 */
static bool is_foreign(const Exec *e, const StoreItem *item)
{
	_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);
	const char *host = json_str(j, "host");

	return e->config.host != NULL && host != NULL && !g_str_equal(host, e->config.host);
}

bool exec_recover(Exec *e, ExecRecoverFunc each, void *data, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(e->config.store, KEYS_OPERATIONS, NULL, err);
	g_autoptr(GPtrArray) ended = g_ptr_array_new_with_free_func(drop_operation);

	if (items == NULL)
		return false;
	for (guint i = 0; i < items->len; i++) {
		g_autoptr(Operation) op = NULL;
		bool forward;

		if (is_foreign(e, items->pdata[i]))
			continue;
		op = exec_parse_item(items->pdata[i], err);
		if (op == NULL)
			return err_advise(
			    err,
			    "This plimsolld is older than the one that wrote the record: install the newer one.");
		if (operation_ended(op)) {
			g_ptr_array_add(ended, g_steal_pointer(&op));
			continue;
		}
		forward = operation_goes_forward(op);
		if (each != NULL)
			each(op, forward, data);
		task_push(task_add(e, g_steal_pointer(&op)), forward ? run_task : undo_task);
	}
	g_ptr_array_sort(ended, by_time);
	remember_past(e, ended);
	return true;
}
