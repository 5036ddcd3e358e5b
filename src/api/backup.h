/* SPDX-License-Identifier: Apache-2.0 */
/* Between the handlers of backups; nobody else includes it. */
#pragma once

#include "api/call.h"
#include "core/backup/manifest.h"

/* A member that is a text; NULL when it is left out, or null. */
bool api_backup_text(const Json *body, const char *name, const char **ret, GError **err);

/* A backup that a request names, and what it rests on. */
struct backup_found {
	char *repository;
	GPtrArray *all, *chain;
	const Backup *backup;
	char *key_file; /* NULL: it is not encrypted */
};

/*
 * The path's backup in that repository (NULL: the host's), with the key of that file (NULL: the host's, if it
 * needs one), which fits it and all that it rests on. Needs api_backup_found_done() in any case.
 */
bool api_backup_find_chain(ApiCall *c, const char *asked, const char *key_file, struct backup_found *f,
			   GError **err);
void api_backup_found_done(struct backup_found *f);
#define _cleanup_found_ __attribute__((cleanup(api_backup_found_done)))
