/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a guest has the hardware that it has, and what its next start would
 * change: `vm explain`. Pure.
 */
#pragma once

#include "core/guest/argv.h"

/*
 * {arguments: [{argument, part, source, key, value, note}],
 *  pending:   [{change: add|remove|change, argument, was, will_be,
 *               causes: [{part, source, key, value, note}]}],
 *  could_not: [{what, reason, cause}]}
 *
 * `next` is what the next start would use, `applied` what the running QEMU was
 * started with, or NULL when there is none. `arguments` are those of the
 * running QEMU, else of the next start. New reference.
 */
Json *explain_of(const Profile *p, const Argv *next, const Argv *applied);

/* The rows of `pending` alone; empty when nothing would change. New reference. */
Json *explain_pending(const Argv *next, const Argv *applied);

/*
 * The keys behind what would change ("platform.usb", "nics.net0.network"), each
 * once: the `pending` of a runtime record. New reference.
 */
Json *explain_pending_keys(const Argv *next, const Argv *applied);
