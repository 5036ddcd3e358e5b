/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/arrival.h"
#include "engine/pool-impl.h"
#include "engine/records.h"

/* It keeps the lock while it undoes what it did, which takes long when it can't reach this host. */
static bool source_gave_up(const Arrival *a)
{
	g_autofree char *key = key_operation(json_str(a->args, "operation"));
	_cleanup_json_ Json *op = record_get(a->engine->store, key, NULL, NULL);

	return g_strcmp0(json_str(op, "status"), operation_state_name(OPERATION_UNDOING)) == 0;
}

/*
 * One reading tells: the lock of the vm names the source's operation until the
 * guest changes its owner and the lock with it, or until nothing will come any
 * more. A store that can't be read decides nothing.
 */
GuestVerdict arrival_look(const Arrival *a)
{
	g_autofree char *key = key_vm_runtime(json_str(a->args, "vm"));
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *runtime = record_get(a->engine->store, key, NULL, &err);
	const char *lock = json_str(runtime, "operation");

	if (err != NULL)
		return GUEST_UNDECIDED;
	if (g_strcmp0(json_str(runtime, "host"), json_str(a->args, "host")) == 0 &&
	    g_strcmp0(lock, a->own) == 0)
		return GUEST_OURS;
	return g_strcmp0(lock, json_str(a->args, "operation")) == 0 && !source_gave_up(a) ? GUEST_UNDECIDED
											  : GUEST_THEIRS;
}

/*
 * Nothing will come from a source whose lease has been gone for a while: without one it can't give the guest
 * away (owner.h). One that gets another lease finds that this reception has ended. What the records said when
 * the lease was missed may be older than the last thing that the source did: they are read anew. One that is
 * promised might come all the same, and is given up: the source has all of it.
 */
bool arrival_is_lost(Arrival *a)
{
	Store *s = a->engine->store;
	g_autoptr(GError) err = NULL;
	uint64_t now = time_monotonic();

	if (pool_host_lives(s, json_str(a->args, "source"), &err) || err != NULL) {
		a->missed_at = 0;
		return false;
	}
	if (a->missed_at == 0)
		a->missed_at = now;
	return now - a->missed_at >= a->engine->lease_ttl && store_catch_up(s, NULL) &&
	       !pool_host_lives(s, json_str(a->args, "source"), &err) && err == NULL &&
	       arrival_look(a) == GUEST_UNDECIDED;
}

char *arrival_source_name(const Arrival *a)
{
	const char *source = json_str(a->args, "source");
	g_autofree char *key = key_host(source);
	_cleanup_json_ Json *host = record_get(a->engine->store, key, NULL, NULL);

	return g_strdup(json_str(host, "name") != NULL ? json_str(host, "name") : source);
}

bool arrival_fail_given_up(const Arrival *a, GError **err)
{
	return fail(err, ERR_CANCELLED, "the other host gave the move of '%s' up", json_str(a->args, "name"));
}

bool arrival_fail_lost(const Arrival *a, GError **err)
{
	const char *name = json_str(a->args, "name");
	g_autofree char *from = arrival_source_name(a);

	fail(err, ERR_UNAVAILABLE, "%s was lost before all of '%s' was here", from, name);
	return err_advise(
	    err,
	    "The guest is still on %s: bring that host back; if it is lost for good, `plim pool "
	    "evict %s`.",
	    from, from);
}
