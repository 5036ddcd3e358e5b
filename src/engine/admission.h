/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who keeps the account of what guests were promised on this host, so that the
 * decisions of core/host/memory.h and limits.h hold for starts at the same time.
 *
 * A claim is taken when an operation that makes a QEMU is accepted. When the
 * operation has ended, the vm's record says whether the guest runs, and so
 * whether the claim stays. Whoever ends a guest ends an operation.
 *
 * Any thread.
 */
#pragma once

#include "core/host/limits.h"
#include "core/host/memory.h"
#include "core/model/operation.h"
#include "store/store.h"

typedef struct Admission Admission;

/* The host as it is now. */
struct host_view {
	struct memory_host memory;
	struct limits_seen limits;
};

/* `host_id` is this host; the store is read, under a lock, when an operation ends and when one is refused. */
Admission *admission_new(Store *store, const char *host_id);
Admission *admission_free(Admission *a);

/* Before the first operation: the claims of all guests that the records say run here. */
bool admission_fill(Admission *a, GError **err);
/*
 * Takes the claim of an operation that makes a QEMU; true at once for others.
 * ERR_LIMIT with numbers when it does not fit.
 */
bool admission_take(Admission *a, const struct host_view *host, const Operation *op, GError **err);
/* The same without a question: for one that was accepted by the daemon before. */
void admission_force(Admission *a, const Operation *op);
/* Would it fit now? Nothing is taken. */
bool admission_ask(Admission *a, const struct host_view *host, const Operation *op, GError **err);
/* The operation has ended, or was not accepted after all; its records are written. */
void admission_settle(Admission *a, const Operation *op);

struct memory_claims admission_claims(Admission *a);
/* What all were promised but the guests that are keys of `vm_ids`. */
uint64_t admission_of_others(Admission *a, GHashTable *vm_ids);
/* The claim of a guest that runs, as its memory moves; none that an operation has. */
void admission_resize(Admission *a, const char *vm_id, uint64_t bytes);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Admission, admission_free)
