/* SPDX-License-Identifier: Apache-2.0 */
/* core/place/evacuate.h with what the hosts say. Worker threads; asks them. */
#pragma once

#include "base/err.h"

typedef struct Engine Engine;

/*
 * Where each guest of the host could go and where it should, in the order to
 * move in; or, with `back`, those whose last move was away from there, to
 * there. `disks` as in the settings of a move. Nothing is changed.
 *
 * {host: {id, name}, stuck, guests: [{vm: {id, name}, memory, to: {id, name} or null, moves}]}; `moves` as
 * move_survey() tells. New reference.
 */
Json *evacuation_plan(Engine *e, const char *host_id, bool back, bool disks, GError **err);
