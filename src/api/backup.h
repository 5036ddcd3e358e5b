/* SPDX-License-Identifier: Apache-2.0 */
/* Between the handlers of backups; nobody else includes it. */
#pragma once

#include "api/call.h"
#include "core/backup/manifest.h"

/* A backup that a request names, and what it rests on. */
struct backup_found {
	char *repository;
	GPtrArray *all, *chain;
	const Backup *backup;
};

/* The path's backup in that repository (NULL: the host's). Needs api_backup_found_done() in any case. */
bool api_backup_find_chain(ApiCall *c, const char *asked, struct backup_found *f, GError **err);
void api_backup_found_done(struct backup_found *f);
#define _cleanup_found_ __attribute__((cleanup(api_backup_found_done)))
