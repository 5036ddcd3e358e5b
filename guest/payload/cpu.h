/* SPDX-License-Identifier: Apache-2.0 */
/* What guest code sees of its CPU. */
#pragma once

#include <stdint.h>

/* Switch on XSAVE and every state component that CPUID offers: XCR0 then shows what really can be switched
 * on. */
void cpu_xsave_enable(void);
/* All CPUID leaves as `cpuid LEAF SUBLEAF EAX EBX ECX EDX`. */
void cpu_leaves_report(void);
/* One number of all that cpu_leaves_report() prints: another number, another CPU. */
uint64_t cpu_leaves_hash(void);
/* `xcr0 VALUE`; 0 when XSAVE is not switched on. */
void cpu_xcr0_report(void);
