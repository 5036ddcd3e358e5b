/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backups that people look into: servers of engine/backup/serve.h that stay until
 * they are told to go, or the host ends. What a server shows stands beside it:
 *
 *     RUN/backups/ID/mount.json   {backup, vm: {id, name}, repository, created_at, disks: [{name, size}]}
 *
 * Nothing else is recorded, so that there is nothing to be put right behind a
 * crash of the daemon: what was begun and not finished is its operation's to undo.
 * Blocking; worker threads.
 */
#pragma once

#include "core/model/paths.h"
#include "engine/backup/serve.h"

/* Write down what the server of that folder shows. */
bool backup_mount_note(const char *dir, const Json *record, GError **err);
/* The record's disks, each with its `uri`. New reference. */
Json *backup_mount_disks(const char *dir, const Json *record);
/*
 * All of this host, in the order of their backups: the record, with `dir`, `uri` in each disk, and `state`,
 * "shown" or "ended" (its server was killed). New reference.
 */
Json *backup_mounts(const Folders *folders);
