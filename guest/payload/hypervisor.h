/* SPDX-License-Identifier: Apache-2.0 */
/* The hypervisor's own CPUID ranges: one at 0x40000000, and KVM's moved to 0x40000100 behind Hyper-V's. */
#pragma once

#include <stdint.h>

#define HYPERVISOR_BASE 0x40000000u
#define HYPERVISOR_BASE_2 0x40000100u

/*
 * The last leaf of the range at `base`; 0 when there is no such range. Without one a CPU answers with zeros
 * or with its last basic leaf, so only a maximum inside the range counts. KVM of old says 0 for "base + 1".
 */
uint32_t hypervisor_max(uint32_t base);
/* The base of the range whose signature is `name`, 12 bytes; 0 when there is none. */
uint32_t hypervisor_find(const char *name);
