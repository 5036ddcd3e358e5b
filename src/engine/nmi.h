/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A non-maskable interrupt for every vcpu of a guest, with the guest's own
 * count of them before and after where its agent can be asked. Worker threads.
 */
#pragma once

#include "engine/agent.h"
#include "engine/vmm.h"

/*
 * {before, after, note}: what is not known is null, and `note` says why. A
 * guest that hangs is not waited for longer than a few seconds before it gets
 * its NMI. `a`: NULL when the vm has no channel for an agent. Fails as
 * vm_nmi() does. New reference.
 */
Json *nmi_inject(Vmm *v, Agent *a, GError **err);
