/* SPDX-License-Identifier: Apache-2.0 */
/* The plans of an image's life. Pure. See plan_vm.h for the rules of planners. */
#pragma once

#include "core/image/image.h"
#include "core/plan/plan_vm.h"

typedef struct ImageSource {
	const char *location; /* absolute path on the host, or file:, http:, https: URL */
	const char *format;   /* "qcow2", "raw", "vmdk", ...; NULL: found out */
	const char *checksum; /* "sha512:HEX" that the source must have, or NULL */
} ImageSource;

/* `img` is a queued record with all its properties; its name must be free. */
Operation *plan_image_import(const PlanRequest *req, const Image *img, const ImageSource *source);

/*
 * `users` names the volumes that are overlays of it; refused while there are
 * some, and while the image is protected.
 */
Operation *plan_image_delete(const PlanRequest *req, const Image *img, int64_t rev, const char *const *users,
			     GError **err);
/* Read it all and compare it with what was imported; the operation fails with ERR_INVALID when it differs. */
Operation *plan_image_verify(const PlanRequest *req, const Image *img, int64_t rev, GError **err);
