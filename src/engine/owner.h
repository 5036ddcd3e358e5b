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
	const char *from_host, *from_operation; /* must be in the record */
	const char *to_host, *to_operation;     /* will be */
	const Json *applied;                    /* the vm's record then; NULL: it stays */
	const Json *copied;                     /* [{volume, path, old_path}]: the volumes that went along */
	bool back;                              /* they are at old_path again */
	const struct owner_seen *seen;          /* or NULL */
};

/*
 * ERR_CONFLICT when the record says something else than `from`. While the store
 * does not tell whether it happened, this waits: nobody may go on before that
 * is known. Any error means that the owner is as before.
 */
bool owner_change(Store *s, const struct owner_change *c, GError **err);
/* Does the record name `host`? ERR_NOT_FOUND when there is no vm. */
bool owner_is(Store *s, const char *vm, const char *host, bool *ret, GError **err);

G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(OwnerSeen, owner_seen_clear)
