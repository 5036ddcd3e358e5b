/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Volumes: the disks of vms, as records. Pure.
 *
 * A volume is a file of its own or an overlay on an image, which then can't be
 * deleted. It belongs to one vm at most.
 */
#pragma once

#include "base/err.h"

typedef struct Volume {
	char *id, *name, *created_at;
	uint64_t size; /* bytes that the guest sees */
	char *format;  /* "qcow2" or "raw" */
	char *path;
	char *image_id; /* what it is an overlay of, or NULL */
	char *vm_id;    /* whose disk it is, or NULL */
	char *status;   /* "creating", "ready", "growing", "deleting" */
	char *host_id;  /* which host has the file; NULL: each of them, by the same path */
} Volume;

Volume *volume_new(void);
Volume *volume_free(Volume *v);
/* ERR_INVALID when a member is missing or of the wrong type. */
Volume *volume_of_json(const Json *j, GError **err);
Json *volume_to_json(const Volume *v);
/* ERR_INVALID for 0 and for what is beyond IMAGE_VIRTUAL_SIZE_MAX; `what` is its name in the message. */
bool volume_check_size(const char *what, uint64_t size, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Volume, volume_free)
