/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A dump of a guest's memory into a file. Worker threads.
 *
 * QEMU writes it on a thread of its own into a pipe of ours, so its monitor
 * answers meanwhile, but the guest stands still: its memory is written as it was
 * at one moment. A guest that ran goes on afterwards, also when the dump fails.
 * QEMU has no command to stop a dump; it gives up when nobody reads it any more,
 * so a cancelled dump, a full disk and a killed daemon all let the guest go on.
 *
 * One dump at a time on a host, and what is written is sent to the disk as it
 * comes: other guests' requests don't have to wait behind a heap of it.
 */
#pragma once

#include "engine/engine.h"

struct dump_told {
	uint64_t bytes;
	uint64_t took;  /* us, of the writing */
	uint64_t still; /* us for which a guest that ran stood still; 0: it did not run */
};

/*
 * `path` must not be there; `folder`, on whose file system it is, is named when
 * there is no room; `format` is one of core/evidence/dump.h. `unasked`
 * as in dump_fits(). `ctx` (may be NULL) gets the progress, and may cancel it.
 *
 * ERR_NO_SPACE or ERR_LIMIT before anything is written, or when room runs out;
 * ERR_UNSUPPORTED with advice for a format that the guest's own drivers would
 * have to help with. No file is left then.
 */
bool dump_write(Engine *e, Vmm *v, const char *folder, const char *path, const char *format, bool unasked,
		StepContext *ctx, struct dump_told *ret, GError **err);
