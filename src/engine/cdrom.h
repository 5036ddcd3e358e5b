/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The CD drive of a running guest, and media in it. What there is of drives
 * and why is in core/guest/cd.h.
 *
 * All block worker threads; each can be called again after it was interrupted.
 */
#pragma once

#include "engine/vmm.h"

/* As the planner wrote it into a step: see core/plan/plan_cd.c. */
struct cd_drive {
	bool fixed;                /* there since the start; else it is plugged in and out */
	const Json *controller;    /* what device_add takes, or NULL */
	const Json *device;        /* the same, of the drive */
	const char *id;            /* of the drive */
	const char *path, *format; /* the medium */
	const char *vm_name;       /* for messages */
};

/* ERR_INTERNAL for arguments that make no sense. Borrows from `args`. */
bool cd_drive_of_json(const Json *args, struct cd_drive *ret, GError **err);

/* The drive is there, with the medium in it. */
bool cd_insert(Vmm *v, const struct cd_drive *d, GError **err);
/*
 * No medium is in it, and one that is plugged in and out is gone. A guest that
 * has locked the drive is asked to let go; ERR_BUSY, with nothing changed, when
 * it did not within `patience` us; 0: it is not asked. A drive, or a guest, that
 * is gone already is fine.
 */
bool cd_eject(Vmm *v, const struct cd_drive *d, uint64_t patience, GError **err);
