/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests whose file systems stand still for a moment, and the promise that none
 * is left so.
 *
 * Who freezes a guest says for how long at most. From before the order goes out
 * until a thaw is confirmed the guest is in this keeper's books, and, for the
 * next daemon, in the host's own store. There are three ways to the thaw:
 *   - freeze_end(), when the moment was used;
 *   - the keeper's timer when the time is over, on threads of its own, whatever
 *     the one who froze is waiting for;
 *   - freeze_keeper_recover() of the next daemon.
 * A freeze that did not answer in time may still come true in the guest: an
 * agent that hangs in a hook goes on when that ends. So every freeze that was
 * sent is followed by thaws until one is answered, however long that takes; only
 * the end of the guest's QEMU ends that, too.
 */
#pragma once

#include "engine/engine.h"

typedef struct FreezeKeeper FreezeKeeper;

FreezeKeeper *freeze_keeper_new(Engine *e);
/* Thaw what an earlier daemon froze. Guests are adopted already. Worker threads. */
void freeze_keeper_recover(FreezeKeeper *k);
/* No more tries, and none under way; what is in the books is left to the next daemon. The loop must run. */
void freeze_keeper_stop(FreezeKeeper *k);
/* Loop thread, after that. NULL is fine; returns NULL. */
FreezeKeeper *freeze_keeper_free(FreezeKeeper *k);

/*
 * True: all file systems of the guest stand still since a moment, for `budget`
 * (us) from the call of this at most. False: they do not, or not for certain,
 * and will not for long. ERR_AGENT, ERR_TIMEOUT, ERR_UNSUPPORTED. Blocks, at
 * most that long.
 */
bool freeze_begin(FreezeKeeper *k, const char *vm_id, const char *name, uint64_t budget, GError **err);
/*
 * What needed the freeze is done. True when the guest stood still until now;
 * false when its time was over before. Then call freeze_end() in any case.
 */
bool freeze_used(FreezeKeeper *k, const char *vm_id);
/*
 * Thaw. False when the guest did not answer: the keeper goes on. One that is
 * not in the books, for it is thawed already, is fine.
 */
bool freeze_end(FreezeKeeper *k, const char *vm_id, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(FreezeKeeper, freeze_keeper_free)
