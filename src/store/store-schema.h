/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The SQLite file of a store: what marks it as ours, its tables by version, and
 * how an older one becomes the newest. For store_sqlite.c and its tests only.
 *
 * Ours is a file with SCHEMA_APPLICATION_ID at offset 68 of its header (SQLite's
 * application_id). That is read as plain bytes before SQLite looks at the
 * file, so that nothing is recovered, locked or changed in one that is not ours.
 * The version is SQLite's user_version: the number of steps that were run.
 */
#pragma once

#include "base/err.h"

#include <sqlite3.h>

/* "PLIM" */
#define SCHEMA_APPLICATION_ID 0x504c494d

/* SQL that leads from one version to the next. Never changed once released; only appended to. */
typedef struct SchemaStep {
	const char *sql;
} SchemaStep;

extern const SchemaStep schema_steps[];
extern const int schema_n_steps;

/*
 * Run the steps the database lacks, each in a transaction of its own with its
 * version. ERR_UNSUPPORTED when it has a version above `n`. `path` is for messages.
 */
bool schema_upgrade(sqlite3 *db, const char *path, const SchemaStep *steps, int n, GError **err);

/*
 * ERR_INVALID unless the file that `db` has opened and not yet read is ours. Also ERR_UNSUPPORTED where
 * the newer version can be seen already; a version that is still in the log is seen by schema_upgrade().
 */
bool schema_check_file(sqlite3 *db, const char *path, GError **err);

/* A new file with the newest version and no items, whole or not at all; fine if another process was first. */
bool schema_create_file(const char *path, GError **err);

/* Sets the error for the last failed call on `db`, with the code it stands for. Returns false. */
bool schema_fail(sqlite3 *db, const char *path, const char *doing, GError **err);
/* The same for a file that can be read but not written: ERR_DENIED. */
bool schema_fail_rights(const char *path, GError **err);
