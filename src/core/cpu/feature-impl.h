/* SPDX-License-Identifier: Apache-2.0 */
/* What the generated tables hold beside those that feature.h shows. For core/cpu/feature*.c only. */
#pragma once

#include "core/cpu/feature.h"

/* All that falls with a parent. The tables begin with the parents that need others. */
struct feature_fall {
	FeatureId parent;
	uint16_t n;
	const FeatureId *child;
};

/* Normal form (lower case, "-") of a name or alias; sorted. */
struct feature_spelling {
	const char *text;
	FeatureId id;
};

extern const struct feature_fall feature_falls[], feature_falls_soft[];
extern const size_t n_feature_falls, n_feature_falls_soft;
extern const int16_t feature_place[CPU_BITS]; /* index in features[], or -1 */
extern const struct feature_spelling feature_spellings[];
extern const size_t n_feature_spellings;
