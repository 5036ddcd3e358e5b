/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measurements of the wakeup ledger (core/wake/ledger.h): one at a time for a
 * guest, some at a time on a host, each on a thread of its own. A measurement
 * is no operation: it locks nothing, and a guest may be stopped, changed or
 * moved away meanwhile; then it ends with what it has, and says so.
 *
 * It ends by itself after seconds * intervals. Its result is kept until the
 * next one of the same guest, or until the daemon ends.
 *
 * Before anything is switched on in a QEMU the host's own store has a note, and
 * it goes when all is off again: a daemon that was killed in between is cleaned
 * up after by the next one (ledger_recover()).
 *
 * From any thread but the loop's, unless it says otherwise.
 */
#pragma once

#include "base/json.h"

typedef struct Engine Engine;
typedef struct Ledger Ledger;

#define LEDGER_SECONDS_MAX 3600
#define LEDGER_INTERVALS_MAX 1000
/* Guests that are looked at at the same time. */
#define LEDGER_MAX 16

struct ledger_order {
	unsigned seconds, intervals; /* at least 1 */
};

Ledger *ledger_new(Engine *e);
/* All measurements end, what they switched on is off. The loop must turn. */
void ledger_stop_all(Ledger *l);
/* After ledger_stop_all(). NULL is fine; returns NULL. */
Ledger *ledger_free(Ledger *l);

/* After adoption: switch off what another daemon left on. */
void ledger_recover(Ledger *l);

/*
 * ERR_BAD_STATE when no QEMU of it runs here, ERR_CONFLICT when it is being
 * looked at, ERR_LIMIT when LEDGER_MAX are. Ends a ledger_glance() and waits for that.
 */
bool ledger_start(Ledger *l, const char *vm_id, const struct ledger_order *o, GError **err);
/* Ends it now; what was counted stays. ERR_NOT_FOUND when there is none. */
bool ledger_stop(Ledger *l, const char *vm_id, GError **err);
/*
 * {state: running|done|stopped|ended, reason, started_at, seconds, planned, intervals, could_not, advice};
 * NULL when there was none. New reference.
 */
Json *ledger_report(Ledger *l, const char *vm_id);
/*
 * A look of some seconds at who keeps a guest busy, on this thread: the advice
 * of wake_advice(), or NULL when it could not be had (somebody else looks, the
 * guest ended). Shorter when ledger_start() wants the guest. New reference.
 */
Json *ledger_glance(Ledger *l, const char *vm_id, unsigned seconds);
/* Wait until it has one more interval or is not running any more, at most `timeout` us. */
void ledger_wait(Ledger *l, const char *vm_id, uint64_t timeout);
