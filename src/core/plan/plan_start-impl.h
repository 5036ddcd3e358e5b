/* SPDX-License-Identifier: Apache-2.0 */
/* Of the plan of a start, for planners of other QEMUs; nobody else includes it. */
#pragma once

#include "core/guest/argv.h"
#include "core/guest/profile.h"
#include "core/plan/plan_migrate.h"

typedef struct Start {
	const PlanRequest *req;
	const VmSeen *seen;              /* or: */
	const struct plan_receive *from; /* the guest runs already, elsewhere; or is saved */
	bool cold;                       /* what was saved of it is thrown away */
	const Vm *vm;
	const Folders *folders;
	Profile *profile;
	Argv *argv;
	GPtrArray *disk_path; /* borrowed strings, NULL-terminated */
	Plan *plan, *cleanup; /* cleanup is built backwards */
	Json *taps;           /* {nic: {tap, queues}} */
	const char *log;      /* NULL: the vm's */
} Start;

/* A step and, when `down` is a kind, the step that takes it down again with the same arguments. Takes `args`.
 */
void start_add(Start *s, StepKind up, StepKind down, const char *target, Json *args);
bool start_find_disk_paths(Start *s, GError **err);
/* What QEMU is told, as all that is known now says. */
bool start_find_hardware(Start *s, GError **err);
void start_add_checks(Start *s);
void start_add_run_dir(Start *s);
void start_add_disk_grants(Start *s);
/* All that stands around QEMU, and QEMU. */
void start_add_around(Start *s);
void start_done(Start *s);
