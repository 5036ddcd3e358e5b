/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of an ELF dump. Pure.
 *
 * QEMU (7.2 at least) puts the table of sections before the one of segments, and
 * gives its header a wrong size. Both is what a reader may cope with, but
 * makedumpfile and crash look for the segments right behind the header, where
 * the kernel's own dumps have them. The two tables change places: nothing
 * else in the file moves.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Header and tables of a dump are not larger. */
#define ELF_HEAD_MAX 65536

/*
 * `head`: the first `len` bytes of a file. True when they were changed; they
 * stay as they are when it is no 64-bit little-endian ELF with tables in that order.
 */
bool elf_head_mend(uint8_t *head, size_t len);
