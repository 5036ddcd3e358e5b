/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a start makes of a conversion (pool.h) that was interrupted.
 *
 * Whether the host is a member is said by the pool's store alone: is its record
 * complete there, the conversion is ended; else what was copied is removed and
 * the host is what it was.
 */
#pragma once

#include "core/model/paths.h"
#include "engine/membership.h"

/*
 * Before the daemon's stores are opened. `ret_undone` gets the name of the pool
 * that the host did not become a member of, or NULL; caller frees.
 * ERR_UNAVAILABLE when the pool's store can't be asked: then nothing may run.
 */
bool pool_recover(const Folders *f, char **ret_undone, GError **err);

/*
 * The pool has let go of this host, whose vms may run elsewhere: end the QEMUs
 * that run here, and begin with an empty store. The old one and the membership
 * are kept under other names, the files of volumes and images stay.
 */
bool pool_dismiss(const Folders *f, GError **err);
