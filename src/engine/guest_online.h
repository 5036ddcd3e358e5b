/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has a Linux guest take plugged memory into use, through its agent: many
 * distributions leave that to an administrator (auto_online_blocks says
 * "offline"). What was chosen there, or on the kernel's command line, stays.
 * Worker threads.
 */
#pragma once

#include "core/memory/online.h"
#include "engine/agent.h"

/*
 * `ret` is what the guest does with it from now on; when this fails, what it did before, if that is known.
 * Some seconds at most.
 */
bool guest_online(Agent *a, MemoryOnline *ret, GError **err);
