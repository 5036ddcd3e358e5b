/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What both ends of a migration share: a key, addresses, QMP in small words.
 *
 * The two QEMUs speak TLS with a key that was made for this one migration
 * (tls-creds-psk) and that the hosts hand each other over the pool's mutual
 * TLS. So a QEMU that its guest took over never held a key or certificate of
 * its host, and both ends have proven themselves.
 */
#pragma once

#include "engine/vmm.h"

#define MIGRATE_KEY_SIZE 32

/*
 * Make a folder that holds, in QEMU's forms, the key `hex` and the group for its
 * Diffie-Hellman exchange, readable by `user` (NULL: ours) only.
 */
bool migrate_key_write(const char *dir, const char *hex, const SpawnUser *user, GError **err);
/* 64 hex digits. Caller frees. */
char *migrate_key_new(void);
/* ERR_INVALID unless it is what migrate_key_new() makes. */
bool migrate_key_check(const char *hex, GError **err);

/*
 * Have QEMU load the key of `dir`. `server`: it is the end that is called.
 * Loading it twice is fine, as is unloading what is not there.
 */
bool migrate_key_load(Vmm *v, const char *dir, bool server, GError **err);
void migrate_key_unload(Vmm *v);
/* The id of the object for tls-creds. */
#define MIGRATE_KEY_ID "migrate-key"

/* A QMP command of which nothing is read. Takes `args`. */
bool migrate_tell(Vmm *v, const char *command, Json *args, GError **err);
/* Switch capabilities; those named on, NULL-terminated. */
bool migrate_capabilities(Vmm *v, const char *const *on, const char *const *off, GError **err);
/*
 * Have the stream end with the mark of its end, without the description of the
 * devices that QEMU adds for debuggers: who has read it whole has read the last
 * byte, and who wrote it has no write left that could fail. Both ends alike.
 */
bool migrate_end_plainly(Vmm *v, GError **err);
/* "tcp:HOST:PORT", with brackets where HOST is of IPv6. Caller frees. */
char *migrate_uri(const char *host, unsigned port);
