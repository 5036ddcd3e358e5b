/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID as the logical CPUs of this host answer it, each by itself: they are
 * not always alike (cores of two kinds, one socket of another stepping).
 */
#pragma once

#include "core/cpu/cpuid.h"

/*
 * One struct cpuid_dump for every CPU that this process may run on. The thread
 * moves from CPU to CPU and has its own set of them back at the end; some
 * microseconds each. ERR_INTERNAL when no CPU could be visited; one that went
 * offline meanwhile is passed over. Worker threads. The array frees its items.
 */
GPtrArray *cpu_raw_read(GError **err);
