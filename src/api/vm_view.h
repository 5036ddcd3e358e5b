/* SPDX-License-Identifier: Apache-2.0 */
/* How a vm's records look to the API's users. */
#pragma once

#include "base/json.h"

/*
 * Configuration, runtime and revision in one object. With `applied` (what the
 * last start used; may be NULL) a vm that runs also says which settings and
 * devices are pending until its next start. New reference.
 */
Json *vm_view(const Json *config, const Json *runtime, const Json *applied, int64_t revision);
/* Names of the settings and devices in which two configurations differ. New reference. */
Json *vm_differences(const Json *was, const Json *is);
