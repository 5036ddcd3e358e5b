/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The level of a pool: what every member gives to a guest that boots.
 *
 * Pure. One Level for one guest type. It counts, for each feature, the members that lack it, so that a host
 * that comes or goes costs as much as its features, however many hosts there are. The level does not depend
 * on the order in which they came.
 *
 * Every member counts, reachable or not: whoever feeds a Level adds the last known default set of each.
 * While there is no member there is no level (NULL), which no guest may start with.
 *
 * Numbers beside the features: the lowest of each, family, model and stepping as one; the TSC's rate is not
 * levelled, and 0. XSAVE components lie
 * where the vendor put them; where two members disagree, the features of that component leave the level.
 */
#pragma once

#include "core/cpu/featureset.h"

typedef struct Level Level;

Level *level_new(GuestType type);
void level_free(Level *l);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Level, level_free)

/*
 * Add a member, or replace the set of one. Refused, with nothing changed: a set that is not closed or empty
 * (ERR_INVALID); with KVM a vendor that is not known or not the pool's (ERR_UNSUPPORTED).
 */
bool level_add(Level *l, const char *host, const struct featureset *set, GError **err);
/* False when there is no such member. */
bool level_remove(Level *l, const char *host);

size_t level_count(const Level *l);
/* The name of member i, in the order of no meaning. Owned by the level until it changes. */
const char *level_host(const Level *l, size_t i);
/* The set of a member; NULL when there is none. Owned by the level. */
const struct featureset *level_member(const Level *l, const char *host);

/* NULL while there is no member. Owned by the level until it changes. */
const struct featureset *level_get(const Level *l);
/* The same, computed anew from all members: for tests, and for those who have just read all records. */
bool level_rescan(const Level *l, struct featureset *ret);
/* The level of sets that are in no Level: `set[i]` of n, n > 0. Vendors are the caller's business. */
void level_of_sets(const struct featureset *const *set, size_t n, struct featureset *ret);

/* Members that lack a feature. */
size_t level_lack(const Level *l, FeatureId f);
/* What some member has and the level has not. */
void level_lost(const Level *l, struct cpu_bits *ret);
/* Names of the members that cost the pool this feature, sorted, NULL-terminated. g_free() only. */
const char **level_lost_hosts(const Level *l, FeatureId f);
/* What the level would gain without this member. Empty when it is none. */
void level_sole(const Level *l, const char *host, struct cpu_bits *ret);
/* What a member has of the kind `or` while the level has not: its guests should see it and will not. */
void level_warnings(const Level *l, struct cpu_bits *ret);

/* ---- what if: nothing is changed ---- */

/*
 * A host joined: what the level would lose. Refused as level_add() would refuse it. The first member loses
 * nothing.
 */
bool level_if_joined(const Level *l, const char *host, const struct featureset *set,
		     struct cpu_bits *ret_lost, GError **err);
/* A member's set changed to this one: what the level would lose and gain. Refused as level_add() would be. */
bool level_if_changed(const Level *l, const char *host, const struct featureset *set,
		      struct cpu_bits *ret_lost, struct cpu_bits *ret_gained, GError **err);
/* A feature was disabled everywhere: what the level would lose, the feature among it. */
void level_if_disabled(const Level *l, FeatureId f, struct cpu_bits *ret_lost);
