/* SPDX-License-Identifier: Apache-2.0 */
#include "base/time.h"
#include "core/model/keys.h"
#include "engine/arrival.h"
#include "engine/owner.h"
#include "engine/promise.h"
#include "engine/receive.h"
#include "engine/records.h"

#define SECOND UINT64_C(1000000)
#define KILL_TIMEOUT (20 * SECOND)
#define FOR_EVER (UINT64_MAX / 4)
/* Between two looks at whether the source took back a guest that can't go on here. */
#define TAKE_BACK_LOOK 20000
/* Between two tries to write into the records that it can't. */
#define NOTE_AGAIN (SECOND)
#define WITHDRAW_AGAIN (SECOND / 4)
/* For a source to take its guest back, before people are told that this waits. */
#define PATIENCE (30 * SECOND)

/* What can't be read says nothing. */
static bool source_has_ended(const Arrival *a)
{
	g_autofree char *key = key_operation(json_str(a->args, "operation"));
	g_autoptr(GError) err = NULL;
	_cleanup_json_ Json *op = record_get(a->engine->store, key, NULL, &err);

	return err == NULL && (op == NULL || json_str(op, "finished_at") != NULL);
}

/* Nothing that is done over there will give the guest back. */
static bool is_left_here(const Arrival *a)
{
	return arrival_look(a) == GUEST_THEIRS || source_has_ended(a);
}

/* The records have it, too, for a source that can't reach this host. True when they do. */
static bool note_gave_up(const Arrival *a, const GError *why)
{
	g_autofree char *key = key_operation(a->own);
	_cleanup_json_ Json *op = NULL;

	step_fact(a->ctx, RECEPTION_GAVE_UP, err_to_json(why));
	step_say(a->ctx, "giving the guest back");
	op = record_get(a->engine->store, key, NULL, NULL);
	return json_obj(json_obj(op, "facts"), RECEPTION_GAVE_UP) != NULL;
}

/* The only whole copy of the guest is on a host that can't be reached: nobody may start the vm meanwhile. */
static void tell_waits(const Arrival *a, const GError *why)
{
	const char *name = json_str(a->args, "name");
	g_autofree char *from = arrival_source_name(a);

	step_say(a->ctx, "waiting for %s to take the guest back", from);
	events_emit(
	    a->engine->events, EVENT_VM_MOVE_WAITS, "vm", json_str(a->args, "vm"), name, NULL,
	    "%s did not come to this host from %s: %s. All of it stands still there. Bring %s back: then "
	    "it goes on there; if it is lost for good, `plim pool evict %s`",
	    name, from, why->message, from, from);
}

/*
 * The source has the whole guest still, and may even run it again, if not all
 * of it came. It is told that the guest does not run here, when that is sure for
 * ever; whose it is, is judged when it was taken back, or can't be any more
 * because the source's operation has ended, as it does when its host is evicted.
 * A guest that never was ours needs no such answer when the source is lost.
 * False: this daemon is to end before that is known. *ret_lost: the source is lost.
 */
static bool offer_back(Arrival *a, const GError *why, bool *ret_lost)
{
	bool sure = false, noted = false, told = false;
	uint64_t noted_at = 0, until = time_monotonic() + PATIENCE;

	for (;;) {
		sure = sure || a->vmm == NULL || vmm_kill(a->vmm, KILL_TIMEOUT, NULL);
		if (sure) {
			step_fact(a->ctx, RECEPTION_GAVE_UP, err_to_json(why));
			reception_end(a->engine->receptions, a->own, why);
		}
		if (reception_wish(a->engine->receptions, a->own, 0) == RECEPTION_ABORT || is_left_here(a))
			return true;
		*ret_lost = sure && arrival_is_lost(a);
		if (*ret_lost)
			return true;
		if (step_stopping(a->ctx))
			return false;
		if (sure && !noted && time_monotonic() - noted_at > NOTE_AGAIN) {
			noted = note_gave_up(a, why);
			noted_at = time_monotonic();
		}
		if (!told && time_monotonic() > until) {
			tell_waits(a, why);
			told = true;
		}
		g_usleep(TAKE_BACK_LOOK);
	}
}

/*
 * It ran, or may have, and is somebody else's: the source finds in the records that this came to nothing, not
 * that it never ran. False: this daemon is to end before its QEMU has ended.
 */
static bool end_quietly(const Arrival *a)
{
	while (a->vmm != NULL && !vmm_kill(a->vmm, KILL_TIMEOUT, NULL)) {
		if (step_stopping(a->ctx))
			return false;
		g_usleep(TAKE_BACK_LOOK);
	}
	reception_forget(a->engine->receptions, a->own);
	return true;
}

/* As long as its promise is on record, who evicts the other host would give it to this one. */
static void tell_unwithdrawn(const Arrival *a, const GError *why)
{
	const char *name = json_str(a->args, "name"), *advice = err_advice(why);
	g_autofree char *from = arrival_source_name(a);

	step_say(a->ctx, "waiting for the pool's records");
	events_emit(
	    a->engine->events, EVENT_VM_MOVE_WAITS, "vm", json_str(a->args, "vm"), name, NULL,
	    "%s did not come to this host from %s, and the pool's records don't take that yet: %s. %s", name,
	    from, why->message, advice != NULL ? advice : "`plim pool status` shows who is there.");
}

/* It will not run here: who evicts the source must not give it to us any more. False: this daemon ends. */
static bool refuse(const Arrival *a)
{
	uint64_t until = time_monotonic() + PATIENCE;

	for (;;) {
		g_autoptr(GError) e = NULL;

		if (promise_withdraw(a->engine->store, json_str(a->args, "vm"),
				     json_str(a->args, "operation"), &e))
			return true;
		if (step_stopping(a->ctx))
			return false;
		if (time_monotonic() > until) {
			tell_unwithdrawn(a, e);
			until = FOR_EVER;
		}
		g_usleep(WITHDRAW_AGAIN);
	}
}

/* Of a guest that was not taken back the disks are here, complete, and nowhere else. */
static void note_owner(const Arrival *a)
{
	bool ours = reception_wish(a->engine->receptions, a->own, 0) != RECEPTION_ABORT;

	/* It may have been taken back a moment ago. What can't be read is kept. */
	if (ours && store_catch_up(a->engine->store, NULL))
		owner_is(a->engine->store, json_str(a->args, "vm"), json_str(a->args, "host"), &ours, NULL);
	step_fact(a->ctx, RECEPTION_KEEPS, json_boolean(ours));
}

bool arrival_back(Arrival *a, GError **why)
{
	bool lost = false;
	bool known =
	    !step_stopping(a->ctx) && (a->ran ? end_quietly(a) : offer_back(a, *why, &lost) && refuse(a));

	/* The stream broke off when the source was lost, which is known only a lease later. */
	if (lost && g_error_matches(*why, ERR, ERR_GONE)) {
		g_clear_error(why);
		arrival_fail_lost(a, why);
	}
	note_owner(a);
	return known;
}
