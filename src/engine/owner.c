/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/owner.h"
#include "core/model/keys.h"
#include "core/model/operation.h"
#include "engine/promise.h"
#include "engine/records.h"

#include <string.h>

/* Between two tries to learn from the store what became of a commit. */
#define RETRY 200000
#define TOLD_AFTER 5

static Json *runtime_of(Store *s, const char *vm, int64_t *ret_rev, GError **err)
{
	g_autofree char *key = key_vm_runtime(vm);
	g_autoptr(GError) e = NULL;
	Json *j = record_get(s, key, ret_rev, &e);

	if (j == NULL && e == NULL)
		fail(&e, ERR_NOT_FOUND, "there is no vm '%s'", vm);
	if (j == NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return j;
}

bool owner_is(Store *s, const char *vm, const char *host, bool *ret, GError **err)
{
	_cleanup_json_ Json *j = runtime_of(s, vm, NULL, err);

	if (j == NULL)
		return false;
	*ret = g_strcmp0(json_str(j, "host"), host) == 0;
	return true;
}

void owner_seen_clear(OwnerSeen *seen)
{
	json_unref(seen->runtime);
	*seen = (OwnerSeen){ 0 };
}

void owner_look(Store *s, const char *vm, OwnerSeen *seen)
{
	owner_seen_clear(seen);
	seen->runtime = runtime_of(s, vm, &seen->rev, NULL);
}

static bool names(const Json *runtime, const char *host, const char *operation)
{
	return g_strcmp0(json_str(runtime, "host"), host) == 0 &&
	       g_strcmp0(json_str(runtime, "operation"), operation) == 0;
}

static void set_json(StoreTx *tx, const char *key, int64_t rev, const Json *value)
{
	g_autofree char *text = json_print(value);

	store_tx_set(tx, key, rev, text);
}

/* A volume went with its guest: it is a whole disk there, no overlay of an image here. */
static bool move_volume(Store *s, StoreTx *tx, const struct owner_change *c, const Json *d, GError **err)
{
	g_autofree char *key = key_volume(json_str(d, "volume"));
	g_autoptr(GError) e = NULL;
	int64_t rev;
	_cleanup_json_ Json *j = record_get(s, key, &rev, &e);

	if (j == NULL) {
		if (e == NULL)
			return fail(err, ERR_NOT_FOUND, "there is no volume '%s'", json_str(d, "volume"));
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	json_put_str(j, "path", json_str(d, c->back ? "old_path" : "path"));
	json_put_str(j, "host", c->to_host);
	json_put_str(j, "image", c->back ? json_str(d, "image") : NULL);
	set_json(tx, key, rev, j);
	return true;
}

static bool move_volumes(Store *s, StoreTx *tx, const struct owner_change *c, GError **err)
{
	const Json *d;
	size_t i;

	json_array_foreach(c->copied, i, d)
	{
		/* A file of the user's own has no record. */
		if (json_str(d, "volume") != NULL && !move_volume(s, tx, c, d, err))
			return false;
	}
	return true;
}

static Json *seen_or_read(Store *s, const struct owner_change *c, bool seen, int64_t *ret_rev, GError **err)
{
	if (!seen || c->seen == NULL || c->seen->runtime == NULL)
		return runtime_of(s, c->vm, ret_rev, err);
	*ret_rev = c->seen->rev;
	return json_deep_copy(c->seen->runtime);
}

/* The transaction holds only while the host has the lease that it has now, or none. */
static bool expect_lease_as_it_is(Store *s, StoreTx *tx, const char *host, bool *ret_there, GError **err)
{
	g_autofree char *key = key_lease(host);
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = store_get(s, key, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	store_tx_expect(tx, key, item != NULL ? item->rev : 0);
	*ret_there = item != NULL;
	return true;
}

/*
 * Nobody evicts a host, or takes its guests, while its lease is there: who takes a guest must have one. So
 * must who gives it: a host that was given up for dead gives nothing away any more.
 */
bool owner_expect_lease(Store *s, StoreTx *tx, const char *host, const char *what, GError **err)
{
	bool there;

	if (!expect_lease_as_it_is(s, tx, host, &there, err))
		return false;
	return there || fail_advice(err, ERR_BAD_STATE, "`plim pool status` shows which hosts are there.",
				    "the host that would %s the guest has no lease in the pool", what);
}

static bool set_applied(Store *s, StoreTx *tx, const struct owner_change *c, GError **err)
{
	g_autofree char *key = key_vm_applied(c->vm);

	if (c->kept)
		return promise_keep(s, tx, c->vm, c->to_operation, err);
	if (c->applied != NULL)
		set_json(tx, key, STORE_ANY, c->applied);
	return true;
}

/*
 * Who gets a promised guest must be at it still: else nobody would unlock it. Who gives that of a dead host
 * away must know that it may run there, too.
 */
static bool expect_reception(Store *s, StoreTx *tx, const struct owner_change *c, GError **err)
{
	g_autofree char *key = key_operation(c->to_operation);
	g_autoptr(GError) e = NULL;
	int64_t rev = 0;
	_cleanup_json_ Json *op = record_get(s, key, &rev, &e);

	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	store_tx_expect(tx, key, rev);
	if (op == NULL || json_str(op, "finished_at") != NULL || (c->dead && !promise_is_taken(op)))
		return fail(err, ERR_NOT_FOUND, "nobody takes the guest in any more");
	return true;
}

static bool expect_dead(Store *s, StoreTx *tx, const char *host, GError **err)
{
	bool there;

	if (!expect_lease_as_it_is(s, tx, host, &there, err))
		return false;
	return !there || fail(err, ERR_BAD_STATE, "the host that has the guest is alive");
}

/* One try. The error may be one after which nobody knows. */
static bool try_change(Store *s, const struct owner_change *c, bool seen, GError **err)
{
	g_autofree char *key = key_vm_runtime(c->vm);
	bool gives = !c->back && !c->kept;
	int64_t rev;
	_cleanup_json_ Json *runtime = seen_or_read(s, c, seen, &rev, err);
	StoreTx *tx;

	if (runtime == NULL)
		return false;
	if (!names(runtime, c->from_host, c->from_operation))
		return fail(err, ERR_CONFLICT, "the guest is not this host's any more");
	if (c->members != NULL)
		json_object_update(runtime, (Json *)c->members);
	json_put_str(runtime, "host", c->to_host);
	json_put_str(runtime, "operation", c->to_operation);
	tx = store_tx_new();
	set_json(tx, key, rev, runtime);
	if ((c->kept && !expect_reception(s, tx, c, err)) ||
	    (c->dead && !expect_dead(s, tx, c->from_host, err)) || !set_applied(s, tx, c, err) ||
	    !move_volumes(s, tx, c, err) ||
	    (!c->dead && !owner_expect_lease(s, tx, c->to_host, "get", err)) ||
	    (gives && !owner_expect_lease(s, tx, c->from_host, "give", err))) {
		store_tx_free(tx);
		return false;
	}
	return store_commit(s, tx, STORE_DURABLE, NULL, err);
}

/*
 * Writes the record again as it was read. When that succeeds, a commit that is
 * still on its way compares an older revision and can't happen any more.
 */
static bool seal(Store *s, const char *key, int64_t rev, const Json *runtime, GError **err)
{
	StoreTx *tx = store_tx_new();

	set_json(tx, key, rev, runtime);
	return store_commit(s, tx, STORE_DURABLE, NULL, err);
}

typedef enum Came { CAME_TRUE, CAME_TO_NOTHING, NOBODY_KNOWS } Came;

/*
 * After a commit of which nobody knows whether it happened. A reading alone does
 * not tell: it may be of a copy that is behind, and the commit may still come.
 */
static Came happened(Store *s, const struct owner_change *c)
{
	g_autofree char *key = key_vm_runtime(c->vm);

	for (unsigned tries = 0;; tries++) {
		g_autoptr(GError) e = NULL;
		int64_t rev = 0;
		_cleanup_json_ Json *runtime = runtime_of(s, c->vm, &rev, &e);

		if (runtime != NULL && names(runtime, c->to_host, c->to_operation))
			return CAME_TRUE;
		if (runtime != NULL ? seal(s, key, rev, runtime, &e) : g_error_matches(e, ERR, ERR_NOT_FOUND))
			return CAME_TO_NOTHING;
		if (c->stops != NULL && c->stops(c->data))
			return NOBODY_KNOWS;
		if (tries == TOLD_AFTER && c->waits != NULL)
			c->waits(e, c->data);
		g_usleep(RETRY);
	}
}

/* Errors that say for certain that nothing changed: of the commit, or of what was read before it. */
static bool is_certain(const GError *e)
{
	return store_came_to_nothing(e) || g_error_matches(e, ERR, ERR_NOT_FOUND) ||
	       g_error_matches(e, ERR, ERR_BAD_STATE);
}

bool owner_change(Store *s, const struct owner_change *c, GError **err)
{
	for (bool first = true;; first = false) {
		g_autoptr(GError) e = NULL;
		Came came;

		if (try_change(s, c, first, &e))
			return true;
		/* Another member of a record moved (an agent came): that does not matter. */
		if (store_is_conflict(e))
			continue;
		came = is_certain(e) ? CAME_TO_NOTHING : happened(s, c);
		if (came == CAME_TRUE)
			return true;
		if (came == NOBODY_KNOWS)
			return fail(
			    err, ERR_CANCELLED,
			    "the daemon ends, and the pool's records don't say yet whose the guest is");
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
}

struct attempt {
	Store *s;
	const struct owner_change *c;
};

static bool take_volumes(void *data, GError **err)
{
	const struct attempt *a = data;
	StoreTx *tx = store_tx_new();

	if (move_volumes(a->s, tx, a->c, err))
		return store_commit(a->s, tx, STORE_DURABLE, NULL, err);
	store_tx_free(tx);
	return false;
}

bool owner_take_volumes(Store *s, const char *vm, const Json *copied, const char *host, GError **err)
{
	const struct owner_change c = { .vm = vm, .to_host = host, .copied = copied, .back = true };
	const struct attempt a = { s, &c };

	return json_array_size(copied) == 0 || store_retry(take_volumes, (void *)&a, err);
}

/* ---- who may write, and whose QEMU may be where ---- */

bool owner_may_write(Store *s, const Json *runtime, const char *host)
{
	const char *lock = json_str(runtime, "operation");
	g_autofree char *key = lock != NULL ? key_operation(lock) : NULL;
	_cleanup_json_ Json *op = NULL;

	if (g_strcmp0(json_str(runtime, "host"), host) == 0)
		return true;
	op = key != NULL ? record_get(s, key, NULL, NULL) : NULL;
	return g_strcmp0(json_str(op, "host"), host) == 0;
}

struct OwnerClaims {
	char *host;
	GPtrArray *op; /* Operation: its own that go on, whatever they are about */
};

static void drop_operation(gpointer p)
{
	operation_free(p);
}

/* An operation of `host` that goes on, or NULL. One that can't be read claims nothing. */
static Operation *going_on(const StoreItem *item, const char *host)
{
	_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);
	g_autoptr(Operation) op = NULL;

	if (g_strcmp0(json_str(j, "host"), host) != 0)
		return NULL;
	op = operation_of_json(j, NULL);
	return op != NULL && !operation_ended(op) ? g_steal_pointer(&op) : NULL;
}

OwnerClaims *owner_claims_load(Store *s, const char *host, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(s, KEYS_OPERATIONS, NULL, err);
	OwnerClaims *c;

	if (items == NULL)
		return NULL;
	c = g_new0(OwnerClaims, 1);
	c->host = g_strdup(host);
	c->op = g_ptr_array_new_with_free_func(drop_operation);
	for (guint i = 0; i < items->len; i++) {
		Operation *op = going_on(items->pdata[i], host);

		if (op != NULL)
			g_ptr_array_add(c->op, op);
	}
	return c;
}

OwnerClaims *owner_claims_free(OwnerClaims *c)
{
	if (c != NULL) {
		g_free(c->host);
		g_ptr_array_unref(c->op);
		g_free(c);
	}
	return NULL;
}

/* The arguments of its first step of that kind; NULL: there is none. */
static const Json *step_args(const Operation *op, StepKind kind)
{
	for (guint i = 0; i < op->plan->step->len; i++)
		if (plan_step(op->plan, i)->kind == kind)
			return plan_step(op->plan, i)->args;
	return NULL;
}

/*
 * The QEMU that waits for the guest, as long as the other host's operation has the lock: it runs nothing,
 * unless the guest is promised and has come. The one whose guest is the other host's already, and on its way
 * still: as long as the reception has the lock that host starts nothing, and this one may get its guest back,
 * or even run it again. Memory that follows its guest is on its way longer, but such a QEMU runs nothing any
 * more.
 */
static bool is_half_of_move(const Operation *op, const Json *runtime)
{
	const char *host = json_str(runtime, "host");
	const Json *in = step_args(op, STEP_RECEIVE_GUEST), *out = step_args(op, STEP_MIGRATE_SEND);

	if (host == NULL)
		return false;
	if (in != NULL)
		return names(runtime, json_str(in, "source"), json_str(in, "operation"));
	return out != NULL && g_strcmp0(json_str(out, "host"), host) == 0 &&
	       (json_bool(json_obj(out, "settings"), "post_copy", false) ||
		g_strcmp0(json_str(op->facts, "reception"), json_str(runtime, "operation")) == 0);
}

static bool is_of_vm(const Operation *op)
{
	return g_strcmp0(op->target_type, "vm") == 0;
}

bool owner_claims_vm(const OwnerClaims *c, const char *vm, const Json *runtime)
{
	const char *lock = json_str(runtime, "operation");

	if (g_strcmp0(json_str(runtime, "host"), c->host) == 0)
		return true;
	for (guint i = 0; i < c->op->len; i++) {
		const Operation *op = c->op->pdata[i];

		if (is_of_vm(op) && g_strcmp0(op->target_id, vm) == 0 &&
		    (g_strcmp0(op->id, lock) == 0 || is_half_of_move(op, runtime)))
			return true;
	}
	return false;
}

static bool has_lock(Store *s, const Operation *op, bool *ret, GError **err)
{
	g_autofree char *key = key_vm_runtime(op->target_id);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = record_get(s, key, NULL, &e);

	*ret = g_strcmp0(json_str(runtime, "operation"), op->id) == 0;
	if (e == NULL)
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

GPtrArray *owner_claims_aside(const OwnerClaims *c, Store *s, GError **err)
{
	g_autoptr(GPtrArray) ids = g_ptr_array_new_with_free_func(g_free);

	for (guint i = 0; i < c->op->len; i++) {
		const Operation *op = c->op->pdata[i];
		bool mine = true;

		if (g_strcmp0(json_str(step_args(op, STEP_QEMU_SPAWN), "vm"), op->id) != 0)
			continue;
		if (is_of_vm(op) && !has_lock(s, op, &mine, err))
			return NULL;
		if (mine)
			g_ptr_array_add(ids, g_strdup(op->id));
	}
	return g_steal_pointer(&ids);
}

bool owner_may_be_on(Store *s, const char *vm, const char *host, bool *ret, GError **err)
{
	g_autofree char *key = key_vm_runtime(vm);
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = record_get(s, key, NULL, &e);
	g_autoptr(OwnerClaims) c = NULL;

	if (e == NULL && g_strcmp0(json_str(runtime, "host"), host) != 0 && runtime != NULL)
		c = owner_claims_load(s, host, &e);
	if (e != NULL) {
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
	*ret = runtime != NULL && (c == NULL || owner_claims_vm(c, vm, runtime));
	return true;
}
