/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of CPU features share: sets by names, a host, what a set holds. */
#pragma once

#include "core/cpu/featureset.h"

#include <string.h>

static inline struct cpu_bits bits_of(const char *names)
{
	struct cpu_bits b = { 0 };

	if (*names != '\0')
		g_assert_true(cpu_bits_parse_names(names, &b, NULL));
	return b;
}

static inline void assert_names(const struct cpu_bits *b, const char *expected)
{
	g_autofree char *names = cpu_bits_names_print(b, 0);

	g_assert_cmpstr(names, ==, expected);
}

static inline FeatureId id_of(const char *name)
{
	const struct feature *f = feature_find(name);

	g_assert_nonnull(f);
	return f->id;
}

/* A Skylake with these features. */
static inline struct featureset host(const char *names)
{
	struct featureset s = { .has = bits_of(names),
				.vendor = "GenuineIntel",
				.family = 6,
				.model = 85,
				.stepping = 4,
				.level = 0xd,
				.xlevel = 0x80000008,
				.phys_bits = 46 };

	return s;
}

static inline void assert_fails(bool ok, GError **err, ErrCode code)
{
	g_assert_false(ok);
	g_assert_error(*err, ERR, (gint)code);
	g_clear_error(err);
}
