/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running guest's memory: what its drivers tell of it, and moving it, through
 * its balloon and its virtio-mem device (core/guest/argv_device.c gives them
 * their names). Worker threads.
 */
#pragma once

#include "core/memory/balance.h"
#include "engine/vmm.h"

/* Have the guest's driver told each `seconds` what it uses; that wakes the guest. 0: no more. */
bool guest_balloon_poll(Vmm *v, unsigned seconds, GError **err);
/*
 * Fills ballooned and report of `g`; its base is set. `plug`: it has virtio-mem, and plugged is filled; else
 * that is set: DIMMs, which the balloon counts as it does what the guest booted with. A value that the driver
 * does not tell is BALANCE_UNKNOWN.
 */
bool guest_balloon_look(Vmm *v, bool plug, struct balance_guest *g, GError **err);
/*
 * Ask for `plugged` bytes on top of what it booted with, of which it keeps
 * `keeps`; DIMMs are in that. The guest follows when it can.
 */
bool guest_balloon_ask(Vmm *v, bool plug, uint64_t plugged, uint64_t keeps, GError **err);
