/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the pool's store is, and with what to open it.
 *
 * {"endpoints": [URL...], "root": TEXT, "own": bool, "ca", "cert", "key",
 *  "user", "password"}: texts of PEM files and of a password, absent when there
 * is none. `own` etcd members use the pool's certificates instead. It travels
 * only to a host that is let in, and is kept in the pool's folder.
 */
#pragma once

#include "base/err.h"
#include "engine/pool.h"
#include "store/store.h"

/* From what an admin asks for. ERR_INVALID for what is no URL, and for files that can't be read. */
Json *pool_store_of_request(const struct pool_init *r, const char *pool_id, GError **err);
/* Keep it in `folder`. */
bool pool_store_save(const Json *access, const char *folder, GError **err);
Json *pool_store_load(const char *folder, GError **err);
/* For store_open(): POOL_STORE_PREFIX and what etcd_config_parse() takes. Caller frees. */
#define POOL_STORE_PREFIX "cache:etcd:"
char *pool_store_url(const Json *access, const char *folder);
/*
 * store_open() by a daemon that starts: an etcd that does not answer is waited for, for a minute or until the
 * process is told to end. Blocks.
 */
Store *pool_store_open_patiently(const char *url, GError **err);
