/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMUs that are no vm's and last as long as one operation, whose id is theirs. Pure.
 *
 * They are in no record: a daemon that finds one at its start has the
 * operation's plan, and undoes it.
 */
#pragma once

#include "core/backup/manifest.h"
#include "core/plan/plan_vm.h"

/*
 * Appends the steps to a QEMU without a machine that has the disks of a vm
 * which is off open (argv_aside()). *ret_down: what takes it down, its last steps; on failure not set.
 */
bool plan_aside_disks(const PlanRequest *req, const VmSeen *seen, Operation *op, Plan **ret_down,
		      GError **err);

/*
 * Appends the steps to a guest that runs on what was backed up: another id, no
 * network, no CD, no seed, and disks that are overlays of the backup's, which are
 * read through a server of their own. `sources`: {DISK: backup_sources()}.
 */
bool plan_aside_trial(const PlanRequest *req, const Backup *b, const Json *sources, Operation *op,
		      Plan **ret_down, GError **err);

/* {vm, name} of that QEMU, for steps that work with it. New reference. */
Json *plan_aside_args(const PlanRequest *req, const char *name);
/* Append `down`. Frees it. */
void plan_aside_end(Operation *op, Plan *down);
