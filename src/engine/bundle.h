/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bundles of evidence: what this host can tell of a guest at the moment when
 * something went wrong, in a folder of its own below the daemon's state.
 *
 * A bundle is made under another name and renamed when it is whole: what is
 * listed is complete, and what a crash left is swept at the next start. What
 * can't be had is listed with the reason; a bundle is made also of a QEMU that
 * has ended. Old ones go as core/evidence/keep.h says. Nothing here stops a
 * guest but the dump of its memory (dump.h). Worker threads.
 */
#pragma once

#include "engine/engine.h"

struct bundle_wish {
	const char *id; /* evidence_id() */
	const char *vm_id, *cause, *reason, *user;
	const Json *details;        /* of the event, or NULL */
	const char *const *formats; /* of a dump of memory, the first that works; NULL or empty: none */
	bool must_dump;             /* without one fail, and keep nothing */
	StepContext *ctx;           /* of the step that this is, or NULL */
};

/*
 * Make one, tell it as an event, and drop what is over the quota. A dump that
 * fails is listed as missing unless it must be.
 *
 * {id, path, created_at, host, vm: {id, name}, cause, reason, user, details, bytes, files: [{name, size}],
 *  missing: [{name, reason}], dump: {format, file, bytes, took, still} or null}. Times are us; see dump.h.
 * New reference.
 */
Json *bundle_take(Engine *e, const struct bundle_wish *w, GError **err);
/* What is there of one that was not finished goes; of one that was, nothing. */
bool bundle_drop_part(Engine *e, const char *id, GError **err);
/* The same of all, when a daemon starts. */
void bundle_sweep(const Folders *f);

/* The manifests of this host, the newest first. New reference. */
Json *bundle_list(Engine *e);
/* ERR_NOT_FOUND. New reference. */
Json *bundle_show(Engine *e, const char *id, GError **err);
bool bundle_delete(Engine *e, const char *id, GError **err);

/* The most that one call reads. */
#define BUNDLE_PIECE (UINT64_C(16) << 20)
/*
 * `length` bytes of a file that the manifest names, from `offset` on; fewer at
 * its end, none behind it. ERR_NOT_FOUND; `length` is at most BUNDLE_PIECE.
 */
GBytes *bundle_read(Engine *e, const char *id, const char *file, uint64_t offset, uint64_t length,
		    GError **err);
