/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between SQLite and the disk: an sqlite3_vfs that records what is written and
 * synced, makes calls fail, and builds what a disk may hold after a power cut.
 *
 * A disk keeps what was synced. Of what was written since, any 512-byte sector
 * may be there or not, in any combination; so may a truncation or a deletion.
 * One thread only.
 */
#pragma once

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef enum ShimOp { SHIM_WRITE, SHIM_TRUNCATE, SHIM_SYNC, SHIM_DELETE } ShimOp;

/* Make it SQLite's default for files that are opened from now on, and forget what was recorded. */
void shim_install(void);
void shim_remove(void);

/* Calls recorded so far; a number in the history that the functions below take. */
guint shim_now(void);
/* How many calls of that kind on files whose name ends with `suffix` came between the two. */
guint shim_count(ShimOp op, const char *suffix, guint from, guint to);

/*
 * Let `after` writes, truncations and syncs pass and fail those that follow
 * with the result `rc` of SQLite; a failing write has written half. `times` of
 * them fail, then all pass again. shim_failed() says how many did.
 */
void shim_fail(guint after, guint times, int rc);
guint shim_failed(void);

/*
 * Write into folder `dir` what the disk may hold of the files named
 * `name` and `name`-wal when the power is cut after `at` recorded calls; `base`
 * is what the first of them held when recording began.
 */
void shim_power_cut(const char *dir, const char *name, const GByteArray *base, guint at, GRand *rand);
