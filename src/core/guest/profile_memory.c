/* SPDX-License-Identifier: Apache-2.0 */
/* How much memory there is, how it moves, and where it ends and the devices' addresses begin. */
#include "core/guest/dimm.h"
#include "core/guest/mmio_gap.h"
#include "core/guest/profile-impl.h"
#include "core/memory/range.h"
#include "core/tools/version.h"

#include <inttypes.h>

/* What QEMU gives every CPU that is not told otherwise. */
#define DEFAULT_PHYS_BITS 40
/* A CPU passed on as it is, of which nothing is known: the least that hosts with KVM have. */
#define LEAST_PHYS_BITS 39

static void decide_size(ProfileMaker *m, ProfileKey key, uint64_t bytes, const char *setting,
			const char *note)
{
	g_autofree char *text = g_strdup_printf("%" PRIu64, bytes);
	bool set = vm_setting(m->vm, setting) != NULL;

	profile_decide(m->p, key, text, set ? CAUSE_VM : CAUSE_DEFAULT, setting, text, note);
}

/* The first version whose kernel has virtio-mem (Linux 5.8), or, where makers bring drivers to older kernels,
 * the first that may have. */
static const struct {
	const char *distro, *version;
} virtio_mem_since[] = {
	{ "debian", "11" }, { "ubuntu", "20.10" }, { "fedora", "33" },
	{ "rhel", "8" },    { "centos", "8" },     { "ol", "8" },
};

/* A Linux without virtio-mem, as its image says; `ret` gets the version. */
static bool is_too_old(const ProfileMaker *m, char **ret)
{
	g_autofree char *distro = profile_property_text(m, "os_distro"),
			*version = profile_property_text(m, "os_version");
	struct tools_version is, since;

	if (distro == NULL || !tools_version_parse(version, &is))
		return false;
	for (size_t i = 0; i < G_N_ELEMENTS(virtio_mem_since); i++) {
		if (!g_str_equal(distro, virtio_mem_since[i].distro) ||
		    !tools_version_parse(virtio_mem_since[i].version, &since) ||
		    tools_version_compare(&is, &since) >= 0)
			continue;
		*ret = g_steal_pointer(&version);
		return true;
	}
	return false;
}

/* Only what lies above start needs more than the balloon. */
static void decide_method(ProfileMaker *m, const struct memory_range *r)
{
	g_autofree char *set = profile_setting_text(m, "memory.method"), *old = NULL;
	const char *fixed = memory_method_name(MEMORY_FIXED), *balloon = memory_method_name(MEMORY_BALLOON),
		   *plug = memory_method_name(MEMORY_VIRTIO_MEM), *dimm = memory_method_name(MEMORY_DIMM);

	if (!memory_range_moves(r))
		profile_decide(m->p, PROFILE_METHOD, fixed, CAUSE_DEFAULT, "memory.max", "auto",
			       "Neither memory.min nor memory.max leaves it room to move.");
	else if (r->max == r->start)
		profile_decide(m->p, PROFILE_METHOD, balloon, CAUSE_VM, "memory.min", "set",
			       "It never has more than it boots with.");
	else if (set != NULL)
		profile_decide(m->p, PROFILE_METHOD, set, CAUSE_VM, "memory.method", set, NULL);
	else if (profile_is(m->p, PROFILE_OS, "linux") && is_too_old(m, &old))
		profile_decide(m->p, PROFILE_METHOD, dimm, CAUSE_IMAGE, "os_version", old,
			       "Its kernel is older than virtio-mem, and knows DIMMs.");
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

bool profile_has_dimms(const Profile *p)
{
	return profile_is(p, PROFILE_METHOD, memory_method_name(MEMORY_DIMM));
}

uint64_t profile_pluggable(const Profile *p)
{
	return profile_is(p, PROFILE_METHOD, memory_method_name(MEMORY_VIRTIO_MEM)) || profile_has_dimms(p)
		   ? profile_number(p, PROFILE_MAX) - profile_number(p, PROFILE_START)
		   : 0;
}

uint64_t profile_plug_region(const Profile *p)
{
	return (profile_pluggable(p) + DIMM_PIECE - 1) / DIMM_PIECE * DIMM_PIECE;
}

static struct mmio_machine machine_of(const Profile *p)
{
	bool host = profile_is(p, PROFILE_CPU, "host");

	return (struct mmio_machine){
		.q35 = profile_is_q35(p),
		.memory = profile_number(p, PROFILE_MEMORY),
		.hotplug = profile_plug_region(p) + (profile_has_dimms(p) ? DIMM_SLOTS * DIMM_SLOT_SPACE : 0),
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
