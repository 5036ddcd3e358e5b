/* SPDX-License-Identifier: Apache-2.0 */
#include "hypervisor.h"

#include "str.h"
#include "x86.h"

#define KVM_EBX 0x4b4d564bu /* "KVMK" */

uint32_t hypervisor_max(uint32_t base)
{
	struct cpuid_regs r = cpuid(base, 0);

	if (r.eax == 0 && r.ebx == KVM_EBX)
		return base + 1;
	return r.eax >= base && r.eax <= base + 0xff ? r.eax : 0;
}

uint32_t hypervisor_find(const char *name)
{
	static const uint32_t bases[] = { HYPERVISOR_BASE, HYPERVISOR_BASE_2 };

	for (unsigned i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
		struct cpuid_regs r = cpuid(bases[i], 0);
		uint32_t signature[3] = { r.ebx, r.ecx, r.edx };

		if (hypervisor_max(bases[i]) != 0 && memcmp(signature, name, sizeof(signature)) == 0)
			return bases[i];
	}
	return 0;
}
