/* SPDX-License-Identifier: Apache-2.0 */
/* Which image a request means. */
#pragma once

#include "core/image/catalogue.h"
#include "store/store.h"

/* All images, as Image; owned by the array. */
GPtrArray *images_load(Store *s, GError **err);
/*
 * By id, name or unique beginning, or "latest:FILTER,FILTER" by the rules of
 * core/image/catalogue.h. ERR_NOT_FOUND.
 */
Image *image_choose(Store *s, const char *ref, int64_t *ret_rev, GError **err);
