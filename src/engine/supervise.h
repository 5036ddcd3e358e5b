/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The supervisor: carries what guests and QEMUs do into the records.
 *
 * It decides nothing: core/model/vm_exit.h judges an end, planners make the
 * plans. It sees to it that a judgement is made once, when no operation has
 * the vm, and that the plan which follows is submitted.
 */
#pragma once

#include "core/model/operation.h"
#include "engine/fleet.h"

typedef struct Engine Engine;
typedef struct Supervisor Supervisor;

/* Handlers for fleet_new(); their data is the Supervisor. */
extern const FleetHandler *const supervisor_fleet_handler;

Supervisor *supervisor_new(Engine *e);
Supervisor *supervisor_free(Supervisor *s);

/*
 * Take up the QEMUs that run, and record the end of those that are gone.
 * Blocks; not on the loop's thread.
 */
bool supervisor_adopt(Supervisor *s, GError **err);
/*
 * From now on ends are dealt with, and vms are started again of which the records say that this is due; after
 * a start of the host also those whose setting `autostart` is true.
 */
void supervisor_begin(Supervisor *s);
/* No restarts any more. Any thread. */
void supervisor_end(Supervisor *s);

/* For the executor: an end that waited for this operation is looked at now. Worker threads. */
void supervisor_operation_ended(Supervisor *s, const Operation *op);
