/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images: a bootable disk's record, and what may be done with it.
 *
 * Pure. A record is a bag of properties (properties.h), each in its canonical
 * text; the base attributes are always there, or null where that is allowed.
 * The JSON form is flat as Glance's: base attributes with JSON types, all
 * other properties as strings beside them.
 *
 * Content never changes once the status is active; properties may.
 *
 *   queued    the record is there, the bytes are not
 *   saving    an import works on it
 *   active    can be used
 *   deleting  is going away
 */
#pragma once

#include "core/image/properties.h"

typedef struct Image Image;

/* A queued, private record with Glance's defaults. `now` is RFC 3339. The name is checked. */
Image *image_new(const char *id, const char *name, const char *now, GError **err);
Image *image_free(Image *img);
Image *image_copy(const Image *img);

/*
 * 1 to 255 printable characters, no slash, no space at the ends, and not the
 * form of a uuid: wider than names of vms, because Glance's images are called
 * "Windows 10 - With Apps [2017-01-27]". ERR_INVALID.
 */
bool image_name_check(const char *name, GError **err);

/* The canonical text, or NULL when absent or null. Borrowed until the property changes. */
const char *image_get(const Image *img, const char *name);
/* 0 when absent or null. */
uint64_t image_uint(const Image *img, const char *name);
/* False when absent or null. */
bool image_bool(const Image *img, const char *name);
#define image_id(img) image_get(img, "id")
#define image_name(img) image_get(img, "name")
bool image_is_active(const Image *img);

/*
 * What a user changes. ERR_INVALID for bad names and values, ERR_DENIED for
 * what only the service writes, ERR_LIMIT beyond PROP_COUNT_MAX.
 */
bool image_set(Image *img, const char *name, const char *text, GError **err);
/* Remove a custom property or make a base attribute null or its default. Absent is fine. */
bool image_unset(Image *img, const char *name, GError **err);
/* All of {name: value}, null removes; nothing is changed when one is refused. */
bool image_patch(Image *img, const Json *changes, GError **err);
/* What the service writes; the value is its own and so asserted. NULL makes it null. */
void image_record(Image *img, const char *name, const char *text);
void image_record_uint(Image *img, const char *name, uint64_t value);

/* Everything, flat. New reference. */
Json *image_to_json(const Image *img);
/* The way back. ERR_INVALID names the member. */
Image *image_of_json(const Json *j, GError **err);
/* Only what is no base attribute: {name: string}; what a vm made from it inherits. New reference. */
Json *image_properties(const Image *img);

/* Can a vm be made from it now? ERR_BAD_STATE. */
bool image_check_usable(const Image *img, GError **err);
/*
 * Does a vm of that size do? ERR_INVALID when the disk (bytes) is smaller than
 * min_disk or the image's own virtual size, or the memory (bytes) than min_ram.
 */
bool image_check_fit(const Image *img, uint64_t disk, uint64_t memory, GError **err);
/*
 * May it be deleted? ERR_DENIED while protected; ERR_CONFLICT while volumes
 * are overlays of it, with their number and the first of their names.
 */
bool image_check_delete(const Image *img, const char *const *users, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Image, image_free)
