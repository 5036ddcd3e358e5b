/* SPDX-License-Identifier: Apache-2.0 */
/* The plans of evidence (core/evidence, docs/evidence.md). Pure. */
#pragma once

#include "core/plan/plan_vm.h"

struct evidence_wish {
	const char *cause;          /* "panic", "hang", "request", ... */
	const char *reason;         /* a sentence */
	const Json *details;        /* what the event told, or NULL */
	const char *const *formats; /* of a dump of memory, the first that works; NULL or empty: none */
	bool must_dump;             /* without a dump the operation fails, and nothing is kept */
};

/*
 * Keep what there is to see of a vm whose QEMU is there, and its memory as
 * wished. The guest stands still while its memory is written, and goes on if it
 * ran. The result is the bundle's manifest (engine/bundle.h).
 */
Operation *plan_vm_evidence(const PlanRequest *req, const VmSeen *seen, const struct evidence_wish *wish,
			    GError **err);
