/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vm that is being put together, with the volumes that it wishes for: what
 * creation, cloning and adding a disk share. Worker threads.
 */
#pragma once

#include "api/call.h"
#include "core/image/image.h"

typedef struct Creation {
	ApiCall *call;
	Store *store;
	EngineRequest *req;
	Vm *vm;
	GPtrArray *wish; /* VolumeWish, owned with what it points to */
} Creation;

Creation *creation_new(ApiCall *c);
Creation *creation_free(Creation *n);

/* True when nothing of that collection has the name; false without an error when something has. */
bool name_is_free(Store *s, const char *collection, const char *name, GError **err);
/* ERR_NOT_FOUND, or ERR_INVALID for what is neither a file nor a block device. */
bool check_path(const char *path, GError **err);
/* The file of a disk that has a path: the same, and a qcow2 file must not name others. */
bool check_disk_file(const VmDisk *d, GError **err);

/* A new volume for the disk of that name, wished for and filled in. Borrowed. */
VolumeWish *creation_wish(Creation *n, const char *disk, uint64_t size, const char *format);
/* ... that is an overlay of an image. */
void creation_wish_overlay(VolumeWish *w, const Creation *n, const Image *img, int64_t rev);
/* What was asked for, else the least that the image takes. */
uint64_t disk_size_for(const Image *img, uint64_t asked);

VmDisk *disk_new(const char *name, const char *format, const char *bus);
/* Takes `d` and gives it a slot. */
void creation_add_disk(Creation *n, VmDisk *d);
/*
 * A disk as requests describe it: a path, a volume that exists, or the size or
 * image of a new one. Without a name it is called `name`. vm_of_json() checks
 * the rest in the end.
 */
bool creation_add_wished_disk(Creation *n, const Json *wish, const char *name, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Creation, creation_free)
