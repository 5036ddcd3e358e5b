/* SPDX-License-Identifier: Apache-2.0 */
/* A dead host is taken out of its pool by the others, with what becomes of its vms and operations. */
#include "base/log.h"
#include "base/time.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/end_writes.h"
#include "engine/owner.h"
#include "engine/pool-impl.h"
#include "engine/promise.h"

#include <string.h>

/* For records that others change meanwhile. */
#define END_TRIES 20

typedef struct Eviction {
	Engine *engine;
	const char *id, *name, *user;
	bool dry_run;
	Json *vms; /* told */
} Eviction;

/* Every write of an eviction holds only while the host is dead. */
static bool commit_dead(const Eviction *v, StoreTx *tx, GError **err)
{
	g_autofree char *lease = key_lease(v->id);

	if (v->dry_run) {
		store_tx_free(tx);
		return true;
	}
	store_tx_expect(tx, lease, 0);
	return store_commit(v->engine->store, tx, STORE_DURABLE, NULL, err);
}

/* A vm whose configuration can't be read is told by its id. Caller frees. */
static char *name_of_vm(const Eviction *v, const char *vm_id)
{
	g_autofree char *key = key_vm_config(vm_id);
	_cleanup_json_ Json *config = record_get(v->engine->store, key, NULL, NULL);

	return g_strdup(json_str(config, "name") != NULL ? json_str(config, "name") : vm_id);
}

static void tell_vm(const Eviction *v, const char *vm_id, VmState was)
{
	g_autofree char *name = name_of_vm(v, vm_id);
	Json *j = json_object();

	json_put_str(j, "id", vm_id);
	json_put_str(j, "name", name);
	json_put_str(j, "state", vm_state_name(was));
	json_array_append_new(v->vms, j);
	if (v->dry_run)
		return;
	if (was != VM_STOPPED && was != VM_CRASHED)
		events_emit(v->engine->events, EVENT_VM_LOST, "vm", vm_id, name, NULL,
			    "%s was on host %s, which was taken out of the pool", name, v->name);
}

/* It was about to start a vm that ran elsewhere before, or to do something else with it. */
static bool is_locked_by(const Eviction *v, const Json *runtime)
{
	const char *lock = json_str(runtime, "operation");
	g_autofree char *key = lock != NULL ? key_operation(lock) : NULL;
	_cleanup_json_ Json *op = key != NULL ? record_get(v->engine->store, key, NULL, NULL) : NULL;

	return g_strcmp0(json_str(op, "host"), v->id) == 0;
}

static bool unlock(const Eviction *v, const char *key, int64_t rev, const Json *runtime, GError **err)
{
	_cleanup_json_ Json *j = json_deep_copy(runtime);
	g_autofree char *text = NULL;
	StoreTx *tx = store_tx_new();

	json_put(j, "operation", json_null());
	text = json_print(j);
	store_tx_set(tx, key, rev, text);
	return commit_dead(v, tx, err);
}

/* A record as it must be still, for a transaction. */
typedef struct Expected {
	const char *key;
	int64_t rev;
} Expected;

/* It is nobody's from here on. `also` may be NULL. */
static bool free_runtime(const Eviction *v, const char *vm_id, const Json *runtime, int64_t rev,
			 const Expected *also, GError **err)
{
	g_autofree char *key = key_vm_runtime(vm_id), *promise = key_vm_promise(vm_id), *now = time_stamp(),
			*why = g_strdup_printf("its host %s was taken out of the pool", v->name),
			*text = NULL;
	VmState was = vm_runtime_state(runtime);
	_cleanup_json_ Json *j = was == VM_STOPPED || was == VM_CRASHED
				     ? json_deep_copy(runtime)
				     : vm_runtime_moved(runtime, VM_STOPPED, why, now);
	StoreTx *tx = store_tx_new();

	json_put(j, "host", json_null());
	json_put(j, "operation", json_null());
	text = json_print(j);
	store_tx_set(tx, key, rev, text);
	store_tx_set(tx, promise, STORE_ANY, NULL);
	if (also != NULL)
		store_tx_expect(tx, also->key, also->rev);
	if (!commit_dead(v, tx, err))
		return false;
	tell_vm(v, vm_id, was);
	return true;
}

/* What the dead host has promised, and to whom. */
typedef struct Promised {
	Promise *promise; /* NULL: nothing that counts */
	bool taken;       /* the other host may run it */
	char *op_key;     /* of the other host's operation */
	int64_t op_rev;
} Promised;

static void promised_clear(Promised *p)
{
	promise_free(p->promise);
	g_free(p->op_key);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Promised, promised_clear)

/* A host that was evicted itself takes nothing any more, whatever it writes. */
static bool is_member(Store *store, const char *host, GError **err)
{
	g_autofree char *key = key_host(host);
	g_autoptr(StoreItem) item = store_get(store, key, err);

	return item != NULL;
}

static bool read_reception(Store *store, Promised *ret, GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(StoreItem) item = NULL;
	_cleanup_json_ Json *op = NULL;

	ret->op_key = key_operation(ret->promise->reception);
	item = store_get(store, ret->op_key, &e);
	op = item != NULL ? json_parse(item->value, strlen(item->value), NULL) : NULL;
	ret->op_rev = item != NULL ? item->rev : 0;
	ret->taken = promise_is_taken(op) && e == NULL && is_member(store, ret->promise->host, &e);
	if (e == NULL)
		return true;
	g_propagate_error(err, g_steal_pointer(&e));
	return false;
}

/* Of a guest with that record. What can't be read, or is of an earlier move, counts for nothing. */
static bool read_promised(const Eviction *v, const char *vm_id, const Json *runtime, Promised *ret,
			  GError **err)
{
	g_autoptr(GError) e = NULL;
	g_autoptr(Promise) p = promise_read(v->engine->store, vm_id, &e);

	if (g_error_matches(e, ERR, ERR_INVALID))
		log_warning("vm %s: %s", vm_id, e->message);
	else if (e != NULL)
		return g_propagate_error(err, g_steal_pointer(&e)), false;
	if (p == NULL || g_strcmp0(json_str(runtime, "host"), v->id) != 0 ||
	    g_strcmp0(json_str(runtime, "operation"), p->operation) != 0)
		return true;
	ret->promise = g_steal_pointer(&p);
	return read_reception(v->engine->store, ret, err);
}

static bool is_given(const Eviction *v, const char *vm_id, const Json *runtime)
{
	g_auto(Promised) p = { 0 };

	return read_promised(v, vm_id, runtime, &p, NULL) && p.taken;
}

/* Only the runtime record counts: what else of the vm can't be read is in the way of nobody. */
static bool free_vm(const Eviction *v, const char *vm_id, GError **err)
{
	g_autofree char *key = key_vm_runtime(vm_id);
	int64_t rev = 0;
	g_autoptr(GError) e = NULL;
	_cleanup_json_ Json *runtime = record_get(v->engine->store, key, &rev, &e);

	if (g_error_matches(e, ERR, ERR_INVALID) || (runtime != NULL && !json_is_object(runtime))) {
		log_warning("vm %s: its record can't be read, and stays as it is", vm_id);
		return true;
	}
	if (runtime == NULL)
		return e == NULL || (g_propagate_error(err, g_steal_pointer(&e)), false);
	if (g_strcmp0(json_str(runtime, "host"), v->id) != 0)
		return !is_locked_by(v, runtime) || unlock(v, key, rev, runtime, err);
	/* What a real run would have given away before this. */
	if (v->dry_run && is_given(v, vm_id, runtime))
		return true;
	return free_runtime(v, vm_id, runtime, rev, NULL, err);
}

typedef bool (*EachVm)(const Eviction *v, const char *vm_id, GError **err);

/* For each vm that has a record of that name. */
static bool each_vm(const Eviction *v, const char *record, EachVm fn, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(v->engine->store, KEYS_VMS, NULL, err);

	for (guint i = 0; items != NULL && i < items->len; i++) {
		g_autofree char *c = NULL, *id = NULL, *rest = NULL;

		if (key_split(((StoreItem *)items->pdata[i])->key, &c, &id, &rest) &&
		    g_str_equal(rest, record) && !fn(v, id, err))
			return false;
	}
	return items != NULL;
}

static bool is_ending(void *data)
{
	const Eviction *v = data;

	return exec_is_stopping(v->engine->exec);
}

static void tell_given(const Eviction *v, const char *vm_id, const char *host)
{
	g_autofree char *name = name_of_vm(v, vm_id), *key = key_host(host);
	_cleanup_json_ Json *j = record_get(v->engine->store, key, NULL, NULL);
	const char *to = json_str(j, "name") != NULL ? json_str(j, "name") : host;

	log_info("vm %s: it was promised to %s, and is that host's now", name, to);
	if (!pool_host_lives(v->engine->store, host, NULL))
		events_emit(
		    v->engine->events, EVENT_VM_MOVE_WAITS, "vm", vm_id, name, NULL,
		    "%s was on its way from %s to %s, which is offline, too, and may have it. Bring %s "
		    "back; if it is lost for good, `plim pool evict %s`",
		    name, v->name, to, to, to);
}

static bool give(const Eviction *v, const char *vm_id, const Promise *p, GError **err)
{
	const struct owner_change c = {
		.vm = vm_id,
		.from_host = v->id,
		.from_operation = p->operation,
		.to_host = p->host,
		.to_operation = p->reception,
		.kept = true,
		.dead = true,
		.stops = is_ending,
		.data = (void *)v,
	};

	if (!owner_change(v->engine->store, &c, err))
		return false;
	tell_given(v, vm_id, p->host);
	return true;
}

/*
 * One try with a guest that the dead host has promised to another one. Where it may run it is that host's,
 * even if that is offline: who says that it does not run there either evicts that host, too. Where it can't
 * run yet it is nobody's, but only as long as that stays so. ERR_CONFLICT: something moved; it is looked at
 * again.
 */
static bool try_give(const Eviction *v, const char *vm_id, GError **err)
{
	Store *store = v->engine->store;
	g_autofree char *key = key_vm_runtime(vm_id);
	g_autoptr(GError) e = NULL;
	g_auto(Promised) p = { 0 };
	int64_t rev = 0;
	_cleanup_json_ Json *runtime = store_catch_up(store, &e) ? record_get(store, key, &rev, &e) : NULL;

	/* What can't be read is left to free_vm(). */
	if (g_error_matches(e, ERR, ERR_INVALID))
		return true;
	if (e != NULL)
		return g_propagate_error(err, g_steal_pointer(&e)), false;
	if (!read_promised(v, vm_id, runtime, &p, err))
		return false;
	if (p.promise == NULL)
		return true;
	return p.taken ? give(v, vm_id, p.promise, err)
		       : free_runtime(v, vm_id, runtime, rev, &(Expected){ p.op_key, p.op_rev }, err);
}

static bool give_vm(const Eviction *v, const char *vm_id, GError **err)
{
	for (int tries = 0;; tries++) {
		g_autoptr(GError) e = NULL;

		if (v->dry_run || try_give(v, vm_id, &e))
			return true;
		/* NOT_FOUND: the other host is not at it any more. */
		if ((!g_error_matches(e, ERR, ERR_CONFLICT) && !g_error_matches(e, ERR, ERR_NOT_FOUND)) ||
		    tries == END_TRIES) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}

/* As the host itself would have ended it, had it failed: what it was about to make is not left half made. */
static bool commit_failed(const Eviction *v, const StoreItem *item, const Operation *op, GError **err)
{
	_cleanup_json_ Json *ended = operation_to_json(op);
	g_autofree char *text = json_print(ended);
	StoreTx *tx = store_tx_new();

	store_tx_set(tx, item->key, item->rev, text);
	if (end_writes_add(v->engine->store, tx, op, NULL, err))
		return commit_dead(v, tx, err);
	store_tx_free(tx);
	return false;
}

/* A record that cannot be read must not keep the operation from its end. */
static bool end_failed(const Eviction *v, const StoreItem *item, Operation *op, GError **err)
{
	for (int tries = 0;; tries++) {
		g_autoptr(GError) e = NULL;

		if (commit_failed(v, item, op, &e))
			return true;
		if (g_error_matches(e, ERR, ERR_INVALID) && json_array_size(op->on_failed) > 0) {
			log_warning("operation %s: what it leaves behind can't be read: %s", op->id,
				    e->message);
			json_array_clear(op->on_failed);
		} else if (!store_is_conflict(e) || tries == END_TRIES) {
			g_propagate_error(err, g_steal_pointer(&e));
			return false;
		}
	}
}

static bool is_reception(const Operation *op)
{
	return g_strcmp0(op->kind, "vm.receive") == 0;
}

/* Nobody carries them out any more. */
static bool end_operation(const Eviction *v, const StoreItem *item, bool receptions, GError **err)
{
	_cleanup_json_ Json *j = json_parse(item->value, strlen(item->value), NULL);
	g_autoptr(Operation) op = j != NULL ? operation_of_json(j, NULL) : NULL;
	g_autoptr(GError) why = NULL;

	if (op == NULL || g_strcmp0(op->host, v->id) != 0 || operation_ended(op) ||
	    is_reception(op) != receptions)
		return true;
	fail(&why, ERR_UNAVAILABLE, "host %s was taken out of the pool in the middle of this", v->name);
	op->state = OPERATION_FAILED;
	json_unref(op->error);
	op->error = err_to_json(why);
	g_free(op->finished_at);
	op->finished_at = time_stamp();
	return end_failed(v, item, op, err);
}

static bool end_operations(const Eviction *v, bool receptions, GError **err)
{
	g_autoptr(GPtrArray) items = NULL;

	if (v->dry_run)
		return true;
	items = store_list(v->engine->store, KEYS_OPERATIONS, NULL, err);
	for (guint i = 0; items != NULL && i < items->len; i++)
		if (!end_operation(v, items->pdata[i], receptions, err))
			return false;
	return items != NULL;
}

static bool check_dead(const Eviction *v, GError **err)
{
	g_autoptr(GError) e = NULL;

	if (g_str_equal(v->id, v->engine->host_id))
		return fail_advice(err, ERR_INVALID, "`plim pool leave` on it takes it out with its vms.",
				   "host '%s' is the one that you ask", v->name);
	if (pool_host_lives(v->engine->store, v->id, &e))
		return fail_advice(
		    err, ERR_BAD_STATE,
		    "Run `plim pool leave` there; or stop its daemon, and wait until its lease is gone.",
		    "host '%s' is alive", v->name);
	if (e != NULL)
		g_propagate_error(err, g_steal_pointer(&e));
	return e != NULL || err == NULL || *err == NULL;
}

static bool evict(const Eviction *v, GError **err)
{
	Engine *e = v->engine;

	/*
	 * What is promised first: the end of the operation that promised it unlocks the guest. Receptions
	 * last: whoever sent a guest to the host asks how that ended, and must find then that the guest was
	 * taken from it, not given back. Until they have ended another eviction may give a guest to the host.
	 */
	if (!check_dead(v, err) || !each_vm(v, "promise", give_vm, err) || !end_operations(v, false, err) ||
	    !each_vm(v, "config", free_vm, err))
		return false;
	if (v->dry_run)
		return true;
	if (!end_operations(v, true, err) || !each_vm(v, "config", free_vm, err) ||
	    !pool_etcd_drop(e, v->id, err) || !pool_drop_host(e->store, v->id, true, err))
		return false;
	events_emit(e->events, EVENT_HOST_EVICTED, "host", v->id, v->name, NULL,
		    "host %s was taken out of the pool by %s", v->name, v->user);
	return true;
}

Json *pool_evict(Engine *e, const char *host_id, const char *user, bool dry_run, GError **err)
{
	g_autofree char *key = key_host(host_id);
	Eviction v = { .engine = e, .id = host_id, .user = user, .dry_run = dry_run };
	_cleanup_json_ Json *host = NULL, *vms = json_array();
	Json *j;

	if (!pool_need_member(e, err))
		return NULL;
	host = record_get(e->store, key, NULL, err);
	if (host == NULL) {
		if (err != NULL && *err == NULL)
			fail_advice(err, ERR_NOT_FOUND, "`plim pool status` shows all.",
				    "there is no host '%s'", host_id);
		return NULL;
	}
	v.name = json_str(host, "name");
	v.vms = vms;
	if (!evict(&v, err))
		return NULL;
	j = json_object();
	json_put_str(j, "name", v.name);
	json_put(j, "vms", json_incref(vms));
	return j;
}
