/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a guest could go: every host of the pool with everything that stands
 * in the way there, and what would remove it. Worker threads; asks the hosts.
 */
#pragma once

#include "core/migrate/policy.h"
#include "engine/engine.h"
#include "engine/records.h"

/*
 * [{host: {id, name}, current, possible, free_memory, copied, blockers: [error]}],
 * all hosts or only `host_id` (may be NULL). An error's advice is the smallest
 * change that takes it out of the way. `copied` as receive_check() says it.
 * `disks` as in the settings of a move. New reference.
 */
Json *move_survey(Engine *e, const VmRecords *r, const char *host_id, bool disks, GError **err);
/*
 * The id of the host with the most free memory to which nothing blocks the way.
 * ERR_CONFLICT when there is none, with the survey as its detail `hosts`.
 */
char *move_choose(Engine *e, const VmRecords *r, bool disks, GError **err);
/* The vm.migrate operation to that host, ready for exec_submit(). */
Operation *move_plan(Engine *e, const PlanRequest *req, const VmSeen *seen, const char *host_id,
		     const struct migrate_settings *settings, GError **err);
