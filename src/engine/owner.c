/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/owner.h"
#include "core/model/keys.h"
#include "engine/records.h"

/* Between two tries to learn from the store what became of a commit. */
#define RETRY 200000

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
	int64_t rev;
	_cleanup_json_ Json *j = record_get(s, key, &rev, err);

	if (j == NULL)
		return (err != NULL && *err != NULL) ||
		       fail(err, ERR_NOT_FOUND, "there is no volume '%s'", json_str(d, "volume"));
	json_put_str(j, "path", json_str(d, c->back ? "old_path" : "path"));
	json_put_str(j, "host", c->to_host);
	if (!c->back)
		json_put(j, "image", json_null());
	set_json(tx, key, rev, j);
	return true;
}

static bool move_volumes(Store *s, StoreTx *tx, const struct owner_change *c, GError **err)
{
	const Json *d;
	size_t i;

	json_array_foreach(c->copied, i, d)
	{
		if (!move_volume(s, tx, c, d, err))
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

/* One try. The error may be one after which nobody knows. */
static bool try_change(Store *s, const struct owner_change *c, bool seen, GError **err)
{
	g_autofree char *key = key_vm_runtime(c->vm), *applied = key_vm_applied(c->vm);
	int64_t rev;
	_cleanup_json_ Json *runtime = seen_or_read(s, c, seen, &rev, err);
	StoreTx *tx;

	if (runtime == NULL)
		return false;
	if (!names(runtime, c->from_host, c->from_operation))
		return fail(err, ERR_CONFLICT, "the guest is not this host's any more");
	json_put_str(runtime, "host", c->to_host);
	json_put_str(runtime, "operation", c->to_operation);
	tx = store_tx_new();
	set_json(tx, key, rev, runtime);
	if (c->applied != NULL)
		set_json(tx, applied, STORE_ANY, c->applied);
	if (!move_volumes(s, tx, c, err)) {
		store_tx_free(tx);
		return false;
	}
	return store_commit(s, tx, STORE_DURABLE, NULL, err);
}

/*
 * Writes the record again as it was read. When that succeeds, a commit that is
 * still on its way compares an older revision and can't happen any more.
 */
static bool seal(Store *s, const char *key, int64_t rev, const Json *runtime)
{
	StoreTx *tx = store_tx_new();

	set_json(tx, key, rev, runtime);
	return store_commit(s, tx, STORE_DURABLE, NULL, NULL);
}

/*
 * After a commit of which nobody knows whether it happened. A reading alone does
 * not tell: it may be of a copy that is behind, and the commit may still come.
 */
static bool happened(Store *s, const struct owner_change *c)
{
	g_autofree char *key = key_vm_runtime(c->vm);

	for (;;) {
		g_autoptr(GError) e = NULL;
		int64_t rev = 0;
		_cleanup_json_ Json *runtime = runtime_of(s, c->vm, &rev, &e);

		if (runtime != NULL && names(runtime, c->to_host, c->to_operation))
			return true;
		if (runtime != NULL ? seal(s, key, rev, runtime) : g_error_matches(e, ERR, ERR_NOT_FOUND))
			return false;
		g_usleep(RETRY);
	}
}

/* Errors that say for certain that nothing changed. */
static bool is_certain(const GError *e)
{
	static const ErrCode code[] = { ERR_CONFLICT, ERR_INVALID, ERR_NO_SPACE, ERR_NOT_FOUND };

	for (size_t i = 0; i < G_N_ELEMENTS(code); i++)
		if (g_error_matches(e, ERR, (int)code[i]))
			return true;
	return false;
}

bool owner_change(Store *s, const struct owner_change *c, GError **err)
{
	for (bool first = true;; first = false) {
		g_autoptr(GError) e = NULL;

		if (try_change(s, c, first, &e))
			return true;
		/* Another member of a record moved (an agent came): that does not matter. */
		if (store_is_conflict(e))
			continue;
		if (!is_certain(e) && happened(s, c))
			return true;
		g_propagate_error(err, g_steal_pointer(&e));
		return false;
	}
}
