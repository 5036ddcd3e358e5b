/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What CPUID answers, read from files that other programs wrote.
 *
 * Pure. Two formats, told apart by their lines:
 *   a dump     "00000007 00000001 00001c30 00000000 00000000 00000000" (leaf, subleaf, eax, ebx, ecx, edx),
 *              "msr 0000010a 0028fdeb 00000000" (index, low half, high half), "#" for comments; one CPU
 *   cpuid -r   "CPU 3:" before each logical CPU, then "   0x00000007 0x01: eax=0x00001c30 ebx=... ";
 *              of Debian's package cpuid
 * A line of neither kind is refused with its number, and so are a leaf that stands there twice with different
 * answers and a file without leaves 0 and 1. All numbers are hexadecimal.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

#define CPUID_TEXT_MAX (32u << 20) /* what cpuid_parse() accepts */
#define CPUID_CPUS_MAX 2048
#define CPUID_LEAVES_MAX 512
#define CPUID_MSRS_MAX 64

struct cpuid_leaf {
	uint32_t leaf, subleaf;
	uint32_t reg[4]; /* by CpuRegister */
};

struct cpuid_msr {
	uint32_t index, low, high;
};

/* One logical CPU. */
struct cpuid_dump {
	struct cpuid_leaf leaf[CPUID_LEAVES_MAX];
	struct cpuid_msr msr[CPUID_MSRS_MAX];
	size_t n_leaves, n_msrs;
};

/* The logical CPUs of a file, struct cpuid_dump each, at least one. ERR_INVALID with the line. */
GPtrArray *cpuid_parse(const char *text, size_t len, GError **err);

/* NULL when it is not there. */
const struct cpuid_leaf *cpuid_leaf_at(const struct cpuid_dump *d, uint32_t leaf, uint32_t subleaf);
/* A register, 0 when the leaf is not there. */
uint32_t cpuid_reg(const struct cpuid_dump *d, uint32_t leaf, uint32_t subleaf, unsigned reg);
/* Add a leaf. ERR_INVALID when it is there with another answer, ERR_LIMIT when there are too many. */
bool cpuid_add(struct cpuid_dump *d, const struct cpuid_leaf *leaf, GError **err);
