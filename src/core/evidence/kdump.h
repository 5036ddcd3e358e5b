/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The head of a compressed dump of an x86-64 guest, and the one number in it
 * that QEMU gets wrong. Pure.
 *
 * A block of 4096 bytes: "KDUMP   ", version, the six names of uname (65 bytes
 * each), at 428 the size of a block; then a second header that begins with
 * phys_base and has, 32 bytes in, where the kernel's own description
 * ("vmcoreinfo", lines of NAME=VALUE) lies in the file and how long it is.
 * Numbers are little-endian.
 *
 * phys_base is how far the kernel was moved in physical memory, a signed
 * number. The kernel writes it in decimal, and QEMU (7.2 at least) reads that as
 * hexadecimal digits: a dump of a kernel with a randomized address, for which
 * it is not 0, can't be read unless this is mended.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Both headers. */
#define KDUMP_HEAD 8192
/* Where phys_base belongs in the file. */
#define KDUMP_PHYS_BASE_AT 4096
/* A description is not longer. */
#define KDUMP_INFO_MAX (UINT64_C(1) << 20)

/* Where the description lies. False when this is no such dump, or has none. */
bool kdump_info_at(const uint8_t head[static KDUMP_HEAD], uint64_t *ret_at, uint64_t *ret_len);
/* What phys_base is by that description. False when it does not say. */
bool kdump_phys_base(const char *info, size_t len, uint64_t *ret);
