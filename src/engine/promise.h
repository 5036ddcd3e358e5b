/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that moves is promised to the host that it moves to, before its
 * memory is copied. That host says on record that it takes the promise, lets the
 * guest run as soon as it has all of it, and makes itself its owner then: while the
 * guest stands still nobody waits for a word or for the store.
 *
 * Until then the owner is the host that it leaves, whose operation has the lock.
 * A promise takes nothing from it as long as the other end lacks a part of the
 * guest, and there is a proof of that (migrate_out.h). When all of it went over
 * only the other host's word that it never ran there leads back. So a promised
 * guest runs on one host at any moment: QEMU here has stopped it before the last
 * of it can be sent.
 *
 * Who evicts the host that promised makes the guest the other one's, even if that is
 * offline, once it has taken the promise: it may run there already. Worker threads.
 */
#pragma once

#include "base/json.h"
#include "store/store.h"

/*
 * A fact of the operation that receives: the guest may run there from now on, without another word. While
 * this is not on record it never did.
 */
#define PROMISE_TAKEN "promise_taken"
/* A fact of the operation that sends: all of the guest went over, or may have; the other host may not know.
 */
#define PROMISE_SENT "promise_sent"

typedef struct Promise {
	char *operation;        /* that moves the guest */
	char *host, *reception; /* to whom, and the operation there */
	Json *applied;          /* the vm's record of what it was started with, when it is there */
	int64_t rev;
} Promise;

struct promise_terms {
	const char *vm;
	const char *from_host, *operation;
	const char *host, *reception;
	const Json *applied;
};

/*
 * ERR_CONFLICT when the guest is not that operation's, ERR_BAD_STATE when one of both hosts has no lease.
 * After any other error it may be on record all the same: withdraw it.
 */
bool promise_make(Store *s, const struct promise_terms *t, GError **err);
/* Which is on record; NULL without an error: none. ERR_INVALID when it makes no sense. Caller frees. */
Promise *promise_read(Store *s, const char *vm, GError **err);
Promise *promise_free(Promise *p);
/* The same, of that operation only. False when it can't be read. */
bool promise_is(Store *s, const char *vm, const char *operation, bool *ret, GError **err);
/* Is it promised to that host? False when it can't be read. */
bool promise_is_to(Store *s, const char *vm, const char *host, bool *ret, GError **err);
/* It is not on record any more, if it was that operation's. For one that nobody can keep any more. */
bool promise_withdraw(Store *s, const char *vm, const char *operation, GError **err);
/*
 * The same of one that may be kept in this moment: ERR_CONFLICT when the guest is not that operation's any
 * more. `from` of `t`, vm and operation are read.
 */
bool promise_end(Store *s, const struct promise_terms *t, GError **err);
/* May the guest run where the operation with that record receives it? NULL: there is no such operation. */
bool promise_is_taken(const Json *reception);
/*
 * Adds to a transaction that makes its host the owner: the promise goes, and what it says of the guest
 * becomes its record. ERR_CONFLICT when there is none for `reception`.
 */
bool promise_keep(Store *s, StoreTx *tx, const char *vm, const char *reception, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Promise, promise_free)
