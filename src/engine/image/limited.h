/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program run under limits, because what it reads may be made to harm it.
 *
 * It gets no descriptors but its three and those that are named, an environment of its own, bounds on
 * processor time, memory, file sizes and descriptors, a deadline, and dies
 * with this process. Where the kernel and our rights allow it, also:
 *   - another user (when this process is root),
 *   - a network and process-id namespace of its own (root): no network, and
 *     nothing that it started outlives it,
 *   - Landlock (Linux 5.13): it opens itself, the system's programs and libraries,
 *     the paths that are named here, and nothing else; no TCP (Linux 6.7).
 * What is missing is left out silently: these walls stand behind the checks of
 * headers, not in their place.
 *
 * Blocks; for worker threads. Output is kept up to a bound.
 */
#pragma once

#include "engine/image/hooks.h"

#include <sys/types.h>

#define LIMITED_KEEP_USER ((uid_t)-1)

struct limited {
	const char *const *argv; /* argv[0] is looked up in the system's folders */
	const char *cwd;         /* where it works: the one folder that it may write; NULL: "/", read-only */
	const char *const *readable, *const *writable; /* further paths, NULL-terminated; NULL: none */
	uid_t uid;                                     /* as whom, when we are root; LIMITED_KEEP_USER */
	gid_t gid;
	const int *keep; /* descriptors that it inherits, by the same numbers, all above 2 */
	size_t n_keep;
	uint64_t cpu;       /* us of processor time; 0: no bound */
	uint64_t memory;    /* bytes of address space; 0: no bound */
	uint64_t file_size; /* bytes that a file may grow to; 0: no bound. Writing more fails with EFBIG. */
	uint64_t deadline;  /* us from now, until it is killed */
	size_t output_max;  /* of stdout; it is killed beyond. stderr keeps its last 4 KiB. */
	/* When set, stdout goes here as it comes, and is not kept. */
	void (*on_output)(const char *text, size_t len, void *data);
	void *data;
	const struct hooks *hooks; /* cancelled within 0.1 s; may be NULL */
};

struct limited_result {
	int status; /* exit status */
	char *out, *err;
};

void limited_result_clear(struct limited_result *r);
#define _cleanup_limited_ __attribute__((cleanup(limited_result_clear)))

/*
 * True when it ran and ended by itself, whatever its status. Else
 * ERR_NOT_FOUND (no such program), ERR_TIMEOUT, ERR_CANCELLED, ERR_LIMIT
 * (killed, most likely by a bound) or ERR_INTERNAL; nothing runs any more.
 * Clear the result in any case.
 */
bool limited_run(const struct limited *l, struct limited_result *ret, GError **err);
