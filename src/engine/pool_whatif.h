/* SPDX-License-Identifier: Apache-2.0 */
/* core/place/whatif.h with the records of the store. Blocking; any thread but the loop's. */
#pragma once

#include "base/err.h"

typedef struct Engine Engine;

/* request: {kind, host, feature, record}. New reference. */
Json *pool_whatif(Engine *e, const Json *request, GError **err);
