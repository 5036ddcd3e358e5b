/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Why a guest has the hardware that it has, and what its next start would
 * change: `vm explain`. Pure.
 */
#pragma once

#include "core/guest/argv.h"

/* What is known of a vm's hardware. */
struct explain {
	/* Of the next start; both NULL when `blocked` says why this host can't run the vm as it is set. */
	const Profile *profile;
	const Argv *next;
	const GError *blocked;
	/* What the running QEMU was started with: its command line and its could_not; NULL when none runs. */
	const Argv *applied;
	const Json *could_not;
};

/*
 * {arguments: [{argument, part, source, key, value, note}],
 *  pending:   [{change: add|remove|change, argument, was, will_be,
 *               causes: [{part, source, key, value, note}]}],
 *  could_not: [{what, reason, cause}],
 *  blocked:   error of the next start, or null}
 *
 * `arguments` and `could_not` are those of the running QEMU, else of the next
 * start; one of the two must be there. New reference.
 */
Json *explain_of(const struct explain *e);

/* The rows of `pending` alone; empty when nothing would change. New reference. */
Json *explain_pending(const Argv *next, const Argv *applied);

/*
 * The keys behind what would change ("platform.usb", "nics.net0.network"), each
 * once: the `pending` of a runtime record. New reference.
 */
Json *explain_pending_keys(const Argv *next, const Argv *applied);
