/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dumps of a guest's memory: the formats, which of them a guest gets, and
 * whether there is room for one that nobody asked for. Pure.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

struct dump_form {
	const char *name; /* QEMU's: "kdump-zlib", "elf", "win-dmp" */
	const char *file; /* in a bundle: "memory.kdump" */
};

/* NULL: there is none of that name. */
const struct dump_form *dump_form_find(const char *name);
/* The format that a guest of this os_type (NULL: not known) gets when nobody names one. */
const char *dump_form_usual(const char *os_type);
/*
 * What the setting evidence.dump ("none", "kdump", "elf") means for a guest of
 * this os_type: names to try, the first that works is taken. Windows' own format
 * needs a driver in the guest; ELF needs nothing. Empty for none. Never NULL.
 */
const char *const *dump_forms_of_policy(const char *policy, const char *os_type);

/* No dump of so much memory is larger: nothing may compress, and a page has a header. */
uint64_t dump_bound(uint64_t memory);

struct dump_room {
	uint64_t need;        /* dump_bound() */
	uint64_t free, total; /* of the file system */
	uint64_t quota;       /* of all evidence */
};

/*
 * ERR_NO_SPACE when the dump does not fit `what`, the name of its folder. For
 * one that nobody asked for (`unasked`) a twentieth of the file system must
 * stay free, and it must fit the quota (ERR_LIMIT).
 */
bool dump_fits(const struct dump_room *room, const char *what, bool unasked, GError **err);
