/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guests of tests/data/guest: vms, hosts, and what the golden files of
 * several tests are made from. G_TEST_SRCDIR is the folder `tests`; with
 * PLIMSOLL_GOLDEN=write golden files are written instead of compared.
 */
#pragma once

#include "core/guest/argv.h"

typedef struct GuestCase {
	char *name;
	HostFacts *host;
	Vm *vm;
	GPtrArray *disk_path; /* text, one for each disk */
} GuestCase;

/* All of them; GuestCase. The file is part of the test, so that a fault in it aborts. */
GPtrArray *guest_cases(void);
/* The one of that name; owned by the list. */
const GuestCase *guest_case(const GPtrArray *cases, const char *name);
/* From JSON text; aborts when it is refused. */
Vm *vm_of_text(const char *json);
HostFacts *host_of_name(const char *name);

/* The paths of a vm's disks as the planner finds them in the records of volumes. */
GPtrArray *disk_paths(const Vm *vm, const HostFacts *host);

/* Both or an abort. */
Profile *profile_of_case(const GuestCase *c);
Argv *argv_of_case(const GuestCase *c);

/* Compare with tests/data/FOLDER/NAME, or write it. */
void golden_check(const char *folder, const char *name, const char *text);
