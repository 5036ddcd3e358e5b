/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has a Linux guest take plugged memory into use, through its agent: many
 * distributions leave that to an administrator (auto_online_blocks says
 * "offline"). What was chosen there, or on the kernel's command line, stays.
 * Worker threads.
 */
#pragma once

#include "engine/agent.h"

/* True when the guest's kernel will use it, by itself or now. Some seconds at most. */
bool guest_online(Agent *a, GError **err);
