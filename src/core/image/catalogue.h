/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The catalogue: which images are meant by a filter, in which order, and which
 * one is the latest. Pure: it works on records that it is given.
 *
 * A filter is KEY=VALUE, KEY!=VALUE or KEY=in:A,B,C; all of them must hold.
 *   - Values are compared by the property's type: `recommended=yes` finds
 *     "true", `min_disk=020` finds 20. For a list (tags), `=` means "has it".
 *   - An image without the property matches no `=` and no `in`, and every `!=`.
 *
 * An order is "release_date:desc,name": keys with a direction, ascending when
 * none is said. Images without the property come last in both directions; what
 * is equal in all keys is ordered by id, so an order has one result.
 *
 * The latest of the images that a filter finds is chosen by these rules:
 *   1. It is active, not hidden (os_hidden), and matches every filter. A filter
 *      is never loosened, so another version than the one named is never taken.
 *   2. recommended=false is never taken. If any has recommended=true, only
 *      those are looked at; an image that says nothing counts when none is.
 *   3. Within one os_distro the highest major version wins, whenever it was
 *      released: a late fix to version 11 doesn't hide version 12. The major
 *      version is os_distro_major, else os_version up to its first dot; what
 *      doesn't begin with a digit is no version and comes below every version.
 *   4. Then the newest release_date; none is older than any. Then the highest
 *      os_version, then the newest created_at, then the lowest id.
 *   5. Between different distributions, rule 4 decides among their winners.
 * Hiding the newest on purpose makes the next one the latest; the explanation
 * says so. Names play no part.
 */
#pragma once

#include "core/image/image.h"

typedef enum FilterOp { FILTER_EQ, FILTER_NE, FILTER_IN } FilterOp;

struct image_filter {
	char *key;
	FilterOp op;
	GStrv values; /* canonical; one unless FILTER_IN */
};

struct image_filter *image_filter_free(struct image_filter *f);
/* "os_distro=debian". ERR_INVALID for other forms and for values the property can't have. */
struct image_filter *image_filter_parse(const char *text, GError **err);
/* Each of a NULL-terminated vector (NULL: none): an array of struct image_filter. */
GPtrArray *image_filters_parse(const char *const *texts, GError **err);
bool image_matches(const Image *img, const struct image_filter *f);
/* The images that match all; borrows them. Keeps the order. */
GPtrArray *image_select(const GPtrArray *images, const GPtrArray *filters);

/* ERR_INVALID for an empty key, a bad name or another direction than asc and desc. */
bool image_sort(GPtrArray *images, const char *order, GError **err);

// clang-format off
#define VERDICT_TABLE(X)                                                          \
	X(CHOSEN,          "chosen",          "the latest")                       \
	X(FILTER,          "filter",          "does not match the filter")        \
	X(NOT_ACTIVE,      "not_active",      "is not active")                    \
	X(HIDDEN,          "hidden",          "is hidden")                        \
	X(NOT_RECOMMENDED, "not_recommended", "is not recommended")               \
	X(LOWER_VERSION,   "lower_version",   "is of a lower major version")      \
	X(OLDER,           "older",           "was released earlier")             \
	X(TIE,             "tie",             "is as new, and lost the tie")
// clang-format on

typedef enum Verdict {
#define X(name, text, sentence) VERDICT_##name,
	VERDICT_TABLE(X)
#undef X
} Verdict;

struct image_verdict {
	const Image *image; /* borrowed */
	Verdict verdict;
	const struct image_filter *filter; /* VERDICT_FILTER: which; borrowed from the filters */
};

/*
 * The latest, borrowed from `images`. ERR_NOT_FOUND when none qualifies, with
 * advice, and the verdicts in the details. `ret_verdicts` (may be NULL) gets
 * an array of struct image_verdict, one an image, in the order of `images`,
 * also when it fails; g_array_unref().
 */
const Image *image_latest(const GPtrArray *images, const GPtrArray *filters, GArray **ret_verdicts,
			  GError **err);

const char *verdict_name(Verdict v);
/* "is hidden" */
const char *verdict_sentence(Verdict v);
/* [{id, name, verdict, reason, filter?}] New reference. */
Json *verdicts_to_json(const GArray *verdicts);
/* "os_distro=in:debian,ubuntu". Caller frees. */
char *image_filter_print(const struct image_filter *f);
