/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys under which records stand in the pool's store. Pure.
 * A key is never built anywhere else. Callers free what they get.
 */
#pragma once

#include <glib.h>

#define KEY_ROOT "/plimsoll/v1/"

/* Prefixes to list or watch. */
#define KEYS_VMS KEY_ROOT "vms/"
#define KEYS_HOSTS KEY_ROOT "hosts/"
#define KEYS_IMAGES KEY_ROOT "images/"
#define KEYS_VOLUMES KEY_ROOT "volumes/"
#define KEYS_OPERATIONS KEY_ROOT "operations/"
#define KEYS_EVENTS KEY_ROOT "events/"
#define KEYS_CPUS KEY_ROOT "cpus/"
#define KEYS_CPU_MASKS KEY_ROOT "cpu-masks/"
#define KEYS_NAMES KEY_ROOT "names/"
#define KEYS_LEASES KEY_ROOT "leases/"
#define KEYS_TOOLS KEY_ROOT "tools/"
#define KEYS_POOL_TOKENS KEY_ROOT "pool-tokens/"

/* {id, name, created_at, store}: there is one exactly in the store of a pool. */
#define KEY_POOL KEY_ROOT "pool"
/* The CPU level of the pool (engine/level.h). */
#define KEY_LEVEL KEY_ROOT "level"

char *key_vm_config(const char *id);
char *key_vm_runtime(const char *id);
/* What the last start used: {config, arguments}. */
char *key_vm_applied(const char *id);
/* To whom a guest that moves is promised (engine/promise.h); there only meanwhile. */
char *key_vm_promise(const char *id);
/* What the guest's tools said of themselves (core/tools/record.h). */
char *key_tools(const char *vm_id);
char *key_host(const char *id);
/* The CPU record of a host (core/cpu/record.h), and what an admin took out of it: {features, by, at}. */
char *key_cpu(const char *host_id);
char *key_cpu_mask(const char *host_id);
/* There while the host renews its lease. */
char *key_lease(const char *host_id);
/* By the SHA-256 of the token's secret. */
char *key_pool_token(const char *hash);
char *key_image(const char *id);
char *key_volume(const char *id);
char *key_operation(const char *id);
/* Sixteen hex digits, so that the order of keys is the order of events. */
char *key_event(guint64 seq);
/* `collection` is "vms", "images" or "volumes". Holds the id; that it exists makes a name
 * unique. Names of images may hold spaces, so the name stands percent-encoded. */
char *key_name(const char *collection, const char *name);

/* "vms" of "/plimsoll/v1/vms/ID/config", and "ID"; false for other keys. Callers free. */
gboolean key_split(const char *key, char **ret_collection, char **ret_id, char **ret_rest);
