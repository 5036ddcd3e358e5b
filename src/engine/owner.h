/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whose guest it is: the member `host` of a vm's runtime record, changed in one
 * transaction together with everything that goes with the guest. Worker threads.
 */
#pragma once

#include "store/store.h"

#include "base/json.h"

/* The runtime record as it was read before: what moved since is read again. */
typedef struct owner_seen {
	Json *runtime; /* NULL: not yet */
	int64_t rev;
} OwnerSeen;

/* While the guest stands still no question is left to ask then. */
void owner_look(Store *s, const char *vm, OwnerSeen *seen);
void owner_seen_clear(OwnerSeen *seen);

struct owner_change {
	const char *vm;
	const char *from_host, *from_operation; /* must be in the record; NULL: nobody */
	const char *to_host, *to_operation;     /* will be */
	const Json *members;                    /* go into the runtime record with that; or NULL */
	const Json *applied;                    /* the vm's record then; NULL: it stays */
	const Json *copied; /* [{volume (or null), path, old_path, image}]: what went along */
	bool back;          /* they are at old_path again, overlays of image: it comes back */
	/*
	 * A promise to `to` (promise.h) is kept, and goes with that: `applied` is the promise's, and the host
	 * that gave it need not be there any more. ERR_NOT_FOUND when `to_operation` has ended.
	 */
	bool kept;
	/*
	 * The same by who evicts `from_host`, which must have no lease any more, else ERR_BAD_STATE;
	 * `to_host` may have none either. ERR_NOT_FOUND also when `to_operation` has not taken the promise.
	 */
	bool dead;
	const struct owner_seen *seen; /* or NULL */
	/* Told once, when it has waited for a second to learn whether it happened; or NULL. */
	void (*waits)(const GError *why, void *data);
	/* True: this daemon is to end, and can't wait any longer; or NULL. */
	bool (*stops)(void *data);
	void *data;
};

/*
 * ERR_CONFLICT when the record says something else than `from`; ERR_BAD_STATE when the host that would get
 * it, or the one that gives it, has no lease. While the store does not tell whether it happened, this waits:
 * nobody may go on before that is known, and no length of time makes either answer safe. ERR_CANCELLED, when
 * it was told to stop meanwhile: the guest may be either host's, and may run on neither until somebody has
 * looked. Any other error means that the owner is as before.
 */
bool owner_change(Store *s, const struct owner_change *c, GError **err);
/*
 * The transaction holds only while that host has its lease. `what` it would do with the guest, for the error:
 * ERR_BAD_STATE when it has none.
 */
bool owner_expect_lease(Store *s, StoreTx *tx, const char *host, const char *what, GError **err);
/* Of disks that stayed here when their guest went, and are all that is left of it: the records say so again.
 */
bool owner_take_volumes(Store *s, const char *vm, const Json *copied, const char *host, GError **err);
/* Does the record name `host`? ERR_NOT_FOUND when there is no vm. */
bool owner_is(Store *s, const char *vm, const char *host, bool *ret, GError **err);

/* May `host` write to the runtime record? It names the host, or an operation of it has the lock. */
bool owner_may_write(Store *s, const Json *runtime, const char *host);

/*
 * The vms of which a QEMU may be on `host`: those whose record names it, and those that an operation of it is
 * about which goes on, as long as the record knows of that. (A start names its host only in its end. A move
 * has a QEMU on each of two hosts, of which one runs the guest; one that is promised may run on the host that
 * the record does not name yet.)
 */
typedef struct OwnerClaims OwnerClaims;

/* NULL when the records can't be read. */
OwnerClaims *owner_claims_load(Store *s, const char *host, GError **err);
OwnerClaims *owner_claims_free(OwnerClaims *c);
bool owner_claims_vm(const OwnerClaims *c, const char *vm, const Json *runtime);
/*
 * The ids of its operations that go on and have a QEMU of their own, named after them, which runs no vm: that
 * of a backup's copy on trial, or of the disks of a vm that is off as long as the operation has its lock.
 * Caller frees; elements are its own.
 */
GPtrArray *owner_claims_aside(const OwnerClaims *c, Store *s, GError **err);
/* The same of one vm; none for one that is not there. */
bool owner_may_be_on(Store *s, const char *vm, const char *host, bool *ret, GError **err);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(OwnerSeen, owner_seen_clear)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OwnerClaims, owner_claims_free)
