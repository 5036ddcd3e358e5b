/* SPDX-License-Identifier: Apache-2.0 */
#include "core/host/memory.h"
#include "base/str.h"
#include "core/model/settings.h"

#include <inttypes.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

#define RESERVE_SHARE 16
#define RESERVE_MIN (256 * MIB)
#define RESERVE_MAX (4 * GIB)

/*
 * Measured with QEMU 7.2 (docs/density.md): a QEMU of our profile, its heap, its
 * tables of the machine's memory, what it does not share with the others.
 */
#define QEMU_ITSELF (24 * MIB)
#define EACH_VCPU (2 * MIB)
/* Eight bytes for each page of 4 KiB: the process's own, and under KVM as much again for the guest. */
#define PAGE_TABLE_SHARE 512
/* Video memory of the cards that we give. */
#define DISPLAY (16 * MIB)
/* A Linux of 160 MiB had 56 MiB of translated code when it had booted; a kernel that sleeps next to none. */
#define TCG_SHARE 2
#define TCG_MIN (8 * MIB)
#define TCG_MAX (256 * MIB)

uint64_t memory_reserve_default(uint64_t total)
{
	return MIN(CLAMP(total / RESERVE_SHARE, RESERVE_MIN, RESERVE_MAX), total / 4);
}

struct memory_host memory_host_of(const HostFacts *host)
{
	_cleanup_json_ Json *reserve = host_setting_effective(host->settings, "memory.reserve"),
			    *overcommit = host_setting_effective(host->settings, "memory.overcommit");

	return (struct memory_host){
		.total = host->memory,
		.reserve = reserve != NULL ? (uint64_t)json_integer_value(reserve)
					   : memory_reserve_default(host->memory),
		.overcommit = (uint64_t)json_integer_value(overcommit),
	};
}

uint64_t memory_limit(const struct memory_host *h)
{
	uint64_t rest = h->total > h->reserve ? h->total - h->reserve : 0;

	/* In two parts, so that no product overflows. */
	return rest / 100 * h->overcommit + rest % 100 * h->overcommit / 100;
}

static uint64_t tcg_code_of(uint64_t memory)
{
	return CLAMP(memory / TCG_SHARE, TCG_MIN, TCG_MAX);
}

uint64_t memory_overhead_of(const Profile *p)
{
	uint64_t memory = profile_number(p, PROFILE_MEMORY),
		 tables = profile_number(p, PROFILE_MAX) / PAGE_TABLE_SHARE;
	bool kvm = profile_is(p, PROFILE_ACCEL, accel_name(ACCEL_KVM));
	uint64_t display = profile_is(p, PROFILE_VIDEO, "none") ? 0 : DISPLAY;

	return QEMU_ITSELF + profile_number(p, PROFILE_VCPUS) * EACH_VCPU + display +
	       (kvm ? 2 * tables : tables + tcg_code_of(memory));
}

uint64_t memory_claim_of(const Profile *p)
{
	return profile_number(p, PROFILE_START) + memory_overhead_of(p);
}

static uint64_t free_of(const struct memory_host *h, const struct memory_claims *c)
{
	uint64_t limit = memory_limit(h);

	return limit > c->bytes ? limit - c->bytes : 0;
}

Json *memory_to_json(const struct memory_host *h, const struct memory_claims *claims)
{
	Json *j = json_object();

	json_put_uint(j, "total", h->total);
	json_put_uint(j, "reserve", h->reserve);
	json_put_uint(j, "overcommit", h->overcommit);
	json_put_uint(j, "limit", memory_limit(h));
	json_put_uint(j, "claimed", claims->bytes);
	json_put_uint(j, "guests", claims->guests);
	json_put_uint(j, "free", free_of(h, claims));
	json_put(j, "available", h->available > 0 ? json_integer((json_int_t)h->available) : json_null());
	return j;
}

static bool add_numbers(GError **err, const struct memory_host *h, const struct memory_claims *others,
			uint64_t need)
{
	_cleanup_json_ Json *numbers = memory_to_json(h, others);
	uint64_t room = free_of(h, others);
	const char *key;
	Json *v;

	json_object_foreach(numbers, key, v) err_detail(err, key, json_ref(v));
	err_detail(err, "needed", json_integer((json_int_t)need));
	return err_detail(err, "missing", json_integer((json_int_t)(need > room ? need - room : 0)));
}

/* "twice what is there" is a bold setting already; what more would take is told as it is. */
static uint64_t overcommit_needed(const struct memory_host *h, uint64_t claims)
{
	uint64_t rest = h->total > h->reserve ? h->total - h->reserve : 0;

	return rest < 100 ? UINT64_MAX : claims / (rest / 100) + 1;
}

static bool refuse_claim(const struct memory_host *h, const struct memory_claims *others, const char *name,
			 uint64_t need, GError **err)
{
	g_autofree char *needs = print_size(need), *room = print_size(free_of(h, others)),
			*total = print_size(h->total), *reserve = print_size(h->reserve),
			*claimed = print_size(others->bytes);
	uint64_t percent = overcommit_needed(h, others->bytes + need);

	fail(
	    err, ERR_LIMIT,
	    "no memory for '%s': it can come to take %s, and %s is left: the host has %s, keeps %s for itself, and "
	    "%u guests can come to take %s (over-commit %" PRIu64 " %%)",
	    name, needs, room, total, reserve, others->guests, claimed, h->overcommit);
	if (percent <= MEMORY_OVERCOMMIT_MAX)
		err_advise(
		    err,
		    "Stop other guests, give it less (`plim vm set %s memory=...`), or promise more than "
		    "there is: `plim host set memory.overcommit=%" PRIu64 "`.",
		    name, percent);
	else
		err_advise(err, "Stop other guests, or give it less: `plim vm set %s memory=...`.", name);
	return add_numbers(err, h, others, need);
}

static bool refuse_now(const struct memory_host *h, const struct memory_claims *others, const char *name,
		       uint64_t need, GError **err)
{
	g_autofree char *available = print_size(h->available), *reserve = print_size(h->reserve);

	fail(
	    err, ERR_LIMIT,
	    "no memory for '%s': the host has only %s available now, less than the %s that it keeps for itself",
	    name, available, reserve);
	err_advise(err, "Look for what takes it beside the guests, stop guests, or keep less for the host: "
			"`plim host set memory.reserve=...`.");
	return add_numbers(err, h, others, need);
}

bool memory_admit(const struct memory_host *h, const struct memory_claims *others, const char *name,
		  uint64_t need, GError **err)
{
	if (need > free_of(h, others))
		return refuse_claim(h, others, name, need, err);
	if (h->available > 0 && h->available < h->reserve)
		return refuse_now(h, others, name, need, err);
	return true;
}
