/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cloud-init is given, as texts: a NoCloud data source (user-data,
 * meta-data, network-config), built from a vm's `cloud_init`. Pure.
 *
 *   hostname        a host name, or null: made from the vm's name
 *   ssh_keys        lines as in authorized_keys
 *   user            a user to make, with sudo; without one the keys and the
 *                   password are of the image's own default user
 *   password_hash   as crypt(3) makes it; never a password
 *   user_data       the owner's own, any form that cloud-init knows
 *   network_config  version 1 or 2, as text or as JSON
 *
 * The owner's user-data goes through byte for byte. Host name and keys stand in
 * the meta-data, which needs no merging. Only a user or a password needs a
 * #cloud-config of ours: alone when there is no user-data, else behind it in a
 * MIME archive. There the owner's text comes first and wins: ours adds what is
 * missing and appends to lists (Merge-Type dict(recurse_array)+list(append)).
 *
 * What we write is JSON, which is YAML too, so that nothing needs quoting.
 *
 * cloud-init applies it all once per instance-id. Ours is the vm's id and a
 * hash of everything that was asked for: it stays the same until something
 * else is asked for, and then the guest applies it again at its next boot. A
 * host name that comes from the vm's name is no part of it.
 */
#pragma once

#include "base/err.h"

#define CLOUD_INIT_USER_DATA_MAX (256 * 1024) /* bytes */
#define CLOUD_INIT_NETWORK_MAX (64 * 1024)
#define CLOUD_INIT_KEYS_MAX 64
#define CLOUD_INIT_KEY_MAX 16384 /* bytes */

typedef struct CloudInit {
	char *user_data, *meta_data;
	char *network_config; /* NULL: the image's own default */
	char *instance_id;
} CloudInit;

/* ERR_INVALID with the member's name for unknown members, wrong types, bad names, keys and hashes. */
bool cloud_init_check(const Json *wish, GError **err);

/* `wish` NULL counts as {}. Checks it too. */
CloudInit *cloud_init_of(const Json *wish, const char *vm_name, const char *vm_id, GError **err);
CloudInit *cloud_init_free(CloudInit *c);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CloudInit, cloud_init_free)
