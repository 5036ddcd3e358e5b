/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pool this host is a member of: the file pool.json in the state folder,
 * without which the host is a pool of one. It is what the daemon must know
 * before it can open the pool's store; everything else is in the store.
 *
 * {"pool": ID, "name": NAME, "host": ID, "address": "ADDR:PORT", "store": URL,
 *  "etcd": {...}, "step": STEP}
 *
 * A host that is about to join has the same file under another name: see
 * pool_recover.h for what a start makes of it.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>

#define MEMBERSHIP_FILE "pool.json"
#define MEMBERSHIP_JOINING "pool.joining.json"

typedef struct Membership {
	char *pool_id, *pool_name;
	char *host_id;
	char *address; /* of this host's daemon for the others: "192.0.2.1:7443" */
	char *store;   /* URL for store_open() */
	char *folder;  /* of the certificates (pki.h) */
	Json *etcd;    /* what etcd_member.h keeps of a member that runs here, or NULL */
	char *step;    /* NULL, or what is under way: "init", "join", "leave", "moved", "left" */
	char *token;   /* hash of the token of a join that is under way, or NULL */
} Membership;

/* NULL without error: there is none. `name` is one of the files above. */
Membership *membership_load(const char *state, const char *name, GError **err);
bool membership_save(const Membership *m, const char *state, const char *name, GError **err);
/* What was under way is done, and told. */
void membership_settle(Membership *m, const char *state);
Membership *membership_free(Membership *m);
/* The folder of the certificates below a state folder. Caller frees. */
char *membership_folder(const char *state);
/* "https://ADDR:PORT". Caller frees. */
char *membership_url(const Membership *m);

/*
 * "192.0.2.1", "192.0.2.1:7443", "[2001:db8::1]:7443": an address other hosts
 * can reach, made whole with the usual port. ERR_INVALID for what is none, or
 * means every address. Caller frees.
 */
#define POOL_PORT 7443
char *pool_address_parse(const char *text, GError **err);
/*
 * The address of this host from which packets to `url` ("https://ADDR:PORT"; NULL: to
 * anywhere) would go, with the usual port; nothing is sent. ERR_INVALID when
 * there is no way there. Caller frees.
 */
char *pool_address_find(const char *url, GError **err);
/* The address without brackets and port. Caller frees. */
char *pool_address_host(const char *address);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Membership, membership_free)
