/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records read from the store as the types of core/model, with the revisions
 * that make a change of them safe. Blocking; any thread but the loop's.
 */
#pragma once

#include "core/image/image.h"
#include "core/plan/plan_vm.h"
#include "store/store.h"

/*
 * The id that a name, an id or the unique beginning of one (of 4 characters
 * and more) means. `collection` is "vms", "images", "volumes", "hosts" or
 * "operations". ERR_NOT_FOUND; ERR_CONFLICT with the candidates in the details
 * when several begin so.
 */
char *record_resolve(Store *s, const char *collection, const char *ref, GError **err);

/* The JSON under a key, or NULL without error when there is none. `ret_rev` may be NULL. New reference. */
Json *record_get(Store *s, const char *key, int64_t *ret_rev, GError **err);

/* All records of a vm. Owns what `seen` borrows. */
typedef struct VmRecords {
	Vm *vm;
	Json *runtime, *applied; /* applied: NULL when it never started */
	VmSeen seen;
} VmRecords;

/* ERR_NOT_FOUND when there is no vm of that id. */
VmRecords *vm_records_load(Store *s, const char *id, GError **err);
VmRecords *vm_records_free(VmRecords *r);

Image *image_load(Store *s, const char *id, int64_t *ret_rev, GError **err);
Volume *volume_load(Store *s, const char *id, int64_t *ret_rev, GError **err);
/* Names of the volumes that are overlays of the image. g_strfreev(). */
GStrv image_users(Store *s, const char *image_id, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmRecords, vm_records_free)
