/* SPDX-License-Identifier: Apache-2.0 */
/* core/place/whatif.h with the records of the store. Blocking; any thread but the loop's. */
#pragma once

#include "base/err.h"

typedef struct Engine Engine;

/*
 * request: {kind, host, feature, record, url, tls: {ca, cert, key}}. New
 * reference. Instead of the record of a host that joins or is upgraded, the
 * address of its API: its daemon is asked, on its TLS listener, with the PEM
 * files in `tls`. Errors of that daemon begin with its address.
 */
Json *pool_whatif(Engine *e, const Json *request, GError **err);
