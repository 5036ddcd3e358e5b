/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Dynamic memory: what a Linux guest does with memory that is plugged in, as its
 * auto_online_blocks says. That is its kernel's choice, its command line's
 * (memhp_default_state=), or its administrator's. Pure.
 */
#pragma once

#include <stddef.h>

/* name as the kernel has it, and in the API */
// clang-format off
#define MEMORY_ONLINE_TABLE(X)                                                                           \
	X(OFFLINE, "offline")        /* nothing: somebody in the guest is to take it into use */         \
	X(ANY,     "online")         /* for programs and the kernel, as the kernel sees fit */           \
	X(KERNEL,  "online_kernel")  /* for both, and it can hardly be taken back */                     \
	X(MOVABLE, "online_movable") /* for programs: the kernel keeps nothing of its own there */
// clang-format on

typedef enum MemoryOnline {
	MEMORY_ONLINE_UNKNOWN,
#define X(key, name) MEMORY_ONLINE_##key,
	MEMORY_ONLINE_TABLE(X)
#undef X
	    _MEMORY_ONLINE_MAX,
} MemoryOnline;

/* Of the file's content, a line. UNKNOWN: it is none of the table. */
MemoryOnline memory_online_of(const char *text, size_t len);
/* NULL: unknown. */
const char *memory_online_name(MemoryOnline o);
/* What may become of such a guest when it grows, and what to do: a sentence. NULL: nothing is wrong with it.
 */
const char *memory_online_warning(MemoryOnline o);
