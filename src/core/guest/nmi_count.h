/* SPDX-License-Identifier: Apache-2.0 */
/* How many non-maskable interrupts a Linux guest has counted. Pure. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where the guest has it. */
#define NMI_COUNT_FILE "/proc/interrupts"

/*
 * The sum over all vcpus in the text of that file. False when it has no such
 * line: it is a guest's word, and may be anything.
 */
bool nmi_count_of(const char *text, size_t len, uint64_t *ret);
