/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles of evidence: their names, and which of them are kept. Pure.
 *
 * No vm has more than so many, and all together stay within the quota. What
 * goes: of each vm the oldest beyond its number; then, oldest first, those that
 * are not the newest of their vm; then, oldest first, the others. The newest of
 * all stays, however large. So a guest that panics in a loop fills no disk, and
 * drives out nobody else's newest while it has something older to give.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct evidence_kept {
	const char *vm; /* id */
	uint64_t bytes;
};

/* `list` is sorted, the newest first; says of each whether it goes. `per_vm` is at least 1. */
void evidence_choose(const struct evidence_kept *list, size_t n, uint64_t quota, size_t per_vm,
		     bool *ret_goes);

/* "web1-20261121T083536.116Z" of a time stamp (RFC 3339): sorts by time within a vm. Caller frees. */
char *evidence_id(const char *vm_name, const char *stamp);
/* May a name from outside be part of a path? Letters, digits, '-', '_' and '.', not at the beginning. */
bool evidence_name_ok(const char *name);
