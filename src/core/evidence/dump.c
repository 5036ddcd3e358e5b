/* SPDX-License-Identifier: Apache-2.0 */
#include "core/evidence/dump.h"
#include "base/str.h"

#define FORM_KDUMP "kdump-zlib"
#define FORM_ELF "elf"
#define FORM_WINDOWS "win-dmp"
/* Headers, bitmaps, and what the firmware and devices have beside RAM. */
#define EXTRA (UINT64_C(64) << 20)
/* 24 bytes for each page of 4096, rounded up. */
#define PER_PAGE 128
#define SPARE 20

static const struct dump_form forms[] = {
	{ FORM_KDUMP, "memory.kdump" },
	{ FORM_ELF, "memory.elf" },
	{ FORM_WINDOWS, "memory.dmp" },
};

const struct dump_form *dump_form_find(const char *name)
{
	for (size_t i = 0; i < G_N_ELEMENTS(forms); i++)
		if (g_str_equal(forms[i].name, name))
			return &forms[i];
	return NULL;
}

static bool is_windows(const char *os_type)
{
	return g_strcmp0(os_type, "windows") == 0;
}

const char *dump_form_usual(const char *os_type)
{
	return is_windows(os_type) ? FORM_WINDOWS : FORM_KDUMP;
}

const char *const *dump_forms_of_policy(const char *policy, const char *os_type)
{
	static const char *const none[] = { NULL }, *const kdump[] = { FORM_KDUMP, NULL },
				 *const elf[] = { FORM_ELF, NULL },
				 *const windows[] = { FORM_WINDOWS, FORM_ELF, NULL };

	if (g_strcmp0(policy, "elf") == 0)
		return elf;
	if (g_strcmp0(policy, "kdump") != 0)
		return none;
	return is_windows(os_type) ? windows : kdump;
}

uint64_t dump_bound(uint64_t memory)
{
	return memory + memory / PER_PAGE + EXTRA;
}

bool dump_fits(const struct dump_room *room, const char *what, bool unasked, GError **err)
{
	uint64_t spare = unasked ? room->total / SPARE : 0;
	g_autofree char *need = print_size(room->need), *free = print_size(room->free),
			*kept = print_size(spare), *quota = print_size(room->quota);

	if (unasked && room->need > room->quota)
		return fail_advice(err, ERR_LIMIT, "`plim host set evidence.quota=SIZE` allows for more.",
				   "a dump may take %s, and all evidence may have %s", need, quota);
	if (room->free >= spare && room->free - spare >= room->need)
		return true;
	return fail_advice(err, ERR_NO_SPACE, "Make room there and ask again.",
			   "a dump may take %s in '%s', where %s are free%s%s%s", need, what, free,
			   unasked ? " and " : "", unasked ? kept : "", unasked ? " stay so" : "");
}
