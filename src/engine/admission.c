/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/admission.h"
#include "base/log.h"
#include "core/model/keys.h"
#include "core/model/vm_state.h"
#include "engine/records.h"

#include <string.h>

typedef struct Claim {
	uint64_t bytes;
	char *operation; /* that took it and has not ended; NULL: the guest runs */
} Claim;

struct Admission {
	Store *store;
	char *host_id;
	GMutex lock;
	GHashTable *claim; /* vm id -> Claim */
	uint64_t bytes;    /* the sum */
	unsigned starting; /* how many of them are an operation's */
};

static void claim_free(gpointer p)
{
	Claim *c = p;

	g_free(c->operation);
	g_free(c);
}

Admission *admission_new(Store *store, const char *host_id)
{
	Admission *a = g_new0(Admission, 1);

	a->store = store;
	a->host_id = g_strdup(host_id);
	g_mutex_init(&a->lock);
	a->claim = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, claim_free);
	return a;
}

Admission *admission_free(Admission *a)
{
	if (a != NULL) {
		g_hash_table_unref(a->claim);
		g_mutex_clear(&a->lock);
		g_free(a->host_id);
		g_free(a);
	}
	return NULL;
}

/* Locked. */
static void drop(Admission *a, const char *vm_id)
{
	const Claim *c = g_hash_table_lookup(a->claim, vm_id);

	if (c == NULL)
		return;
	a->bytes -= c->bytes;
	a->starting -= c->operation != NULL;
	g_hash_table_remove(a->claim, vm_id);
}

/* Locked. */
static void put(Admission *a, const char *vm_id, uint64_t bytes, const char *operation)
{
	Claim *c = g_new(Claim, 1);

	drop(a, vm_id); /* `bytes` was read before: it may be of the one that goes */
	*c = (Claim){ bytes, g_strdup(operation) };
	a->bytes += bytes;
	a->starting += operation != NULL;
	g_hash_table_insert(a->claim, g_strdup(vm_id), c);
}

/* Locked. Of all but one vm: what it has is in place of what it asks for. */
static struct memory_claims others(Admission *a, const char *vm_id)
{
	const Claim *own = g_hash_table_lookup(a->claim, vm_id);

	return (struct memory_claims){
		.bytes = a->bytes - (own != NULL ? own->bytes : 0),
		.guests = g_hash_table_size(a->claim) - (own != NULL),
	};
}

/*
 * Locked. Two starts of one vm at the same time: one of them will find that
 * the other was faster, and which of them that is is not known yet.
 */
static bool is_taken(Admission *a, const char *vm_id)
{
	const Claim *c = g_hash_table_lookup(a->claim, vm_id);

	return c != NULL && c->operation != NULL;
}

static bool has_native_aio(const Operation *op)
{
	for (guint i = 0; i < op->plan->step->len; i++) {
		const Step *s = plan_step(op->plan, i);
		g_auto(GStrv) argv = s->kind == STEP_QEMU_SPAWN ? json_strv(json_arr(s->args, "argv")) : NULL;

		for (char **word = argv; word != NULL && *word != NULL; word++)
			if (strstr(*word, "aio=native") != NULL)
				return true;
	}
	return false;
}

/* What the record says that the guest has here; 0: nothing. */
static uint64_t claim_of_record(const Admission *a, const Json *runtime)
{
	VmState state = vm_runtime_state(runtime);

	if ((state != VM_RUNNING && state != VM_PAUSED) ||
	    g_strcmp0(json_str(runtime, "host"), a->host_id) != 0)
		return 0;
	/* A daemon before this one wrote no claim: the guest's own memory is the most of it. */
	return json_uint(runtime, "memory_claim", json_uint(runtime, "memory", 0));
}

/* Nothing of it runs, and no operation has it. */
static bool has_ended(const Admission *a, const char *vm_id)
{
	g_autofree char *key = key_vm_runtime(vm_id);
	_cleanup_json_ Json *runtime = record_get(a->store, key, NULL, NULL);

	return runtime != NULL && claim_of_record(a, runtime) == 0 &&
	       json_str(runtime, "operation") == NULL &&
	       g_strcmp0(json_str(runtime, "host"), a->host_id) == 0;
}

/*
 * Locked. An end is on record, and its guest's memory free, a moment before it
 * is settled: who saw that and asks for the memory must get it. False: there
 * was none.
 */
static bool drop_ended(Admission *a)
{
	GHashTableIter it;
	gpointer id, p;
	bool any = false;

	g_hash_table_iter_init(&it, a->claim);
	while (g_hash_table_iter_next(&it, &id, &p)) {
		const Claim *c = p;

		if (c->operation != NULL || !has_ended(a, id))
			continue;
		a->bytes -= c->bytes;
		g_hash_table_iter_remove(&it);
		any = true;
	}
	return any;
}

/* Locked. */
static bool fits(Admission *a, const struct host_view *host, const Operation *op, uint64_t need, GError **err)
{
	struct memory_claims c = others(a, op->target_id);

	return memory_admit(&host->memory, &c, op->target_name, need, err) &&
	       limits_admit(&host->limits, a->starting + 1, op->target_name, has_native_aio(op), err);
}

static bool may(Admission *a, const struct host_view *host, const Operation *op, bool take, GError **err)
{
	uint64_t need = operation_memory_claim(op);
	g_autoptr(GError) e = NULL;
	bool ok;

	if (need == 0)
		return true;
	g_mutex_lock(&a->lock);
	ok = fits(a, host, op, need, &e);
	if (!ok && drop_ended(a))
		ok = fits(a, host, op, need, err);
	else if (!ok)
		g_propagate_error(err, g_steal_pointer(&e));
	if (ok && take && !is_taken(a, op->target_id))
		put(a, op->target_id, need, op->id);
	g_mutex_unlock(&a->lock);
	return ok;
}

bool admission_take(Admission *a, const struct host_view *host, const Operation *op, GError **err)
{
	return may(a, host, op, true, err);
}

bool admission_ask(Admission *a, const struct host_view *host, const Operation *op, GError **err)
{
	return may(a, host, op, false, err);
}

void admission_force(Admission *a, const Operation *op)
{
	uint64_t need = operation_memory_claim(op);

	if (need == 0)
		return;
	g_mutex_lock(&a->lock);
	put(a, op->target_id, need, op->id);
	g_mutex_unlock(&a->lock);
}

/* Locked: of two ends at the same time the later one reads the later record. `c` may be NULL. */
static void settle(Admission *a, const char *vm_id, const Claim *c, const char *ended)
{
	g_autofree char *key = key_vm_runtime(vm_id);
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *runtime = record_get(a->store, key, NULL, &err);
	const char *next = json_str(runtime, "operation");
	uint64_t bytes;

	if (err != NULL) {
		log_warning("the memory promised to vm %s is counted on: %s", vm_id, err->message);
		return;
	}
	if (c != NULL && next != NULL && !g_str_equal(next, ended)) {
		put(a, vm_id, c->bytes, next); /* the faster one's, which ends it */
		return;
	}
	bytes = runtime != NULL ? claim_of_record(a, runtime) : 0;
	if (bytes > 0)
		put(a, vm_id, bytes, NULL);
	else
		drop(a, vm_id);
}

void admission_settle(Admission *a, const Operation *op)
{
	const Claim *c;

	if (op->target_id == NULL)
		return;
	g_mutex_lock(&a->lock);
	c = g_hash_table_lookup(a->claim, op->target_id);
	if (g_strcmp0(op->target_type, "vm") != 0) {
		/* A guest for the time of the operation, which has no record. */
		if (c != NULL && g_strcmp0(c->operation, op->id) == 0)
			drop(a, op->target_id);
		g_mutex_unlock(&a->lock);
		return;
	}
	/* A claim of another operation is that one's to settle. */
	if (c == NULL || c->operation == NULL || g_str_equal(c->operation, op->id))
		settle(a, op->target_id, c, op->id);
	g_mutex_unlock(&a->lock);
}

bool admission_fill(Admission *a, GError **err)
{
	g_autoptr(GPtrArray) items = store_list(a->store, KEYS_VMS, NULL, err);

	if (items == NULL)
		return false;
	g_mutex_lock(&a->lock);
	for (guint i = 0; i < items->len; i++) {
		const StoreItem *item = items->pdata[i];
		g_autofree char *c = NULL, *id = NULL, *rest = NULL;
		_cleanup_json_ Json *runtime = NULL;
		uint64_t bytes;

		if (!key_split(item->key, &c, &id, &rest) || !g_str_equal(rest, "runtime"))
			continue;
		runtime = json_parse(item->value, strlen(item->value), NULL);
		bytes = claim_of_record(a, runtime);
		if (bytes > 0)
			put(a, id, bytes, NULL);
	}
	g_mutex_unlock(&a->lock);
	return true;
}

uint64_t admission_of_others(Admission *a, GHashTable *vm_ids)
{
	uint64_t sum = 0;
	GHashTableIter it;
	gpointer id, c;

	g_mutex_lock(&a->lock);
	g_hash_table_iter_init(&it, a->claim);
	while (g_hash_table_iter_next(&it, &id, &c))
		if (!g_hash_table_contains(vm_ids, id))
			sum += ((const Claim *)c)->bytes;
	g_mutex_unlock(&a->lock);
	return sum;
}

void admission_resize(Admission *a, const char *vm_id, uint64_t bytes)
{
	Claim *c;

	g_mutex_lock(&a->lock);
	c = g_hash_table_lookup(a->claim, vm_id);
	if (c != NULL && c->operation == NULL) {
		a->bytes = a->bytes - c->bytes + bytes;
		c->bytes = bytes;
	}
	g_mutex_unlock(&a->lock);
}

struct memory_claims admission_claims(Admission *a)
{
	struct memory_claims c;

	g_mutex_lock(&a->lock);
	c = (struct memory_claims){ .bytes = a->bytes, .guests = g_hash_table_size(a->claim) };
	g_mutex_unlock(&a->lock);
	return c;
}
