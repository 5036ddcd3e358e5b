/* SPDX-License-Identifier: Apache-2.0 */
/* What a step may know and ask of its operation: a part of engine/exec.h. */
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/exec-impl.h"

#define PROGRESS_INTERVAL UINT64_C(300000)

void *step_engine(const StepContext *ctx)
{
	return ctx->task->exec->config.engine;
}

const Operation *step_operation(const StepContext *ctx)
{
	return ctx->task->op;
}

void step_fact(StepContext *ctx, const char *name, Json *value)
{
	json_put(ctx->task->op->facts, name, value);
}

static bool try_commit(void *data, GError **err)
{
	const Task *t = data;
	g_autofree char *key = key_operation(t->op->id);
	Store *store = t->exec->config.store;
	g_autoptr(StoreItem) item = store_catch_up(store, err) ? store_get(store, key, err) : NULL;
	g_autoptr(Operation) is = item != NULL ? exec_parse_item(item, err) : NULL;
	StoreTx *tx;

	if (err != NULL && *err != NULL)
		return false;
	if (is == NULL || operation_ended(is))
		return fail(err, ERR_BAD_STATE, "another host has ended the operation %s", t->op->id);
	tx = store_tx_new();
	exec_put_operation(tx, t->op, item->rev);
	return store_commit(store, tx, STORE_DURABLE, NULL, err);
}

bool step_commit(StepContext *ctx, GError **err)
{
	return store_retry(try_commit, ctx->task, err);
}

void step_result(StepContext *ctx, const char *name, Json *value)
{
	json_put(ctx->task->op->result, name, value);
}

void step_progress(StepContext *ctx, unsigned percent)
{
	Operation *op = ctx->task->op;
	uint64_t now = time_monotonic();

	op->progress = (int)((ctx->step * 100 + MIN(percent, 100)) / ctx->n_steps);
	if (now - ctx->stored_at >= PROGRESS_INTERVAL) {
		ctx->stored_at = now;
		exec_store_progress(ctx->task->exec, op);
	}
}

void step_say(StepContext *ctx, const char *fmt, ...)
{
	Operation *op = ctx->task->op;
	va_list ap;

	g_free(op->note);
	va_start(ap, fmt);
	op->note = g_strdup_vprintf(fmt, ap);
	va_end(ap);
	exec_store_progress(ctx->task->exec, op);
}

bool step_rest(StepContext *ctx)
{
	return worker_pool_rest(ctx->task->pool, RESTING_MAX);
}

void step_wake(StepContext *ctx)
{
	worker_pool_wake(ctx->task->pool);
}

bool step_cancelled(const StepContext *ctx)
{
	return g_atomic_int_get(&ctx->task->cancelled) != 0 || exec_is_stopping(ctx->task->exec);
}

void step_outlive_cancel(StepContext *ctx)
{
	Task *t = ctx->task;

	g_mutex_lock(&t->exec->lock);
	g_atomic_int_set(&t->cancelled, 0);
	t->op->may_cancel = false;
	g_mutex_unlock(&t->exec->lock);
}

bool step_stopping(const StepContext *ctx)
{
	return exec_is_stopping(ctx->task->exec);
}

void step_keep(StepContext *ctx)
{
	operation_fail_as_done(ctx->task->op);
}

bool step_forbid_cancel(StepContext *ctx)
{
	return exec_forbid_cancel(ctx->task, NULL);
}
