/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Room on a file system. Running guests write there too: when it is full they
 * stop, so nothing of ours takes the last of it.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

/*
 * Bytes that may be written in `dir`: what is free for us, less a reserve of
 * 1 GiB or a twentieth of the file system, whichever is smaller.
 */
bool space_free(const char *dir, uint64_t *ret, GError **err);

/*
 * ERR_NO_SPACE with the numbers in message and details: "there is no room for
 * WHAT on DIR: ...". `need` 0: nobody knows. Always false.
 */
bool space_fail(const char *dir, const char *what, uint64_t need, GError **err);
