/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of a QEMU command line that a guest sees. Pure.
 *
 * A guest that moves keeps its hardware: what it sees must be made the same
 * way on the other host, or QEMU can't load its state, or, worse, can and the
 * guest finds other hardware than it knows. How the host gives it (files,
 * caches, descriptors) may differ.
 */
#pragma once

#include "base/err.h"

/* Both as argv_to_json(): [{option, value}]. Array of {option, there, here}; empty: the same. New reference.
 */
Json *hardware_differences(const Json *there, const Json *here);
/* ERR_UNSUPPORTED that names the first of them, all in the detail `differences`. */
bool hardware_fail(const char *vm_name, const Json *differences, GError **err);
