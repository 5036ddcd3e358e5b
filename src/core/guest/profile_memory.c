/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory there is, how it moves, and where it ends and the devices' addresses begin. */
#include "core/guest/mmio_gap.h"
#include "core/guest/profile-impl.h"
#include "core/memory/range.h"

#include <inttypes.h>

/* What QEMU gives every CPU that is not told otherwise. */
#define DEFAULT_PHYS_BITS 40
/* A CPU passed on as it is, of which nothing is known: the least that hosts with KVM have. */
#define LEAST_PHYS_BITS 39
/* Linux takes plugged memory into use in pieces of this size (a memory block of x86). */
#define PLUG_PIECE (UINT64_C(128) << 20)

static void decide_size(ProfileMaker *m, ProfileKey key, uint64_t bytes, const char *setting,
			const char *note)
{
	g_autofree char *text = g_strdup_printf("%" PRIu64, bytes);
	bool set = vm_setting(m->vm, setting) != NULL;

	profile_decide(m->p, key, text, set ? CAUSE_VM : CAUSE_DEFAULT, setting, text, note);
}

/* Only what lies above start needs more than the balloon. */
static void decide_method(ProfileMaker *m, const struct memory_range *r)
{
	g_autofree char *set = profile_setting_text(m, "memory.method");
	const char *fixed = memory_method_name(MEMORY_FIXED), *balloon = memory_method_name(MEMORY_BALLOON),
		   *plug = memory_method_name(MEMORY_VIRTIO_MEM);

	if (!memory_range_moves(r))
		profile_decide(m->p, PROFILE_METHOD, fixed, CAUSE_DEFAULT, "memory.max", "auto",
			       "Neither memory.min nor memory.max leaves it room to move.");
	else if (r->max == r->start)
		profile_decide(m->p, PROFILE_METHOD, balloon, CAUSE_VM, "memory.min", "set",
			       "It never has more than it boots with.");
	else if (set != NULL)
		profile_decide(m->p, PROFILE_METHOD, set, CAUSE_VM, "memory.method", set, NULL);
	else if (profile_is(m->p, PROFILE_OS, "linux"))
		profile_decide_as(m->p, PROFILE_METHOD, plug, PROFILE_OS,
				  "Linux takes plugged memory into use since 5.8.");
	else
		profile_decide_as(m->p, PROFILE_METHOD, balloon, PROFILE_OS,
				  "Not every driver of it knows virtio-mem; all know the balloon.");
}

bool profile_decide_memory(ProfileMaker *m, GError **err)
{
	struct memory_range r;

	if (!memory_range_of(m->vm->settings, &r, err))
		return false;
	decide_method(m, &r);
	if (profile_is(m->p, PROFILE_METHOD, memory_method_name(MEMORY_BALLOON)) && r.max > r.start)
		decide_size(m, PROFILE_MEMORY, r.max, "memory.max",
			    "The balloon takes what is above memory.start as soon as its driver is there.");
	else
		decide_size(m, PROFILE_MEMORY, r.start, "memory.start", NULL);
	decide_size(m, PROFILE_START, r.start, "memory.start", NULL);
	decide_size(m, PROFILE_MIN, r.min, "memory.min", NULL);
	decide_size(m, PROFILE_MAX, r.max, "memory.max", NULL);
	return true;
}

uint64_t profile_pluggable(const Profile *p)
{
	return profile_is(p, PROFILE_METHOD, memory_method_name(MEMORY_VIRTIO_MEM))
		   ? profile_number(p, PROFILE_MAX) - profile_number(p, PROFILE_START)
		   : 0;
}

uint64_t profile_plug_region(const Profile *p)
{
	return (profile_pluggable(p) + PLUG_PIECE - 1) / PLUG_PIECE * PLUG_PIECE;
}

static struct mmio_machine machine_of(const Profile *p)
{
	bool host = profile_is(p, PROFILE_CPU, "host");

	return (struct mmio_machine){
		.q35 = profile_is_q35(p),
		.memory = profile_number(p, PROFILE_MEMORY),
		.hotplug = profile_plug_region(p),
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
