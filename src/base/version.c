/* SPDX-License-Identifier: Apache-2.0 */
#include "base/version.h"

const char plimsoll_version[] = PLIMSOLL_VERSION;
