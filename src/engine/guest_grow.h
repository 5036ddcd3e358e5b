/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lets a guest fill a disk that has grown: partition, then file system, by the
 * guest's own tools (lsblk, sfdisk, growpart, resize2fs and their like) through
 * its agent. core/guest/disk_layout.h decides. Worker threads.
 */
#pragma once

#include "engine/agent.h"

/*
 * {steps: [{command, exit, output}], part, filesystem, mount, before, after,
 * note, advice}: what was done, in order, and the size of the file system; where
 * the guest can't go on, `note` says why and `advice` what to do there. It never fails: the
 * disk is larger already. Done again it finds nothing to do. `a` may be NULL.
 * A guest may take its time for ever: when `ended` says true it is not waited
 * for any longer. New reference.
 */
Json *guest_grow(Agent *a, const char *serial, uint64_t size, bool (*ended)(void *data), void *data);
