/* SPDX-License-Identifier: Apache-2.0 */
/* Where the memory ends and the devices' addresses begin. */
#include "core/guest/mmio_gap.h"
#include "core/guest/profile-impl.h"

#include <inttypes.h>

/* What QEMU gives every CPU that is not told otherwise. */
#define DEFAULT_PHYS_BITS 40
/* A CPU passed on as it is, of which nothing is known: the least that hosts with KVM have. */
#define LEAST_PHYS_BITS 39

static struct mmio_machine machine_of(const Profile *p)
{
	bool host = profile_is(p, PROFILE_CPU, "host");

	return (struct mmio_machine){
		.q35 = profile_is_q35(p),
		.memory = profile_number(p, PROFILE_MEMORY),
		.phys_bits = p->has_pin ? p->pin.phys_bits
			     : host     ? LEAST_PHYS_BITS
					: DEFAULT_PHYS_BITS,
		.amd = !p->has_pin || g_strcmp0(p->pin.vendor, "GenuineIntel") != 0,
	};
}

typedef bool (*GapCheck)(const struct mmio_machine *m, uint64_t gap, GError **err);

static bool decide_gap(ProfileMaker *m, ProfileKey key, const char *setting, GapCheck check, GError **err)
{
	g_autofree char *set = profile_setting_text(m, setting);
	struct mmio_machine machine = machine_of(m->p);

	if (set == NULL) {
		profile_decide(m->p, key, "auto", CAUSE_DEFAULT, setting, "auto",
			       "As large as the machine type makes it.");
		return true;
	}
	if (!check(&machine, g_ascii_strtoull(set, NULL, 10), err))
		return false;
	profile_decide(m->p, key, set, CAUSE_VM, setting, set, NULL);
	return true;
}

bool profile_decide_gaps(ProfileMaker *m, GError **err)
{
	return decide_gap(m, PROFILE_LOW_GAP, "memory.low_mmio_gap", mmio_low_gap_check, err) &&
	       decide_gap(m, PROFILE_HIGH_GAP, "memory.high_mmio_gap", mmio_high_gap_check, err);
}

uint64_t profile_ram_below_4g(const Profile *p)
{
	struct mmio_machine machine = machine_of(p);

	return profile_is(p, PROFILE_LOW_GAP, "auto")
		   ? 0
		   : mmio_low_gap_limit(&machine, profile_number(p, PROFILE_LOW_GAP));
}
