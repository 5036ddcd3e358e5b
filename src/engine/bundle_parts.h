/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a bundle of evidence but the dump of memory. For bundle.c. */
#pragma once

#include "engine/engine.h"
#include "engine/records.h"

typedef struct Scene {
	Engine *engine;
	const VmRecords *records;
	Vmm *vmm;    /* NULL: QEMU has ended */
	bool silent; /* it did not answer once, and is asked no more */
} Scene;

typedef struct EvidencePart {
	const char *file;
	/* What goes into the file. Asks QEMU and the host, no guest. */
	GBytes *(*take)(Scene *s, GError **err);
} EvidencePart;

/* In the order in which they are taken: what a guest that runs on would change goes first. */
extern const EvidencePart evidence_parts[];
extern const size_t n_evidence_parts;
