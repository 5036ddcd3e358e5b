/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/promise.h"
#include "core/model/keys.h"
#include "core/model/operation.h"
#include "engine/owner.h"
#include "engine/records.h"

Promise *promise_free(Promise *p)
{
	if (p != NULL) {
		g_free(p->operation);
		g_free(p->host);
		g_free(p->reception);
		json_unref(p->applied);
		g_free(p);
	}
	return NULL;
}

Promise *promise_read(Store *s, const char *vm, GError **err)
{
	g_autofree char *key = key_vm_promise(vm);
	int64_t rev = 0;
	_cleanup_json_ Json *j = record_get(s, key, &rev, err);
	Promise *p;

	if (j == NULL)
		return NULL;
	p = g_new0(Promise, 1);
	p->operation = g_strdup(json_str(j, "operation"));
	p->host = g_strdup(json_str(j, "host"));
	p->reception = g_strdup(json_str(j, "reception"));
	p->applied = json_ref(json_obj(j, "applied"));
	p->rev = rev;
	if (p->operation != NULL && p->host != NULL && p->reception != NULL && p->applied != NULL)
		return p;
	fail(err, ERR_INVALID, "the promise of the vm '%s' makes no sense", vm);
	return promise_free(p);
}

/* What of a promise is asked for must be so. */
static bool is_such(Store *s, const char *vm, const char *operation, const char *host, bool *ret,
		    GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(Promise) p = promise_read(s, vm, &e);

	*ret = p != NULL && (operation == NULL || g_str_equal(p->operation, operation)) &&
	       (host == NULL || g_str_equal(p->host, host));
	if (e == NULL)
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

bool promise_is(Store *s, const char *vm, const char *operation, bool *ret, GError **err)
{
	return is_such(s, vm, operation, NULL, ret, err);
}

bool promise_is_to(Store *s, const char *vm, const char *host, bool *ret, GError **err)
{
	return is_such(s, vm, NULL, host, ret, err);
}

static char *text_of(const struct promise_terms *t)
{
	_cleanup_json_ Json *j = json_object();

	json_put_str(j, "operation", t->operation);
	json_put_str(j, "host", t->host);
	json_put_str(j, "reception", t->reception);
	json_put(j, "applied", json_deep_copy(t->applied));
	return json_print(j);
}

/* The record of the vm must be the operation's still; its revision then. */
static bool read_owned(Store *s, const struct promise_terms *t, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_vm_runtime(t->vm);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = record_get(s, key, ret_rev, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	return (g_strcmp0(json_str(runtime, "host"), t->from_host) == 0 &&
		g_strcmp0(json_str(runtime, "operation"), t->operation) == 0) ||
	       fail(err, ERR_CONFLICT, "the guest is not this host's any more");
}

/* What a change needs that is tried until no other member of the vm's record moves meanwhile. */
struct attempt {
	Store *s;
	const struct promise_terms *t;
};

static bool try_make(void *data, GError **err)
{
	const struct attempt *a = data;
	const struct promise_terms *t = a->t;
	Store *s = a->s;
	g_autofree char *runtime = key_vm_runtime(t->vm), *key = key_vm_promise(t->vm), *text = text_of(t);
	StoreTx *tx;
	int64_t rev;

	if (!read_owned(s, t, &rev, err))
		return false;
	tx = store_tx_new();
	store_tx_expect(tx, runtime, rev);
	/* One that an earlier move left behind is of nobody. */
	store_tx_set(tx, key, STORE_ANY, text);
	if (owner_expect_lease(s, tx, t->host, "get", err) &&
	    owner_expect_lease(s, tx, t->from_host, "give", err))
		return store_commit(s, tx, STORE_DURABLE, NULL, err);
	store_tx_free(tx);
	return false;
}

bool promise_make(Store *s, const struct promise_terms *t, GError **err)
{
	const struct attempt a = { s, t };

	return store_retry(try_make, (void *)&a, err);
}

/* One that makes no sense, which nobody can keep. */
static bool is_senseless(GError **e)
{
	if (!g_error_matches(*e, ERR, ERR_INVALID))
		return false;
	g_clear_error(e);
	return true;
}

static bool try_withdraw(void *data, GError **err)
{
	const struct attempt *a = data;
	g_autofree char *key = key_vm_promise(a->t->vm);
	g_autoptr(GError) e = NULL;
	g_autoptr(Promise) p = promise_read(a->s, a->t->vm, &e);
	StoreTx *tx;

	if (is_senseless(&e))
		return true;
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (p == NULL || !g_str_equal(p->operation, a->t->operation))
		return true;
	tx = store_tx_new();
	store_tx_set(tx, key, p->rev, NULL);
	return store_commit(a->s, tx, STORE_DURABLE, NULL, err);
}

bool promise_withdraw(Store *s, const char *vm, const char *operation, GError **err)
{
	const struct promise_terms t = { .vm = vm, .operation = operation };
	const struct attempt a = { s, &t };

	return store_retry(try_withdraw, (void *)&a, err);
}

static bool try_end(void *data, GError **err)
{
	const struct attempt *a = data;
	const struct promise_terms *t = a->t;
	Store *s = a->s;
	g_autofree char *runtime = key_vm_runtime(t->vm), *key = key_vm_promise(t->vm);
	g_autoptr(GError) e = NULL;
	g_autoptr(Promise) p = store_catch_up(s, &e) ? promise_read(s, t->vm, &e) : NULL;
	StoreTx *tx;
	int64_t rev;

	if (!is_senseless(&e) && e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (!read_owned(s, t, &rev, err))
		return false;
	tx = store_tx_new();
	store_tx_expect(tx, runtime, rev);
	if (p != NULL && g_str_equal(p->operation, t->operation))
		store_tx_set(tx, key, p->rev, NULL);
	return store_commit(s, tx, STORE_DURABLE, NULL, err);
}

bool promise_end(Store *s, const struct promise_terms *t, GError **err)
{
	const struct attempt a = { s, t };

	return store_retry(try_end, (void *)&a, err);
}

bool promise_is_taken(const Json *reception)
{
	return reception != NULL && json_str(reception, "finished_at") == NULL &&
	       g_strcmp0(json_str(reception, "status"), operation_state_name(OPERATION_UNDOING)) != 0 &&
	       json_bool(json_obj(reception, "facts"), PROMISE_TAKEN, false);
}

bool promise_keep(Store *s, StoreTx *tx, const char *vm, const char *reception, GError **err)
{
	g_autofree char *key = key_vm_promise(vm), *applied = key_vm_applied(vm), *text = NULL;
	g_autoptr(GError) e = NULL;
	g_autoptr(Promise) p = promise_read(s, vm, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	if (p == NULL || !g_str_equal(p->reception, reception))
		return fail(err, ERR_CONFLICT, "the guest is promised to this host no more");
	text = json_print(p->applied);
	store_tx_set(tx, key, p->rev, NULL);
	store_tx_set(tx, applied, STORE_ANY, text);
	return true;
}
