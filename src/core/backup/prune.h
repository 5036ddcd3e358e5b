/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which backups are kept. Pure.
 *
 * Of each vm: the newest `last` ones, the newest of each of the newest `daily`
 * days that have one, and the same by weeks (ISO 8601, from Monday); days and
 * weeks are those of UTC. What a kept backup rests on is kept, too.
 */
#pragma once

#include "core/backup/manifest.h"

struct backup_policy {
	uint64_t last, daily, weekly;
};

/*
 * The backups to delete, of a list that may hold several vms: borrowed, in a new
 * array, in an order in which none is deleted before what rests on it.
 * ERR_INVALID for a policy that keeps nothing.
 */
GPtrArray *backup_prune(const GPtrArray *backups, const struct backup_policy *p, GError **err);
