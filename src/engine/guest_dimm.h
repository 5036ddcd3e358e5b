/* SPDX-License-Identifier: Apache-2.0 */
/* DIMMs of a running guest: see core/guest/dimm.h. Worker threads. */
#pragma once

#include "engine/vmm.h"
#include "store/store.h"

/* dimm_list_of() what QEMU has. New reference; NULL with an error. */
Json *guest_dimm_list(Vmm *v, size_t *ret_free, GError **err);
/* Number `n`, so large. The guest finds it through ACPI. */
bool guest_dimm_plug(Vmm *v, size_t n, uint64_t size, GError **err);
/* What it was started with has these DIMMs from now on. Nothing is written where that is so already. */
bool guest_dimm_record(Store *s, const char *vm_id, const Json *sizes, GError **err);
