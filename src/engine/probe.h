/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this host is and can do, found out by looking and trying.
 *
 * An accelerator counts as working only when guest code was seen to run under
 * it, at a rate that deserves the name: /dev/kvm may open, make vms and yet
 * emulate every instruction, or abort at the first one. So the payload guest
 * (guest/payload) is run under each of them, as the user that QEMU will run
 * as, within bounds of time, and its own measurements are compared. The result
 * is kept in the local store (key PROBE_KEY) for as long as kernel, QEMU,
 * payload and /dev/kvm stay the same.
 *
 * Environment: PLIMSOLL_QEMU is the QEMU to use instead of the one in PATH,
 * PLIMSOLL_PAYLOAD the payload guest instead of the installed one.
 *
 * Blocks, for some seconds at most; for worker threads. Leaves no process and no file behind.
 */
#pragma once

#include "core/guest/host_facts.h"
#include "store/store.h"

#define PROBE_KEY "probe/accel"
/* The user that QEMU runs as, when there is one and we are root. */
#define PROBE_USER "plimsoll-qemu"

/*
 * Everything but id, name, accel_wanted and folders, which the caller knows.
 * `folders` must exist. ERR_NOT_FOUND when the host has no QEMU, ERR_QEMU when
 * it does not answer; an accelerator that does not work is no failure.
 */
HostFacts *host_probe(Store *local, const Folders *folders, GError **err);
/* The same without looking at what was kept. */
HostFacts *host_probe_fresh(Store *local, const Folders *folders, GError **err);
