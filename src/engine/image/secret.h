/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passphrases for QEMU's programs. What stands in a command line every user of the host may read, so that
 * each passphrase goes by a descriptor of a file without a name (memfd), which the program reads once when
 * it begins: --object secret,id=kN,file=/proc/self/fd/FD.
 */
#pragma once

#include "base/err.h"

typedef struct SecretFiles {
	GArray *fd;       /* int, to be inherited */
	GPtrArray *words; /* of the command line: --object and its value, for each */
} SecretFiles;

/* `secrets`: NULL-terminated; NULL: none. They get the ids "k0", "k1", ... Clear it in any case. */
bool secret_files_open(SecretFiles *s, const char *const *secrets, GError **err);
void secret_files_close(SecretFiles *s);
