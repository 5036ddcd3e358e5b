/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Versions of the guest agent as numbers. Pure. The text is the guest's: whatever
 * does not begin with a number is no version, and is told as it is.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define TOOLS_VERSION_PARTS 4
/* No number of a version is larger; what is larger is no version. */
#define TOOLS_VERSION_MAX 99999999

struct tools_version {
	unsigned n; /* numbers that it has */
	uint32_t part[TOOLS_VERSION_PARTS];
};

/* "7.2.22", "v8.0", "7.2.22 (Debian 1:7.2+dfsg-7)": the numbers it begins with, at most four. NULL is none.
 */
bool tools_version_parse(const char *text, struct tools_version *ret);
/*
 * Negative, 0, positive, as far as `wanted` says something: 7.2.17 is 7.2, and
 * older than 7.2.22. A number that `v` does not have is 0.
 */
int tools_version_compare(const struct tools_version *v, const struct tools_version *wanted);
