/* SPDX-License-Identifier: Apache-2.0 */
/* What the steps of an import share. Nobody else includes this. */
#pragma once

#include "engine/image/import.h"

/* A name in the working folder. Caller frees. */
char *import_path(const struct image_import *im, const char *name);

/* What was found so far; an empty object when nothing was. New reference. */
Json *import_facts_read(const struct image_import *im);
bool import_facts_write(const struct image_import *im, const Json *facts, GError **err);
/* The members named in the vector. New reference. */
Json *import_facts_pick(const Json *facts, const char *const *names);

/* The source is there, all of it, and is the one that was asked for. */
bool import_is_fetched(const struct image_import *im, const Json *facts);
/* The result is there, all of it. */
bool import_is_converted(const struct image_import *im, const Json *facts);
bool import_check_source(const struct image_import *im, struct image_header *ret, GError **err);
uint64_t import_max_virtual_size(const struct image_import *im);

/* False when it is no file. */
bool import_file_size(const char *path, uint64_t *ret);
/* Absent is fine. */
bool import_remove_file(const char *path, GError **err);
