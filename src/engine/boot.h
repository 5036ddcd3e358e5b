/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the host started anew since a daemon was up here last, so that what
 * starts with the host does not start with each restart of the daemon. Blocking.
 */
#pragma once

#include "store/store.h"

/* True also when nobody knows: at the very first start, or when the kernel does not tell. */
bool boot_is_new(Store *local);
/* From now on this boot is no news. What can't be stored is only told again. */
void boot_remember(Store *local);
