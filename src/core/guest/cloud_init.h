/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest's cloud-init reads from its NoCloud seed. Pure.
 *
 * The texts are JSON behind cloud-config's first line: JSON is YAML, so no
 * value can be misread and none can break out of its place. With the owner's
 * own user_data that text is passed on as it is, and what else was said of
 * users and keys goes into the vendor-data, which user-data overrides.
 *
 * https://cloudinit.readthedocs.io/en/latest/reference/datasources/nocloud.html
 */
#pragma once

#include "base/err.h"

#define CLOUD_INIT_TEXT_MAX (UINT64_C(512) << 10)

typedef struct CloudInit {
	char *user_data, *meta_data, *vendor_data;
	char *network_config; /* NULL: cloud-init's own (DHCP on the first card) */
} CloudInit;

/*
 * From a vm's `cloud_init` member: {hostname, user, password_hash, ssh_keys,
 * user_data, network_config}, each may be missing. `instance_id` stays the same
 * for as long as the guest shall not do its first-boot work again.
 * ERR_INVALID for bad host or user names, keys with line breaks, a password
 * that is no crypt(5) hash, and texts longer than CLOUD_INIT_TEXT_MAX.
 */
CloudInit *cloud_init_of(const Json *wish, const char *vm_name, const char *instance_id, GError **err);
CloudInit *cloud_init_free(CloudInit *c);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(CloudInit, cloud_init_free)
