/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that are on their way to this host: where the requests of the other
 * host and the steps that receive a guest meet. In memory only: a daemon that
 * was restarted decides by the store (arrival.c). Any thread.
 *
 * States of a reception, and who moves it on:
 *     PREPARING  QEMU is being started      -> OPEN    reception_open()
 *     OPEN       it waits for the guest     -> ENDED   reception_end()
 *     ENDED      how, says its error
 * and what the other host wants of it: nothing yet, to go on, or to give up.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

typedef struct Receptions Receptions;
struct agent_clock;

/* PROMISE_SENT: all of a guest was sent that is promised (promise.h). Whose it is, the records say. */
typedef enum ReceptionWish {
	RECEPTION_WAIT,
	RECEPTION_FINISH,
	RECEPTION_PROMISE_SENT,
	RECEPTION_ABORT,
} ReceptionWish;

Receptions *receptions_new(void);
Receptions *receptions_free(Receptions *r);

/* `source` is the host that asked: nobody else may wish anything. */
void reception_add(Receptions *r, const char *id, const char *source);
/* One that an earlier daemon here began: it is open. False, and nothing happens, for one that is known. */
bool reception_resume(Receptions *r, const char *id, const char *source);
/* Both: nothing happens for one that is not known. Ended ones are forgotten after some more have come. */
void reception_open(Receptions *r, const char *id, unsigned memory_port, unsigned disk_port);
/* Takes nothing of `e`; NULL: the guest runs here. The first call counts. */
void reception_end(Receptions *r, const char *id, const GError *e);
/* Nobody is told how it ended: the other host reads it in the records. */
void reception_forget(Receptions *r, const char *id);
/* Before its end: since when the guest runs here, monotonic. */
void reception_ran(Receptions *r, const char *id, uint64_t at);

/* For the step that receives: what is wished, waited for `timeout` us. */
ReceptionWish reception_wish(Receptions *r, const char *id, uint64_t timeout);

/*
 * For the other host: {reception, state: "preparing"|"open"|"ended",
 * memory_port, disk_port, error, ran_for}, after at most `timeout` us if it is preparing.
 * `ran_for`: us for which the guest has run here, 0 when it does not.
 * ERR_NOT_FOUND when there is no such reception, or not of that source.
 */
Json *reception_wait_open(Receptions *r, const char *id, const char *source, uint64_t timeout, GError **err);
/*
 * Wish, wait until it has ended, and show it, with `held_for`: us from the question to the answer.
 * ERR_TIMEOUT when it does not.
 */
Json *reception_tell(Receptions *r, const char *id, const char *source, ReceptionWish wish, uint64_t timeout,
		     GError **err);
/* What the other host said of the guest's clock beside RECEPTION_FINISH; false: nothing. */
void reception_set_clock(Receptions *r, const char *id, const char *source, const struct agent_clock *was);
bool reception_clock(Receptions *r, const char *id, struct agent_clock *ret);
