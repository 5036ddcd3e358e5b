/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A request of another host to take one of its guests: what stands in the way
 * here, and the operation that receives it. Worker threads.
 *
 * The request: {vm, machine, run, post_copy, applied, disks: [{name, path,
 * volume, format, size, readonly, marker}], dir: marker, operation, key}; the
 * last two only when it is meant. `applied` is the vm's record of what it was
 * started with, a marker is move.h's.
 */
#pragma once

#include "engine/engine.h"

/*
 * {blockers, free_memory}: everything that keeps the guest from coming here, as
 * errors with advice; none: nothing does. NULL and ERR_INVALID for a request
 * that makes no sense. New reference.
 */
Json *receive_check(Engine *e, const char *source, const Json *request, GError **err);
/*
 * Begin: {reception, applied, copied: [{name, path}], shared_dir}. The first
 * blocker is the error, all are its detail `blockers`. New reference.
 */
Json *receive_begin(Engine *e, const char *source, const Json *request, GError **err);
