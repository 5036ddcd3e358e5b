/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of another host to take one of its guests: what stands in the way
 * here, and the operation that receives it. Worker threads.
 *
 * The request: {vm, machine, run, post_copy, files, applied, disks: [{name,
 * path, volume, format, size, allocated, readonly, marker}], dir: marker,
 * operation, key}; the last two only when it is meant. `files`: disks that are
 * no volumes may be copied as well. `applied` is the vm's record of what it was
 * started with, a marker is move.h's.
 */
#pragma once

#include "engine/engine.h"

/*
 * {blockers, free_memory, copied: [{name, path}]}: everything that keeps the guest from coming here, as
 * errors with advice; none: nothing does. NULL and ERR_INVALID for a request
 * that makes no sense. New reference.
 */
Json *receive_check(Engine *e, const char *source, const Json *request, GError **err);
/*
 * Begin: {reception, applied, copied: [{name, path}], shared_dir, takes_promise}: the last is true
 * (promise.h), and missing where an older version answers. The first
 * blocker is the error, all are its detail `blockers`. New reference.
 */
Json *receive_begin(Engine *e, const char *source, const Json *request, GError **err);

/*
 * A fact of the receiving operation: the error for which the guest does not run
 * here, and never will, although it is this host's already. A source that can't
 * reach this host reads it.
 */
#define RECEPTION_GAVE_UP "gave_up"
/* Of its result: since when the guest has run here, as a stamp. */
#define RECEPTION_RAN_AT "ran_at"
/* A fact of the receiving operation: the guest is this host's, so its disks stay, whatever is undone. */
#define RECEPTION_KEEPS "keeps_disks"
